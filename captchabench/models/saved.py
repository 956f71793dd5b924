"""The files of a saved model: config.json, and learned arrays as .npz files without pickle."""

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
from captchabench.storage.files import as_json, read_regular, write_text

CONFIG_FILE = "config.json"
FORMAT = 4
# A config is about a page of text.
_MAX_BYTES = 1 << 20
_Length = Annotated[int, Between(0, 1024)]


@dataclass(frozen=True)
class About:
    """The metadata of a trained model.

    fold: the one that was held out. height, width: of its images, in pixels. resize, clahe: how `normalize` prepared
    the images. class_names: the classes that the symbols of `alphabet` stand for, in its order; empty if the symbols
    are characters. pretraining, precision: see Provenance. All but these two, `model`, `fold` and `parameter_count`
    come from the shards that it was trained on.
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
        """The texts and images that the recogniser is built for. Raises InputError for an impossible alphabet."""
        rows = ROWS if self.task == "grid" else 1
        return TextSpec(Alphabet(self.alphabet), self.min_length, self.max_length, self.height, self.width, rows)

    @property
    def preprocessing(self) -> NormalizeParams:
        """How an image is prepared for the model."""
        return NormalizeParams(self.height, self.width, self.resize, self.clahe)


@dataclass(frozen=True)
class SavedConfig:
    """The content of config.json.

    parameters: the model's section of params.yaml. files: the CRC-32 of the model's other files, in hexadecimal.
    checksum: see `storage.checksum`.
    """

    format: Literal[4]
    about: About
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    checksum: str = ""


def write_config(folder: Path, about: About, parameters: Mapping[str, Any]) -> None:
    """Write config.json, with the checksums of the model's other files in `folder` and of itself."""
    files = {path.name: _crc_of(path) for path in sorted(folder.iterdir()) if path.name != CONFIG_FILE}
    saved = {"format": FORMAT, "about": asdict(about), "parameters": parameters, "files": files, "checksum": UNSEALED}
    write_text(folder / CONFIG_FILE, sealed(as_json(saved).encode()).decode())


def read_config(folder: Path) -> SavedConfig:
    """The config of the model saved in `folder`; no weight is read.

    Raises InputError if it cannot be read, is damaged, or is not a saved model's config.
    """
    path = folder / CONFIG_FILE
    try:
        encoded = read_regular(path, _MAX_BYTES)
        if len(encoded) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES >> 20} MiB")
        if is_sealed(encoded):
            _check_intact(encoded, path)
        saved = json.loads(encoded)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder that `train` wrote") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a saved model's config ({first_line(error)}); {_fix(folder)}") from None
    config = check_config(saved, str(path))
    _check_intact(encoded, path)
    return config


def check_files(folder: Path, config: SavedConfig) -> None:
    """Compare the other files of the model in `folder` with the checksums in its config. Raises InputError."""
    for name, stored in config.files.items():
        path = folder / Path(name).name
        try:
            actual = _crc_of(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {_fix(folder)}") from None
        if actual != stored:
            raise Damaged(f"{path}: is damaged (its CRC-32 is {actual}, not {stored}); {_fix(folder)}")


def _check_intact(encoded: bytes, path: Path) -> None:
    if (problem := flaw(encoded)) is not None:
        raise Damaged(f"{path}: is damaged ({problem}); {_fix(path.parent)}")


def _crc_of(path: Path) -> str:
    return f"{crc32(path.read_bytes()):08x}"


def _fix(folder: Path) -> str:
    """What to do about a damaged model. Those in data/models are made by DVC stages."""
    has_stage = folder.absolute().parts[-3:-1] == ("data", "models")
    return f"run `dvc repro -f -s {stage_of('train', folder.name)}`" if has_stage else "copy or train it again"


def check_config(saved: Any, where: str) -> SavedConfig:
    """The config from its JSON value, checked. where: prefix of error messages. Raises InputError."""
    if not isinstance(saved, dict) or "format" not in saved:
        raise InputError(f"{where}: is not a saved model's config")
    if saved["format"] != FORMAT:
        raise InputError(f"{where}: format {saved['format']!r}, this program reads {FORMAT}; train the model again")
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
    """Write the arrays to `path`. Equal arrays give equal bytes, since numpy dates all members of the archive 1980."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # mypy takes them for allow_pickle as well


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays called `names` in `path`; never unpickles. Raises InputError if one is missing or not all finite."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > path.stat().st_size:
                raise ValueError("compressed")
            arrays = {name: file[name] for name in names}
            for name, array in arrays.items():
                if array.dtype.kind not in "iufb" or not np.isfinite(array).all():
                    raise ValueError(f"{name} is not all finite numbers")
            return arrays
    # numpy parses headers as Python literals, so a damaged one raises exceptions of many types, even TokenError.
    except Exception as error:
        raise InputError(
            f"{path}: does not hold this model's arrays ({first_line(error)}); train the model again"
        ) from None
