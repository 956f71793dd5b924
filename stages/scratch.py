"""Where an unfinished training keeps its checkpoints: data/scratch/D-M-F.HASH, a hash of all that it depends on."""

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


def scratch_folder(cell: Cell, inputs: Mapping[str, Any], *, tell: bool) -> Path:
    """The folder of a cell's training with such inputs, and with the code that is loaded.

    Left there by a training with others: with `tell`, named and left alone.
    """
    digest = hashlib.blake2b(json.dumps(inputs, sort_keys=True).encode(), digest_size=6)
    digest.update(os.environ.get("WORLD_SIZE", "1").encode())
    for name in sorted(name for name in sys.modules if name.partition(".")[0] == "captchabench"):
        digest.update(Path(sys.modules[name].__file__ or "").read_bytes())
    folder = _SCRATCH / f"{cell}.{digest.hexdigest()}"
    if tell and not folder.exists():
        for other in sorted(_SCRATCH.glob(f"{cell}.*")):
            print(f"{other}: is of a training with other data, parameters or code; left aside, training begins anew")
    return folder


def clear_scratch(cell: str) -> None:
    """Remove what trainings of `cell` left, with whatever inputs; of all for `*`."""
    for folder in _SCRATCH.glob(f"{cell}.*"):
        shutil.rmtree(folder, ignore_errors=True)


def checksum_of(*parts: Samples) -> int:
    """One number for all that a training sees of samples: the CRC-32 of their pixels, labels and order."""
    total = 0
    for part in parts:
        text = "\0".join([*part.sample_ids, *part.labels]).encode()
        total = crc32(np.ascontiguousarray(part.pixels).data, crc32(text, total))
    return total
