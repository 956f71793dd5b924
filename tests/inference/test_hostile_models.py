"""Models from anywhere: refused in one line, before they take memory or run anything."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from captchabench.errors import InputError
from captchabench.inference.loaded import load_recogniser
from captchabench.models.saved import check_config
from captchabench.storage.checksum import UNSEALED, sealed

Models = Callable[[str], Path]


@pytest.fixture
def crnn(models: Models, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models("crnn"), tmp_path / "crnn"))


@pytest.fixture
def hog_svc(models: Models, tmp_path: Path) -> Path:
    return Path(shutil.copytree(models("hog_svc"), tmp_path / "hog_svc"))


def change(folder: Path, section: str, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config[section] |= values
    path.write_text(json.dumps(config))
    reseal(folder)


def reseal(folder: Path) -> None:
    """Make the checksums right: as whoever changes a model on purpose would leave it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    others = (file for file in folder.iterdir() if file != path)
    config |= {"files": {file.name: f"{crc32(file.read_bytes()):08x}" for file in others}, "checksum": UNSEALED}
    path.write_bytes(sealed(json.dumps(config).encode()))


class Bomb:
    """Touches a file where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (Path("unpickled"),))


def test_a_pickle_is_not_opened(models: Models, crnn: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (crnn / "weights.safetensors", crnn / "config.json", tmp_path / "model.pt", tmp_path / "model.onnx"):
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(InputError):
            load_recogniser(path if path.parent == tmp_path else crnn)
    shutil.copytree(models("crnn"), crnn, dirs_exist_ok=True)
    torch.save(Bomb(), crnn / "weights.safetensors")
    reseal(crnn)
    with pytest.raises(InputError):
        load_recogniser(crnn)
    assert not Path("unpickled").exists()


def test_a_network_larger_than_its_file_is_not_built(crnn: Path) -> None:
    change(crnn, "parameters", hidden=2000)
    with pytest.raises(InputError, match=r"parameters: do not make the network saved here \(more than [\d,]+ numbers"):
        load_recogniser(crnn)
    change(crnn, "about", parameter_count=10**15)
    with pytest.raises(InputError, match=r"about\.parameter_count: 1,000,000,000,000,000 numbers, but"):
        load_recogniser(crnn)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.zeros(3), r"classify.bias is F32 \[3\], not \[11\]"),
        (torch.zeros(11, dtype=torch.float64), "classify.bias is F64"),
        (torch.full((11,), torch.nan), "not all numbers are finite"),
        (None, "classify.bias is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused(crnn: Path, weight: torch.Tensor | None, reason: str) -> None:
    weights = load_file(crnn / "weights.safetensors")
    weights.pop("classify.bias")
    save_file(weights if weight is None else {**weights, "classify.bias": weight}, crnn / "weights.safetensors")
    reseal(crnn)
    with pytest.raises(InputError, match=reason):
        load_recogniser(crnn)


TOO_SMALL = {"weights.npz": "about.parameter_count", "segmenter.npz": "segmenter.npz"}


@pytest.mark.parametrize("name", ["weights.npz", "segmenter.npz"])
def test_damaged_arrays_are_refused(hog_svc: Path, name: str) -> None:
    sound = dict(np.load(hog_svc / name))
    spoiled: list[dict[str, np.ndarray]] = [
        {key: array[..., :-1] if array.ndim else array.reshape(1) for key, array in sound.items()},
        {key: array.astype(complex) for key, array in sound.items()},
        {key: np.full_like(array, np.nan) if array.dtype.kind == "f" else array for key, array in sound.items()},
        {},
    ]
    for arrays in spoiled:
        np.savez(hog_svc / name, **arrays)  # type: ignore[arg-type]
        reseal(hog_svc)
        # A small file may be too small for what config.json says of the model, which is looked at first.
        with pytest.raises(InputError, match=name if arrays else TOO_SMALL[name]):
            load_recogniser(hog_svc)
    with zipfile.ZipFile(hog_svc / name, "w", zipfile.ZIP_DEFLATED) as bomb:
        # As large as the model's numbers would be at least.
        bomb.writestr("weights.npy", bytes(50_000_000) + np.random.default_rng(0).bytes(400_000))
    reseal(hog_svc)
    with pytest.raises(InputError, match="compressed"):
        load_recogniser(hog_svc)


def test_a_model_of_an_older_version_says_so(crnn: Path) -> None:
    (crnn / "config.json").write_text(json.dumps({"format": 1, "model": "crnn"}))
    with pytest.raises(InputError, match="format 1, this program reads 4; train it anew"):
        load_recogniser(crnn)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 10**9}, "about.height: must be at most 512"),
        ({"alphabet": "aa"}, "about.alphabet: an alphabet names each symbol once"),
        ({"alphabet": ""}, "about.alphabet"),
        ({"min_length": 7}, "min_length 7 is above max_length 6"),
        ({"model": "crrn"}, "did you mean 'crnn'"),
        ({"colour": True}, "no such parameter"),
    ],
)
def test_an_impossible_config_names_the_key(crnn: Path, values: dict[str, object], reason: str) -> None:
    change(crnn, "about", **values)
    with pytest.raises(InputError, match=reason):
        load_recogniser(crnn)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_any_json_is_a_config_or_an_input_error(saved: object) -> None:
    with pytest.raises(InputError):
        check_config(saved, "config.json")


@settings(max_examples=60)
@given(place=st.integers(0, 10**6), change=st.integers(1, 255), cut=st.booleans())
@pytest.mark.parametrize("name", ["crnn", "hog_svc"])
def test_a_changed_byte_is_refused_and_with_its_checksum_right_it_is_refused_or_loads(
    name: str, models: Models, tmp_path_factory: pytest.TempPathFactory, place: int, change: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("spoiled")
    shutil.copytree(models(name), folder, dirs_exist_ok=True)
    files = sorted(folder.iterdir())
    path = files[place % len(files)]
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content[: place % len(content)] if cut else content)
    with pytest.raises(InputError, match=path.name):
        load_recogniser(folder)
    with suppress(InputError, ValueError):
        reseal(folder)
        loaded = load_recogniser(folder)
        loaded.read(np.zeros((1, loaded.about.height, loaded.about.width), np.uint8), 2)
    shutil.rmtree(folder)
