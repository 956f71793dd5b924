"""Untrusted models: refused in one line, before they take memory or run code."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
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
    """Make the checksums valid, as after a deliberate change."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    others = (file for file in folder.iterdir() if file != path)
    config |= {"files": {file.name: f"{crc32(file.read_bytes()):08x}" for file in others}, "checksum": UNSEALED}
    path.write_bytes(sealed(json.dumps(config).encode()))


class Bomb:
    """Touches a file when it is unpickled."""

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


@pytest.mark.parametrize("name", ["weights.npz", "segmenter.npz"])
def test_damaged_arrays_are_refused(hog_svc: Path, name: str) -> None:
    sound = dict(np.load(hog_svc / name))
    spoiled: list[dict[str, NDArray[Any]]] = [
        {key: array[..., :-1] if array.ndim else array.reshape(1) for key, array in sound.items()},
        {key: array.astype(complex) for key, array in sound.items()},
        {key: np.full_like(array, np.nan) if array.dtype.kind == "f" else array for key, array in sound.items()},
        {},
    ]
    for arrays in spoiled:
        np.savez(hog_svc / name, **arrays)  # type: ignore[arg-type]  # mypy tries them as allow_pickle, too
        reseal(hog_svc)
        # The sizes of the files are compared with config.json before anything else.
        with pytest.raises(InputError, match=rf"{name}|about\.parameter_count"):
            load_recogniser(hog_svc)
    with zipfile.ZipFile(hog_svc / name, "w", zipfile.ZIP_DEFLATED) as bomb:
        # Padded to the minimum size of the model's arrays.
        bomb.writestr("weights.npy", bytes(50_000_000) + np.random.default_rng(0).bytes(400_000))
    reseal(hog_svc)
    with pytest.raises(InputError, match="compressed"):
        load_recogniser(hog_svc)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["config.json", "weights.npz", "segmenter.npz"])
@pytest.mark.parametrize("kind", ["pipe", "device", "nothing", "folder"])
def test_a_file_that_is_none_is_not_waited_for(hog_svc: Path, name: str, kind: str) -> None:
    path = hog_svc / name
    path.unlink()
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to({"device": "/dev/zero", "nothing": "nowhere"}[kind])
    with pytest.raises(InputError, match=name):
        load_recogniser(hog_svc)


def test_links_to_files_are_files(hog_svc: Path) -> None:
    for path in list(hog_svc.iterdir()):
        path.rename(hog_svc.parent / path.name)
        path.symlink_to(hog_svc.parent / path.name)
    assert load_recogniser(hog_svc).about.model == "hog_svc"


def test_a_file_that_is_larger_than_any_model_is_not_read(hog_svc: Path) -> None:
    os.truncate(hog_svc / "weights.npz", 1 << 40)
    with pytest.raises(InputError, match=r"hog_svc: holds 1,099,5[\d,]+ bytes, more than any model"):
        load_recogniser(hog_svc)


@pytest.mark.parametrize("name", ["..", "", "a\0b", "\ud800", "elsewhere/weights.npz"])
def test_sums_of_files_that_are_not_there_are_refused(hog_svc: Path, name: str) -> None:
    path = hog_svc / "config.json"
    config = json.loads(path.read_text())
    config |= {"files": {**config["files"], name: "00000000"}, "checksum": UNSEALED}
    path.write_bytes(sealed(json.dumps(config).encode()))
    with pytest.raises(InputError, match="is missing"):
        load_recogniser(hog_svc)


def test_an_answer_that_is_no_label_is_refused(models: Models, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models("dummy"), tmp_path / "dummy"))
    for answer, share in (("\ud800", 0.5), ("1" * 7, 0.5), (None, 0.5), (["1"], 0.5), ("1", 10**400)):
        (folder / "answer.json").write_text(json.dumps({"answer": answer, "share": share}))
        reseal(folder)
        with pytest.raises(InputError, match=r"answer\.json: does not hold this model's answer"):
            load_recogniser(folder)


def signs(shape: tuple[int, ...], size: float) -> NDArray[np.float32]:
    """Values of that magnitude, half of them negative."""
    return (np.random.default_rng(0).choice([-1, 1], shape) * size).astype(np.float32)


