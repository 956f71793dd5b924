"""params.yaml as frozen dataclasses. An unknown key or a wrong type is reported in one line."""

import dataclasses
import math
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from captchabench.errors import InputError, visible
from captchabench.registry import did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

PARAMS = Path("params.yaml")

# A file of parameters has a few kilobytes. PyYAML takes a second for a hundred.
MAX_BYTES = 100_000
# The nodes of a file with its aliases expanded, and their depth: a few lines can expand to billions of nodes.
MAX_NODES = 20_000
MAX_DEPTH = 20
# Symbols of a text: twice those of the longest label here. The time of hog_svc grows with the fourth power.
MAX_LENGTH = 20
_MERGE = "tag:yaml.org,2002:merge"
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Between:
    """Inclusive bounds of a number. None: no bound."""

    low: float | None = None
    high: float | None = None


# JSON may turn an integer into a float, and floats are exact for integers up to this one.
Positive = Annotated[int, Between(1, 2**53)]
# scikit-learn accepts 32 bits, and the number of the fold is added.
Seed = Annotated[int, Between(0, 2**31 - 1)]
Share = Annotated[float, Between(0, 1)]
NotNegative = Annotated[float, Between(0)]


@dataclass(frozen=True)
class DataParams:
    """Where the images come from."""

    source: Literal["standin", "archive", "kaggle"] = "standin"
    downloads: str = "data/downloads"
    seed: Seed = 0


@dataclass(frozen=True)
class NormalizeParams:
    """How images are prepared: size in pixels, resizing, contrast, and the largest share that may be rejected."""

    height: Annotated[int, Between(8, 512)] = 32
    width: Annotated[int, Between(8, 1024)] = 100
    resize: Literal["stretch", "pad"] = "stretch"
    clahe: bool = False
    max_rejected: Share = 0.02


@dataclass(frozen=True)
class TileParams:
    """Where tiles come from, and how grids are composed of them.

    source: stand-ins, or an archive in `data.downloads` with one folder per class. height, width: of a grid in pixels,
    multiples of three. seed: of the choice of tiles for each grid.
    """

    source: Literal["standin", "archive"] = "standin"
    height: Annotated[int, Between(24, 510)] = 96
    width: Annotated[int, Between(24, 1023)] = 96
    seed: Seed = 0


@dataclass(frozen=True)
class FoldParams:
    """The number of folds that images are split into."""

    count: Annotated[int, Between(2, 100)] = 5


@dataclass(frozen=True)
class DatasetParams:
    """One dataset: how many of its images are used, its difficulty, and parameters of models on it.

    images: a number, or "all". difficulty: a factor on `training.steps` of the `models` section. models: model ->
    parameters that replace those of the `models` section for this dataset. The difficulty does not multiply steps that
    are given here.

    path: the archive or folder of images of the user's own; empty for a dataset that has a file in `datasets/`. The
    others are for such images only. labels: where the labels are, as `--labels` takes it, or "auto". alphabet: empty
    for the symbols that occur. case_folded: whether labels do not tell upper from lower case. min_length, max_length:
    of a label; 0 for those that occur.
    """

    images: Annotated[int, Between(1, 10_000_000)] | Literal["all"] = "all"
    difficulty: Annotated[float, Between(0.001, 1000)] = 1.0
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    path: str = ""
    labels: str = "auto"
    alphabet: str = ""
    case_folded: bool = False
    min_length: Annotated[int, Between(0, MAX_LENGTH)] = 0
    max_length: Annotated[int, Between(0, MAX_LENGTH)] = 0
    licence: str = ""


@dataclass(frozen=True)
class TileCells:
    """The datasets of tiles, and the models that read their grids."""

    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class MatrixParams:
    """The cells that are run: datasets of texts x models x folds, and for each model in `union` all datasets merged.

    `tiles` has datasets and models of its own, since a model that reads a line from left to right cannot read a grid.
    """

    datasets: tuple[str, ...]
    models: tuple[str, ...]
    union: tuple[str, ...]
    folds: tuple[Annotated[int, Between(0)], ...]
    tiles: TileCells = field(default_factory=TileCells)

    @property
    def all_datasets(self) -> tuple[str, ...]:
        """The datasets of texts, then those of tiles."""
        return (*self.datasets, *self.tiles.datasets)


@dataclass(frozen=True)
class TrainingParams:
    """Parameters of all trainings. validation_share: of the training folds, for choosing the best weights.

    balance: of `union` alone: 0 draws all images alike, 1 all datasets alike, see `balanced`.
    """

    seed: Seed = 0
    validation_share: Annotated[float, Between(0.01, 0.5)] = 0.1
    balance: Share = 0.0


@dataclass(frozen=True)
class ProbeParams:
    """How trained models are probed.

    images: how many images of each dataset's held-out fold are read with each corruption.
    """

    images: Positive = 100


