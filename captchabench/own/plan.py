"""What a run does with a set: the size of the images, the model, and how long it trains.

Everything follows from the images and the options, nothing from the speed of the machine. So a run can be repeated, and
gives the same weights on another machine of the same kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from captchabench.config import merged
from captchabench.datasets.base import ROWS
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.registry import did_you_mean

# Pixels of width for each symbol of the longest label, and for any text.
_NARROWEST, _WIDEST = 16, 28
_MIN_WIDTH, _USUAL_WIDTH, _MAX_WIDTH = 64, 100, 256
_HEIGHT, _TALL_HEIGHT, _TALL = 32, 40, 64
# Pixels of the side of a tile: a third of a grid. Smaller ones say little to a network that knows photographs.
_TILE = 96
# Wider or narrower than most by this factor: stretched to one size, the symbols of some images would be far too wide.
_ASPECTS = 1.6

TEXT_MODEL, TILE_MODEL, TILE_BASELINE = "crnn", "effnet_b1", "hog_svc"

# The narrow networks of params.yaml, with what read most of real images (params.cpu.yaml). They are evaluated once, at
# the end of the schedule, so that no few images choose the weights.
_CTC: dict[str, Any] = {
    "channels": [24, 48, 96],
    "stem_stride": 2,
    "decoding": {"length_prior": True, "shift_average": True},
}
_ONCE: dict[str, Any] = {"evaluations": 1, "muon": 0.03}
_MODELS: dict[str, dict[str, Any]] = {
    "dummy": {},
    "hog_svc": {},
    "char_cnn": {"channels": [24, 48, 64, 96], "training": {**_ONCE, "learning_rate": 2e-3}},
    "crnn": {
        **_CTC,
        "hidden": 96,
        "layers": 1,
        "dropout": 0.0,
        "training": {**_ONCE, "learning_rate": 3e-3, "clip_norm": 10.0, "guide": 50.0},
    },
    "cnn_transformer": {
        **_CTC,
        "dropout": 0.1,
        "blank_bias": -2.0,
        "training": {**_ONCE, "learning_rate": 2e-3, "guide": 5.0},
    },
    "effnet_b1": {"lite": True, "training": {"evaluations": 1, "learning_rate": 2e-3}},
}
_OF_TILES: dict[str, dict[str, Any]] = {
    "dummy": {},
    "char_cnn": {},
    # Linear: a single cosine is one feature of many. A linear model has more weights than there are tiles.
    "hog_svc": {"cosines": 1, "ridge": 1.0},
    "effnet_b1": {"column_stride": 32, "training": {"learning_rate": 1e-3}},
}
# Images of 32x100 pixels, and as many pixels of tiles, that one thread of an AMD EPYC trains on in a second.
_SPEEDS = {"char_cnn": 400, "crnn": 350, "cnn_transformer": 210, "effnet_b1": 42}
_SPEEDS_OF_TILES = {"char_cnn": 400, "effnet_b1": 140}
_REFERENCE = _HEIGHT * _USUAL_WIDTH

# Seconds of a run for each image on two cores, of which a quarter is left for machines that are slower, and its limits.
_SECONDS_PER_IMAGE, _LEAST_SECONDS, _MOST_SECONDS = 0.225, 90, 675
# Seconds of a run that are not training: imports, cleaning, reading, the page.
_REST = 30
# A first, short schedule, as a share of the whole one.
_SHORT = 1 / 3
# Models that see a part of the training images -> the part.
PARTS = {"half": 0.5, "quarter": 0.25}
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Size:
    """The size that images are resized to, in pixels. Of tiles it is that of a grid."""

    height: int
    width: int
    resize: Literal["stretch", "pad"] = "stretch"


@dataclass(frozen=True)
class Plan:
    """How a set is learned.

    parameters: as in params.yaml, without the number of steps. rounds: the steps of each schedule of the model; a later
    one follows only if validation was not read without a mistake. Empty for a model that does not train by steps.
    baseline: a simpler model beside it, or "".
    """

    model: str
    parameters: Mapping[str, Any]
    rounds: tuple[int, ...]
    baseline: str = ""
    baseline_parameters: Mapping[str, Any] | None = None

    def with_steps(self, steps: int) -> dict[str, Any]:
        """The parameters with a number of steps."""
        return merged(dict(self.parameters), {"training": {"steps": steps}} if steps else {})

    def rounds_of(self, share: float) -> tuple[int, ...]:
        """The rounds of a model that sees a share of the training images, and each of them as often as the whole model.

        So the points of the curve follow one rule: more images are also trained for longer.
        """
        return tuple(max(_FEWEST_STEPS, round(share * steps)) for steps in self.rounds)


def size_of(sizes: Mapping[tuple[int, int], int], longest: int, *, tiles: bool) -> Size:
    """The size for images of `sizes`, width and height -> number, and labels of at most `longest` symbols.

    The height is 32 pixels, or 40 if the images are taller than 64. The width keeps their shape as long as that gives
    each symbol 16 to 28 pixels. If shapes differ by more than a factor of 1.6, images are padded instead of stretched.
    """
    if tiles:
        return Size(ROWS * _TILE, ROWS * _TILE)
    shapes = sorted((width / height, width, height) for (width, height), count in sizes.items() for _ in range(count))
    aspect, _, height = shapes[len(shapes) // 2]
    to = _HEIGHT if height <= _TALL else _TALL_HEIGHT
    low = max(_MIN_WIDTH, _NARROWEST * longest)
    high = max(_USUAL_WIDTH, _WIDEST * longest)
    width = min(max(to * aspect, low), high, _MAX_WIDTH)
    tenth = len(shapes) // 10
    varied = shapes[-1 - tenth][0] > _ASPECTS * shapes[tenth][0]
    return Size(to, 4 * round(width / 4), "pad" if varied else "stretch")


def plan_for(
    images: int,
    size: Size,
    *,
    tiles: bool,
    photographs: bool = False,
    model: str = "",
    minutes: float | None = None,
    cores: int = 2,
) -> Plan:
    """The plan for a set of `images`, or tiles, of this size.

    photographs: whether the tiles show things that keep their class if they are mirrored, unlike characters. model: the
    user's choice. minutes: about how long a run may take on this many `cores`; by default 3.75 minutes on two cores for
    1,000 images, at least 1.5 and at most 11.25. Raises InputError for a model that cannot read them.
    """
    name = model or (TILE_MODEL if tiles else TEXT_MODEL)
    known = _OF_TILES if tiles else _MODELS
    if name not in RECOGNISERS.names() or name not in known:
        what = "tiles" if tiles else "texts"
        raise InputError(f"--model {name}: no model of {what} is called so; {did_you_mean(name, known)}")
    parameters = merged(_MODELS[name], _OF_TILES[name] if tiles else {})
    baseline = TILE_BASELINE if tiles and name != TILE_BASELINE else ""
    of_baseline = merged(_MODELS[baseline], _OF_TILES[baseline]) if baseline else None
    speeds = _SPEEDS_OF_TILES if tiles else _SPEEDS
    if name not in speeds:
        return Plan(name, parameters, (), baseline, of_baseline)
    batch = 8 if tiles else 16 if name == "effnet_b1" or images < 400 else 32
    augment = 0.4 if tiles else 0.5 if images < 3000 else 0.3
    seconds = _training_seconds(images, minutes, cores, rounds=not tiles)
    speed = speeds[name] * _REFERENCE / (size.height * size.width)
    steps = max(20, round(seconds * speed / batch))
    settings: dict[str, Any] = {"batch_size": batch, "augment": augment}
    if photographs:
        settings["mirror"] = True
    shares = (1.0,) if tiles else (_SHORT, 1.0)
    rounds = tuple(max(_FEWEST_STEPS, round(share * steps)) for share in shares)
    parameters = merged(parameters, {"training": settings})
    return Plan(name, parameters, rounds, baseline, of_baseline)


def _training_seconds(images: int, minutes: float | None, cores: int, *, rounds: bool) -> float:
    """The seconds of one whole schedule. On two cores the curve's models train beside it."""
    if minutes is None:
        total, cores = min(max(_SECONDS_PER_IMAGE * images, _LEAST_SECONDS), _MOST_SECONDS), 2
    else:
        total = 60 * minutes
    whole = 1 + _SHORT * rounds
    parts = sum(PARTS.values()) * whole
    longest = whole + parts if cores == 1 else max(whole, parts)
    return max(total - _REST, 0.3 * total) / longest
