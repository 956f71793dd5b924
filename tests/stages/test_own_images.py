"""ingest and normalize of images of the user's own, which params.yaml declares."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from captchabench.cli.app import app
from captchabench.datasets import stage_name
from captchabench.datasets.declared import declare
from captchabench.errors import InputError
from captchabench.labels.source import open_labelled
from captchabench.samples.shards import Samples, read_samples
from stages import ingest, normalize
from tests.made_up import Pack, Picture

LABELS = [f"{(7 * n) % 10}a{(3 * n) % 10}B" for n in range(40)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh working folder."""
    monkeypatch.chdir(tmp_path)


def declared(name: str = "mine", *, tiles: bool = False, rejected: float = 0.02, **section: Any) -> None:
    """Write a params.yaml with one dataset, beside which stand-ins are drawn."""
    content = {
        "data": {"source": "standin", "downloads": "downloads"},
        "normalize": {"max_rejected": rejected},
        "folds": {"count": 2},
        "datasets": {name: {"path": "downloads/mine.zip", **section}},
        "matrix": {
            "datasets": [] if tiles else [name],
            "models": [],
            "union": [],
            "tiles": {"datasets": [name] if tiles else [], "models": []},
            "folds": [0],
        },
        "training": {},
    }
    Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def ingested(name: str = "mine") -> tuple[Samples, dict[str, Any], Counter[str]]:
    """The samples, the figures and the rejects by reason, after both stages."""
    ingest.main(name)
    normalize.main(name)
    with Path(f"data/rejects/{name}.csv").open(encoding="utf-8") as file:
        rejects = Counter(row["reason"] for row in csv.DictReader(file))
    figures = json.loads(Path(f"metrics/data/{name}.json").read_text(encoding="utf-8"))
    return read_samples(Path(f"data/shards/{name}")), figures, rejects


def test_stems_need_no_more_than_a_path(packed: Pack, picture: Picture, capsys: pytest.CaptureFixture[str]) -> None:
    packed(Path("downloads/mine.zip"), {f"{label}.png": picture(n) for n, label in enumerate(dict.fromkeys(LABELS))})
    declared()
    samples, figures, rejects = ingested()
    assert sorted(samples.labels) == sorted(set(LABELS))
    assert (samples.info.alphabet, samples.info.min_length, samples.info.max_length) == ("0123456789Ba", 4, 4)
    assert (samples.info.source, figures["label_rule"], rejects) == ("archive", "stem", {})
    assert "images from downloads/mine.zip, labels by stem" in capsys.readouterr().out


