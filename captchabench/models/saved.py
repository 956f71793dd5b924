"""A saved model: what its config.json says of it, and learned arrays as .npz files that need no pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.cells.cell import stage_of
from captchabench.config import Between, NormalizeParams, Positive, build
from captchabench.datasets.base import ROWS, TILES
from captchabench.errors import InputError, first_line
from captchabench.samples.shards import TextSpec
from captchabench.storage.checksum import UNSEALED, Damaged, flaw, is_sealed, sealed
from captchabench.storage.files import as_json, write_text

CONFIG_FILE = "config.json"
FORMAT = 4
# A config is a page of text.
_MOST_BYTES = 1 << 20
_Length = Annotated[int, Between(0, 1024)]


@dataclass(frozen=True)
class About:
    """A trained model in figures and names; all but `parameter_count` come from the shards it was trained on.

    `fold` was held out. `height`, `width` (pixels), `resize` and `clahe` are how `normalize` prepared its images.
    `class_names`: what the symbols of `alphabet` stand for, in its order; empty where they are characters.
    `pretraining` and `precision`: see Provenance.
    """

    model: str
    dataset: str
    source: str
    version: int
    fold: Annotated[int, Between(0)]
    alphabet: str
    min_length: _Length
    max_length: _Length
    height: Annotated[int, Between(8, 512)]
    width: Annotated[int, Between(8, 1024)]
    resize: Literal["stretch", "pad"]
    clahe: bool
    parameter_count: Positive
    task: Literal["text", "grid"] = "text"
    class_names: tuple[str, ...] = ()
    pretraining: str = ""
    precision: str = ""

    @property
    def spec(self) -> TextSpec:
        """What the recogniser is built for. Raises InputError for an impossible alphabet."""
        rows = ROWS if self.task == "grid" else 1
        return TextSpec(Alphabet(self.alphabet), self.min_length, self.max_length, self.height, self.width, rows)

    @property
    def preprocessing(self) -> NormalizeParams:
        """How an image becomes one that the model reads."""
        return NormalizeParams(self.height, self.width, self.resize, self.clahe)


@dataclass(frozen=True)
class SavedConfig:
    """The whole of config.json.

    parameters: of the model's section of params.yaml. files: of the model's other files the CRC-32, in hexadecimal.
    checksum: see `checksum`.
    """

    format: Literal[4]
    about: About
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    checksum: str = ""


def write_config(folder: Path, about: About, parameters: Mapping[str, Any]) -> None:
    """Write config.json, the sums of the model's other files in `folder` and one of its own in it."""
    files = {path.name: _sum_of(path) for path in sorted(folder.iterdir()) if path.name != CONFIG_FILE}
    saved = {"format": FORMAT, "about": asdict(about), "parameters": parameters, "files": files, "checksum": UNSEALED}
    write_text(folder / CONFIG_FILE, sealed(as_json(saved).encode()).decode())


def read_config(folder: Path) -> SavedConfig:
    """The config of the model saved in `folder`; no weight is read.

    Raises InputError if it is not one of ours, or is damaged.
    """
    path = folder / CONFIG_FILE
    try:
        with path.open("rb") as file:
            encoded = file.read(_MOST_BYTES + 1)
        if len(encoded) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES >> 20} MiB")
        if is_sealed(encoded):
            _check_sum(encoded, path)
        saved = json.loads(encoded)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder that `train` wrote") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a saved model's config ({first_line(error)}); {_again(folder)}") from None
    config = check_config(saved, str(path))
    _check_sum(encoded, path)
    return config


def check_files(folder: Path, config: SavedConfig) -> None:
    """Check the files of the model in `folder` by their sums in its config. Raises InputError."""
    for name, kept in config.files.items():
        path = folder / Path(name).name
        try:
            found = _sum_of(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {_again(folder)}") from None
        if found != kept:
            raise Damaged(f"{path}: is damaged (its CRC-32 is {found}, not {kept}); {_again(folder)}")


def _check_sum(encoded: bytes, path: Path) -> None:
    if (problem := flaw(encoded)) is not None:
        raise Damaged(f"{path}: is damaged ({problem}); {_again(path.parent)}")


def _sum_of(path: Path) -> str:
    return f"{crc32(path.read_bytes()):08x}"


def _again(folder: Path) -> str:
    """What to do about a damaged model: one of the benchmark's own has a stage of DVC's."""
    own = folder.absolute().parts[-3:-1] == ("data", "models")
    return f"run `dvc repro -f -s {stage_of('train', folder.name)}`" if own else "copy or train it anew"


def check_config(saved: Any, where: str) -> SavedConfig:
    """What was read as JSON, checked; `where` prefixes messages. Raises InputError."""
    if not isinstance(saved, dict) or "format" not in saved:
        raise InputError(f"{where}: is not a saved model's config")
    if saved["format"] != FORMAT:
        raise InputError(f"{where}: format {saved['format']!r}, this program reads {FORMAT}; train it anew")
    config = build(SavedConfig, saved, where)
    try:
        spec = config.about.spec
    except InputError as error:
        raise InputError(f"{where}: about.alphabet: {error}") from None
    names = len(config.about.class_names)
    if names != (len(spec.alphabet) if config.about.task == "grid" else 0):
        raise InputError(f"{where}: about: {names} class_names for {len(spec.alphabet)} symbols")
    if config.about.task == "grid" and not spec.min_length == spec.max_length == TILES:
        raise InputError(f"{where}: about: a grid has {TILES} tiles, not {spec.min_length} to {spec.max_length}")
    if spec.min_length > spec.max_length:
        raise InputError(f"{where}: about: min_length {spec.min_length} is above max_length {spec.max_length}")
    return config


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays to `path`. Equal arrays give equal bytes: numpy dates the parts of the archive 1980."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # mypy tries them as allow_pickle, too


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
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
