"""Trained models and exports, each damaged in a different way, with valid checksums.

Equal generators give equal inputs. Some damage is random bytes. Some respects the format: values in config.json, arrays
in .npz, weights in .safetensors, and the parts of an ONNX graph.
"""

import io
import json
import random
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import load, save

from captchabench.inference.onnx_export import export_onnx
from captchabench.inference.onnx_file import CHECKSUM_KEY
from captchabench.models import build_recogniser
from captchabench.samples.shards import Samples, ShardInfo
from captchabench.storage.checksum import UNSEALED, sealed
from tests.chaos.mutations import blindly

# Name of a file -> content. An export is one file, whose name ends in .onnx.
Files = dict[str, bytes]
EXPORT = "model.onnx"
_SMALL = {"steps": 1, "batch_size": 4}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "dummy": {},
    "hog_svc": {"cosines": 50},
    "char_cnn": {"channels": [8, 8, 8, 8], "training": _SMALL},
    "crnn": {"channels": [8, 8, 8], "hidden": 8, "layers": 1, "stem_stride": 2, "training": _SMALL},
}
_ODD: tuple[Any, ...] = (None, True, -1, 0, 1, 2, 20, 21, 300, 10**9, 10**400, 1e-300, 1e308, "", "a", "\ud800", "\0")
_ODD += ("../x", "x" * 5000, "".join(map(chr, range(0x4E00, 0x5100))), [], {}, [1], ["a"] * 600, {"a": 1})


@cache
def sound() -> tuple[Files, ...]:
    """Small models of several kinds, and exports of the deep ones."""
    rng = np.random.default_rng(0)
    info = ShardInfo("numbers6", "standin", 1, 32, 100, "0123456789", 4, 6)
    labels = np.array(["".join(rng.choice(list(info.alphabet), 4 + i % 3)) for i in range(12)], object)
    ids = np.array([f"{i:032x}" for i in range(12)], object)
    pixels = rng.integers(0, 256, (12, 32, 100), np.uint8)
    samples = Samples(info, ids, labels, np.zeros(12, np.int8), np.full(12, info.dataset, object), pixels)
    result = []
    for name, parameters in _PARAMETERS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            model = build_recogniser(name, info.spec, parameters)
            model.fit(samples, samples, seed=0)
            model.save(folder, info, 0)
            result.append({path.name: path.read_bytes() for path in folder.iterdir()})
            if hasattr(model, "network"):
                export_onnx(folder, folder / EXPORT)
                result.append({EXPORT: (folder / EXPORT).read_bytes()})
    return tuple(result)


def mutated_model(rng: random.Random) -> Files:
    """A damaged model. Four of five have valid checksums."""
    files = dict(rng.choice(sound()))
    for _ in range(rng.choice((1, 1, 2, 4))):
        name = rng.choice(sorted(files))
        files[name] = _changed(rng, name, files[name])
    return _resealed(files) if rng.random() < 0.8 else files


def _changed(rng: random.Random, name: str, content: bytes) -> bytes:
    if rng.random() < 0.2:
        return blindly(rng, content)
    try:
        match Path(name).suffix:
            case ".json":
                document = json.loads(content)
                _change_json(rng, document)
                return json.dumps(document).encode()
            case ".npz":
                stream = io.BytesIO()
                np.savez(stream, **_change_arrays(rng, dict(np.load(io.BytesIO(content)))))  # type: ignore[arg-type]  # mypy: as allow_pickle, too
                return stream.getvalue()
            case ".safetensors":
                return bytes(save(_change_arrays(rng, load(content))))
            case _:
                model = onnx.load_model_from_string(content)
                for _ in range(rng.choice((1, 1, 3))):
                    _change_message(rng, model)
                return bytes(model.SerializeToString())
    # Damaged before, so that its format cannot be read: damage bytes again.
    except Exception:
        return blindly(rng, content)