def test_what_the_rule_leaves_out_is_a_reject(
    packed: Pack, picture: Picture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{n}.png,{label}" for n, label in enumerate(LABELS)]
    rows += ["0.png,other", "missing.png,1a2B", "41.png,"]
    files = {f"{n}.png": picture(n) for n in range(42)}
    packed(Path("downloads/mine.zip"), {**files, "labels.csv": "\n".join(["name,text", *rows]).encode()})
    declared(rejected=0.1)
    samples, figures, rejects = ingested()
    reasons = {"two_labels": 1, "label_without_image": 1, "image_without_label": 1, "empty_label": 1}
    assert rejects == figures["rejected"] == reasons
    # A row without an image is no image, and no share of them.
    assert (len(samples), figures["images_read"], figures["rejected_share"]) == (39, 42, round(3 / 42, 6))
    assert "39 of 42 images from" in capsys.readouterr().out
    declared(rejected=0.05)
    with pytest.raises(InputError, match=r"mine: 7\.1% of 42 images dropped .*1 two_labels"):
        normalize.main("mine")


def test_a_number_of_images_is_chosen_by_name(packed: Pack, picture: Picture) -> None:
    files = {f"{label}_{n}.png": picture(n) for n, label in enumerate(LABELS)}
    packed(Path("downloads/mine.zip"), {**files, **{f"_{n}.png": picture(50 + n) for n in range(40)}})
    declared(images=20, labels="before-first-underscore", rejected=0.9)
    samples, figures, rejects = ingested()
    assert len(samples) + rejects["empty_label"] == figures["images_read"] == 20
    assert 3 < len(samples) < 17
    assert figures["images_available"] == 80
    packed(Path("downloads/mine.zip"), {f"deep/{name}": content for name, content in sorted(files.items())})
    declared(images=20, labels="before-first-underscore")
    assert set(samples.sample_ids) <= set(ingested()[0].sample_ids)


def test_alphabet_lengths_and_case_can_be_declared(packed: Pack, picture: Picture) -> None:
    files = {f"{n}_{label}.png": picture(n) for n, label in enumerate([*LABELS, "1a2Bc", "1a2"])}
    packed(Path("downloads/mine.zip"), files)
    declared(labels="after-number", alphabet="0123456789aBé", case_folded=True, min_length=4, max_length=7)
    with pytest.raises(InputError, match=r"mine: 4\.8% of 42 images dropped"):
        ingested()
    declared(
        rejected=0.1, labels="after-number", alphabet="0123456789aBé", case_folded=True, min_length=4, max_length=7
    )
    samples, _, rejects = ingested()
    assert rejects == {"wrong_length": 1, "symbol_outside_alphabet": 1}
    assert (samples.info.alphabet, samples.info.min_length, samples.info.max_length) == ("0123456789abé", 4, 7)
    assert set(samples.labels) == {label.lower() for label in LABELS}


def test_class_folders_become_grids(packed: Pack, picture: Picture, capsys: pytest.CaptureFixture[str]) -> None:
    classes = ["bus", "Traffic_Light", "tree"]
    packed(Path("downloads/mine.zip"), {f"{classes[n % 3]}/{n}.png": picture(n) for n in range(60)})
    declared(tiles=True)
    samples, figures, _ = ingested()
    assert samples.info.class_names == ("bus", "traffic light", "tree")
    assert (figures["label_rule"], figures["kept"]) == ("folder", 60)
    assert (stage_name("ingest", "mine"), stage_name("train", "mine")) == ("ingest-tiles@mine", "train-tiles@mine")
    declared()
    with pytest.raises(
        InputError,
        match=r"matrix\.datasets: the labels of 'mine' look like classes of tiles .*; name it in matrix\.tiles",
    ):
        ingest.main("mine")
    declared(labels="folder")
    ingest.main("mine")


def test_texts_are_no_tiles(packed: Pack, picture: Picture) -> None:
    packed(Path("downloads/mine.zip"), {f"{label}.png": picture(n) for n, label in enumerate(LABELS)})
    declared(tiles=True)
    with pytest.raises(
        InputError, match=r"matrix\.tiles\.datasets: the labels of 'mine' look like texts .* name it in"
    ):
        ingest.main("mine")
    declared(tiles=True, alphabet="ab")
    with pytest.raises(InputError, match=r"datasets\.mine\.alphabet: is for texts, and matrix\.tiles\.datasets names"):
        ingest.main("mine")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"path": "elsewhere/mine.zip"}, r"datasets\.mine\.path: elsewhere/mine\.zip is not in data\.downloads"),
        (
            {"path": "downloads/../mine.zip"},
            r"datasets\.mine\.path: downloads/\.\./mine\.zip is not in data\.downloads",
        ),
        ({"path": "downloads/none.zip"}, r"^downloads/none\.zip: no such file or folder; check the path"),
        ({"path": ""}, r"datasets\.mine: is no known dataset; give its path if the images are your own; "),
        ({"path": "", "labels": "stem"}, r"datasets\.mine\.labels: is for images of your own; give their path, too"),
        ({"lables": "stem"}, r"datasets\.mine\.lables: no such parameter; did you mean 'labels'\?"),
        ({"labels": "stemm"}, r"^datasets\.mine\.labels: no rule is called 'stemm'; did you mean 'stem'\?"),
        ({"alphabet": "0120"}, r"datasets\.mine\.alphabet: an alphabet names each symbol once; twice here: 0"),
        ({"alphabet": 123}, r"datasets\.mine\.alphabet: must be text, is 123; put it in quotes"),
        ({"min_length": 6, "max_length": 4}, r"datasets\.mine\.min_length: is above max_length, which is 4; lower it"),
    ],
)
def test_a_wrong_declaration_is_one_clear_line(
    packed: Pack, picture: Picture, section: dict[str, Any], message: str
) -> None:
    packed(Path("downloads/mine.zip"), {f"{label}.png": picture(n) for n, label in enumerate(LABELS)})
    declared(**section)
    with pytest.raises(InputError, match=message):
        ingest.main("mine")


@pytest.mark.parametrize("name", ["vtu", "union"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    declared(name)
    with pytest.raises(InputError, match=rf"datasets\.{name}\.path: '{name}' is the name of another dataset; give"):
        ingest.main(name)


def test_a_name_with_a_hyphen_is_refused() -> None:
    declared("my-set")
    with pytest.raises(InputError, match=r"datasets\.my-set: a name takes up to 40 letters without accents, digits"):
        ingest.main("my-set")


def test_two_rules_that_fit_are_decided_in_params(packed: Pack, picture: Picture) -> None:
    packed(Path("downloads/mine.zip"), {f"{label}_{label[::-1]}.png": picture(n) for n, label in enumerate(LABELS)})
    declared()
    with pytest.raises(InputError, match=r"two rules fit equally: .*; decide with datasets\.mine\.labels: \w"):
        ingest.main("mine")


def test_a_declaration_needs_no_params(packed: Pack, picture: Picture) -> None:
    path = packed(Path("anywhere.zip"), {f"{label}.png": picture(n) for n, label in enumerate(dict.fromkeys(LABELS))})
    dataset = declare("mine", path, alphabet="aB0123456789")
    source = open_labelled(dataset, "all", 0)
    assert (source.rule, source.total, source.rejects) == ("stem", len(set(LABELS)), ())
    assert [entry.label for entry in source.entries()] == sorted(set(LABELS))
    with pytest.raises(InputError, match=r"images of your own have no stand-ins"):
        dataset.draw(None)  # type: ignore[arg-type]  # it fails before it draws


def test_declared_datasets_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    declared(labels="before-first-dot", max_length=6, licence="MIT")
    listed = CliRunner().invoke(app, ["datasets"])
    assert listed.exit_code == 0
    (row,) = [line for line in listed.output.splitlines() if "mine" in line]
    for part in ("downloads/mine.zip", "before-first-dot", "1 to 6", "MIT"):
        assert part in row