@dataclass(frozen=True)
class Params:
    """All of params.yaml. The sections of `models` are not converted: each model checks its own."""

    data: DataParams
    normalize: NormalizeParams
    folds: FoldParams
    datasets: Mapping[str, DatasetParams]
    matrix: MatrixParams
    training: TrainingParams
    probe: ProbeParams = field(default_factory=ProbeParams)
    tiles: TileParams = field(default_factory=TileParams)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of_model(self, model: str, dataset: str) -> dict[str, Any]:
        """The parameters of `model` on `dataset`: its section, with steps times the difficulty, then the overrides.

        The difficulty of `union`, and of any dataset without a section, is the sum over all datasets of texts.
        """
        parameters = self.models[model]
        if dataset in self.datasets:
            difficulty, overrides = self.datasets[dataset].difficulty, self.datasets[dataset].models.get(model, {})
        else:
            difficulty, overrides = sum(self.datasets[name].difficulty for name in self.matrix.datasets), {}
        training = parameters.get("training")
        # Steps of another type are left as they are: the model refuses them.
        if isinstance(training, Mapping) and type(steps := training.get("steps")) is int:
            parameters = merged(parameters, {"training": {"steps": max(1, round(steps * difficulty))}})
        return merged(parameters, overrides)


class _Loader(yaml.SafeLoader):
    """A safe loader with the floats of YAML 1.2, which refuses duplicate keys.

    PyYAML itself reads 1e-3 as a string, DVC reads it as a number.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._flattened: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Only once: afterwards the node also holds the merged keys, which may repeat its own.
        if id(node) in self._flattened:
            return
        self._flattened.add(id(node))
        seen = set()
        for key, value in node.value:
            problem = None
            if key.tag == _MERGE and not isinstance(value, yaml.MappingNode):
                problem = "only one mapping can be merged (<<), not a list of them"
            if (key.tag, str(key.value)) in seen:
                problem = f"'{_short(key.value)}' occurs twice; remove one"
            if problem is not None:
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, str(key.value)))
        super().flatten_mapping(node)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with text as keys at every level. Raises InputError that names file and line."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError(f"{path}: is larger than {MAX_BYTES // 1000} kB; is it another file?")
        value = yaml.load(raw.decode("utf-8-sig"), Loader=_Loader)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); run from the project's folder") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deep; no parameter lies deeper than {MAX_DEPTH} levels") from None
    except InputError:
        raise
    # A malformed value, such as 2001-13-32 or 0b_, raises the error of the type that it looks like.
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise InputError(f"{path}:{where} not valid YAML ({visible(problem, 4 * _SHOWN)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a mapping of sections, holds {_shown(value)}")
    _check_extent(value, path)
    return value


def _check_extent(value: Any, path: Path) -> None:
    """Refuse values that are endless or huge once aliases are expanded, and keys that are not text."""
    nodes = 0
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        node, depth = pending.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise InputError(f"{path}: holds more than {MAX_NODES} values with aliases expanded; remove some")
        if depth > MAX_DEPTH:
            raise InputError(f"{path}: is nested too deep; no parameter lies deeper than {MAX_DEPTH} levels")
        if isinstance(node, dict):
            for key in node:
                if not isinstance(key, str):
                    raise InputError(f"{path}: the key {_shown(key)} is not text; put it in quotes")
            pending += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list | tuple | set):
            pending += [(child, depth + 1) for child in node]


def load_params(path: Path = PARAMS) -> Params:
    """Read and check params.yaml. Raises InputError that names the key and says how to fix it."""
    params = build(Params, read_yaml(path), str(path))
    _check_matrix(params, path)
    for dataset, section in params.datasets.items():
        _check_declaration(section, f"{path}: datasets.{_short(dataset)}")
        for model in section.models:
            if model not in params.models:
                where = f"{path}: datasets.{_short(dataset)}.models.{_short(model)}"
                raise InputError(f"{where}: no such model under models; {_hint(model, params.models)}")
    for side in ("height", "width"):
        if (pixels := getattr(params.tiles, side)) % 3:
            raise InputError(f"{path}: tiles.{side}: must be a multiple of 3, for three tiles; is {pixels}")
    return params


def _check_declaration(section: DatasetParams, where: str) -> None:
    """Refuse a declaration of images without their path, and lengths that no label has."""
    default = DatasetParams()
    for key in ("labels", "alphabet", "case_folded", "min_length", "max_length", "licence"):
        if not section.path and getattr(section, key) != getattr(default, key):
            raise InputError(f"{where}.{key}: is for images of your own; give their path, too")
    if section.max_length and section.min_length > section.max_length:
        raise InputError(f"{where}.min_length: is above max_length, which is {section.max_length}; lower it")


def _check_matrix(params: Params, path: Path) -> None:
    """Refuse names without a section, duplicates, and folds that do not exist."""
    matrix = params.matrix
    for key, names, section, known in (
        ("datasets", matrix.datasets, "datasets", params.datasets),
        ("tiles.datasets", matrix.all_datasets, "datasets", params.datasets),
        ("models", matrix.models, "models", params.models),
        ("union", matrix.union, "models", params.models),
        ("tiles.models", matrix.tiles.models, "models", params.models),
    ):
        for index, name in enumerate(names):
            where = f"{path}: matrix.{key}: '{_short(name)}'"
            if name not in known:
                raise InputError(f"{where} is missing under {section}; {_hint(name, known)}")
            if name in names[:index]:
                raise InputError(f"{where} is named twice; remove one")
    if len(set(matrix.folds)) < len(matrix.folds):
        raise InputError(f"{path}: matrix.folds: one is named twice; remove it")
    if not matrix.folds or max(matrix.folds) >= params.folds.count:
        raise InputError(
            f"{path}: matrix.folds: must name some of the {params.folds.count} folds, which are 0 to "
            f"{params.folds.count - 1}; name others, or raise folds.count"
        )


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`old` updated with `new`. Nested mappings are merged, other values replaced."""
    result = dict(old)
    for key, value in new.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def build(cls: type[T], mapping: Any, where: str) -> T:
    """Make the dataclass `cls` from a `mapping`; names, types and bounds are checked.

    where: the prefix of messages ("params.yaml: models.crnn"). Raises InputError that names the key.
    """
    if not isinstance(mapping, Mapping):
        raise InputError(f"{where}: must be a mapping of parameters, is {_shown(mapping)}")
    hints = get_type_hints(cls, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in mapping:
        if key not in fields:
            raise InputError(f"{_join(where, key)}: no such parameter; {_hint(key, fields)}")
    values = {}
    for name, spec in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], _join(where, name))
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise InputError(f"{_join(where, name)}: missing; it must be given")
    return cls(**values)