@pytest.mark.parametrize("layer", ["classify.weight", "encoder.lstms.0.weight_ih_l0"])
@pytest.mark.parametrize("decoding", [{}, {"method": "beam", "width": 3}, {"length_prior": True}])
def test_a_network_of_huge_weights_gives_no_confidence(crnn: Path, layer: str, decoding: dict[str, object]) -> None:
    path = crnn / "weights.safetensors"
    weights = load_file(path)
    # Batch normalisation may cancel huge weights before it.
    for name in (layer, "classify.weight"):
        weights[name] = torch.from_numpy(signs(tuple(weights[name].shape), 3e38))
    save_file(weights, path)
    change(crnn, "parameters", decoding=decoding)
    image = np.full((32, 100), 255, np.uint8)
    image[8:24, 20:60:4] = 0
    with pytest.raises(InputError, match=r"crnn: its weights are damaged: they give no finite probabilities"):
        load_recogniser(crnn).predict([image])


@pytest.mark.parametrize(("name", "array"), [("weights.npz", "weights"), ("segmenter.npz", "weights")])
def test_huge_arrays_give_no_confidence(hog_svc: Path, pictures: list[bytes], name: str, array: str) -> None:
    arrays = dict(np.load(hog_svc / name))
    arrays[array] = signs(arrays[array].shape, 3e38)
    np.savez(hog_svc / name, **arrays)
    reseal(hog_svc)
    with pytest.raises(InputError, match=r"hog_svc: its weights are damaged"):
        load_recogniser(hog_svc).predict(pictures[:3])


@pytest.mark.parametrize("kind", [np.bool_, np.int64])
def test_arrays_that_fit_and_cannot_be_used_are_refused(hog_svc: Path, kind: type) -> None:
    arrays = dict(np.load(hog_svc / "segmenter.npz"))
    arrays["weights"] = arrays["weights"].astype(kind)
    np.savez(hog_svc / "segmenter.npz", **arrays)
    reseal(hog_svc)
    with pytest.raises(InputError, match=r"hog_svc: cannot read an image \(Cannot cast"):
        load_recogniser(hog_svc)


def test_a_model_of_an_older_version_says_so(crnn: Path) -> None:
    (crnn / "config.json").write_text(json.dumps({"format": 1, "model": "crnn"}))
    with pytest.raises(InputError, match="format 1, this program reads 4; train the model again"):
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
        ({"alphabet": "ab\ud800"}, r"about\.alphabet: must be text, has half a surrogate pair: 'ab\\ud800'"),
        ({"dataset": "\udcff"}, r"about\.dataset: must be text"),
        ({"precision": "\udc00\ud800"}, r"about\.precision: must be text"),
        ({"class_names": ["\udfff"]}, r"about\.class_names\[0\]: must be text"),
        ({"max_length": 300}, "texts of 6 to 300 symbols; recognisers read 1 to 20"),
        ({"min_length": 0}, "texts of 0 to 6 symbols"),
        ({"alphabet": "".join(map(chr, range(0x4E00, 0xD000))) + "\u4e00"}, "at most 512 symbols, not 33,281"),
        ({"dataset": "x" * 100_000}, "a name of 100,000 characters"),
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
@given(index=st.integers(0, 10**6), change=st.integers(1, 255), cut=st.booleans())
@pytest.mark.parametrize("name", ["crnn", "hog_svc"])
def test_a_changed_byte_is_refused_and_with_its_checksum_right_it_is_refused_or_loads(
    name: str, models: Models, tmp_path_factory: pytest.TempPathFactory, index: int, change: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("spoiled")
    shutil.copytree(models(name), folder, dirs_exist_ok=True)
    files = sorted(folder.iterdir())
    path = files[index % len(files)]
    content = bytearray(path.read_bytes())
    content[index % len(content)] ^= change
    path.write_bytes(content[: index % len(content)] if cut else content)
    with pytest.raises(InputError, match=path.name):
        load_recogniser(folder)
    with suppress(InputError, ValueError):
        reseal(folder)
        loaded = load_recogniser(folder)
        loaded.read(np.zeros((1, loaded.about.height, loaded.about.width), np.uint8), 2)
    shutil.rmtree(folder)
