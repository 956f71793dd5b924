"""Which device to train and read on, and in which precision."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from captchabench.errors import InputError

_MEMORY = "CAPTCHABENCH_MEMORY_SHARE"
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def choose_device() -> torch.device:
    """The current CUDA device where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def memory_share() -> float:
    """Of the GPU memory that is usually taken, how much to take: 1 unless CAPTCHABENCH_MEMORY_SHARE says less.

    A scheduler lowers it after a try that ran out of memory: less data stays on the device, and batches that are only
    read get smaller. Training batches stay as they are. Raises InputError if it is no share.
    """
    text = os.environ.get(_MEMORY, "1")
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"{_MEMORY}: must be above 0 and at most 1; is '{text}'")
    return share


def reading_batch(usual: int) -> int:
    """Images to read at once where `usual` are with all the memory: less on a GPU that was too full."""
    return max(1, int(usual * memory_share()))


Precision = Literal["float32", "bfloat16"]


def precision_for(device: torch.device, asked: Literal["auto", "float32", "bfloat16"]) -> Precision:
    """What a training on `device` computes in. auto: bfloat16 on a GPU alone.

    On a CPU bfloat16 loses: slower than float32 on those with AVX-512 BF16 and without AMX, other weights on each kind.
    """
    if asked == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return asked


@contextmanager
def float32() -> Iterator[None]:
    """Compute in float32 proper meanwhile: without TF32, in which a GPU convolves unless told otherwise.

    So a reading depends neither on the batch that an image comes in nor on the kind of processor, but for rounding.
    """
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        yield


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next step, rather than give it back to the system and fault it in.

    With glibc's defaults a fifth of a crnn's training on a CPU went into page faults. Other libraries are left as they
    are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread of the CPU meanwhile, however many cores there are.

    Sums are taken in another order on another number of threads, so weights would depend on it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe(device: torch.device) -> dict[str, str | int]:
    """Device, threads and torch version, for the record beside a timing."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
