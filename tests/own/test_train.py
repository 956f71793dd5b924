"""`captchabench train` from images to a model that the other commands take, with a model that learns nothing."""

import io
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from starlette.testclient import TestClient
from typer.testing import CliRunner

import captchabench
from captchabench.cli.app import app
from captchabench.demo.app import create_app
from captchabench.demo.limits import DemoLimits
from captchabench.demo.reading import Reader
from captchabench.demo.samples import Library
from captchabench.demo.serve import find_models
from captchabench.demo.service import Service
from captchabench.errors import InputError
from captchabench.inference.loaded import load_recogniser
from captchabench.own.plan import plan_for
from captchabench.own.preparing import Options, find, prepare
from captchabench.own.runs import Run, specs_of
from captchabench.own.training import Trained
from captchabench.own.trial import run_trial
from tests.made_up import Pack, Picture

COUNT = 60


def drawn(text: str, mode: str = "RGB", format_: str = "PNG", size: tuple[int, int] = (60, 24)) -> bytes:
    """A picture of a text."""
    image = Image.new("RGB", size, (230, 230, 240))
    ImageDraw.Draw(image).text((4, 4), text, fill=(20, 20, 60))
    out = io.BytesIO()
    image.convert(mode).save(out, format_)
    return out.getvalue()


def digits(count: int = COUNT) -> dict[str, bytes]:
    """Pictures of four digits by name."""
    texts = [f"{(7919 * i + 1234) % 10000:04}" for i in range(count)]
    return {f"{text}.png": drawn(text) for text in texts}


def trained(path: Path, out: Path, **options: Any) -> Trained:
    return captchabench.train(path, out=out, **{"model": "dummy", **options})


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but its times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "times.json"
    }


