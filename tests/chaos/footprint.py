"""Files and processes that a benchmark leaves behind, and the resources that it used while it ran."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

MARK = "CAPTCHABENCH_LONG_LIFE"
_LOOK_SECONDS = 0.1


def size_of(*folders: Path) -> tuple[int, int]:
    """The number of files below `folders` and their bytes. Hard links to one file count once."""
    seen: set[int] = set()
    files = size = 0
    for path in _files(folders):
        # It may be removed meanwhile.
        with suppress(FileNotFoundError):
            status = path.lstat()
            files += 1
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                size += status.st_size
    return files, size


def temporaries(root: Path) -> list[str]:
    """Temporary files of interrupted writers: hidden names next to their outputs."""
    folders = [root / name for name in ("data", "metrics", "reports")]
    return sorted(
        path.relative_to(root).as_posix()
        for path in _files(folders)
        if path.name != ".gitignore" and any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def marked(mark: str) -> list[psutil.Process]:
    """The living processes whose environment contains `mark`. This finds children that left their session."""
    wanted = f"{MARK}={mark}".encode()
    result = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if wanted in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                result.append(process)
    return result


class Watch:
    """The maxima of the marked processes, sampled ten times per second.

    largest: bytes of the largest process. together: bytes of all. open_files: of one process. processes: how many.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self.largest = self.together = self.open_files = self.processes = 0

    def sample(self) -> None:
        """Take one sample."""
        resident = [0]
        for process in marked(self._mark):
            with suppress(psutil.Error, OSError):
                resident.append(process.memory_info().rss)
                self.open_files = max(self.open_files, process.num_fds())
        self.largest = max(self.largest, *resident)
        self.together = max(self.together, sum(resident))
        self.processes = max(self.processes, len(resident) - 1)


@contextmanager
def watched(mark: str) -> Iterator[Watch]:
    """Samples the marked processes until the context ends."""
    watch = Watch(mark)
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(_LOOK_SECONDS):
            watch.sample()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def left_over(mark: str, patience: float = 5.0) -> list[str]:
    """The command lines of the marked processes that are still alive after `patience` seconds."""
    until = time.monotonic() + patience
    while (alive := marked(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    lines = []
    for process in alive:
        with suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return lines


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for root, _, names in os.walk(folder):
            yield from (Path(root, name) for name in names)
