"""A disk that fails on demand for a command and its child processes: builds and controls faults.c."""

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("faults.c")
# The layout of faults.c: count, failed, at, on, error; then the records.
_HEAD = struct.Struct("=QQQII")
_RECORD = struct.Struct("=16s160s80s")
_RECORDS = 65536


@dataclass(frozen=True)
class Call:
    """A call that needs disk space. number: from 1, over all processes. path: relative. command: end of its argv."""

    number: int
    call: str
    path: str
    command: str

    @property
    def writer(self) -> str:
        """The program that made the call: a stage, flows.recovery or DVC."""
        if "stages." in self.command:
            return "stage"
        return "recovery" if "flows.recovery" in self.command else "DVC"


def compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return shutil.which(os.environ.get("CC", "cc"))


def build(folder: Path) -> Path:
    """Build the library in `folder`. Raises CalledProcessError with the compiler's output."""
    made = folder / "faults.so"
    result = compiler()
    assert result
    subprocess.run([result, "-O2", "-shared", "-fPIC", "-o", str(made), str(_SOURCE), "-ldl"], check=True)
    return made


class Disk:
    """The disk below `folder`, for processes with `environment`. state: a file outside of `folder`."""

    def __init__(self, library: Path, folder: Path, state: Path) -> None:
        self._library, self._folder, self._state = library, folder.resolve(), state
        self.work()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for the processes."""
        return {
            "LD_PRELOAD": str(self._library),
            "CHAOS_FOLDER": str(self._folder),
            "CHAOS_STATE": str(self._state),
        }

    def work(self) -> None:
        """Reset the count, and let no call fail."""
        self._begin(0, on=False, error=0)

    def fail(self, at: int, *, on: bool, error: int) -> None:
        """Reset the count, and let the call `at` fail with an errno. on: all later calls fail as well."""
        self._begin(at, on=on, error=error)

    def calls(self) -> list[Call]:
        """The calls so far."""
        with self._state.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            count = min(_HEAD.unpack_from(mapped)[0], _RECORDS)
            result = [_RECORD.unpack_from(mapped, _HEAD.size + i * _RECORD.size) for i in range(count)]
        return [Call(i + 1, *(_text(field) for field in fields)) for i, fields in enumerate(result)]

    def failed(self) -> int:
        """How many calls were made to fail."""
        with self._state.open("rb") as file:
            return int(_HEAD.unpack(file.read(_HEAD.size))[1])

    def _begin(self, at: int, *, on: bool, error: int) -> None:
        # A sparse file: it only takes the space of what is recorded.
        self._state.unlink(missing_ok=True)
        with self._state.open("wb") as file:
            file.write(_HEAD.pack(0, 0, at, int(on), error))
            file.truncate(_HEAD.size + _RECORDS * _RECORD.size)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
