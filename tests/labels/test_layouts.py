"""Sets as people publish them: each is read rightly, or refused in one line that names the file and the remedy."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captchabench.errors import InputError
from captchabench.labels.finding import find_labels
from captchabench.labels.found import LabelledImages, Reason

Pack = Callable[[Path, dict[str, bytes]], Path]
KINDS = ["set", "set.zip", "set.tar.gz"]
NOISE = {
    "__MACOSX/._a.png": b"",
    "__MACOSX/train/a.png": b"",
    ".DS_Store": b"",
    "train/Thumbs.db": b"",
    "train/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg": b"",
    "train/.ipynb_checkpoints/a-checkpoint.png": b"",
    "README.txt": b"Thirty pictures.\nMade by hand.\n",
}


def texts(count: int, symbols: str = "23456789abcdefghkmnpqrstwxyz", lengths: tuple[int, int] = (5, 5)) -> list[str]:
    """Different labels, equal in every run."""
    rng = random.Random(1)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(rng.choices(symbols, k=rng.randint(*lengths)))] = None
    return list(found)


LABELS = texts(30)
DIGITS = texts(30, "0123456789", (4, 4))
NUMBERED = [f"train/img_{i}.png" for i in range(30)]
TRUTH = dict(zip(NUMBERED, LABELS, strict=True))


def images(paths: list[str]) -> dict[str, bytes]:
    return dict.fromkeys(paths, b"an image")


def found_in(labelled: LabelledImages) -> dict[str, str]:
    return {entry.image.path: entry.label for entry in labelled.entries}


def refusal(path: Path, rule: str = "") -> str:
    with pytest.raises(InputError) as caught:
        find_labels(path, rule)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def expected(pattern: str, labels: list[str]) -> dict[str, str]:
    return {
        pattern.format(label, i=i, word="".join(random.Random(i).choices("0123456789abcdef", k=12))): label
        for i, label in enumerate(labels)
    }


NAMES = [
    ("{}.png", LABELS, "stem"),
    ("captchas/{}.PNG", LABELS, "stem"),
    ("train/{}.jpg", texts(30, lengths=(4, 8)), "stem"),
    ("{}.bmp", DIGITS, "stem"),
    ("x/{} ({i}).png", LABELS, "stem"),
    ("{}-copy.png", LABELS, "stem"),
    ("{} copy 2.png", LABELS, "stem"),
    ("{}.jpg.png", LABELS, "stem"),
    ("{}.png", ["5x10=", "12-3=", "7+8=", "45-6=", "3x9=", "16+3=", "8-1=", "22x4=", "9-5=", "40-31="], "stem"),
    ("{}.png", [f"{a}{op}{b}" for a, op, b in zip(range(11, 41), "+-x" * 10, range(9, 39), strict=True)], "stem"),
    ("{}_{i}.png", LABELS, "before-first-underscore"),
    ("{}_{word}.png", LABELS, "before-first-underscore"),
    ("{}-{i:04}.jpeg", DIGITS, "before-first-hyphen"),
    ("{}.{i}.gif", LABELS, "before-first-dot"),
    ("{} picture {i}.webp", LABELS, "before-first-space"),
    ("{i:03}_{}.png", LABELS, "after-number"),
    ("{i}-{}.png", DIGITS, "after-number"),
    ("captcha_{}.png", LABELS, "after-last-underscore"),
    ("img_{i}_{}.png", DIGITS, "after-last-underscore"),
    ("{}_16094592{i:02}.png", DIGITS[:12], "before-first-underscore"),
    ("16094592{i:02}_{}.png", texts(12, lengths=(4, 8)), "after-number"),
    ("{}.png", texts(30, "äöüéñ字語abc", (4, 4)), "stem"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("pattern", "labels", "rule"), NAMES)
def test_labels_in_names(tmp_path: Path, packed: Pack, kind: str, pattern: str, labels: list[str], rule: str) -> None:
    truth = expected(pattern, labels)
    labelled = find_labels(packed(tmp_path / kind, images([*truth]) | NOISE))
    assert found_in(labelled) == truth
    assert (labelled.rule, labelled.task, labelled.rejects) == (rule, "text", ())
    assert labelled.skipped == {"hidden": 5, "not_an_image_name": 1, "not_a_label_file": 1}
    assert labelled.symbols == "".join(sorted(set("".join(labels))))
    assert {entry.label: encoded for entry, encoded in labelled.read()} == dict.fromkeys(labels, b"an image")


def test_decomposed_names_are_composed(tmp_path: Path, packed: Pack) -> None:
    labels = texts(30, "äöüéñabc", (4, 4))
    names = [normalize("NFD", f"{label}.png") for label in labels]
    labelled = find_labels(packed(tmp_path / "set.zip", images(names)))
    assert {entry.label for entry in labelled.entries} == set(labels)
    assert labelled.lengths == {4: 30}
    table = "\n".join(f"{label}.png,{label}" for label in labels)
    labelled = find_labels(packed(tmp_path / "with.zip", images(names) | {"labels.csv": table.encode()}))
    assert (labelled.rule, len(labelled.entries)) == ("labels.csv", 30)


def test_a_few_copies_do_not_change_the_rule_of_the_others(tmp_path: Path, packed: Pack) -> None:
    names = [f"{label}.png" for label in LABELS] + [f"{LABELS[0]}_1.png", f"{LABELS[1]} (2).png"]
    labelled = find_labels(packed(tmp_path / "set", images(names)))
    assert {entry.label for entry in labelled.entries} == set(LABELS)
    # A word that a third of the names has after the label.
    names = [f"{label}_images.png" for label in DIGITS[:10]] + [f"{label}.png" for label in DIGITS[10:]]
    labelled = find_labels(packed(tmp_path / "words", images(names)))
    assert sorted(entry.label for entry in labelled.entries) == sorted(DIGITS)


CLASSES = ["Bus", "Car", "Traffic Light"]
TILES = {
    "counted": [f"tiles/{name}/{i}.png" for name in CLASSES for i in range(10)],
    "named": [f"{name}/{name[:3]} ({i}).png" for name in CLASSES for i in range(10)],
    "hashed": [f"{name}/{random.Random(name + str(i)).randbytes(16).hex()}.jpg" for name in CLASSES for i in range(10)],
    "split": [f"{part}/{name}/{i:05}.jpg" for part in ("train", "test") for name in CLASSES for i in range(10)],
    "digits": [f"{name}/{i:04}.png" for name in "0123456789" for i in range(7)],
    # Images that are counted in each folder; their numbers are no classes.
    "digits counted": [f"{name}/{i}.png" for name in "0123456789" for i in range(25)],
}


@pytest.mark.parametrize("layout", TILES)
def test_tiles_by_class(tmp_path: Path, packed: Pack, layout: str) -> None:
    labelled = find_labels(packed(tmp_path / "set.zip", images(TILES[layout]) | {"LICENSE": b""}))
    assert (labelled.rule, labelled.task) == ("folder", "tiles")
    assert found_in(labelled) == {path: path.split("/")[-2] for path in TILES[layout]}


def test_columns_of_classes(tmp_path: Path, packed: Pack) -> None:
    splits = {"train": range(30), "test": range(30, 40)}
    class_of = {f"{split}/{i:03}.jpg": CLASSES[i % 3] for split, numbers in splits.items() for i in numbers}
    files = images([*class_of])
    for split in splits:
        rows = [(path.split("/")[1], name) for path, name in class_of.items() if path.startswith(split)]
        marks = {path: ", ".join("01"[name == other] for other in CLASSES) for path, name in rows}
        files[f"{split}/_classes.csv"] = csv(marks, f"filename, {', '.join(CLASSES)}\n", "{}, {}\n")
    labelled = find_labels(packed(tmp_path / "set.zip", files))
    assert (labelled.rule, labelled.task, found_in(labelled)) == ("file", "tiles", class_of)
    # An image of two classes.
    files["test/_classes.csv"] += b"030.jpg, 0, 1, 0\n"
    labelled = find_labels(packed(tmp_path / "two.zip", files))
    assert labelled.rejected == {Reason.TWO_LABELS: 1}


def test_classes_in_names(tmp_path: Path, packed: Pack) -> None:
    truth = {f"{i % 10}_{i:03}.png": str(i % 10) for i in range(60)}
    labelled = find_labels(packed(tmp_path / "digits", images([*truth])))
    assert (labelled.rule, labelled.task, found_in(labelled)) == ("before-first-underscore", "tiles", truth)
    truth = {f"{name}.{i}.jpg": name for name in ("cat", "dog") for i in range(20)}
    labelled = find_labels(packed(tmp_path / "animals", images([*truth])))
    assert (labelled.rule, labelled.task, found_in(labelled)) == ("before-first-dot", "tiles", truth)


def test_one_text_per_folder(tmp_path: Path, packed: Pack) -> None:
    truth = {f"set/{label}/{i}.png": label for label in LABELS for i in range(5)}
    labelled = find_labels(packed(tmp_path / "set.zip", images([*truth])))
    assert (labelled.rule, labelled.task, found_in(labelled)) == ("folder", "text", truth)


def csv(rows: dict[str, str], header: str = "filename,label\n", row: str = "{},{}\n") -> bytes:
    return (header + "".join(row.format(*pair) for pair in rows.items())).encode()


BARE = {path.removeprefix("train/"): label for path, label in TRUTH.items()}
OBJECTS = [{"image": path, "text": label, "size": [100, 32]} for path, label in TRUTH.items()]
LINES = "".join(f"{TRUTH[path]}\n" for path in sorted(TRUTH)).encode()
FILES = {
    "labels.csv": csv(TRUTH),
    "train/labels.csv": csv(BARE),
    "annotations/labels.csv": csv(BARE),
    "metadata.csv": csv(TRUTH, "file_name,text\n"),
    "train/metadata.csv": csv(BARE, "width,file_name,text\n", "100,{},{}\n"),
    "no_header.csv": csv(TRUTH, ""),
    "quoted.csv": csv(TRUTH, "image;label\r\n", '"{}"; "{}"\r\n'),
    "bom.csv": b"\xef\xbb\xbf" + csv(TRUTH),
    "utf16.csv": csv(TRUTH).decode().encode("utf-16"),
    "without_suffix.csv": csv({path[:-4]: label for path, label in TRUTH.items()}),
    "other_suffix.csv": csv({f"{path[:-4]}.JPG": label for path, label in TRUTH.items()}),
    "absolute.csv": csv({f"C:\\data\\{path.replace('/', chr(92))}": label for path, label in TRUTH.items()}),
    "dotted.tsv": csv({f"./{path}": label for path, label in TRUTH.items()}, "path\tcaptcha\n", "{}\t{}\n"),
    "rec_gt_train.txt": csv(TRUTH, "", "{}\t{}\r\n"),
    "train/rec_gt.txt": csv(BARE, "", "{}\t{}\n"),
    "gt.txt": csv(TRUTH, "", '{}, "{}"\n'),
    "prefixed.txt": csv({f"train_data/rec/{path}": label for path, label in TRUTH.items()}, "", "{}\t{}\n"),
    "list.json": json.dumps(OBJECTS).encode(),
    "mapping.json": json.dumps(TRUTH).encode(),
    "nested.json": json.dumps({path: {"label": label} for path, label in TRUTH.items()}).encode(),
    "pairs.json": json.dumps([*TRUTH.items()]).encode(),
    "metadata.jsonl": "".join(json.dumps({"file_name": p, "text": t}) + "\r\n" for p, t in TRUTH.items()).encode(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", FILES)
def test_label_files(tmp_path: Path, packed: Pack, kind: str, file: str) -> None:
    labelled = find_labels(packed(tmp_path / kind, images(NUMBERED) | {file: FILES[file]} | NOISE))
    assert found_in(labelled) == TRUTH
    assert (labelled.rule, labelled.task, labelled.rejects) == (file, "text", ())
    assert labelled.skipped == {"hidden": 5, "not_an_image_name": 1, "not_a_label_file": 1}
    assert found_in(find_labels(tmp_path / kind, file)) == found_in(find_labels(tmp_path / kind, "file")) == TRUTH


def test_files_of_other_kinds_are_no_label_files(tmp_path: Path, packed: Pack) -> None:
    others = {
        "info.json": b'{"name": "captchas", "images": 30, "licenses": ["MIT"]}',
        "classes.json": b'[{"id": 0, "name": "Bus"}, {"id": 1, "name": "Car"}]',
        "empty.json": b"[]",
        "number.json": b"30",
        "classes.csv": b"id,class\n0,Bus\n1,Car\n",
        "empty.csv": b"\n",
        "requirements.txt": b"pillow==11\nnumpy==2\n",
        "licence.txt": b"one, two\nthree, four, five\n",
        "latin1.txt": "François".encode("latin-1"),
    }
    labelled = find_labels(
        packed(tmp_path / "set.zip", images(NUMBERED) | {"labels.csv": FILES["labels.csv"]} | others)
    )
    assert found_in(labelled) == TRUTH
    assert labelled.skipped == {"not_a_label_file": len(others)}


def test_a_label_file_in_each_split(tmp_path: Path, packed: Pack) -> None:
    # The splits have images of the same names, and the second lacks one.
    names = [f"{i:03}.png" for i in range(30)]
    splits = {"train": dict(zip(names, LABELS, strict=True)), "test": dict(zip(names, DIGITS, strict=True))}
    files = images([f"{split}/{name}" for split in splits for name in names if (split, name) != ("test", "007.png")])
    tables = {f"{split}/metadata.csv": csv(rows, "file_name,text\n") for split, rows in splits.items()}
    labelled = find_labels(packed(tmp_path / "set", files | tables))
    assert labelled.rule == "file"
    assert found_in(labelled)["train/007.png"] == LABELS[7]
    assert found_in(labelled)["test/008.png"] == DIGITS[8]
    assert [(reject.path, reject.reason) for reject in labelled.rejects] == [("007.png", Reason.LABEL_WITHOUT_IMAGE)]
    # The same from one file at the root.
    table = csv({f"{split}/{name}": label for split, rows in splits.items() for name, label in rows.items()})
    whole = find_labels(packed(tmp_path / "one", files | {"labels.csv": table}))
    assert found_in(whole) == found_in(labelled)
    assert whole.rejected == labelled.rejected


def test_one_label_per_line(tmp_path: Path, packed: Pack) -> None:
    padded = [f"train/{i:03}.png" for i in range(30)]
    lines = "".join(f"{label}\r\n" for label in LABELS).encode()
    labelled = find_labels(packed(tmp_path / "padded", images(padded) | {"labels.txt": lines}))
    assert (labelled.rule, found_in(labelled)) == ("lines", dict(zip(padded, LABELS, strict=True)))
    # 0, 1, 10, 11 ... or 0, 1, 2: only the user knows.
    path = packed(tmp_path / "plain", images(NUMBERED) | {"labels.txt": LINES})
    message = refusal(path)
    assert f"'train/img_10.png' is '{TRUTH['train/img_10.png']}' by lines and" in message
    assert "decide with --labels lines or --labels lines-natural" in message
    assert found_in(find_labels(path, "lines")) == TRUTH
    assert found_in(find_labels(path, "lines-natural")) == dict(zip(NUMBERED, LINES.decode().split(), strict=True))


@pytest.mark.parametrize(("folder", "suffix"), [("train", ".txt"), ("train", ".gt.txt"), ("labels", ".TXT")])
def test_a_text_file_per_image(tmp_path: Path, packed: Pack, folder: str, suffix: str) -> None:
    texts = {f"{folder}/img_{i}{suffix}": f"{label}\r\n".encode() for i, label in enumerate(LABELS)}
    files = images([*NUMBERED, "train/new.png"]) | texts | NOISE
    labelled = find_labels(packed(tmp_path / "set.zip", files))
    assert (labelled.rule, found_in(labelled)) == ("text-files", TRUTH)
    assert labelled.rejected == {Reason.IMAGE_WITHOUT_LABEL: 1}
    assert found_in(find_labels(tmp_path / "set.zip", "text-files")) == TRUTH
    # Boxes of objects are no labels.
    boxes = dict.fromkeys(texts, b"0 0.5 0.5 0.1 0.1\n0 0.7 0.5 0.1 0.1\n")
    message = refusal(packed(tmp_path / "boxes.zip", images(NUMBERED) | boxes))
    assert "(and 29 more): not understood as a label file" in message


def test_what_is_not_used_is_listed(tmp_path: Path, packed: Pack) -> None:
    table = csv(TRUTH | {"train/img_30.png": "abcde", "train/img_3.png": ""})
    table += f"train/img_4.png,other\ntrain/img_5.png,{TRUTH['train/img_5.png']}\n".encode()
    files = images([*NUMBERED, "train/new.png"]) | {"labels.csv": table}
    labelled = find_labels(packed(tmp_path / "set.tar.gz", files))
    assert {(reject.path, reject.reason) for reject in labelled.rejects} == {
        ("train/img_30.png", Reason.LABEL_WITHOUT_IMAGE),
        ("train/img_3.png", Reason.EMPTY_LABEL),
        ("train/img_4.png", Reason.TWO_LABELS),
        ("train/new.png", Reason.IMAGE_WITHOUT_LABEL),
    }
    assert labelled.rejected == dict.fromkeys(
        [Reason.LABEL_WITHOUT_IMAGE, Reason.EMPTY_LABEL, Reason.TWO_LABELS, Reason.IMAGE_WITHOUT_LABEL], 1
    )
    left = {path: label for path, label in TRUTH.items() if path not in ("train/img_3.png", "train/img_4.png")}
    assert found_in(labelled) == left
    # The name of two images belongs to neither.
    twice = images(["a/img_0.png", "b/img_0.png", *NUMBERED[1:]]) | {"labels.csv": csv(BARE)}
    labelled = find_labels(packed(tmp_path / "twice", twice))
    assert labelled.rejected == {Reason.SEVERAL_IMAGES: 1, Reason.IMAGE_WITHOUT_LABEL: 2}


def test_two_rules_that_fit_equally_are_named(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "set", images([f"{a}_{b}.png" for a, b in zip(LABELS, reversed(LABELS), strict=True)]))
    message = refusal(path)
    assert "two rules fit equally" in message
    first = min(zip(LABELS, reversed(LABELS), strict=True))
    assert (
        "'{0}_{1}.png' is '{0}' by before-first-underscore and '{1}' by after-last-underscore".format(*first) in message
    )
    assert "decide with --labels before-first-underscore or --labels after-last-underscore" in message
    assert {entry.label for entry in find_labels(path, "after-last-underscore").entries} == set(LABELS)


@pytest.mark.parametrize("labels", [LABELS, texts(30, lengths=(4, 8))])
def test_texts_in_folders_that_can_be_classes_are_named(tmp_path: Path, packed: Pack, labels: list[str]) -> None:
    names = [f"{'abc'[i % 3]}/{label}.png" for i, label in enumerate(labels)]
    message = refusal(packed(tmp_path / "set", images(names)))
    assert "by stem" in message
    assert "by folder" in message
    # Folders that number parts of the set, or name them, are no classes.
    for folders in (("set1", "set2", "set3"), ("1", "2", "3"), ("train", "test", "val")):
        names = [f"{folders[i % 3]}/{label}.png" for i, label in enumerate(labels)]
        assert find_labels(packed(tmp_path / folders[0], images(names))).rule == "stem"


def test_two_columns_that_fit_equally_are_named(tmp_path: Path, packed: Pack) -> None:
    rows = {path: f"{label},{label[::-1]},32" for path, label in TRUTH.items()}
    path = packed(tmp_path / "set", images(NUMBERED) | {"a.csv": csv(rows, "image,first one,second,height\n")})
    assert "decide with --labels 'a.csv:first one' or --labels a.csv:second" in refusal(path)
    assert found_in(find_labels(path, "a.csv:first one")) == found_in(find_labels(path, "file:first one")) == TRUTH
    assert find_labels(path, "a.csv:height").symbols == "23"
    assert "a.csv:third: no such labels" in refusal(path, "a.csv:third")


def test_label_files_that_contradict_each_other_are_named(tmp_path: Path, packed: Pack) -> None:
    other = dict(zip(NUMBERED, DIGITS, strict=True))
    path = packed(tmp_path / "set", images(NUMBERED) | {"a.csv": csv(TRUTH), "b.csv": csv(other)})
    assert "decide with --labels a.csv or --labels b.csv" in refusal(path)
    assert found_in(find_labels(path, "b.csv")) == other


REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "spaces for tabs": ({"gt.txt": csv(TRUTH, "", "{} {}\n")}, "gt.txt: has spaces where tabs belong"),
    "spaces in a tsv": ({"gt.tsv": csv(TRUTH, "", "{}    {}\n")}, "gt.tsv: has spaces where tabs belong"),
    "names of others": (
        {"labels.csv": csv({f"x/{label}.png": label for label in LABELS})},
        "labels.csv: none of its names is an image here",
    ),
    "a line too few": ({"labels.txt": b"\n".join(LINES.split()[1:])}, "labels.txt has 29 lines for 30 images"),
    "another encoding": ({"labels.csv": csv(TRUTH) + b"\xff\xfe\x80"}, "labels.csv: is not UTF-8"),
    "broken json": ({"labels.json": json.dumps(TRUTH).encode()[:-9]}, "labels.json: is no JSON"),
    "broken jsonl": ({"a.jsonl": b'{"file_name": "a"\n'}, "a.jsonl: is no JSONL"),
    "deep json": ({"a.json": b"[" * 100_000}, "a.json: is no JSON"),
    "dates": ({f"2026-05-03 at {i % 7}_{i % 5}_{i % 3}.png": b"x" for i in range(90)}, "stem: most hold separators"),
    "counters alone": ({}, "stem: they count the images"),
    "other files": (
        {"a.coco.json": b'{"images": []}', "b.json": b"[]"},
        "a.coco.json (and 1 more): not understood as a label file",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_mistakes_are_one_line(tmp_path: Path, packed: Pack, mistake: str) -> None:
    files, reason = REFUSED[mistake]
    pictures = {} if mistake == "dates" else images(NUMBERED)
    message = refusal(packed(tmp_path / "set.zip", pictures | files))
    assert reason in message
    assert "; " in message  # what is wrong; what to do


def test_sets_without_images_are_one_line(tmp_path: Path, packed: Pack) -> None:
    assert "holds no images" in refusal(packed(tmp_path / "a.zip", {"labels.csv": csv(TRUTH)}))
    inner = packed(tmp_path / "b.zip", {"data/captchas.zip": b"PK", "README.md": b""})
    assert "holds no images but 'data/captchas.zip'; take that out" in refusal(inner)
    assert "no such file" in refusal(tmp_path / "none")
    (tmp_path / "a.rar").write_bytes(b"x")
    assert "is no set of images; give a folder" in refusal(tmp_path / "a.rar")
    path = packed(tmp_path / "set", images(NUMBERED))
    assert "did you mean 'stem'" in refusal_of_rule(path, "stm")
    assert "folder finds no label" in refusal(packed(tmp_path / "flat", images(["a.png"])), "folder")


def refusal_of_rule(path: Path, rule: str) -> str:
    with pytest.raises(InputError) as caught:
        find_labels(path, rule)
    return str(caught.value)


def test_names_in_another_encoding_give_no_labels(tmp_path: Path, packed: Pack) -> None:
    path = packed(tmp_path / "set", images([f"{label}.png" for label in LABELS]))
    Path(os.fsdecode(os.fsencode(path) + b"/h\xfcgel.png")).write_bytes(b"an image")
    message = refusal(path)
    assert "names are not UTF-8, so labels cannot be read from them: h\\xfcgel.png" in message
    assert "convmv" in message
    # A label file can do without them.
    (path / "labels.csv").write_bytes(csv({f"{label}.png": label for label in LABELS}))
    assert find_labels(path).rejected == {Reason.IMAGE_WITHOUT_LABEL: 1}


def write_parquet(path: Path, table: pa.Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=7)
    return path


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    structs = [{"bytes": label.encode(), "path": f"{i}.png"} for i, label in enumerate(LABELS)]
    table = pa.table({"image": structs, "text": LABELS, "height": [32] * 30})
    labelled = find_labels(write_parquet(tmp_path / "a.parquet", table))
    assert (labelled.rule, labelled.lengths) == ("file", {5: 30})
    assert [(entry.label, encoded) for entry, encoded in labelled.read()] == [(t, t.encode()) for t in LABELS]
    # A folder of parts, without paths, and with an image that has no label.
    for part in range(2):
        rows = pa.table({"image": [label.encode() for label in LABELS], "label": [*LABELS[:29], None]})
        write_parquet(tmp_path / f"data/train-{part}.parquet", rows)
    labelled = find_labels(tmp_path / "data")
    assert labelled.rejected == {Reason.EMPTY_LABEL: 2}
    assert [encoded.decode() for _, encoded in labelled.read()] == [*LABELS[:29], *LABELS[:29]]


def test_parquet_of_classes(tmp_path: Path) -> None:
    feature = {"label": {"_type": "ClassLabel", "names": CLASSES}, "image": {"_type": "Image"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}
    table = pa.table({"image": [b"x"] * 30, "label": [i % 3 for i in range(30)]}).replace_schema_metadata(metadata)
    labelled = find_labels(write_parquet(tmp_path / "a.parquet", table))
    assert (labelled.task, labelled.classes) == ("tiles", tuple(CLASSES))


def test_parquet_with_labels_in_paths(tmp_path: Path) -> None:
    structs = [{"bytes": b"x", "path": f"{label}.png"} for label in LABELS]
    labelled = find_labels(write_parquet(tmp_path / "a.parquet", pa.table({"image": structs})))
    assert (labelled.rule, [entry.label for entry in labelled.entries]) == ("stem", LABELS)


def test_parquet_mistakes_are_one_line(tmp_path: Path, packed: Pack) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    assert "is no Parquet file" in refusal(tmp_path / "a.parquet")
    assert "no column holds the bytes" in refusal(write_parquet(tmp_path / "b.parquet", pa.table({"text": LABELS})))
    two = pa.table({"a": [b"x"], "b": [b"x"]})
    assert "name one of them `image`" in refusal(write_parquet(tmp_path / "c.parquet", two))
    assert "unpack it" in refusal(packed(tmp_path / "d.zip", {"a.parquet": b""}))
    absent = pa.table(
        {"image": [{"bytes": None, "path": f"{t}.png"} for t in LABELS]},
        pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]),
    )
    with pytest.raises(InputError, match="has a path but no bytes"):
        list(find_labels(write_parquet(tmp_path / "e.parquet", absent)).read())


def test_what_a_user_is_shown(tmp_path: Path, packed: Pack) -> None:
    labels = texts(30, "abcABC", (4, 5))
    labelled = find_labels(packed(tmp_path / "set", images([f"{label}.png" for label in labels])))
    assert labelled.case_occurs
    assert not find_labels(packed(tmp_path / "lower", images([f"{label}.png" for label in LABELS]))).case_occurs
    assert len(labelled.examples) == 5
    assert len(find_labels(packed(tmp_path / "one", images(["a.png"]))).examples) == 1
    assert sum(labelled.lengths.values()) == 30
    assert set(labelled.lengths) == {4, 5}
