"""ingest, normalize and audit as DVC runs them, in a folder of their own."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from captchabench.datasets.base import Dataset
from captchabench.errors import InputError
from captchabench.samples.shards import read_samples
from stages import audit, ingest, normalize
from tests.made_up import Pack, Picture, Rewrite

Write = Callable[..., None]


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: Dataset) -> Write:
    """Write a params.yaml for the made-up dataset into a fresh working folder."""
    monkeypatch.chdir(tmp_path)

    def write(images: int | str = "all", **data: object) -> None:
        content = {
            "data": {"source": "archive", "downloads": "downloads", **data},
            "normalize": {"max_rejected": 0.2},
            "folds": {"count": 2},
            "datasets": {"fake": {"images": images}},
            "matrix": {"datasets": ["fake"], "models": [], "union": [], "folds": [0]},
            "training": {},
        }
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    write()
    return write


def test_archive_to_audit(
    params: Write, packed: Pack, picture: Picture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = {f"in/{n:02d}/AB{n % 4}.png": picture(n) for n in range(20)}
    packed(tmp_path / "downloads/fake-captchas.zip", {**files, "in/toolong.png": picture(77), "LICENCE": b""})
    ingest.main("fake")
    normalize.main("fake")
    audit.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "fake: 21 of 21 images from archive, 1 files skipped (not_an_image_name)",
        "fake: 20 of 21 images kept, 1 wrong_length",
        "audit: 20 images, 0 of them in 0 groups of near-duplicates, none across folds",
    ]
    assert len(read_samples(Path("data/shards/fake"))) == 20
    with Path("data/rejects/fake.csv").open(encoding="utf-8") as file:
        assert [(r["path"], r["reason"]) for r in csv.DictReader(file)] == [("in/toolong.png", "wrong_length")]
    figures = json.loads(Path("metrics/data/fake.json").read_text(encoding="utf-8"))
    assert figures["skipped_files"] == {"not_an_image_name": 1}
    assert (figures["source"], figures["images_read"], figures["kept"]) == ("archive", 21, 20)
    assert json.loads(Path("metrics/data/audit.json").read_text(encoding="utf-8"))["datasets"]["fake"]["images"] == 20


def test_standins_to_shards_twice_are_the_same_bytes(params: Write, tmp_path: Path) -> None:
    params(images=30, source="standin")

    def outputs() -> dict[str, bytes]:
        ingest.main("fake")
        normalize.main("fake")
        return {str(p): p.read_bytes() for folder in ("data", "metrics") for p in sorted(Path(folder).rglob("*.*"))}

    assert outputs() == outputs()


def test_leakage_fails_and_leaves_the_figures(
    params: Write, packed: Pack, picture: Picture, rewrite: Rewrite, tmp_path: Path
) -> None:
    packed(
        tmp_path / "downloads/fake-captchas",
        {f"{n:02d}/AB{n % 4}.{kind}": picture(n, f".{kind}") for n in range(9) for kind in ("png", "jpg")},
    )
    ingest.main("fake")
    normalize.main("fake")
    audit.main()
    part = Path("data/shards/fake/part-00000.parquet")
    table = pq.read_table(part)
    row = table["name"].to_pylist().index("03/AB3.jpg")
    folds = table["fold"].to_pylist()
    folds[row] = 1 - folds[row]
    rewrite(part, table.set_column(2, table.schema.field("fold"), pa.array(folds, pa.int8())))
    with pytest.raises(
        InputError, match=r"1 groups .* fake:03/AB3\.\w+ \(fold \d\) ~ fake:03/AB3\.\w+ \(fold \d\); see"
    ):
        audit.main()
    figures = json.loads(Path("metrics/data/audit.json").read_text(encoding="utf-8"))
    assert figures["leakage"]["near_groups_across_folds"] == 1


def test_an_emptied_fold_fails_and_is_named(params: Write, packed: Pack, picture: Picture, rewrite: Rewrite) -> None:
    packed(Path("downloads/fake-captchas.zip"), {f"{n:02d}/AB{n % 4}.png": picture(n) for n in range(20)})
    ingest.main("fake")
    normalize.main("fake")
    part = Path("data/shards/fake/part-00000.parquet")
    table = pq.read_table(part)
    rewrite(part, table.filter(pc.equal(table["fold"], 0)))
    with pytest.raises(InputError, match=r"^folds without images: fake fold 1; see metrics/data/audit\.json, then run"):
        audit.main()
    figures = json.loads(Path("metrics/data/audit.json").read_text(encoding="utf-8"))
    assert figures["datasets"]["fake"]["folds"]["1"] == 0


def test_a_dataset_without_a_section_is_one_clear_line(params: Write) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: datasets\.vtu: missing"):
        ingest.main("vtu")
    with pytest.raises(InputError, match=r"no dataset called 'fak'; did you mean 'fake'\?"):
        ingest.main("fak")


def test_a_dataset_in_the_wrong_list_is_one_clear_line(params: Write, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["datasets"]["grid"] = {"images": 9}
    content["matrix"]["datasets"], content["matrix"]["tiles"] = ["grid"], {"datasets": ["fake"]}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"matrix\.datasets: 'grid' is a dataset of tiles; name it in matrix\.tiles\.datasets"
    ):
        ingest.main("grid")
    with pytest.raises(
        InputError, match=r"matrix\.tiles\.datasets: 'fake' is a dataset of texts; name it in matrix\.datasets"
    ):
        ingest.main("fake")


def test_normalize_without_ingest_says_what_to_run(params: Write) -> None:
    with pytest.raises(InputError, match=r"data/raw/fake\.parquet: is missing; run `dvc repro ingest@fake`"):
        normalize.main("fake")


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("captchabench.samples.shards", {"polars", "dvc", "prefect", "editdistance", "cv2", "scipy"}),
        ("stages.ingest", {"torch", "polars", "dvc", "prefect", "kagglehub"}),
        ("stages.normalize", {"torch", "polars", "dvc", "prefect"}),
        ("stages.audit", {"torch", "polars", "dvc", "prefect"}),
    ],
)
def test_imports_are_no_heavier_than_needed(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not unwanted & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [[], ["numbers6", "twice"]])
def test_a_wrong_number_of_arguments_is_one_line(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "stages.ingest", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
