"""What a saved model says about itself: its config.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from captchabench.alphabet import Alphabet
from captchabench.config import Between, NormalizeParams, Positive, build
from captchabench.data.shards import ShardInfo, TextSpec
from captchabench.datasets.base import ROWS, TILES
from captchabench.errors import InputError

CONFIG_FILE = "config.json"
FORMAT = 2
# A config is a page of text.
_MOST_BYTES = 1 << 20
_Length = Annotated[int, Between(0, 1024)]


@dataclass(frozen=True)
class About:
    """A trained model in figures and names; all but `parameter_count` come from the shards it was trained on.

    `fold` was held out. `height`, `width` (pixels), `resize` and `clahe` are how `normalize` prepared its images.
    `class_names`: what the symbols of `alphabet` stand for, in its order; empty where they are characters.
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
    """The whole of config.json. `parameters` are those of the model's section of params.yaml."""

    format: Literal[2]
    about: About
    parameters: Mapping[str, Any] = field(default_factory=dict)


def about_model(model: str, info: ShardInfo, fold: int, parameter_count: int) -> About:
    """What a model trained on shards like `info`, all folds but `fold`, has to say about itself."""
    return About(
        model=model,
        dataset=info.dataset,
        source=info.source,
        version=info.version,
        fold=fold,
        alphabet=info.alphabet,
        min_length=info.min_length,
        max_length=info.max_length,
        height=info.height,
        width=info.width,
        resize=info.resize,
        clahe=info.clahe,
        parameter_count=parameter_count,
        task=info.task,
        class_names=info.class_names,
    )


def read_config(folder: Path) -> SavedConfig:
    """The config of the model saved in `folder`; no weight is read. Raises InputError if it is not one of ours."""
    path = folder / CONFIG_FILE
    try:
        with path.open("rb") as file:
            encoded = file.read(_MOST_BYTES + 1)
        if len(encoded) > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES >> 20} MiB")
        saved = json.loads(encoded)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a folder that `train` wrote") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a saved model's config ({str(error) or type(error).__name__})") from None
    return check_config(saved, str(path))


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