def _hint(name: object, known: Iterable[str]) -> str:
    return visible(did_you_mean(_short(name), known), 5 * _SHOWN)


def _short(text: object) -> str:
    return visible(str(text), _SHOWN)


def _join(where: str, key: object) -> str:
    key = _short(key)
    return f"{where}: {key}" if where.endswith((".yaml", ".json")) else f"{where}.{key}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        return _check_bounds(_convert(arguments[0], value, where), arguments[1:], where)
    if origin is Literal:
        if value not in arguments or type(value) not in {type(a) for a in arguments}:
            raise InputError(f"{where}: must be one of {', '.join(map(str, arguments))}; is {_shown(value)}")
        return value
    if origin in (Union, types.UnionType):
        problems = []
        for option in arguments:
            try:
                return _convert(option, value, where)
            except InputError as error:
                problems.append(str(error).removeprefix(f"{where}: "))
        raise InputError(f"{where}: {', or '.join(problems)}")
    if origin is tuple:
        return _convert_sequence(arguments, value, where)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: must be a mapping, is {_shown(value)}")
        return {k: _convert(arguments[1], v, _join(where, k)) for k, v in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    return _convert_scalar(hint, value, where)


def _convert_sequence(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where}: must be a list, is {_shown(value)}")
    if arguments[-1] is Ellipsis:
        hints = [arguments[0]] * len(value)
    else:
        hints = list(arguments)
        if len(value) != len(hints):
            raise InputError(f"{where}: must have {len(hints)} entries, has {len(value)}")
    return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        quotes = "; put it in quotes" if hint is str and isinstance(value, int | float) else ""
        raise InputError(f"{where}: must be {names[hint]}, is {_shown(value)}{quotes}")
    if hint is str and any("\ud800" <= symbol <= "\udfff" for symbol in value):
        raise InputError(f"{where}: must be text, has half a surrogate pair: {_shown(value)}")
    if hint is float and not math.isfinite(value):
        raise InputError(f"{where}: must be a number, is {'NaN' if value != value else 'infinite'}")
    return value


def _check_bounds(value: Any, annotations: tuple[Any, ...], where: str) -> Any:
    for bounds in annotations:
        if isinstance(bounds, Between):
            if bounds.low is not None and value < bounds.low:
                raise InputError(f"{where}: must be at least {bounds.low}; is {_shown(value)}")
            if bounds.high is not None and value > bounds.high:
                raise InputError(f"{where}: must be at most {bounds.high}; is {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A value in a message: itself if it is short, else its type."""
    if value is None:
        return "empty"
    if isinstance(value, int) and abs(value) >= 10**_SHOWN:  # Python refuses to print the largest
        return f"a number of about {int(value.bit_length() * math.log10(2)):,} digits"
    return _short(repr(value)) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
