"""Normalisation of tiles: grids share no tile between folds, and problems of a folder are reported."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captchabench.audit import audit
from captchabench.config import DataParams, NormalizeParams, TileParams
from captchabench.datasets import DATASETS
from captchabench.errors import InputError
from captchabench.normalize.grids import assign_grids, compose, split_grids
from captchabench.normalize.tiles import normalize_tiles
from captchabench.samples.raw import RawInfo, write_raw
from captchabench.samples.shards import Samples, read_names, read_samples, tile_names
from captchabench.sources.opening import open_source
from tests.made_up import Pack, Rewrite

# Samples, figures, and the reason of each reject by path.
Read = tuple[Samples, dict[str, Any], dict[str, str]]
ReadTiles = Callable[..., Read]

GRID = DATASETS["grid"]
SIZE = TileParams(height=48, width=48)


@given(st.lists(st.integers(0, 4), max_size=120), st.integers(0, 3))
def test_grids_are_disjoint_and_within_folds(fold_of: list[int], seed: int) -> None:
    ids = np.array([f"{i * 7919 % 1009:08x}" for i in range(len(fold_of))], np.str_)
    folds = np.array(fold_of, np.int8)
    if not fold_of:
        return
    grids = assign_grids(ids, folds, seed)
    # No tile is used twice, no grid has tiles of two folds, and each fold has as many grids as its tiles allow.
    assert len(np.unique(grids)) == grids.size
    assert (folds[grids] == folds[grids[:, :1]]).all()
    assert len(grids) == sum(count // 9 for count in np.bincount(folds))
    # The grids depend on ids and seed only, not on the order of the tiles.
    reversed_grids = assign_grids(ids[::-1], folds[::-1], seed)
    assert [ids[grid].tolist() for grid in grids] == [ids[::-1][grid].tolist() for grid in reversed_grids]
    if len(grids) > 2:
        assert [g.tolist() for g in assign_grids(ids, folds, seed + 10)] != [g.tolist() for g in grids]


@given(st.integers(0, 3), st.integers(1, 7), st.integers(1, 7))
def test_composing_and_splitting_are_inverse(count: int, height: int, width: int) -> None:
    tiles = np.random.default_rng(height).integers(0, 256, (count, 9, height, width), np.uint8)
    grids = compose(tiles)
    assert grids.shape == (count, 3 * height, 3 * width)
    np.testing.assert_array_equal(split_grids(grids), tiles)
    for grid, nine in zip(grids, tiles, strict=True):
        np.testing.assert_array_equal(grid[:height, width : 2 * width], nine[1])
        np.testing.assert_array_equal(grid[2 * height :, :width], nine[6])


def picture(seed: int, side: int = 30) -> Image.Image:
    """Blurred colour noise, different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tile_files(classes: list[str], each: int) -> dict[str, bytes]:
    return {
        f"{name}/{k}.png": saved(picture(1000 * index + k)) for index, name in enumerate(classes) for k in range(each)
    }


@pytest.fixture
def read_tiles(tmp_path: Path, packed: Pack) -> ReadTiles:
    """A function that takes files by name through a folder in downloads to shards: samples, figures, rejects."""

    def read(files: dict[str, bytes], folds: int = 2, name: str = "grid") -> Read:
        packed(tmp_path / "downloads" / name, files)
        params = DataParams(source="archive", downloads=str(tmp_path / "downloads"))
        source = open_source(GRID, params, "all")
        info = RawInfo("grid", "archive", GRID.version, source.available, source.skipped)
        raw, shards, rejects = tmp_path / "grid.parquet", tmp_path / "shards", tmp_path / "rejects.csv"
        write_raw(raw, info, source.entries(), GRID.raw_label)
        figures = normalize_tiles(GRID, raw, NormalizeParams(max_rejected=0.5), SIZE, folds, shards, rejects, 1)
        rows = csv.DictReader(rejects.read_text(encoding="utf-8").splitlines())
        return read_samples(shards), figures, {row["path"]: row["reason"] for row in rows}

    return read


def test_a_messy_folder(read_tiles: ReadTiles, tmp_path: Path) -> None:
    files = tile_files(["bus", "Traffic_Light", "tree"], 20)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    files |= {
        # Images of various sizes and modes.
        "bus/rgba.png": saved(picture(9001, 64).convert("RGBA")),
        "bus/palette.png": saved(picture(9002, 41).convert("P")),
        "bus/deep.png": saved(Image.fromarray(np.asarray(picture(9003).convert("L")).astype(np.uint16) * 257)),
        "tree/cmyk.jpg": saved(picture(9004, 99).convert("CMYK"), "JPEG"),
        "tree/grey.webp": saved(picture(9005, 12).convert("L"), "WEBP"),
        "tree/sideways.jpg": saved(picture(9006, 90).crop((0, 0, 90, 40)), "JPEG", exif=sideways),
        "traffic light/one.png": saved(picture(9007)),
        # Files that cannot be used.
        "bus/cut.png": saved(picture(9008))[:-40],
        "bus/text.png": b"no image",
        "tree/dot.png": saved(picture(9009, 2)),
        "loose.png": saved(picture(9010)),
        "bus/readme.txt": b"by class",
        # A duplicate within a class, and a duplicate in another class.
        "bus/copy.png": files["bus/0.png"],
        "tree/disputed.png": files["bus/1.png"],
    }
    samples, figures, rejects = read_tiles(files)
    assert rejects == {
        "bus/cut.png": "truncated",
        "bus/text.png": "undecodable",
        "tree/dot.png": "absurd_dimensions",
        "loose.png": "no_class",
        "bus/copy.png": "duplicate",
        "tree/disputed.png": "two_labels_same_pixels",
        "bus/1.png": "two_labels_same_pixels",
    }
    assert figures["skipped_files"] == {"not_an_image_name": 1}
    assert samples.info.class_names == ("bus", "traffic light", "tree")
    # Two spellings of a class are one class.
    assert figures["symbols"] == {"bus": 22, "traffic light": 21, "tree": 23}
    assert figures["kept"] == 66 == 9 * len(samples) + figures["tiles_left_over"]
    names = read_names(tmp_path / "shards")
    symbol = dict(zip(samples.info.class_names, samples.info.alphabet, strict=True))
    seen: set[str] = set()
    for sample_id, label in zip(samples.sample_ids, samples.labels, strict=True):
        tiles = tile_names(names[sample_id])
        assert [symbol[GRID.label_of(GRID.raw_label(tile))] for tile in tiles] == list(label)
        assert not seen.intersection(tiles)
        seen.update(tiles)
    assert len(seen) == 9 * len(samples)


