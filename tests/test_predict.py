"""`captchabench predict`: output, files and exit codes."""

import csv
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from captchabench.cli.app import app
from captchabench.inference import reading
from captchabench.models import build_recogniser
from captchabench.samples.shards import Samples
from captchabench.storage.checksum import UNSEALED, sealed

RUN = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
UNREADABLE = 3
UNLABELLED = 4


@pytest.fixture(scope="module")
def samples(make_samples: Callable[..., Samples]) -> Samples:
    return make_samples(60, lengths=(6, 6))


@pytest.fixture(scope="module")
def model(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "numbers6-hog_svc-0"
    folder.mkdir()
    recogniser = build_recogniser("hog_svc", samples.info.spec, {})
    recogniser.fit(samples, samples, seed=0)
    recogniser.save(folder, replace(samples.info, dataset="numbers6"), fold=0)
    return folder


@pytest.fixture(scope="module")
def images(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen images in two levels of folders, one damaged, one hidden, and a file that is no image."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for index, (label, pixels) in enumerate(zip(samples.labels[:12], samples.pixels, strict=False)):
        path = folder / ("more" if index % 2 else "") / f"{label}_{index}.png"
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    (folder / "zz.png").write_bytes(path.read_bytes()[:-20])
    (folder / ".hidden.png").write_bytes(path.read_bytes())
    (folder / "notes.txt").write_text("no image")
    return folder


def predict(model: Path, *arguments: str | Path, input: bytes | None = None) -> Result:
    done = RUN.invoke(app, ["predict", "--model", str(model), *map(str, arguments)], input=input)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output
    return done


def test_a_table_of_texts(model: Path, images: Path, samples: Samples) -> None:
    done = predict(model, images)
    assert done.exit_code == UNREADABLE
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["text", "confidence", "file"]
    assert len(lines) == 13
    right = sum(Path(line.split()[2]).name.startswith(line.split()[0]) for line in lines[1:])
    assert right >= 11
    assert "skipped: 2 files" in done.stderr
    assert "zz.png: truncated: a PNG that stops after" in done.stderr
    assert "error: 1 of 13 files could not be read (1 truncated)" in done.stderr


@pytest.mark.parametrize("batch", [1, 5, 512])
def test_every_format_has_every_file(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(reading, "BATCH", batch)
    arguments = (images, "--labels-from-name", "--top-k", "2")
    read = json.loads(predict(model, *arguments, "--format", "json").stdout)
    assert [Path(row["file"]).name for row in read][-1] == "zz.png"
    assert [set(row) - {"file"} for row in read[-1:]] == [{"label", "error"}]
    for row in read[:-1]:
        assert row["label"] == Path(row["file"]).name[:6]
        assert row["alternatives"][0] == {"text": row["text"], "probability": pytest.approx(row["confidence"])}
        assert len(row["alternatives"]) == 2

    done = predict(model, *arguments, "--output", tmp_path / "read.csv")
    assert done.stdout == ""
    with (tmp_path / "read.csv").open(newline="") as file:
        as_csv = list(csv.DictReader(file))
    assert [row["file"] for row in as_csv] == [row["file"] for row in read]
    assert [row["text_2"] for row in as_csv[:-1]] == [row["alternatives"][1]["text"] for row in read[:-1]]
    assert as_csv[-1]["error"] == read[-1]["error"]

    predict(model, *arguments, "--output", tmp_path / "read.parquet")
    table = pl.read_parquet(tmp_path / "read.parquet")
    assert table["file"].to_list() == [row["file"] for row in read]
    assert table["text"].to_list() == [row.get("text") for row in read]
    assert table["error"].null_count() == 12


def test_labels_in_names_are_scored(model: Path, images: Path, tmp_path: Path) -> None:
    done = predict(model, images / "more", "--labels-from-name", "--format", "json")
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    right = sum(row["text"] == row["label"] for row in rows)
    assert f"exact {right / 6:.1%} ({right} of 6, 95 % interval" in done.stderr
    assert "CER" in done.stderr
    # By the rule of another dataset the label is the whole stem, which does not fit: the part before the _ does.
    other = predict(model, images / "more", "--labels-from-name", "--dataset", "vtu", "--format", "json")
    assert (other.stdout, other.stderr) == (done.stdout, done.stderr)


def test_names_with_copies_and_numbers_have_labels_and_others_are_not_scored(
    model: Path, samples: Samples, tmp_path: Path
) -> None:
    names = ["{} (2)", "{}_1", "{}-copy", "{} - Copy (3)", "007_{}", "{}", "IMG_2034", "{}_123456"]
    for name, label, pixels in zip(names, samples.labels, samples.pixels, strict=False):
        (tmp_path / f"{name.format(label)}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    # The dataset's rule, the first six symbols, would take the last one.
    done = predict(model, tmp_path, "--labels-from-name", "--dataset", "vtu", "--format", "json")
    assert done.exit_code == UNLABELLED
    found = {row["label"] for row in json.loads(done.stdout)}
    assert found == {*samples.labels[:6], None}
    assert " of 6, 95 % interval" in done.stderr
    assert "IMG_2034.png: no label: 'IMG_2034' has 8 symbols instead of 6" in done.stderr
    assert f"can be '123456' by after-number or '{samples.labels[7]}' by before-first-underscore" in done.stderr
    assert "error: 2 of 8 names have no label that the model could read, and are not scored" in done.stderr
    assert predict(model, tmp_path, "--labels-from-name", "--dataset", "vtu").stdout.count(" -  ") == 2
    # The rule that the user names decides, and no other is tried.
    done = predict(model, tmp_path, "--labels-from-name", "--labels", "before-first-underscore", "--format", "json")
    labels = {Path(row["file"]).stem: row["label"] for row in json.loads(done.stdout)}
    assert labels[f"{samples.labels[7]}_123456"] == samples.labels[7]
    assert labels[f"007_{samples.labels[4]}"] is None


def test_one_image_on_standard_input(model: Path, images: Path) -> None:
    path = next(images.glob("*_0.png"))
    done = predict(model, "-", "--format", "json", input=path.read_bytes())
    (row,) = json.loads(done.stdout)
    assert (row["file"], row["text"]) == ("-", json.loads(predict(model, path, "--format", "json").stdout)[0]["text"])
    done = predict(model, "-", input=b"no image")
    assert done.exit_code == UNREADABLE
    assert "-: undecodable: this is not an image that can be read here (PNG, JPEG, " in done.stderr


def test_the_steps_are_saved_as_pictures(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "steps"
    predict(model, images, "--show-steps", out)
    folders = sorted(path.parent for path in out.rglob("steps.json"))
    assert len(folders) == 12
    for folder in folders:
        told = json.loads((folder / "steps.json").read_text())
        assert "".join(step["symbol"] for step in told["steps"]) == told["text"]
        original = cv2.imread(str(images.parent / folder.relative_to(out)), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "1-grey.png")), original)
        assert Image.open(folder / "2-normalised.png").size == (100, 32)
        drawn = np.asarray(Image.open(folder / "3-characters.png"))
        # Coloured boxes and bars on and below the enlarged grey image.
        assert drawn.shape[1] == 1000
        assert (drawn[:320].max(axis=2) != drawn[:320].min(axis=2)).any()
        assert (drawn[320:].max(axis=2) != drawn[320:].min(axis=2)).any()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no-such.png"], "no-such.png: no such file or folder"),
        (["empty"], "hold no images"),
        (["-", "a.png"], "give it alone"),
        (["-", "--labels-from-name"], "has no name"),
        (["a.png", "--format", "parquet"], "give --output"),
        (["a.png", "--dataset", "vtu"], "--dataset needs --labels-from-name; give both"),
        (["a.png", "--labels", "stem"], "--labels needs --labels-from-name; give both"),
        (["a.png", "--labels-from-name", "--labels", "stems"], "did you mean 'stem'"),
        (["a.png", "--labels-from-name", "--labels", "file"], "needs more than the path of an image"),
        (["a.png", "--labels-from-name", "--labels", "stem", "--dataset", "vtu"], "give one of them"),
        (["a.png", "--labels-from-name", "--dataset", "vtx"], "did you mean 'vtu'"),
        (["a.png", "--labels-from-name", "--dataset", "union"], "give --dataset with one of them"),
        (["a.png", "folder/a.png", "--show-steps", "steps"], "end in different names"),
        (["a.png", "--model", "nowhere"], "cannot be read"),
        (["a.png", "--output", "folder"], "folder: Is a directory"),
    ],
)
def test_mistakes_are_one_line(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "folder"):
        Path(folder).mkdir()
    for name in ("a.png", "folder/a.png"):
        Path(name).write_bytes(next(images.glob("*_0.png")).read_bytes())
    Path("read.csv").write_text("what was there")
    output = [] if {"parquet", "--output"} & {*arguments} else ["--output", "read.csv"]
    done = predict(model, *arguments, *output)
    assert done.exit_code == 1
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert Path("read.csv").read_text() == "what was there"
    assert not Path("steps").exists()


@pytest.mark.timeout(300)
def test_pipes_and_devices_are_not_read(model: Path, images: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").symlink_to(next(images.glob("*_0.png")))
    done = predict(model, tmp_path, tmp_path / "a.png")
    assert done.exit_code == UNREADABLE
    assert done.stdout.count("c.png") == 1
    assert done.stderr.count(".png: undecodable: Not a regular file") == 3
    os.mkfifo(tmp_path / "model.onnx")
    done = predict(tmp_path / "model.onnx", images)
    assert done.exit_code == 1
    assert "model.onnx: cannot be read (Not a regular file)" in done.stderr


@pytest.mark.filterwarnings("error")
def test_a_model_of_huge_weights_is_one_line_and_nothing_is_written(model: Path, images: Path, tmp_path: Path) -> None:
    huge = Path(shutil.copytree(model, tmp_path / "huge"))
    arrays = dict(np.load(huge / "weights.npz"))
    arrays["weights"][::2], arrays["weights"][1::2] = 3e38, -3e38
    np.savez(huge / "weights.npz", **arrays)
    config = json.loads((huge / "config.json").read_text())
    config["files"]["weights.npz"] = f"{crc32((huge / 'weights.npz').read_bytes()):08x}"
    (huge / "config.json").write_bytes(sealed(json.dumps({**config, "checksum": UNSEALED}).encode()))
    done = predict(huge, images, "--output", tmp_path / "read.csv")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {huge}: its weights are damaged")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "read.csv").exists()


def test_odd_names_are_handled(model: Path, images: Path, tmp_path: Path) -> None:
    picture = next(images.glob("*_0.png")).read_bytes()
    names = [b"a\nb.png", b"\xff\xfe.png", "ü 字.png".encode(), b"\x1b[31m.png", b'a,"b.png']
    for name in names:
        Path(str(tmp_path).encode().decode()).joinpath(name.decode("utf-8", "surrogateescape")).write_bytes(picture)
    for format in ("table", "csv", "json"):
        done = predict(model, tmp_path, "--format", format)
        assert done.exit_code == 0
        assert "\x1b" not in done.stdout
    assert len(list(csv.DictReader(io.StringIO(predict(model, tmp_path, "--format", "csv").stdout)))) == len(names)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An image file with some bytes changed, removed, inserted or repeated."""
    kind = draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]))
    mode = draw(st.sampled_from(["L", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "LA"]))
    rng = random.Random(draw(st.integers(0, 10**9)))
    width, height = rng.randint(1, 90), rng.randint(1, 60)
    try:
        stream = io.BytesIO()
        Image.effect_noise((width, height), 90).convert("RGB").convert(mode.split(";")[0]).save(stream, kind)
    except (OSError, KeyError, ValueError):
        stream = io.BytesIO()
        Image.effect_noise((width, height), 90).save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(draw(st.integers(0, 6))):
        # Half of the changes are in the header, where they have most effect.
        place = rng.randrange(min(len(content), 64) if rng.random() < 0.5 else len(content)) if content else 0
        match rng.randrange(4):
            case 0:
                content[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del content[place : place + rng.randint(1, 40)]
            case 2:
                content[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                content[place:place] = content[place : place + rng.randint(1, 40)]
    return bytes(content)


@settings(max_examples=15)
@given(st.lists(mutated(), min_size=1, max_size=12))
def test_mutated_images_are_read_or_have_a_reason(
    model: Path, tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("mutated")
    for index, content in enumerate(contents):
        (folder / f"{index:02}.png").write_bytes(content)
    done = predict(model, folder, "--format", "json", "--top-k", "2")
    rows = json.loads(done.stdout)
    assert len(rows) == len(contents)
    for row in rows:
        assert len(row["text"]) == 6 if "error" not in row else ":" in row["error"]
    assert done.exit_code == (UNREADABLE if any("error" in row for row in rows) else 0)
