"""The checkpoint file of a training, and when it is due; the points of a learning curve."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from captchabench.errors import InputError
from captchabench.storage.checksum import flaw, sealed
from captchabench.storage.files import replacing_file

_INTERVAL = "CAPTCHABENCH_CHECKPOINT_SECONDS"
_DEFAULT_SECONDS = 60.0


class Checkpoints:
    """The checkpoint of one training, in a folder whose name identifies the training's inputs.

    inputs: that name. Raises InputError if CAPTCHABENCH_CHECKPOINT_SECONDS is not a number of seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.inputs = folder.name
        self._path = folder / "checkpoint.safetensors"
        self._interval = _interval_seconds()
        self._started = self._last = time.monotonic()
        self._earlier_seconds = 0.0

    @property
    def seconds(self) -> float:
        """How long the training has run, in earlier processes and in this one."""
        return self._earlier_seconds + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether to write the next checkpoint."""
        return time.monotonic() - self._last >= self._interval

    def write(self, encoded: bytes) -> None:
        """Replace the checkpoint. encoded: must contain `checksum.UNSEALED`."""
        with replacing_file(self._path) as temporary:
            temporary.write_bytes(sealed(encoded))
        self._last = time.monotonic()

    def read(self) -> bytes | None:
        """The checkpoint; None if there is none, or if it is damaged: then it is renamed."""
        try:
            encoded = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if (problem := flaw(encoded)) is not None:
            self.set_aside(f"is damaged ({problem})")
            return None
        return encoded

    def resume(self, step: int, seconds: float) -> None:
        """Report that the training resumes after `step`, and count the `seconds` that it ran until then."""
        self._earlier_seconds = seconds
        print(f"resuming after step {step} ({self._path})", flush=True)

    def set_aside(self, problem: str) -> None:
        """Rename a checkpoint that cannot be used, and report it."""
        # Several processes may try; only the first one finds the file.
        with suppress(FileNotFoundError):
            self._path.rename(self._path.with_suffix(".aside"))
            print(f"{self._path}: {problem}; set aside, training starts from the beginning", flush=True)


def _interval_seconds() -> float:
    text = os.environ.get(_INTERVAL, str(_DEFAULT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InputError(f"{_INTERVAL}: must be a number of seconds, 0 or more; is '{text}'")
    return seconds


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation during training. Losses are means per sample; None for a model without a loss."""

    step: int
    epoch: float
    learning_rate: float | None
    train_loss: float | None
    validation_loss: float | None
    validation_exact: float