def test_near_duplicates_share_a_fold_and_are_reported(read_tiles: ReadTiles, tmp_path: Path) -> None:
    files = tile_files(["bus", "tree"], 30)
    for k in range(6):
        files[f"bus/again-{k}.jpg"] = saved(picture(k), "JPEG", quality=80)
    samples, _, _ = read_tiles(files)
    folds: dict[str, int] = {}
    names = read_names(tmp_path / "shards")
    for sample_id, fold in zip(samples.sample_ids, samples.folds, strict=True):
        folds |= dict.fromkeys(tile_names(names[sample_id]), fold)
    report = audit([tmp_path / "shards"], 2)
    assert not report.leaks
    both = [k for k in range(6) if f"bus/{k}.png" in folds and f"bus/again-{k}.jpg" in folds]
    assert len(both) >= 3
    assert all(folds[f"bus/{k}.png"] == folds[f"bus/again-{k}.jpg"] for k in both)
    assert report.figures["duplicates"]["near_groups"] == len(both)
    assert report.figures["datasets"]["grid"]["distinct_labels"] == 2
    assert report.figures["datasets"]["grid"]["images"] == 9 * len(samples)


def test_the_audit_finds_a_tile_in_two_folds(read_tiles: ReadTiles, rewrite: Rewrite, tmp_path: Path) -> None:
    samples, _, _ = read_tiles(tile_files(["bus", "tree"], 30))
    pixels = samples.pixels.copy()
    first, second = (int(np.flatnonzero(samples.folds == fold)[0]) for fold in (0, 1))
    # Copies the corner tile of one grid into the middle of the other. The grids as a whole stay different.
    pixels[second, 16:32, 16:32] = pixels[first, :16, :16]
    (path,) = (tmp_path / "shards").glob("*.parquet")
    table = pq.read_table(path)
    column = table.schema.get_field_index("pixels")
    changed = table.set_column(
        column, table.schema.field(column), pa.array([p.tobytes() for p in pixels], pa.binary(48 * 48))
    )
    rewrite(path, changed)
    report = audit([tmp_path / "shards"], 2)
    assert len(report.leaks) == 1
    tiles = [tile_names(read_names(tmp_path / "shards")[samples.sample_ids[i]]) for i in (first, second)]
    assert set(report.leaks[0]) == {f"grid:{tiles[0][0]} (fold 0)", f"grid:{tiles[1][4]} (fold 1)"}


@pytest.mark.parametrize(
    ("classes", "each", "message"),
    [
        (["bus"], 20, "all of one class, 'bus'; give a folder for each class"),
        (["bus", "tree"], 5, r"folds.count: fold \d of 'grid' has \d tiles, and a grid takes 9"),
    ],
)
def test_too_few_classes_or_tiles_fail(read_tiles: ReadTiles, classes: list[str], each: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_tiles(tile_files(classes, each))


def test_a_missing_archive_is_an_error_and_no_fallback(tmp_path: Path) -> None:
    params = DataParams(source="archive", downloads=str(tmp_path))
    with pytest.raises(InputError, match=r"a folder for each class .*set tiles\.source to standin"):
        open_source(GRID, params, "all")


def test_tiles_are_read_from_an_archive(read_tiles: ReadTiles) -> None:
    samples, figures, _ = read_tiles(tile_files(["set/train/bus", "set/train/tree"], 15), name="grid.zip")
    assert figures["source"] == "archive"
    assert samples.info.class_names == ("bus", "tree")
    assert samples.info.spec.rows == samples.info.spec.columns == 3


def test_stand_ins_are_normalised_like_archives(tmp_path: Path) -> None:
    few = replace(GRID, images=120)
    source = open_source(few, DataParams(), "all")
    info = RawInfo("grid", "standin", GRID.version, source.available, {})
    write_raw(tmp_path / "raw.parquet", info, source.entries(), GRID.raw_label)
    folder = tmp_path / "shards"
    normalize_tiles(few, tmp_path / "raw.parquet", NormalizeParams(), SIZE, 2, folder, tmp_path / "rejects.csv", 1)
    samples = read_samples(folder)
    assert samples.info.class_names == tuple(sorted(GRID.class_names))
    assert all(len(label) == 9 for label in samples.labels)
    assert all(len(json.loads(name)) == 9 for name in read_names(folder).values())
