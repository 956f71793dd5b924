"""A run's client of the workers that wait at a Dask scheduler."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker

from captchabench.errors import InputError
from flows.connection import accepted_certificates
from flows.failures import Failure
from flows.process import Stopped
from flows.worker import Done, Job, run_job, slot_name

_POLL_SECONDS = 1.0


class Workers:
    """The workers at one commit. If a worker is lost, Dask restarts its stage on another.

    patience: seconds to wait for a worker while there is none, at the start and after the last one is lost.
    """

    def __init__(self, address: str, commit: str, patience: float = 60.0) -> None:
        self._address, self._commit, self._patience = address, commit, patience
        self._slot = slot_name(commit)
        self._closed = threading.Event()
        self._last_count = (0.0, 0)
        self._client: Client | None = None

    def await_one(self) -> None:
        """Wait for a worker. Raises InputError if no scheduler answers, or if no worker comes."""
        certificates = accepted_certificates(self._address, "client")
        try:
            self._client = Client(self._address, security=certificates, set_as_default=False)
        except OSError as error:
            raise InputError(f"{self._address}: the scheduler has just ended; start it again") from error
        until = time.monotonic() + self._patience
        while not self.count():
            if time.monotonic() > until:
                raise InputError(f"no worker at commit {self._commit[:9]} waits at {self._address}{self._others()}")
            time.sleep(_POLL_SECONDS)

    def count(self) -> int:
        """The current number of workers."""
        when, number = self._last_count
        if time.monotonic() - when > _POLL_SECONDS:
            number = sum(self._slot in worker["resources"] for worker in self._listed())
            self._last_count = (time.monotonic(), number)
        return number

    def run(
        self, name: str, job: str, *, time_limit: float, environment: Mapping[str, str], say: Callable[[str], None]
    ) -> Done:
        """Run a job on a free worker; call `say` with each line that it prints.

        Raises Failure if no worker is left or if several were lost while they ran it; Stopped after `close`.
        """
        assert self._client
        topic = f"{name}-{uuid4()}"
        self._client.subscribe_topic(topic, lambda event: say(event[1]))
        request = Job(job, time_limit, environment, topic)
        future = self._client.submit(run_job, request, key=topic, resources={self._slot: 1}, pure=False)
        last_seen = time.monotonic()
        try:
            while True:
                try:
                    done: Done = future.result(timeout=_POLL_SECONDS)
                    return done
                except TimeoutError:
                    if self._closed.is_set():
                        raise Stopped from None
                    if self.count():
                        last_seen = time.monotonic()
                    elif time.monotonic() - last_seen > self._patience:
                        raise Failure(name, f"no worker is left at {self._address}", False, ()) from None
        except KilledWorker:
            raise Failure(name, "several workers were lost while running it", True, ()) from None
        except (CancelledError, OSError, RuntimeError):
            if self._closed.is_set():
                raise Stopped from None
            raise Failure(name, f"the connection to {self._address} was lost", True, ()) from None
        finally:
            if not self._closed.is_set():
                future.cancel()
                self._client.unsubscribe_topic(topic)

    def close(self) -> None:
        """Disconnect. The workers end the stages that they run for this client."""
        self._closed.set()
        if self._client:
            self._client.close()

    def _listed(self) -> list[dict[str, Any]]:
        assert self._client
        try:
            return list(self._client.scheduler_info()["workers"].values())
        except (OSError, RuntimeError, ValueError):
            return []

    def _others(self) -> str:
        """The end of an error message: the workers at other commits and what to do there."""
        names = sorted(worker["name"] for worker in self._listed() if self._slot not in worker["resources"])
        if not names:
            return "; start some: python -m flows.worker"
        return f", but some at others: {', '.join(names)}; there: check out {self._commit[:9]}, make setup, start again"
