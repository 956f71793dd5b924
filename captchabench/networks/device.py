"""The device to train and read on, its memory, its precision and its number of threads."""

import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from captchabench.errors import InputError

_MEMORY = "CAPTCHABENCH_MEMORY_SHARE"
# Images are read this many at a time, and fewer if they are larger than 100x32: memory grows with their pixels.
_IMAGES_AT_ONCE = 512
_PIXELS_AT_ONCE = _IMAGES_AT_ONCE * 100 * 32
# From malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def choose_device() -> torch.device:
    """The current CUDA device if there is one, otherwise the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def memory_share() -> float:
    """The share of the usual GPU memory to use: CAPTCHABENCH_MEMORY_SHARE, by default 1.

    A scheduler lowers it after a run that ran out of memory. Then less data is kept on the device, and reading uses
    smaller batches. Training batches stay as they are. Raises InputError if it is not above 0 and at most 1.
    """
    text = os.environ.get(_MEMORY, "1")
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"{_MEMORY}: must be above 0 and at most 1; is '{text}'")
    return share


def reading_batch(height: int, width: int) -> int:
    """How many images of a size in pixels are read at a time: at least 1, and less with a smaller memory share."""
    return max(1, int(min(_IMAGES_AT_ONCE, _PIXELS_AT_ONCE / (height * width)) * memory_share()))


Precision = Literal["float32", "bfloat16"]


def precision_for(device: torch.device, setting: Literal["auto", "float32", "bfloat16"]) -> Precision:
    """The arithmetic of a training on `device`. auto: bfloat16 on a GPU, float32 on a CPU.

    On a CPU bfloat16 can be faster: on an AMD EPYC with AVX-512 BF16 a `crnn` took 28 % less time (docs/training.md).
    The default is float32 all the same, since weights must not depend on the type of processor.
    """
    if setting == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return setting


@contextmanager
def float32() -> Iterator[None]:
    """Compute in full float32: without TF32, which PyTorch uses for convolutions on a GPU by default.

    So, except for rounding, a reading depends neither on the batch nor on the type of processor.
    """
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        yield


def training_clock(device: torch.device) -> Callable[[], float]:
    """A clock for training steps, in seconds; on a CPU that of the process, without what else runs on the machine."""
    return time.perf_counter if device.type == "cuda" else time.process_time


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, instead of returning it to the system.

    With glibc's defaults, page faults took a fifth of the time of a crnn's training on a CPU. Does nothing with other C
    libraries.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread, however many cores there are.

    With another number of threads, sums are taken in another order and weights differ.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe(device: torch.device) -> dict[str, str]:
    """Device and torch version, to be stored with a timing."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": f"{device.type} ({name})", "torch": torch.__version__}
