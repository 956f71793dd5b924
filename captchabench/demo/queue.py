"""The way of images to their readings: large ones are decoded apart first, and many models take several turns."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from captchabench.demo.batching import Batcher
from captchabench.demo.cost import cost_of_decoding, cost_of_reading
from captchabench.demo.decoder import Decoder
from captchabench.demo.limits import Batching
from captchabench.demo.reading import Answer, Job, Rejection

# What costs more to decode, 10 ms, is decoded apart.
_LARGE = 2_000_000
# Models that read an image in one turn: one image is never in the way of others for long.
_MODELS = 4


class Queue:
    """Answers jobs. `read`: the models at work, see Reader.read."""

    def __init__(
        self,
        read: Callable[[list[Job]], Awaitable[Sequence[Answer]]],
        decoder: Decoder,
        batching: Batching,
        most_pixels: int,
    ) -> None:
        self._decoder = decoder
        self._most_pixels = most_pixels
        self._reading: Batcher[Job, Answer] = Batcher(read, batching)
        self._decoding: Batcher[bytes, NDArray[np.uint8] | Rejection] = Batcher(
            self._decode, Batching(size=1, seconds=0.0)
        )

    def __len__(self) -> int:
        """Images that wait, counted once for each turn that they take."""
        return len(self._reading) + len(self._decoding)

    def cost(self, job: Job) -> int:
        """What an encoded image costs; see cost.py."""
        return self._cost_of_decoding(job) + cost_of_reading(len(job.models), job.top_k, job.explain)

    async def answer(self, jobs: Sequence[Job], client: str) -> list[Answer]:
        """The answers to jobs, in their order. Raises Stopped where a process died over one of them."""
        large = {place for place, job in enumerate(jobs) if self._cost_of_decoding(job) > _LARGE}
        if not large:
            return await self._read(jobs, client)
        small = [job for place, job in enumerate(jobs) if place not in large]
        rest = asyncio.create_task(self._read(small, client))
        apart = {place: asyncio.create_task(self._read_large(jobs[place], client)) for place in sorted(large)}
        try:
            await asyncio.gather(rest, *apart.values())
        finally:
            for task in (rest, *apart.values()):
                task.cancel()
        others = iter(rest.result())
        return [apart[place].result() if place in large else next(others) for place in range(len(jobs))]

    async def run(self) -> None:
        """Hand on what is asked until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reading.run())
            group.create_task(self._decoding.run())

    async def _read_large(self, job: Job, client: str) -> Answer:
        assert isinstance(job.image, bytes), "not decoded yet"
        (grey,) = await self._decoding.submit([job.image], [self._cost_of_decoding(job)], client)
        if isinstance(grey, Rejection):
            return grey
        (answer,) = await self._read([replace(job, image=grey)], client)
        return answer

    async def _read(self, jobs: Sequence[Job], client: str) -> list[Answer]:
        parts = [
            replace(job, models=job.models[start : start + _MODELS])
            for job in jobs
            for start in range(0, len(job.models), _MODELS)
        ]
        found = iter(await self._reading.submit(parts, [self.cost(part) for part in parts], client))
        return [_joined([next(found) for _ in range(0, len(job.models), _MODELS)]) for job in jobs]

    async def _decode(self, images: list[bytes]) -> list[NDArray[np.uint8] | Rejection]:
        return [await asyncio.to_thread(self._decoder.decode, image) for image in images]

    def _cost_of_decoding(self, job: Job) -> int:
        # What is decoded is still made smaller.
        return cost_of_decoding(job.image, self._most_pixels) if isinstance(job.image, bytes) else job.image.size


def _joined(parts: list[Answer]) -> Answer:
    """The answer to one job from those to its parts."""
    readings = []
    for part in parts:
        if isinstance(part, Rejection):
            return part
        readings += part
    return readings
