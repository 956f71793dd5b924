"""Exported models read what the originals read, and describe their preprocessing and decoding."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from captchabench.cli.app import app
from captchabench.errors import InputError
from captchabench.inference.loaded import load_recogniser
from captchabench.inference.onnx_file import CONFIG_KEY, FILES_KEY
from captchabench.models.base import Recogniser
from captchabench.models.saved import About
from tests.inference.onnx_edits import Edit, edited, editing_metadata

Models = Callable[[str], Path]
RUN = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes]) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for index, picture in enumerate(pictures[:9]):
        (folder / f"{index}.png").write_bytes(picture)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, models: Models, images: Path) -> Path:
    """An exported char_cnn, whose segmenter is part of the file."""
    out = tmp_path_factory.mktemp("exported") / "char_cnn.onnx"
    done = RUN.invoke(app, ["export", "--onnx", str(models("char_cnn")), str(out), "--check", str(images)])
    assert done.exit_code == 0, done.output
    assert "9 images read: the same texts" in done.output
    assert "ONNX Runtime" in done.output.splitlines()[-1]
    return out


def test_an_export_is_the_model(exported: Path, models: Models, pictures: list[bytes]) -> None:
    original, other = load_recogniser(models("char_cnn")), load_recogniser(exported)
    assert other.about == original.about
    assert other.recogniser.parameter_count == original.recogniser.parameter_count
    for batch in (1, 7):
        read, wanted = (m.predict(pictures[:batch], top_k=3) for m in (other, original))
        assert [p.text for p in read] == [p.text for p in wanted]
        np.testing.assert_allclose([p.confidence for p in read], [p.confidence for p in wanted], rtol=1e-4)
        assert [[a.text for a in p.alternatives] for p in read] == [[a.text for a in p.alternatives] for p in wanted]
    assert [len(e.steps.steps) for e in other.explain(pictures[:2])] == [6, 6]


def test_ctc_and_its_decoding_go_with_it(
    models: Models, tmp_path: Path, pictures: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "crnn.onnx"
    done = RUN.invoke(app, ["export", "--onnx", str(models("crnn")), str(out)])
    assert done.exit_code == 0, done.output
    assert "not compared with torch" in done.stderr
    wanted = load_recogniser(models("crnn")).predict(pictures)
    assert [p.text for p in load_recogniser(out).predict(pictures)] == [p.text for p in wanted]
    metadata = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert metadata["alphabet"] == "0123456789"
    assert "method beam, width 3, length_prior True" in metadata["decoding"]
    for step in ("BT.601", "CLAHE", "100 x 32 pixels, keeping the aspect ratio"):
        assert step in metadata["preprocessing"]
    assert [d.dim_param or d.dim_value for d in onnx.load(out).graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        32,
        100,
    ]


def test_nothing_of_this_machine_is_in_it(exported: Path) -> None:
    content = exported.read_bytes()
    for trace in (str(Path.cwd()), str(Path(onnx.__file__).parent.parent)):
        assert trace.encode() not in content


def test_what_has_no_network_is_not_exported(models: Models, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    for arguments, reason in (
        ([str(models("hog_svc")), str(out)], "hog_svc has no network"),
        ([str(models("crnn")), str(out.with_suffix(".pt"))], "must end in .onnx"),
        ([str(tmp_path), str(out)], "cannot be read"),
    ):
        done = RUN.invoke(app, ["export", "--onnx", *arguments])
        assert done.exit_code == 1
        assert reason in done.stderr
        assert not list(tmp_path.iterdir())


def test_a_text_that_differs_stops_the_export(
    models: Models, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captchabench.inference import onnx_check as module

    def other_network(path: Path) -> tuple[About, Recogniser]:
        loaded = load_recogniser(models("dummy"))
        return loaded.about, loaded.recogniser

    monkeypatch.setattr(module, "read_onnx", other_network)
    arguments = ["export", "--onnx", str(models("char_cnn")), str(tmp_path / "a.onnx"), "--check", str(images)]
    done = RUN.invoke(app, arguments)
    assert done.exit_code == 1
    assert "not written; ONNX Runtime read" in done.stderr
    assert not list(tmp_path.iterdir())


def _adding_file(name: str) -> Edit:
    """An edit that adds a file with that name."""
    more = {name: base64.b64encode(b"x").decode()}
    return editing_metadata(FILES_KEY, lambda value: json.dumps({**more, **json.loads(value)}))


WRONG_FILES = r"besides the network, not segmenter\.npz"
EDITS: dict[str, tuple[Edit, str]] = {
    "no config": (editing_metadata(CONFIG_KEY, lambda value: "{}"), "is not a saved model's config"),
    "no JSON": (editing_metadata(CONFIG_KEY, lambda value: value[:-5]), "is not a model that"),
    "another size": (
        editing_metadata(CONFIG_KEY, lambda v: v.replace('"max_length": 6', '"max_length": 5')),
        "above max_length 5",
    ),
    "no segmenter": (editing_metadata(FILES_KEY, lambda value: "{}"), r"segmenter\.npz"),
    "a way out": (_adding_file("../escaped.npz"), WRONG_FILES),
    "the folder above": (_adding_file(".."), WRONG_FILES),
    "no name": (_adding_file(""), WRONG_FILES),
    "no name of a file": (_adding_file("a\0b"), WRONG_FILES),
    "half a character": (_adding_file("\ud800"), WRONG_FILES),
    "no graph": (lambda m: m.ClearField("graph"), "is not a graph that"),
    "a classical model": (
        editing_metadata(CONFIG_KEY, lambda v: v.replace('"char_cnn"', '"dummy"')),
        "parameters|no network",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_no_export_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    edit, reason = EDITS[name]
    with pytest.raises(InputError, match=reason):
        load_recogniser(edited(exported, tmp_path / "edited.onnx", edit))
    assert not (tmp_path.parent / "escaped.npz").exists()


def test_weights_in_other_files_are_not_fetched(exported: Path, tmp_path: Path) -> None:
    def point_out(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")

    with pytest.raises(InputError, match="has external_data in a TensorProto"):
        load_recogniser(edited(exported, tmp_path / "edited.onnx", point_out))


def test_huge_weights_give_no_confidence(exported: Path, tmp_path: Path, pictures: list[bytes]) -> None:
    def enlarge(model: onnx.ModelProto) -> None:
        (last,) = (node for node in model.graph.node if node.op_type == "MatMul")
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
        signs = np.random.default_rng(0).choice(np.array([-3e38, 3e38], np.float32), tensor.dims)
        tensor.raw_data = signs.tobytes()

    path = edited(exported, tmp_path / "huge.onnx", enlarge)
    (tmp_path / "image.png").write_bytes(pictures[0])
    done = RUN.invoke(app, ["predict", "--model", str(path), str(tmp_path / "image.png")])
    assert done.exit_code == 1
    assert "huge.onnx: its weights are damaged" in done.stderr
    with pytest.raises(InputError, match=r"huge\.onnx: its weights are damaged: they give no finite probabilities"):
        load_recogniser(path).predict(pictures[:2])


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.99])
def test_a_cut_off_or_damaged_export_is_refused(exported: Path, tmp_path: Path, fraction: float) -> None:
    content = exported.read_bytes()
    end = int(fraction * len(content))
    path = tmp_path / "spoiled.onnx"
    for spoiled in (content[:end], content[:end] + bytes([content[end] ^ 4]) + content[end + 1 :]):
        path.write_bytes(spoiled)
        problem = r"is damaged, .*; export it again" if end else r"(is damaged|cannot be read \(Empty\))"
        with pytest.raises(InputError, match=rf"spoiled\.onnx: {problem}"):
            load_recogniser(path)


def test_a_model_of_another_program_is_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    model.ClearField("metadata_props")
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"is not a model that `captchabench export` wrote \(it holds no checksum\)"):
        load_recogniser(tmp_path / "other.onnx")
