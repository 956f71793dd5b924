"""The folder of an unfinished training's checkpoints: data/scratch/D-M-F.HASH, a hash of all that it depends on."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from captchabench.cells.cell import Cell
from captchabench.samples.shards import Samples

_SCRATCH = Path("data/scratch")


def scratch_folder(cell: Cell, inputs: Mapping[str, Any], *, report: bool) -> Path:
    """The folder for checkpoints of the cell's training with these `inputs` and the code that is loaded.

    inputs: JSON values. report: print the names of folders that trainings with other inputs left; they are kept.
    """
    digest = hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=6)
    digest.update(os.environ.get("WORLD_SIZE", "1").encode())
    for name in sorted(name for name in sys.modules if name.partition(".")[0] == "captchabench"):
        digest.update(Path(sys.modules[name].__file__ or "").read_bytes())
    folder = _SCRATCH / f"{cell}.{digest.hexdigest()}"
    if report and not folder.exists():
        for other in sorted(_SCRATCH.glob(f"{cell}.*")):
            print(f"{other}: belongs to other data, parameters or code; not used, training starts from the beginning")
    return folder


def clear_scratch(cell: str) -> None:
    """Remove the checkpoints of the cell called `cell`, whatever their inputs; of all cells for `*`."""
    for folder in _SCRATCH.glob(f"{cell}.*"):
        shutil.rmtree(folder, ignore_errors=True)


def checksum_of(*parts: Samples) -> int:
    """The CRC-32 of all that a training uses of the samples: pixels, labels, sample_ids and their order."""
    total = 0
    for part in parts:
        text = "\0".join([*part.sample_ids, *part.labels]).encode()
        total = crc32(np.ascontiguousarray(part.pixels).data, crc32(text, total))
    return total
