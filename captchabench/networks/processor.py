"""What can change numbers without a change of the program: the processor and the versions of the libraries."""

import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Instructions on vectors and matrices, of x86 and of Arm: libraries choose their kernels by them.
_CHOSEN_BY = re.compile(r"avx|amx|fma$|f16c$|asimd|sve|bf16$|i8mm$")
_PROC = Path("/proc/cpuinfo")


def processor() -> str:
    """The name of the processor's model; on systems without /proc, of its architecture."""
    return next(iter(_values("model name")), platform.processor() or platform.machine())


def instructions() -> str:
    """The processor's vector instructions, sorted, between spaces; empty on systems without /proc."""
    flags = next(iter([*_values("flags"), *_values("Features")]), "")
    return " ".join(sorted({flag for flag in flags.split() if _CHOSEN_BY.match(flag)}))


def library_versions(packages: Iterable[str]) -> str:
    """Name and version of each of the packages that is installed, sorted, as "numpy 2.4.6, torch 2.11.0"."""
    found = []
    for name in sorted(packages):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _values(field: str) -> list[str]:
    """The values of a field of /proc/cpuinfo, one for each core."""
    try:
        lines = _PROC.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == field]
