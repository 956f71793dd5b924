"""Which misread images the page shows, and how they get there."""

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from captchabench.config import MatrixParams
from captchabench.errors import InputError
from captchabench.networks.readings import Reading
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.report.pictures import (
    SHOWN,
    SUREST,
    SUSPECTS_SHOWN,
    WORST,
    Misreading,
    misreadings,
    of_suspects,
    pictures,
)
from captchabench.samples.shards import Samples, ShardInfo, schema, write_shards
from captchabench.studies.label_errors import SCHEMA as SUSPECTS


@pytest.fixture
def predict(tmp_path: Path) -> Callable[..., None]:
    """A function that writes (label, prediction, confidence) rows as one cell's predictions."""

    def write(cell: str, rows: list[tuple[str, str, float]], members: list[str] | None = None) -> None:
        dataset, model, fold = cell.split("-")
        labels, texts, sure = zip(*rows, strict=True)
        n = len(rows)
        samples = Samples(
            ShardInfo(dataset, "standin", 1, 2, 2, "0123456789", 1, 6),
            # Ids know nothing of folds: here those of a later one come first.
            np.array([f"{dataset}-{model}-{9 - int(fold)}-{i:02d}" for i in range(n)], object),
            np.array(labels, object),
            np.full(n, int(fold), np.int8),
            np.array(members or [dataset] * n, object),
            np.zeros((n, 2, 2), np.uint8),
        )
        info = PredictionInfo(dataset, "standin", 1, model, int(fold), "0123456789", 1)
        reading = Reading(list(texts), np.array(sure, np.float32))
        write_predictions(tmp_path / f"{cell}.parquet", info, samples, reading, None)

    return write


def shown(result: list[Misreading], kind: str) -> list[tuple[str, float]]:
    return [(m.prediction, m.confidence) for m in result if m.kind == kind]


def test_the_worst_have_most_edits_and_the_surest_most_confidence(tmp_path: Path, predict: Callable[..., None]) -> None:
    rows = [("12", "12", 1.0), ("12", "13", 0.75), ("12", "", 0.25), ("12", "34", 0.5), ("12", "1", 0.5)]
    predict("numbers6-crnn-0", rows)
    result = misreadings(tmp_path, MatrixParams(("numbers6",), ("crnn",), (), (0,)))
    assert shown(result, WORST) == [("34", 0.5), ("", 0.25), ("13", 0.75), ("1", 0.5)]
    assert shown(result, SUREST) == [("13", 0.75), ("34", 0.5), ("1", 0.5), ("", 0.25)]
    assert {(m.dataset, m.reader) for m in result} == {("numbers6", "crnn")}
    assert [m.edits for m in result if m.kind == WORST] == [2, 2, 1, 1]


def test_folds_are_pooled_members_of_union_are_apart_and_ids_settle_ties(
    tmp_path: Path, predict: Callable[..., None]
) -> None:
    for fold in (0, 1):
        predict(f"numbers6-crnn-{fold}", [("12", "13", 0.5)] * SHOWN)
        predict(f"union-crnn-{fold}", [("12", "14", 0.5), ("12", "12", 0.5)], ["numbers6", "vtu"])
    grid = MatrixParams(("numbers6",), ("crnn",), ("crnn",), (0, 1))
    result = misreadings(tmp_path, grid)
    own = [m.sample_id for m in result if (m.reader, m.kind) == ("crnn", WORST)]
    assert own == [f"numbers6-crnn-8-{i:02d}" for i in range(SHOWN)]
    merged = [(m.dataset, m.sample_id) for m in result if (m.reader, m.kind) == ("crnn (trained on union)", WORST)]
    assert merged == [("numbers6", "union-crnn-8-00"), ("numbers6", "union-crnn-9-00")]
    assert result == misreadings(tmp_path, grid)


def test_missing_predictions_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `dvc repro predict@numbers6-crnn-0`"):
        misreadings(tmp_path, MatrixParams(("numbers6",), ("crnn",), (), (0,)))


def test_pictures_are_the_pixels_of_the_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 32, 100), np.uint8)
    info = ShardInfo("vtu", "standin", 1, 32, 100, "ab", 1, 1)
    images = [image.tobytes() for image in pixels]
    columns = [["s0", "s1", "s2"], ["a", "b", "a"], [0, 1, 2], images, ["n"] * 3]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema(info), strict=True)]
    write_shards(tmp_path / "vtu", info, [pa.record_batch(arrays, schema=schema(info))], rows_per_file=2)
    result = pictures(tmp_path, [("vtu", "s2"), ("vtu", "s0"), ("vtu", "s0")])
    assert list(result) == ["s0", "s2"]
    for place, uri in zip((0, 2), result.values(), strict=True):
        kind, _, text = uri.partition(",")
        assert kind == "data:image/webp;base64"
        decoded = cv2.imdecode(np.frombuffer(b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert decoded is not None
        assert np.array_equal(decoded, pixels[place])
    # Noise is the worst that can happen: even so, all of the default grid leaves a page below 5 MB.
    datasets, readers = 4, 6
    largest = max(map(len, result.values()))
    assert datasets * (readers * 2 * SHOWN + SUSPECTS_SHOWN) * largest < 3e6


def test_the_first_suspects_of_each_dataset_are_shown() -> None:
    rows = [
        (d, "standin", f"{d}{i:02d}", "n", "1", "2", i + 1, 0.9, 1, 1, "crnn")
        for d in "ab"
        for i in range(SUSPECTS_SHOWN + 1)
    ]
    result = of_suspects(pl.DataFrame(rows, SUSPECTS, orient="row"))
    assert result == [(d, f"{d}{i:02d}") for d in "ab" for i in range(SUSPECTS_SHOWN)]