def test_from_images_to_a_page_and_a_model(
    tmp_path: Path, packed: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    packed(Path("my set.zip"), digits() | {"broken.png": b"no image", "notes.pdf": b""})
    recogniser, report = captchabench.train("my set.zip", model="dummy", progress=True)
    assert report.folder == Path("trained/my_set")
    said = capsys.readouterr().out
    for line in (
        r"labels +stem \(61",
        r"alphabet .*0123456789",
        r"left out +1 undecodable",
        r"exact match",
        r"model: .*not trained on",
        r"next:",
    ):
        assert re.search(line, said), line
    assert sum(" is '" in line for line in said.splitlines()) == 5
    # The commands that are printed are true.
    commands = [line.strip() for line in said.splitlines() if line.startswith("  captchabench ")]
    assert [command.split()[1] for command in commands] == ["predict", "export", "demo"]
    picture = "1234.png"
    Path(picture).write_bytes(digits()[picture])
    arguments = commands[0].replace("PICTURE_OR_FOLDER", picture).split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "captchabench", *arguments], capture_output=True, text=True, check=True
    )
    assert picture in done.stdout
    for path in re.findall(r"--(?:models|data|report) (\S+)", commands[2]):
        assert Path(path).exists()
    assert recogniser.about.alphabet == "0123456789b"[: len(recogniser.about.alphabet)]
    assert len(recogniser.predict([picture])) == 1
    figures = json.loads((report.folder / "report.json").read_text(encoding="utf-8"))
    assert figures == report.figures
    assert [point["training_images"] for point in figures["curve"]] == sorted(
        point["training_images"] for point in figures["curve"]
    )
    assert figures["set"]["left_out"] == {"undecodable": 1}
    page = report.page.read_text(encoding="utf-8")
    for heading in ("What was found", "How many images are needed", "Misread images", "Labels that may be wrong"):
        assert heading in page
    card = (report.model / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: captchabench\n")


def test_two_runs_write_the_same_bytes(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "set", digits())
    one = trained(path, tmp_path / "one", folds=True).report
    # Traces of an earlier run with other options are removed.
    trained(path, tmp_path / "other", model="hog_svc")
    other = trained(path, tmp_path / "other", folds=True).report
    assert contents(one.folder) == contents(other.folder)
    assert one.figures["result"]["images"] == COUNT


def test_the_model_is_exported_and_shown(tmp_path: Path, packed: Pack) -> None:
    """A deep model of a set of one's own, after a few steps: it reads nothing, but the same everywhere."""
    found = find(packed(tmp_path / "mine.zip", digits()), Options())
    prepared = prepare(found, tmp_path / "out")
    run = Run(prepared, plan_for(prepared.kept, found.size, tiles=False, minutes=0.001), (0,))
    whole = specs_of(run)[0]
    run_trial(replace(whole, parameters=whole.parameters[:1], seconds=whole.seconds[:1]), io.StringIO())
    out = tmp_path / "mine.onnx"
    done = CliRunner().invoke(app, ["export", "--onnx", str(run.weights), str(out)])
    assert done.exit_code == 0, done.output
    # It is compared with torch on the set's own images.
    assert re.search(r"images read: the same texts", done.output)
    models = [load_recogniser(path) for path in (run.weights, out)]
    pictures = list(digits().values())[:5]
    one, other = ([prediction.text for prediction in model.predict(pictures)] for model in models)
    assert one == other
    assert models[0].about == models[1].about
    # The demo takes the folder, too, with the held-out images as samples.
    usable = find_models(tmp_path / "out/models")
    assert [*usable.folders] == [run.weights.name]
    reader = Reader(usable.folders, DemoLimits().pixels, lambda: ThreadPoolExecutor(1))
    service = Service(usable.abouts, reader, Library(tmp_path / "out"), tmp_path / "out/index.html")
    with TestClient(create_app(service)) as client:
        asked = {"model": run.weights.name}
        answer = client.post("/predict", params=asked, content=pictures[0], headers={"content-type": "image/png"})
        assert answer.json()["results"][0]["readings"][0]["text"] == one[0]
        (sample,) = client.get("/samples/mine", params={"fold": 0, "limit": 1}).json()["samples"]
        assert f"{sample['label']}.png" in digits()


def test_tiles_by_class(tmp_path: Path, packed: Pack, picture: Picture) -> None:
    names = ("Bus", "Car", "Bike")
    files = {f"{name}/{i}.png": picture(100 * k + i, height=60) for k, name in enumerate(names) for i in range(90)}
    report = trained(packed(tmp_path / "tiles.zip", files), tmp_path / "out").report
    result = report.figures["result"]
    assert report.figures["set"]["classes"] == ["Bike", "Bus", "Car"]
    assert result["macro_f1_interval"][0] <= result["macro_f1"] <= result["macro_f1_interval"][1]
    assert set(report.figures["baseline"]) == {"hog_svc"}
    assert "Grids of tiles" in report.page.read_text(encoding="utf-8")
    found = find(tmp_path / "tiles.zip", Options())
    assert found.photographs
    assert not replace(found, labels=("a", "b")).photographs


SETS: dict[str, dict[str, bytes]] = {
    "mixed case": {f"{a}{b}{c}.png": drawn(a + b + c) for a in "aAbB" for b in "bBcC" for c in "cCdD"},
    "arithmetic": {f"{i}x{j}=.png": drawn(f"{i}x{j}=") for i in range(6) for j in range(10)},
    "lengths": {f"{7**i % 10 ** (4 + i % 5):0{4 + i % 5}}.png": drawn(str(i), size=(90, 30)) for i in range(COUNT)},
    "palette": {name: drawn(name, "P") for name in digits()},
    "transparent": {name: drawn(name, "RGBA") for name in digits()},
    "bilevel": {name: drawn(name, "1") for name in digits()},
    "bmp": {name.replace("png", "bmp"): drawn(name, "RGB", "BMP") for name in digits()},
    "gif": {name.replace("png", "gif"): drawn(name, "P", "GIF") for name in digits()},
    "jpeg named png": {name: drawn(name, "RGB", "JPEG") for name in digits()},
    "small": {name: drawn(name, size=(42, 30)) for name in digits()},
    "wide": {name: drawn(name, size=(620, 80)) for name in digits()},
}


@pytest.mark.parametrize("name", SETS)
def test_sets_of_any_kind_are_prepared(tmp_path: Path, packed: Pack, name: str) -> None:
    found = find(packed(tmp_path / "set.zip", SETS[name]), Options())
    prepared = prepare(found, tmp_path / "out")
    assert (found.images.rule, found.tiles) == ("stem", False)
    assert prepared.kept + prepared.left_out.get("duplicate", 0) == len(SETS[name])
    assert found.case_occurs == (name == "mixed case")
    if name == "mixed case":
        folded = find(tmp_path / "set.zip", Options(case_folded=True))
        assert (folded.alphabet, folded.case_occurs) == ("abcd", False)


def test_an_alphabet_leaves_other_labels_out(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "set.zip", SETS["arithmetic"] | {"12a4.png": drawn("12a4")})
    found = find(path, Options(labels="stem", alphabet="0123456789x="))
    assert prepare(found, tmp_path / "out").left_out == {"symbol outside alphabet": 1}


def test_classes_have_the_names_of_their_folders(tmp_path: Path, packed: Pack) -> None:
    names = ("Traffic_Light", "car", "Car")
    path = packed(
        tmp_path / "tiles.zip", {f"{name}/{i}.png": drawn(name[:3] + str(i)) for name in names for i in range(60)}
    )
    assert find(path, Options()).classes == ["Car", "Traffic_Light", "car"]
    assert find(path, Options(case_folded=True)).classes == ["car", "traffic light"]


def refusal(path: Path, out: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        trained(path, out, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message  # what is wrong; what to do
    return message


def test_mistakes_are_one_line(tmp_path: Path, packed: Pack) -> None:
    out = tmp_path / "out"
    few = packed(tmp_path / "few.zip", digits(29))
    assert "few.zip: 29 images with a label, and training needs at least 30" in refusal(few, out)
    assert "no such file" in refusal(tmp_path / "none.zip", out)
    (tmp_path / "empty").mkdir()
    assert "empty: holds no images" in refusal(tmp_path / "empty", out)
    broken = packed(tmp_path / "broken.zip", dict.fromkeys(digits(), b"no image"))
    assert "broken.zip: no image with a label can be decoded" in refusal(broken, out)
    half = packed(tmp_path / "half.zip", digits() | {f"{i}999.png": b"no image" for i in range(1000, 1090)})
    assert "half.zip: 60% of the images cannot be used (90 undecodable)" in refusal(half, tmp_path / "half")
    alike = packed(tmp_path / "alike.zip", {name: drawn("0000") for name in digits()})
    assert "alike: no image of 60 is fit to keep" in refusal(alike, tmp_path / "alike")
    one = packed(tmp_path / "one.zip", {f"bus/{i}.png": drawn(str(i)) for i in range(200)})
    assert "one.zip" in refusal(one, tmp_path / "one")
    numbered = {f"{i}.png": picture for i, picture in enumerate(digits().values())}
    table = "".join(f"{name},abc12\n" for name in numbered)
    same = packed(tmp_path / "same.zip", numbered | {"labels.csv": f"file,label\n{table}".encode()})
    assert "same.zip: all 60 labels are 'abc12' by labels.csv; name another rule" in refusal(same, tmp_path / "same")
    fine = packed(tmp_path / "fine.zip", digits())
    assert "--minutes 0: must be above 0" in refusal(fine, out, minutes=0)
    assert "did you mean 'crnn'" in refusal(fine, out, model="crn")
    assert "no rule is called 'stam'" in refusal(fine, out, labels="stam")


def test_a_folder_of_others_is_not_written_to(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "fine.zip", digits())
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("Dear")
    assert "home: holds letter.txt, which this command did not write" in refusal(path, tmp_path / "home")
    trained(path, tmp_path / "out")
    other = packed(tmp_path / "other.zip", digits())
    assert "out: holds the images of fine" in refusal(other, tmp_path / "out")
