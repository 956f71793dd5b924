"""Schedules jobs: large images are decoded separately first, and jobs for many models are split."""

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

# Images that cost more than this to decode, about 10 ms, are decoded separately.
_LARGE = 2_000_000
# A job is split into parts of at most this many models, so that one image does not delay others for long.
_MODELS_PER_PART = 4


class Queue:
    """Answers jobs. read: runs the models, see Reader.read."""

    def __init__(
        self,
        read: Callable[[list[Job]], Awaitable[Sequence[Answer]]],
        decoder: Decoder,
        batching: Batching,
        max_pixels: int,
    ) -> None:
        self._decoder = decoder
        self._max_pixels = max_pixels
        self._reading: Batcher[Job, Answer] = Batcher(read, batching)
        self._decoding: Batcher[bytes, NDArray[np.uint8] | Rejection] = Batcher(
            self._decode, Batching(size=1, seconds=0.0)
        )

    def __len__(self) -> int:
        """The number of waiting images, counted once per step and part."""
        return len(self._reading) + len(self._decoding)

    def cost(self, job: Job) -> int:
        """The cost of a job; see cost.py."""
        return self._cost_of_decoding(job) + cost_of_reading(len(job.models), job.top_k, job.explain)

    async def answer(self, jobs: Sequence[Job], client: str) -> list[Answer]:
        """The answers to jobs, in order. Raises Stopped if a process died while working on one of them."""
        large = {index for index, job in enumerate(jobs) if self._cost_of_decoding(job) > _LARGE}
        if not large:
            return await self._read(jobs, client)
        small = [job for index, job in enumerate(jobs) if index not in large]
        small_task = asyncio.create_task(self._read(small, client))
        large_tasks = {index: asyncio.create_task(self._read_large(jobs[index], client)) for index in sorted(large)}
        try:
            await asyncio.gather(small_task, *large_tasks.values())
        finally:
            for task in (small_task, *large_tasks.values()):
                task.cancel()
        small_answers = iter(small_task.result())
        return [large_tasks[i].result() if i in large else next(small_answers) for i in range(len(jobs))]

    async def run(self) -> None:
        """Process jobs until cancelled."""
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
            replace(job, models=job.models[start : start + _MODELS_PER_PART])
            for job in jobs
            for start in range(0, len(job.models), _MODELS_PER_PART)
        ]
        answers = iter(await self._reading.submit(parts, [self.cost(part) for part in parts], client))
        return [_joined([next(answers) for _ in range(0, len(job.models), _MODELS_PER_PART)]) for job in jobs]

    async def _decode(self, images: list[bytes]) -> list[NDArray[np.uint8] | Rejection]:
        return [await asyncio.to_thread(self._decoder.decode, image) for image in images]

    def _cost_of_decoding(self, job: Job) -> int:
        # A decoded image still has to be resized.
        return cost_of_decoding(job.image, self._max_pixels) if isinstance(job.image, bytes) else job.image.size


def _joined(parts: list[Answer]) -> Answer:
    """The answer to a job, joined from the answers to its parts."""
    readings = []
    for part in parts:
        if isinstance(part, Rejection):
            return part
        readings += part
    return readings
