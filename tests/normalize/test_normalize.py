"""Normalisation of texts: from a raw file to shards and the list of rejects."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from captchabench import pool
from captchabench.audit import audit
from captchabench.config import NormalizeParams
from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError
from captchabench.normalize import texts
from captchabench.normalize.images import decode_grey, fit
from captchabench.normalize.normalizer import sample_id
from captchabench.normalize.texts import normalize
from captchabench.samples import raw
from captchabench.samples.raw import Entry, RawInfo, write_raw
from captchabench.samples.shards import read_info, read_samples
from captchabench.sources.archives import open_archive
from captchabench.sources.opening import StandinSource
from tests.made_up import Pack, Picture, noise

Run = Callable[..., dict[str, Any]]
Rejects = Callable[[], dict[str, tuple[str, str]]]
LENIENT = NormalizeParams(max_rejected=1.0)


@pytest.fixture
def run(tmp_path: Path, fake: Dataset) -> Run:
    """Normalises entries of the fake dataset into tmp_path/shards/fake, in two folds."""

    def call(
        entries: Iterable[Entry], params: NormalizeParams = LENIENT, folds: int = 2, **options: Any
    ) -> dict[str, Any]:
        entries = list(entries)
        write_raw(tmp_path / "fake.parquet", RawInfo("fake", "archive", 1, len(entries), {}), entries)
        outputs = (tmp_path / "shards" / "fake", tmp_path / "rejects.csv")
        return normalize(fake, tmp_path / "fake.parquet", params, folds, *outputs, **{"workers": 1, **options})

    return call


@pytest.fixture
def rejects(tmp_path: Path) -> Rejects:
    """Reads the list of rejects as {path: (label, reason)}."""

    def read() -> dict[str, tuple[str, str]]:
        with (tmp_path / "rejects.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert all(row["detail"] for row in rows)
        assert rows == sorted(rows, key=lambda row: row["path"])
        return {row["path"]: (row["label"], row["reason"]) for row in rows}

    return read


@pytest.fixture
def sound(picture: Picture) -> list[Entry]:
    """Twenty valid images."""
    return [Entry(f"in/{n:02d}/A{n % 4}b.png", picture(n)) for n in range(20)]


def test_valid_images_become_samples(run: Run, sound: list[Entry], tmp_path: Path) -> None:
    figures = run(sound)
    samples = read_samples(tmp_path / "shards" / "fake")
    names = pq.read_table(tmp_path / "shards" / "fake")["name"].to_pylist()
    by_name = {entry.path: entry for entry in sound}
    assert sorted(names) == sorted(by_name)
    assert list(samples.sample_ids) == sorted(samples.sample_ids)
    for row, name in enumerate(names):
        grey = decode_grey(by_name[name].encoded)
        assert samples.sample_ids[row] == sample_id(grey)
        assert samples.labels[row] == by_name[name].stem
        np.testing.assert_array_equal(samples.pixels[row], fit(grey, LENIENT))
    assert set(samples.folds) == {0, 1}
    info = read_info(tmp_path / "shards" / "fake")
    assert (info.dataset, info.source, info.version, info.height, info.width) == (
        "fake",
        "archive",
        1,
        32,
        100,
    )
    assert (info.alphabet, info.min_length, info.max_length) == ("ABab0123", 3, 3)
    assert figures["kept"] == figures["images_read"] == 20
    assert figures["folds"] == {"0": int((samples.folds == 0).sum()), "1": int((samples.folds == 1).sum())}
    assert figures["symbols"]["A"] == 20
    assert figures["label_lengths"] == {"3": 20}
    assert figures["source_sizes"] == {"60x24": 20}
    assert figures["rejected"] == {}


def test_every_reject_has_its_reason(run: Run, rejects: Rejects, sound: list[Entry], picture: Picture) -> None:
    ambiguous = picture(100)
    bad = {
        "AAa.png": (b"no image", "undecodable"),
        "AAb.png": (picture(101)[:-20], "truncated"),
        "ABa.jpg": (picture(102, ".jpg")[:-20], "truncated"),
        "A.png": (picture(103), "wrong_length"),
        "AAAA.png": (picture(104), "wrong_length"),
        "AxA.png": (picture(105), "symbol_outside_alphabet"),
        "BBB.png": (picture(106), "corrupt_upstream"),
        "B0B.png": (picture(107, height=7), "absurd_dimensions"),
        "B1B.png": (picture(108, width=5000), "absurd_dimensions"),
        "x/A00.png": (ambiguous, "two_labels_same_pixels"),
        "y/A01.png": (ambiguous, "two_labels_same_pixels"),
        "z/A00.png": (ambiguous, "two_labels_same_pixels"),
        "zz/A1b.png": (sound[1].encoded, "duplicate"),
    }
    figures = run([*sound, *(Entry(path, content) for path, (content, _) in bad.items())])
    assert {path: reason for path, (_, reason) in rejects().items()} == {p: r for p, (_, r) in bad.items()}
    assert rejects()["zz/A1b.png"][0] == "A1b"
    assert figures["kept"] == 20
    assert figures["rejected"] == {
        "undecodable": 1,
        "truncated": 2,
        "wrong_length": 2,
        "symbol_outside_alphabet": 1,
        "corrupt_upstream": 1,
        "absurd_dimensions": 2,
        "two_labels_same_pixels": 3,
        "duplicate": 1,
    }
    assert figures["rejected_share"] == pytest.approx(12 / 33, abs=1e-6)
    assert figures["images_read"] == figures["kept"] + sum(figures["rejected"].values())


def test_equal_pixels_in_another_encoding_are_duplicates(run: Run, rejects: Rejects, sound: list[Entry]) -> None:
    pixels = cv2.imdecode(np.frombuffer(sound[0].encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    again = Entry("zzz/A0b.bmp", cv2.imencode(".bmp", pixels)[1].tobytes())
    run([*sound, again])
    assert rejects() == {"zzz/A0b.bmp": ("A0b", "duplicate")}


ODD = {
    "": "wrong_length",
    "A" * 10_000: "wrong_length",
    "\u0410Ba": "symbol_outside_alphabet",  # a Cyrillic A
    "A\uff22a": "symbol_outside_alphabet",  # a full-width B
    "A\u0301B0": "symbol_outside_alphabet",  # a separate combining accent
    "A\u200bB": "symbol_outside_alphabet",
    "A\x1bB": "symbol_outside_alphabet",
    "A\nB": "symbol_outside_alphabet",
    "A\u202eB": "symbol_outside_alphabet",
    'A"B': "symbol_outside_alphabet",
    "AB,": "symbol_outside_alphabet",
    "AB\u0660": "symbol_outside_alphabet",  # an Arabic zero
}


def test_odd_labels_are_rejected_with_one_line_each(
    run: Run, rejects: Rejects, sound: list[Entry], picture: Picture, tmp_path: Path
) -> None:
    odd = [Entry(f"odd/{i:02d}/{label}.png", picture(200 + i)) for i, label in enumerate(ODD)]
    figures = run([*sound, *odd])
    assert figures["kept"] + sum(figures["rejected"].values()) == figures["images_read"] == len(sound) + len(odd)
    assert Counter(reason for _, reason in rejects().values()) == figures["rejected"]
    text = (tmp_path / "rejects.csv").read_text(encoding="utf-8")
    assert text.count("\n") == len(odd) + 1
    assert text.replace("\n", "").isprintable()
    reasons = {path[4:6]: reason for path, (_, reason) in rejects().items()}
    assert reasons == {f"{i:02d}": reason for i, reason in enumerate(ODD.values())}
    assert "U+0410" in text


def test_odd_labels_of_an_archive_are_rejected(
    run: Run, rejects: Rejects, sound: list[Entry], packed: Pack, picture: Picture, tmp_path: Path
) -> None:
    files = {f"{i:02d}/{label}.png": picture(200 + i) for i, label in enumerate(ODD) if len(label) < 250 and label}
    for kind in ("a.zip", "a.tar.gz", "a"):
        archive = open_archive(packed(tmp_path / kind, files))
        figures = run([*sound, *archive.read(archive.members)])
        assert figures["kept"] == len(sound)
        assert len(rejects()) == len(files)


def test_a_wrong_suffix_does_not_matter(run: Run, sound: list[Entry], picture: Picture) -> None:
    assert run([*sound, Entry("ABa.png", picture(300, ".jpg")), Entry("ABb.jpg", picture(301))])["kept"] == 22


def test_a_damaged_raw_file_is_named(run: Run, fake: Dataset, sound: list[Entry], tmp_path: Path) -> None:
    run(sound)
    raw_file = tmp_path / "fake.parquet"
    content = bytearray(raw_file.read_bytes())
    content[content.index(sound[7].encoded) + 40] ^= 1
    raw_file.write_bytes(content)
    outputs = (tmp_path / "shards" / "fake", tmp_path / "rejects.csv")
    with pytest.raises(InputError, match=r"fake\.parquet: is damaged .*run `dvc repro --force ingest@fake`"):
        normalize(fake, raw_file, LENIENT, 2, *outputs, 1)


def test_near_duplicates_share_a_fold(run: Run, sound: list[Entry], picture: Picture, tmp_path: Path) -> None:
    copies = [Entry(f"copy/{n:02d}/A{n % 4}b.jpg", picture(n, ".jpg")) for n in range(20)]
    figures = run([*sound, *copies])
    table = pq.read_table(tmp_path / "shards" / "fake").to_pydict()
    fold_of = dict(zip(table["name"], table["fold"], strict=True))
    for n in range(20):
        assert fold_of[sound[n].path] == fold_of[f"copy/{n:02d}/A{n % 4}b.jpg"]
    assert figures["near_duplicates"] == {"groups": 20, "images": 40, "largest_group": 2}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_order_of_the_source_changes_nothing(run: Run, sound: list[Entry], picture: Picture, tmp_path: Path) -> None:
    entries = [*sound, Entry("zz/A1b.png", sound[1].encoded), Entry("AA.png", picture(50))]
    figures = run(entries)
    before = contents(tmp_path / "shards"), (tmp_path / "rejects.csv").read_bytes()
    assert run(reversed(entries)) == figures
    assert (contents(tmp_path / "shards"), (tmp_path / "rejects.csv").read_bytes()) == before


def test_the_number_of_processes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "ROWS", 50)
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0)
    dataset = DATASETS["numbers6"]
    write_raw(
        tmp_path / "raw",
        RawInfo("numbers6", "standin", dataset.version, 200, {}),
        StandinSource(dataset, 0, 200, 1).entries(),
    )
    results = [
        normalize(dataset, tmp_path / "raw", LENIENT, 5, tmp_path / f"{n}" / "shards", tmp_path / f"{n}.csv", n)
        for n in (1, 3)
    ]
    assert results[0] == results[1]
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_parts_are_bounded_and_samples_sorted_across_parts(
    run: Run, sound: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(sound)
    whole = read_samples(tmp_path / "shards" / "fake")
    monkeypatch.setattr(texts, "PART_BYTES", 7 * 3200)
    monkeypatch.setattr(texts, "_ROWS_AT_ONCE", 3)
    run(sound)
    parts = sorted((tmp_path / "shards" / "fake").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [7, 7, 6]
    again = read_samples(tmp_path / "shards" / "fake")
    np.testing.assert_array_equal(again.sample_ids, whole.sample_ids)
    np.testing.assert_array_equal(again.pixels, whole.pixels)


def test_clahe_raises_contrast(run: Run, sound: list[Entry], picture: Picture, tmp_path: Path) -> None:
    dull = [
        Entry(
            f"{n}/A0b.png",
            cv2.imencode(".png", 120 + fit(decode_grey(picture(n)), LENIENT) // 16)[1].tobytes(),
        )
        for n in range(9)
    ]
    run(dull)
    plain = read_samples(tmp_path / "shards" / "fake").pixels.std()
    run(dull, NormalizeParams(max_rejected=1.0, clahe=True))
    assert read_samples(tmp_path / "shards" / "fake").pixels.std() > 1.3 * plain


def test_too_many_rejects_fail_and_are_listed(run: Run, rejects: Rejects, sound: list[Entry], tmp_path: Path) -> None:
    run(sound)
    before = contents(tmp_path / "shards")
    bad = Entry("AA.png", b"")
    with pytest.raises(
        InputError,
        match=r"fake: 4\.8% of 21 .*1 wrong_length.*normalize\.max_rejected \(2\.0%\).*rejects\.csv",
    ):
        run([*sound, bad], NormalizeParams(max_rejected=0.02))
    assert rejects() == {"AA.png": ("AA", "wrong_length")}
    assert contents(tmp_path / "shards") == before
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["fake"]


def test_duplicates_do_not_count_towards_the_limit(run: Run, sound: list[Entry]) -> None:
    copies = [Entry(f"zz{entry.path}", entry.encoded) for entry in sound]
    figures = run([*sound, *copies], NormalizeParams(max_rejected=0.0))
    assert figures["rejected"] == {"duplicate": 20}
    assert figures["rejected_share"] == 0


def test_nothing_kept_is_an_error(run: Run) -> None:
    with pytest.raises(InputError, match=r"fake: no image of 1 is fit to keep \(1 undecodable\); see .*rejects\.csv"):
        run([Entry("AAA.png", b"x")])


def test_an_empty_fold_is_an_error(run: Run, sound: list[Entry], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folds\.count: fold \d+ of 'fake' is empty with 50 folds of 20 images; "):
        run(sound, folds=50)
    assert not list((tmp_path / "shards").iterdir())


@pytest.mark.parametrize("info", [RawInfo("other", "archive", 1, 1, {}), RawInfo("fake", "archive", 2, 1, {})])
def test_raw_images_of_another_dataset_or_version_are_refused(
    tmp_path: Path, fake: Dataset, info: RawInfo, sound: list[Entry]
) -> None:
    write_raw(tmp_path / "raw", info, sound)
    with pytest.raises(InputError, match=r"not fake version 1; run `dvc repro --force ingest@fake`"):
        normalize(fake, tmp_path / "raw", LENIENT, 2, tmp_path / "shards", tmp_path / "rejects.csv", 1)


def test_accents_may_be_decomposed(tmp_path: Path, fake: Dataset, picture: Picture) -> None:
    accented = replace(fake, symbols="A\u00e9\u00fc")
    labels = [unicodedata.normalize(form, "A\u00e9\u00fc") for form in ("NFC", "NFD")]
    entries = [Entry(f"{n}/{labels[n % 2]}.png", picture(n)) for n in range(20)]
    write_raw(tmp_path / "fake.parquet", RawInfo("fake", "archive", 1, 20, {}), entries)
    outputs = (tmp_path / "shards" / "fake", tmp_path / "rejects.csv")
    assert normalize(accented, tmp_path / "fake.parquet", LENIENT, 2, *outputs, 1)["kept"] == 20
    assert set(read_samples(tmp_path / "shards" / "fake").labels) == {labels[0]}


def test_a_blank_image_is_called_blank(run: Run, rejects: Rejects, sound: list[Entry], tmp_path: Path) -> None:
    blanks = []
    for n, pixels in enumerate((np.full((24, 60), 200, np.uint8), np.zeros((24, 60, 4), np.uint8))):
        blanks += [
            Entry(f"blank/{n}/{label}.png", cv2.imencode(".png", pixels)[1].tobytes()) for label in ("AAB", "bbb")
        ]
    assert run([*sound, *blanks])["rejected"] == {"blank": 4}
    assert {reason for _, reason in rejects().values()} == {"blank"}
    assert "one grey all over, 200 of 255" in (tmp_path / "rejects.csv").read_text(encoding="utf-8")


def test_one_image_under_many_names_takes_a_short_list(
    run: Run, sound: list[Entry], picture: Picture, tmp_path: Path
) -> None:
    names = ["".join(letters) for letters in product("ABab0123", repeat=3)]
    figures = run([*sound, *(Entry(f"x/{name}.png", picture(500)) for name in names if name != "BBB")])
    assert figures["rejected"] == {"two_labels_same_pixels": 511}
    text = (tmp_path / "rejects.csv").read_text(encoding="utf-8")
    assert "labelled 000 and 001 and 002 and 003 and 00A and 506 more" in text
    assert len(text) < 100 * 511


def test_files_that_are_read_though_something_is_amiss_are_counted(
    run: Run, sound: list[Entry], picture: Picture, tmp_path: Path
) -> None:
    frames = [Image.fromarray(noise(n)) for n in range(300, 303)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    odd = [Entry("x/AAA.gif", animated.getvalue()), Entry("x/aaa.jpg", picture(310, ".jpg")[:-2])]
    figures = run([*sound, *odd])
    assert figures["kept"] == 22
    assert figures["read_though"] == {"first_frame": 1, "no_end_marker": 1}
    assert run(sound)["read_though"] == {}


def clean(text: str) -> bytes:
    page = np.full((48, 140), 255, np.uint8)
    cv2.putText(page, text, (10, 38), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 0, 3, cv2.LINE_AA)
    return bytes(cv2.imencode(".png", page)[1].tobytes())


def test_clean_texts_at_a_fixed_place_fill_all_folds_evenly(run: Run, tmp_path: Path) -> None:
    names = ["".join(letters) for letters in product("ABab0123", repeat=3) if letters != ("B", "B", "B")]
    figures = run([Entry(f"{name}.png", clean(name)) for name in names], folds=3)
    assert figures["near_duplicates"] == {"groups": 0, "images": 0, "largest_group": 1}
    assert min(figures["folds"].values()) > 130
    assert audit([tmp_path / "shards" / "fake"], 3).leaks == []
