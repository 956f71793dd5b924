"""The machine of a benchmark: its description, and the peak speeds that it reaches."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median

import torch

from captchabench.networks.device import precision_for
from captchabench.networks.processor import processor
from captchabench.pool import cores

_PACKAGES = ("timm", "numpy", "opencv-python", "opencv-python-headless", "pillow", "pyarrow", "scikit-learn")
_ROUNDS = 10


@dataclass(frozen=True)
class Ceilings:
    """The peak speeds of the device.

    flops: floating-point operations per second of one large matrix product in `dtype`. bytes_per_second: of one large
    copy on the device, with bytes read and bytes written both counted.
    """

    dtype: str
    flops: float
    bytes_per_second: float


def machine(device: torch.device) -> dict[str, str | int]:
    """Device, processor, cores, threads, versions and date, to be stored with the results."""
    facts: dict[str, str | int] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return facts


def training_dtype(device: torch.device) -> torch.dtype:
    """The dtype of the engine's matrix products on `device`."""
    return torch.bfloat16 if precision_for(device, "auto") == "bfloat16" else torch.float32


def measure_ceilings(device: torch.device) -> Ceilings:
    """Measure both speeds on random numbers: the median of ten rounds after a warm-up."""
    dtype = training_dtype(device)
    side, copied = (8192, 2**30) if device.type == "cuda" else (1536, 2**28)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    source = torch.randint(256, (copied,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    multiplied = seconds(lambda: torch.mm(left, right, out=product), device, _ROUNDS)
    moved = seconds(lambda: target.copy_(source), device, _ROUNDS)
    return Ceilings(str(dtype).removeprefix("torch."), 2 * side**3 / multiplied, 2 * copied / moved)


def seconds(work: Callable[[], object], device: torch.device, rounds: int) -> float:
    """The median duration of `work` over `rounds` after two rounds to warm up. Waits for the device each time."""
    durations = []
    for round_number in range(rounds + 2):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        if round_number >= 2:
            durations.append(time.perf_counter() - started)
    return median(durations)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
