"""Facts about this machine that can be found without using a GPU, and what captchabench will use of it."""

import os
import platform
import shutil
import subprocess
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

from captchabench import __version__
from captchabench.errors import first_line
from captchabench.networks.device import precision_for
from captchabench.networks.processor import processor
from captchabench.pool import cores
from captchabench.training.acceleration import EAGER, WORTH_COMPILING, acceleration_for

Sections = dict[str, dict[str, str]]
_GB = 1e9
_LEAST_MEMORY, _LEAST_DISK = 2 * _GB, 3 * _GB
_PATIENCE = 20


def sections() -> tuple[Sections, list[str]]:
    """Facts by section and name; and the problems, each with what to do."""
    problems: list[str] = []
    disk = shutil.disk_usage(Path.cwd())
    memory = psutil.virtual_memory()
    if memory.available < _LEAST_MEMORY:
        problems.append(
            f"{_size(memory.available)} of memory are free: end other programs, {_size(_LEAST_MEMORY)} are needed"
        )
    if disk.free < _LEAST_DISK:
        problems.append(f"{_size(disk.free)} of disk are free here: make room, `dvc gc --workspace` may help")
    facts: Sections = {
        "versions": {
            "captchabench": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "CUDA": torch.version.cuda or "torch is built without it",
            "cuDNN": str(torch.backends.cudnn.version() or "none"),
            "driver": next(iter(_nvidia("driver_version")), "none found"),
            "timm": _version("timm"),
            "numpy": _version("numpy"),
            "OpenCV": _version("opencv-python"),
        },
        "machine": {
            "system": platform.platform(terse=True),
            "processor": processor(),
            "cores": f"{cores()} usable of {os.cpu_count()}",
            "memory": f"{_size(memory.total)}, {_size(memory.available)} free",
            "disk": f"{_size(disk.free)} free here",
        },
        "precision": {
            "processor has": ", ".join(_instructions()),
            "reading": "float32",
            "training, CPU": precision_for(torch.device("cpu"), "auto"),
            "training, GPU": precision_for(torch.device("cuda"), "auto"),
        },
    }
    return facts, problems


def devices() -> tuple[list[str], list[str]]:
    """CUDA_VISIBLE_DEVICES of each device, first "" for the CPU; and the problems with GPUs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        # A broken driver may raise any exception.
        except Exception as error:
            count = 0
            warnings.warn(first_line(error), stacklevel=1)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible is not None else [str(i) for i in range(count)]
    listed = _nvidia("name")
    if count or not listed or visible == "":
        return ["", *names[:count]], []
    warning = caught[0].message if caught else None
    reason = first_line(warning) if isinstance(warning, Warning) else "it does not say why"
    remedy = f"install a driver for CUDA {torch.version.cuda}" if torch.version.cuda else "run `make setup`"
    gpus = f"{len(listed)} GPU ({listed[0]})"
    return [""], [f"{gpus} that torch cannot use ({reason}): {remedy}; the CPU is used until then"]


def paths(visible: list[str]) -> dict[str, str]:
    """The device that trainings and readings use, and how steps are run on it. visible: from `devices`."""
    device = torch.device("cuda" if len(visible) > 1 else "cpu")
    short, long = (str(acceleration_for(device, images)) for images in (0, WORTH_COMPILING))
    steps = short if short == long else f"{short}; {long} from {WORTH_COMPILING:,} images"
    if device.type == "cpu":
        why = "nothing else is faster on a CPU"
    elif short == str(EAGER):
        why = "CAPTCHABENCH_EAGER is set"
    else:
        why = "eager if their results differ from eager steps"
    used = f"GPU {visible[1]}, the first" if device.type == "cuda" else "CPU, no GPU was found"
    return {"device": used, "steps": f"{steps} ({why})"}


def _nvidia(field: str) -> list[str]:
    """A field of nvidia-smi for each GPU; empty without the program."""
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _instructions() -> list[str]:
    supported = {
        torch.backends.cpu.get_cpu_capability().lower(): True,
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }
    missing = [name for name, is_supported in supported.items() if not is_supported]
    return [name for name, is_supported in supported.items() if is_supported] + [f"no {name}" for name in missing]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _size(count: float) -> str:
    return f"{count / _GB:.1f} GB"
