"""Learned arrays on disk, as .npz files that need no pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from captchabench.errors import InputError, first_line


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays to `path`. Equal arrays give equal bytes: numpy dates the parts of the archive 1980."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays called `names` in `path`; never unpickles. Raises InputError where the file is not such."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(part.file_size for part in file.zip.infolist()) > path.stat().st_size:
                raise ValueError("compressed")
            arrays = {name: file[name] for name in names}
            for name, array in arrays.items():
                if array.dtype.kind not in "iufb" or not np.isfinite(array).all():
                    raise ValueError(f"{name} is not all finite numbers")
            return arrays
    # numpy parses headers as Python literals: a damaged one raises nearly anything, tokenize.TokenError for one.
    except Exception as error:
        raise InputError(f"{path}: does not hold this model's arrays ({first_line(error)}); train it anew") from None
