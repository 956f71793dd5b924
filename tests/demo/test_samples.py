"""Images of datasets: grids are shown as their models read them, and damaged images are not shown."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from captchabench.demo import pictures
from captchabench.demo.app import create_app
from captchabench.demo.samples import Library
from captchabench.demo.service import Service
from captchabench.errors import InputError
from captchabench.predictions.held_out import read_predictions, write_described
from captchabench.samples.raw import RawInfo, read_info

SVC, GRID_SVC = "written-hog_svc-0", "grid-hog_svc-0"


def test_a_grid_can_be_seen_and_is_read_as_it_was_by_predict(
    make_service: Callable[..., Service], trained_grids: Any
) -> None:
    with TestClient(create_app(make_service(project=trained_grids))) as client:
        samples = client.get("/samples/grid", params={"fold": 0}).json()["samples"]
        assert len(samples) > 10
        answers = [client.get(sample["image"]) for sample in samples]
        assert {(answer.status_code, answer.headers["content-type"]) for answer in answers} == {(200, "image/png")}
        for answer, pixels in zip(answers, trained_grids.samples.pixels, strict=False):
            shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(shown, pixels)
        form = [("files", ("grid.png", answer.content)) for answer in answers]
        results = client.post("/predict", params={"model": GRID_SVC}, files=form).json()["results"]
        assert client.get("/samples/grid/0").status_code == 404
    texts = [result["readings"][0]["text"] for result in results]
    assert texts == trained_grids.texts[GRID_SVC][: len(texts)]


@pytest.fixture
def project(trained: Any, tmp_path: Path) -> Any:
    """A copy of the project, for the test to damage, without a report."""
    shutil.copytree(trained.data, tmp_path / "data")
    return replace(trained, folder=tmp_path)


@pytest.mark.parametrize(
    ("column", "value"), [("sample_id", "0123456789abcdef"), ("label", "1111111"), ("fold", 7)], ids=str
)
def test_predictions_of_other_shards_are_not_shown(
    make_service: Callable[..., Service], project: Any, column: str, value: Any
) -> None:
    path = project.data / "predictions" / f"{SVC}.parquet"
    info, table = read_predictions(path)
    values = [value, *table[column].to_pylist()[1:]]
    position = table.column_names.index(column)
    changed = table.set_column(position, table.field(column), pa.array(values, table.field(column).type))
    write_described(path, changed, info)
    with TestClient(create_app(make_service(project=project))) as client:
        answer = client.get(f"/errors/{SVC}")
        assert answer.status_code == 404
        assert answer.json()["error"] == (
            f"data/predictions/{SVC}.parquet: was made before the shards of written changed; "
            "run `dvc repro predict@written-hog_svc-0`"
        )
        # Once they are made again, they are shown.
        write_described(path, table, info)
        assert client.get(f"/errors/{SVC}").status_code == 200


def test_what_is_missing_or_damaged_is_named_without_the_place_of_the_project(
    make_service: Callable[..., Service], project: Any
) -> None:
    (project.data / "predictions" / f"{SVC}.parquet").unlink()
    weights = next(path for path in (project.data / "models" / SVC).iterdir() if path.name != "config.json")
    weights.write_bytes(weights.read_bytes()[:-9])
    (part,) = (project.data / "shards" / "written").iterdir()
    part.write_bytes(part.read_bytes()[:-9])
    with TestClient(create_app(make_service(project=project))) as client:
        answers = {path: client.get(path).text for path in (f"/errors/{SVC}", "/samples/written", "/report")}
        answers["/predict"] = client.post("/predict", params={"model": SVC}, content=project.images[0]).text
    assert f"data/predictions/{SVC}.parquet: " in answers[f"/errors/{SVC}"]
    assert "data/shards/written/part-00000.parquet: " in answers["/samples/written"]
    assert "no report at reports/index.html; " in answers["/report"]
    assert f"data/models/{SVC}" in answers["/predict"]
    assert not [path for path, answer in answers.items() if str(project.folder.parent) in answer]


def test_a_model_of_other_classes_is_named(make_service: Callable[..., Service]) -> None:
    service = make_service()
    other = replace(service.abouts[SVC], task="grid", alphabet="01", class_names=("bus", "cat"))
    service.abouts = {SVC: other}
    with TestClient(create_app(service)) as client:
        answer = client.get("/samples/written")
    assert answer.status_code == 404
    assert "was trained on other classes; run `dvc repro train@written-hog_svc-0`" in answer.json()["error"]


@pytest.fixture
def copied(trained: Any, tmp_path: Path) -> Path:
    """A copy of the data, for the test to damage."""
    for name in ("raw", "shards"):
        shutil.copytree(trained.data / name, tmp_path / name)
    return tmp_path


def first(library: Library) -> bytes:
    return library.image("written", library.samples("written", 0, 0, 1)[1][0].sample_id)


def test_a_damaged_picture_is_not_shown_until_it_is_repaired(copied: Path, trained: Any) -> None:
    raw = copied / "raw" / "written.parquet"
    whole = raw.read_bytes()
    # In the middle of an image, where Parquet itself would not detect it.
    offset = whole.index(trained.images[0]) + len(trained.images[0]) // 2
    raw.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
    library = Library(copied)
    with pytest.raises(InputError, match=r"is damaged .*dvc repro"):
        first(library)
    raw.write_bytes(whole)
    assert first(library) == trained.images[0]


def test_a_file_is_checked_once_however_many_ask_at_once(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Path] = []

    def check(path: Path) -> RawInfo:
        checked.append(path)
        return read_info(path)

    monkeypatch.setattr(pictures, "check_raw", check)
    library = Library(copied)
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda _: first(library), range(24)))
    assert len(set(shown)) == len(checked) == 1
