"""The audit of finished shards."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from captchabench.audit import audit
from captchabench.datasets import DATASETS
from captchabench.errors import InputError
from captchabench.normalize.images import decode_grey
from captchabench.samples.shards import ShardInfo, schema, write_shards

Row = tuple[str, int, NDArray[np.uint8]]
Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def image(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 16), dtype=np.uint8)
    pixels: NDArray[np.uint8] = cv2.resize(coarse, (100, 32))
    return pixels


def shards(folder: Path, rows: Sequence[Row], alphabet: str = "ABab", rows_per_file: int = 3) -> Path:
    """Write shards of (label, fold, pixels [32, 100]). The name of the n-th image is `n.png`."""
    info = ShardInfo(folder.name, "archive", 1, 32, 100, alphabet, 2, 2)
    columns = [
        [f"{n:032x}" for n in range(len(rows))],
        [label for label, _, _ in rows],
        [fold for _, fold, _ in rows],
        [pixels.tobytes() for _, _, pixels in rows],
        [f"{n}.png" for n in range(len(rows))],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema(info), strict=True)]
    write_shards(folder, info, [pa.record_batch(arrays, schema=schema(info))], rows_per_file)
    return folder


def jpeg_copy(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    decoded: NDArray[np.uint8] | None = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


def test_clean_shards_have_no_leaks(tmp_path: Path) -> None:
    result = audit([shards(tmp_path / "a", [("AB", n % 2, image(n)) for n in range(8)])], 2)
    assert result.leaks == []
    assert result.figures["leakage"]["near_groups_across_folds"] == 0
    assert result.figures["datasets"]["a"]["folds"] == {"0": 4, "1": 4}
    assert result.figures["duplicates"]["largest_group"] == 1


def test_duplicates_within_a_fold_are_counted_but_are_no_leak(tmp_path: Path) -> None:
    rows = [("AB", 0, image(0)), ("AB", 0, image(0)), ("AB", 0, jpeg_copy(image(0))), ("AB", 1, image(1))]
    result = audit([shards(tmp_path / "a", rows)], 2)
    assert result.leaks == []
    duplicates = result.figures["duplicates"]
    assert (duplicates["exact_groups"], duplicates["exact_images"]) == (1, 2)
    assert (duplicates["near_groups"], duplicates["near_images"], duplicates["largest_group"]) == (1, 3, 3)
    # By fold: a group of three counts as one image.
    counted = {"0": {"groups": 1, "squares": 9}, "1": {"groups": 1, "squares": 1}}
    assert result.figures["datasets"]["a"]["groups"] == counted


@pytest.mark.parametrize("change", [np.copy, jpeg_copy])
def test_copies_across_folds_are_named(tmp_path: Path, change: Change) -> None:
    rows = [("AB", n % 2, image(n)) for n in range(6)]
    result = audit([shards(tmp_path / "a", [*rows, ("AB", 1, change(image(4)))])], 2)
    assert result.leaks == [["a:4.png (fold 0)", "a:6.png (fold 1)"]]
    assert result.figures["leakage"]["examples"] == result.leaks


@pytest.mark.parametrize("key", DATASETS.names())
def test_planted_copies_across_folds_are_all_found(tmp_path: Path, key: str) -> None:
    """50 copies among 400 images: 30 identical, 10 re-encoded as JPEG, 10 moved by one pixel."""
    draw = DATASETS[key].draw
    drawn = [decode_grey(draw(np.random.default_rng([4, n])).encoded) for n in range(400)]
    sound = [("AB", n % 5, cv2.resize(grey, (100, 32), interpolation=cv2.INTER_AREA)) for n, grey in enumerate(drawn)]
    steps = ((1, 0), (-1, 0), (1, 1), (-1, 1), (1, 1)) * 2
    moves: list[Change] = [partial(np.roll, shift=shift, axis=axis) for shift, axis in steps]
    changes: list[Change] = [np.copy] * 30 + [jpeg_copy] * 10 + moves
    planted = [("AB", (sound[7 * n][1] + 1) % 5, change(sound[7 * n][2])) for n, change in enumerate(changes)]
    assert audit([shards(tmp_path / "sound" / key, sound, rows_per_file=500)], 5).leaks == []
    result = audit([shards(tmp_path / "leaky" / key, [*sound, *planted], rows_per_file=500)], 5)
    leaked = {tuple(name.split(" ")[0] for name in group) for group in result.leaks}
    assert leaked == {(f"{key}:{7 * n}.png", f"{key}:{400 + n}.png") for n in range(50)}
    assert result.figures["leakage"]["near_groups_across_folds"] == 50
    assert result.figures["leakage"]["exact_groups_across_folds"] == 30


def test_an_empty_fold_is_named(tmp_path: Path) -> None:
    folder = shards(tmp_path / "a", [("AB", n % 2 * 2, image(n)) for n in range(8)])
    assert audit([folder], 3).empty_folds == {"a": [1]}
    assert audit([folder], 3).figures["datasets"]["a"]["folds"] == {"0": 4, "1": 0, "2": 4}
    assert audit([shards(tmp_path / "b", [("AB", n % 2, image(n)) for n in range(8)])], 2).empty_folds == {}


def test_copies_across_datasets_are_found(tmp_path: Path) -> None:
    first = shards(tmp_path / "a", [("AB", n % 2, image(n)) for n in range(4)])
    same_fold = shards(tmp_path / "b", [("AB", 1, image(3)), ("AB", 0, image(9))])
    other_fold = shards(tmp_path / "c", [("AB", 0, jpeg_copy(image(3))), ("AB", 1, image(8))])
    assert audit([first, same_fold], 2).leaks == []
    assert audit([first, same_fold], 2).figures["duplicates"]["groups_across_datasets"] == 1
    assert audit([first, other_fold], 2).leaks == [["a:3.png (fold 1)", "c:0.png (fold 0)"]]


def test_two_labels_of_the_same_pixels_are_counted(tmp_path: Path) -> None:
    rows = [("AB", 0, image(0)), ("BA", 0, image(0)), ("Ab", 1, image(1)), ("bb", 1, jpeg_copy(image(1)))]
    duplicates = audit([shards(tmp_path / "a", rows)], 2).figures["duplicates"]
    assert duplicates["exact_groups_with_two_labels"] == 1
    assert duplicates["two_labels_examples"] == [["a:0.png (fold 0) labelled AB", "a:1.png (fold 0) labelled BA"]]
    assert duplicates["near_groups"] == 0


def test_labels_and_symbols_are_counted(tmp_path: Path) -> None:
    rows = [
        ("AA", 0, image(0)),
        ("aA", 1, image(1)),
        ("bA", 1, image(2)),
        ("BA", 0, image(3)),
        ("BA", 0, image(4)),
    ]
    figures = audit([shards(tmp_path / "a", rows)], 2).figures["datasets"]["a"]
    assert figures["labels_alike_but_for_case"] == {"labels": 4, "examples": [["AA", "aA"], ["BA", "bA"]]}
    assert figures["symbols_in_one_fold_only"] == {"0": "B", "1": "ab"}
    assert figures["distinct_labels"] == 4
    assert figures["balance"]["rarest"] == {"symbol": "a", "count": 1}
    assert figures["balance"]["commonest"] == {"symbol": "A", "count": 6}
    assert 0 < figures["balance"]["evenness"] < 1


def test_equally_frequent_symbols_have_evenness_one(tmp_path: Path) -> None:
    rows = [("AB", 0, image(0)), ("ab", 1, image(1))]
    assert audit([shards(tmp_path / "a", rows)], 2).figures["datasets"]["a"]["balance"]["evenness"] == 1


def test_missing_and_damaged_shards_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no shards; run `dvc repro normalize@none`"):
        audit([tmp_path / "none"], 2)
    folder = shards(tmp_path / "a", [("AB", n % 2, image(n)) for n in range(4)])
    part = folder / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"part-00001\.parquet: is damaged .*normalize@a"):
        audit([folder], 2)
