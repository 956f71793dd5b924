"""Where a training keeps what it needs to go on after it was killed, and when it does."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from captchabench.errors import InputError
from captchabench.storage.checksum import flaw, sealed
from captchabench.storage.files import replacing_file

_EVERY = "CAPTCHABENCH_CHECKPOINT_SECONDS"
_EVERY_SECONDS = 60.0


class Checkpoints:
    """The checkpoint of one training, in a folder that no training with other inputs has. inputs: the folder's name."""

    def __init__(self, folder: Path) -> None:
        self.inputs = folder.name
        self._path = folder / "checkpoint.safetensors"
        self._every = _every_seconds()
        self._started = self._last = time.monotonic()
        self._earlier = 0.0

    @property
    def seconds(self) -> float:
        """The time that the training has taken, in earlier processes and in this one."""
        return self._earlier + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether it is time for another one."""
        return time.monotonic() - self._last >= self._every

    def write(self, encoded: bytes) -> None:
        """Replace the checkpoint. encoded: holds `checksum.UNSEALED`."""
        with replacing_file(self._path) as temporary:
            temporary.write_bytes(sealed(encoded))
        self._last = time.monotonic()

    def read(self) -> bytes | None:
        """The checkpoint; None where there is none, or a damaged one, which is set aside."""
        try:
            encoded = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if (problem := flaw(encoded)) is not None:
            self.set_aside(f"is damaged ({problem})")
            return None
        return encoded

    def going_on(self, step: int, seconds: float) -> None:
        """Say that the training goes on from a checkpoint that was written after `seconds` of it."""
        self._earlier = seconds
        print(f"going on after step {step} ({self._path})", flush=True)

    def set_aside(self, problem: str) -> None:
        """Rename a checkpoint that cannot be used, and say so."""
        # Of several processes one is the first.
        with suppress(FileNotFoundError):
            self._path.rename(self._path.with_suffix(".aside"))
            print(f"{self._path}: {problem}; set aside, training begins anew", flush=True)


def _every_seconds() -> float:
    text = os.environ.get(_EVERY, str(_EVERY_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InputError(f"{_EVERY}: must be a number of seconds, 0 or more; is '{text}'")
    return seconds


@dataclass(frozen=True)
class CurvePoint:
    """One evaluation during training. Losses are means per sample; a model without one leaves them None."""

    step: int
    epoch: float
    learning_rate: float | None
    train_loss: float | None
    validation_loss: float | None
    validation_exact: float