def _change_json(rng: random.Random, document: Any) -> None:
    """Change, remove or add one value at any depth."""
    if isinstance(document, dict) and document:
        key = rng.choice(sorted(document))
        if isinstance(document[key], dict) and document[key] and rng.random() < 0.9:
            _change_json(rng, document[key])
        elif rng.random() < 0.1:
            del document[key]
        elif rng.random() < 0.1:
            document[str(rng.choice(_ODD))] = rng.choice(_ODD)
        else:
            document[key] = rng.choice(_ODD)


def _change_arrays(rng: random.Random, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    changed = dict(arrays)
    name = rng.choice(sorted(changed))
    array = np.array(changed[name])
    match rng.randrange(6):
        case 0:
            del changed[name]
        case 1:
            changed[name] = array.astype(rng.choice((np.float64, np.int64, np.uint8, np.bool_)))
        case 2:
            changed[name] = array.reshape(-1)[: rng.choice((0, 1, max(0, array.size - 1)))]
        case 3:
            changed[name] = np.broadcast_to(array.reshape(-1)[:1], (1,) * 20).copy() if array.size else array
        case 4:
            changed[rng.choice(("x", "..", ""))] = array
        case _:
            values = array.reshape(-1)
            where = slice(None) if rng.random() < 0.5 else slice(rng.randrange(max(1, array.size)), None, 7)
            signs = np.array([rng.choice((-1, 1)) for _ in range(values[where].size)])
            with np.errstate(all="ignore"):
                values[where] = (signs * rng.choice((0, 1, 1e9, 1e30, 3e38, np.inf, np.nan))).astype(array.dtype)
            changed[name] = values.reshape(array.shape)
    return changed


def _change_message(rng: random.Random, message: Any) -> None:
    """Change one field at any depth, set or unset."""
    there = [field for field, _ in message.ListFields()]
    deeper = [field for field in there if field.message_type is not None]
    if deeper and rng.random() < 0.85:
        field = rng.choice(deeper)
        value = getattr(message, field.name)
        if not field.is_repeated:
            _change_message(rng, value)
            return
        place = rng.randrange(len(value))
        match rng.randrange(12):
            case 0:
                del value[place]
            case 1:
                value.add().CopyFrom(value[place])
            case 2:
                value[place].CopyFrom(rng.choice(value))
            case _:
                _change_message(rng, value[place])
        return
    field = rng.choice(there if there and rng.random() < 0.8 else list(message.DESCRIPTOR.fields))
    if rng.random() < 0.1:
        message.ClearField(field.name)
        return
    if field.message_type is not None:
        value = getattr(message, field.name)
        (value.add if field.is_repeated else value.SetInParent)()
        return
    value = _scalar(rng, message, field)
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _scalar(rng: random.Random, message: Any, field: Any) -> Any:
    old = getattr(message, field.name)
    if field.cpp_type == field.CPPTYPE_STRING:
        text = rng.choice(("", "batch", "pixels", "log_probs", "If", "Loop", "Constant", "Expand", "Cast", "Reshape"))
        if field.type == field.TYPE_BYTES:
            return blindly(rng, old) if isinstance(old, bytes) and rng.random() < 0.7 else text.encode()
        return text
    if field.cpp_type == field.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
    wide = field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64)
    numbers = (0, 1, 2, 7, 11, 31, 64, 10**6, 2**31 - 1) + ((2**40, 2**62, 2**63 - 1) if wide else ())
    sign = rng.choice((1, 1, -1)) if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64) else 1
    return sign * rng.choice(numbers)


def _resealed(files: Files) -> Files:
    """The files with valid checksums, if there is still a field for them."""
    try:
        if EXPORT in files:
            model = onnx.load_model_from_string(files[EXPORT])
            for entry in model.metadata_props:
                if entry.key == CHECKSUM_KEY:
                    entry.value = UNSEALED
            return {EXPORT: sealed(model.SerializeToString())}
        config = json.loads(files["config.json"])
        sums = {name: f"{crc32(content):08x}" for name, content in files.items() if name != "config.json"}
        config |= {"files": {**config["files"], **sums}, "checksum": UNSEALED}
        return {**files, "config.json": sealed(json.dumps(config).encode())}
    # No longer valid JSON, or no longer a message.
    except Exception:
        return files
