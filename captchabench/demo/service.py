"""The state that the routes share: the models, the queue, the samples and the limits."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from captchabench.alphabet import display_text
from captchabench.cells.cell import stage_of
from captchabench.demo.admission import Admission, Ticket
from captchabench.demo.decoder import Decoder
from captchabench.demo.limits import Batching, DemoLimits
from captchabench.demo.monitoring import Monitor
from captchabench.demo.queue import Queue
from captchabench.demo.reading import Answer, Job, Reader, Rejection, Stopped
from captchabench.demo.samples import Library
from captchabench.errors import InputError
from captchabench.models.saved import About

logger = logging.getLogger(__name__)


@dataclass
class Service:
    """One demo. abouts: the metadata of each model, by name. report: the page that the `report` stage writes."""

    abouts: dict[str, About]
    reader: Reader
    library: Library
    report: Path
    limits: DemoLimits = field(default_factory=DemoLimits)
    batching: Batching = field(default_factory=Batching)

    def __post_init__(self) -> None:
        self.admission = Admission(self.limits.in_memory, self.limits.work)
        self._decoder = Decoder(self.limits.pixels)
        self.queue = Queue(self._read, self._decoder, self.batching, self.limits.pixels)
        self.monitor = Monitor(lambda: len(self.queue), lambda: self.admission.requests)
        self._running: asyncio.Task[None] | None = None
        folders = {self.library.folder, self.report.parent, *(path.parent for path in self.reader.folders.values())}
        # Shortest first: "data/models" says more than "models".
        self._folders = sorted(
            (path for path in folders if path.is_absolute() and path.name), key=lambda p: len(str(p))
        )

    @property
    def alive(self) -> bool:
        """Whether submitted images are read."""
        return self._running is not None and not self._running.done()

    def named(self, dataset: str, label: str) -> str:
        """A label as it is shown to users: unchanged, or for a grid the names of its classes.

        Raises InputError if the models were trained on other classes.
        """
        for name, about in self.abouts.items():
            if about.dataset == dataset:
                try:
                    return display_text(label, about.spec.alphabet, about.class_names)
                except KeyError:
                    stage = stage_of("train", name)
                    raise InputError(f"{name}: was trained on other classes; run `dvc repro {stage}`") from None
        return label

    def public(self, message: str) -> str:
        """A message for clients: the demo's folders are named without the folders above them."""
        for folder in self._folders:
            message = message.replace(str(folder), folder.name)
        return message

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Process submitted images while the context is open."""
        self._running = asyncio.create_task(self.queue.run())
        warm_up = asyncio.create_task(self._warm())
        try:
            yield
        finally:
            for task in (self._running, warm_up):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._decoder.close()
            self.reader.close()

    async def read(self, jobs: Sequence[Job], ticket: Ticket) -> list[Answer]:
        """The answers to jobs with encoded images, in order. Raises Busy or Stopped."""
        ticket.add_work(sum(self.queue.cost(job) for job in jobs))
        answers = await self.queue.answer(jobs, ticket.client)
        for answer in answers:
            if isinstance(answer, Rejection):
                self.monitor.rejections.labels(answer.reason).inc()
            else:
                for reading in answer:
                    if reading["error"] is not None:
                        reading["error"] = self.public(reading["error"])
                    self.monitor.readings.labels(reading["model"]).inc()
        return answers

    async def _warm(self) -> None:
        try:
            await self.reader.warm()
        except Stopped:
            # Told to end before it had begun.
            return
        except Exception:
            logger.exception("the process that reads images failed to start")

    async def _read(self, jobs: list[Job]) -> Sequence[Answer]:
        self.monitor.batches.observe(len(jobs))
        return await self.reader.read(jobs)
