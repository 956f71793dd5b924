"""The workers that wait at a Dask scheduler, as the run that gives them stages sees them."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker

from captchabench.errors import InputError
from flows.connection import reach
from flows.failures import Failure
from flows.process import Stopped
from flows.worker import Done, Job, run_job, slot

_LOOK_SECONDS = 1.0


class Workers:
    """Those at one commit. A stage whose worker is lost begins again on another, which is Dask's doing.

    patience: seconds to wait where there is none, at the start and after the last one is lost.
    """

    def __init__(self, address: str, commit: str, patience: float = 60.0) -> None:
        self._address, self._commit, self._patience = address, commit, patience
        self._slot = slot(commit)
        self._closed = threading.Event()
        self._seen = (0.0, 0)
        self._client: Client | None = None

    def await_one(self) -> None:
        """Wait for a worker. Raises InputError if no scheduler answers, or if no worker comes."""
        own = reach(self._address, "client")
        try:
            self._client = Client(self._address, security=own, set_as_default=False)
        except OSError as error:
            raise InputError(f"{self._address}: the scheduler has just ended; start it again") from error
        until = time.monotonic() + self._patience
        while not self.count():
            if time.monotonic() > until:
                raise InputError(f"no worker at commit {self._commit[:9]} waits at {self._address}{self._others()}")
            time.sleep(_LOOK_SECONDS)

    def count(self) -> int:
        """How many there are now."""
        when, number = self._seen
        if time.monotonic() - when > _LOOK_SECONDS:
            number = sum(self._slot in one["resources"] for one in self._listed())
            self._seen = (time.monotonic(), number)
        return number

    def run(
        self, name: str, job: str, *, time_limit: float, environment: Mapping[str, str], say: Callable[[str], None]
    ) -> Done:
        """Have a job run by a free worker; call `say` with each line that it prints.

        Raises Failure where no worker is left or several were lost on it, Stopped after `close`.
        """
        assert self._client
        topic = f"{name}-{uuid4()}"
        self._client.subscribe_topic(topic, lambda event: say(event[1]))
        sent = Job(job, time_limit, environment, topic)
        future = self._client.submit(run_job, sent, key=topic, resources={self._slot: 1}, pure=False)
        seen = time.monotonic()
        try:
            while True:
                try:
                    done: Done = future.result(timeout=_LOOK_SECONDS)
                    return done
                except TimeoutError:
                    if self._closed.is_set():
                        raise Stopped from None
                    if self.count():
                        seen = time.monotonic()
                    elif time.monotonic() - seen > self._patience:
                        raise Failure(name, f"no worker is left at {self._address}", False, ()) from None
        except KilledWorker:
            raise Failure(name, "its workers were lost, one after the other", True, ()) from None
        except (CancelledError, OSError, RuntimeError):
            if self._closed.is_set():
                raise Stopped from None
            raise Failure(name, f"the connection to {self._address} was lost", True, ()) from None
        finally:
            if not self._closed.is_set():
                future.cancel()
                self._client.unsubscribe_topic(topic)

    def close(self) -> None:
        """Let go of all: what runs there is ended."""
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
        """The workers at other commits, and what to do there."""
        found = sorted(one["name"] for one in self._listed() if self._slot not in one["resources"])
        if not found:
            return "; start some: python -m flows.worker"
        return f", but some at others: {', '.join(found)}; there: check out {self._commit[:9]}, make setup, start again"
