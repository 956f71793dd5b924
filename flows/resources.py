"""Cores and GPUs, and how they are shared out: what a stage may use is its own until it ends."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from captchabench.config import Between, Positive, build

# Libraries start a thread for each core of the machine unless told otherwise.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


@dataclass(frozen=True)
class Need:
    """What a stage says under `meta` in dvc.yaml.

    cpus: cores, all of the machine's if it has fewer. gpus: devices, as many as there are if there are fewer: on
    a machine without any, the stage runs on its cores. time_limit: seconds, for one try. soon: begun before any other
    as soon as it can be, since a person waits for what it says.
    """

    cpus: Positive | Literal["all"] = 1
    gpus: Annotated[int, Between(0)] = 0
    time_limit: Annotated[float, Between(1)] = 6 * 3600.0
    soon: bool = False

    @classmethod
    def of(cls, stage: str, meta: Any) -> "Need":
        """Read a stage's `meta`. Raises InputError that names the key and the nearest one."""
        return build(cls, meta or {}, f"dvc.yaml: {stage}: meta")


@dataclass(frozen=True)
class Share:
    """Cores and devices that one stage has to itself. elsewhere: it has a whole worker instead, on any machine."""

    cores: tuple[int, ...]
    devices: tuple[str, ...]
    elsewhere: bool = False

    def environment(self) -> dict[str, str]:
        """Variables that keep libraries to this share."""
        threads = {name: str(len(self.cores)) for name in _THREADS}
        # OpenMP's threads wait by spinning, which stops those that have work where others use the core.
        return {**threads, "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ",".join(self.devices)}


class Pool:
    """What is free. Not thread-safe: one thread shares out.

    workers: how many wait elsewhere, as it is now; stages that ask for a device go there, and nothing else does.
    """

    def __init__(
        self, cores: tuple[int, ...], devices: tuple[str, ...], workers: Callable[[], int] | None = None
    ) -> None:
        self._all = Share(cores, devices)
        self._cores, self._devices = list(cores), list(devices)
        self._workers, self._lent = workers, 0

    def take(self, need: Need) -> Share | None:
        """A share that meets `need`, or None while it is not free."""
        if self._workers and need.gpus:
            # Where all are gone one stage waits, and says so if none comes back.
            if self._lent >= max(1, self._workers()):
                return None
            self._lent += 1
            return Share((), (), elsewhere=True)
        most = len(self._all.cores)
        cpus = most if need.cpus == "all" else min(need.cpus, most)
        gpus = min(need.gpus, len(self._all.devices))
        if cpus > len(self._cores) or gpus > len(self._devices):
            return None
        share = Share(tuple(self._cores[:cpus]), tuple(self._devices[:gpus]))
        del self._cores[:cpus], self._devices[:gpus]
        return share

    def give_back(self, share: Share) -> None:
        """The share is free again."""
        self._lent -= share.elsewhere
        self._cores.extend(share.cores)
        self._devices.extend(share.devices)


def own_cores() -> tuple[int, ...]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def own_devices(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. None where there is no driver."""
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(word.strip() for word in visible.split(",") if word.strip())
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ()
    return tuple(str(number) for number, _ in enumerate(listed.stdout.splitlines())) if not listed.returncode else ()
