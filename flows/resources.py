"""Allocation of cores and GPUs: each stage has exclusive use of its share until it ends."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from captchabench.config import Between, Positive, build

# By default libraries start one thread per core of the machine.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


@dataclass(frozen=True)
class Need:
    """What a stage needs, from `meta` in dvc.yaml.

    cpus: cores; all cores of a machine that has fewer. gpus: devices; all devices of a machine that has fewer, so
    that a stage runs on the CPU where there is no GPU. time_limit: seconds per try. soon: started before all other
    stages that are ready, since a person waits for its output.
    """

    cpus: Positive | Literal["all"] = 1
    gpus: Annotated[int, Between(0)] = 0
    time_limit: Annotated[float, Between(1)] = 6 * 3600.0
    soon: bool = False

    @classmethod
    def of(cls, stage: str, meta: Any) -> "Need":
        """Read a stage's `meta`. Raises InputError that names a wrong key and the nearest known one."""
        return build(cls, meta or {}, f"dvc.yaml: {stage}: meta")


@dataclass(frozen=True)
class Share:
    """Cores and devices that one stage uses exclusively. elsewhere: it uses a whole Dask worker instead."""

    cores: tuple[int, ...]
    devices: tuple[str, ...]
    elsewhere: bool = False

    def environment(self) -> dict[str, str]:
        """Environment variables that limit libraries to this share."""
        threads = {name: str(len(self.cores)) for name in _THREADS}
        # By default idle OpenMP threads spin, which takes CPU time from other processes on the same core.
        return {**threads, "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ",".join(self.devices)}


class Pool:
    """The free cores, devices and workers. Not thread-safe: one thread allocates.

    workers: returns the current number of Dask workers. Stages that need a GPU run there, and no others do.
    """

    def __init__(
        self, cores: tuple[int, ...], devices: tuple[str, ...], workers: Callable[[], int] | None = None
    ) -> None:
        self._all = Share(cores, devices)
        self._cores, self._devices = list(cores), list(devices)
        self._workers, self._lent = workers, 0

    def take(self, need: Need) -> Share | None:
        """A share that meets `need`; None while too little is free."""
        if self._workers and need.gpus:
            # If no worker is left, one stage is still submitted: it fails with a message if none comes back.
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
        """Return a share to the pool."""
        self._lent -= share.elsewhere
        self._cores.extend(share.cores)
        self._devices.extend(share.devices)


def available_cores() -> tuple[int, ...]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def available_devices(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; empty without a driver."""
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip())
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ()
    return tuple(str(number) for number, _ in enumerate(listed.stdout.splitlines())) if not listed.returncode else ()
