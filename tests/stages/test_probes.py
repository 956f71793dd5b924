"""probe, probes, suspects and ambiguity as DVC runs them, in a folder of their own."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.predictions.probes import read_probes
from captchabench.samples.shards import Samples, schema, write_shards
from captchabench.studies.corruptions import CORRUPTIONS, STRENGTHS
from stages import ambiguity, latency, predict, probe, probes, score, suspects

PARAMS = """
data: {source: standin}
normalize: {}
folds: {count: 5}
datasets: {fournierp: {images: 60}, vtu: {images: 60}}
matrix: {datasets: [fournierp, vtu], models: [dummy], union: [dummy], folds: [0]}
training: {}
probe: {images: 7}
models: {dummy: {}}
"""
CELLS = [("fournierp", "dummy", "0"), ("union", "dummy", "0"), ("vtu", "dummy", "0")]


def write(samples: Samples, name: str) -> Samples:
    """The samples as shards of a dataset called `name`."""
    info = replace(samples.info, dataset=name)
    columns = [
        samples.sample_ids,
        samples.labels,
        samples.folds,
        [image.tobytes() for image in samples.pixels],
        [f"{n}.png" for n in range(len(samples))],
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema(info), strict=True)]
    write_shards(Path("data/shards") / name, info, [pa.record_batch(arrays, schema=schema(info))], 100)
    return replace(samples, info=info)


@pytest.fixture
def project(tmp_path: Path, make_samples: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two datasets, the second with fewer symbols, and dummy models trained on each and on both."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    trained = {
        "fournierp": write(make_samples(60, alphabet="0123"), "fournierp"),
        "vtu": write(make_samples(60, alphabet="01", seed=1), "vtu"),
    }
    trained["union"] = trained["fournierp"]
    for name, samples in trained.items():
        model = build_recogniser("dummy", samples.info.spec, {})
        model.fit(samples, samples, seed=0)
        folder = Path("data/models") / f"{name}-dummy-0"
        folder.mkdir(parents=True)
        model.save(folder, samples.info, fold=0)
        timing = Path("data/timings") / f"{name}-dummy-0.train.json"
        timing.parent.mkdir(exist_ok=True)
        timing.write_text(json.dumps({"train_seconds": 1.5, "device": "cpu", "threads": 2}))
    return tmp_path


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_all() -> None:
    for cell in CELLS:
        predict.main(*cell)
    score.main()
    probe.main()
    latency.main()
    probes.main()
    suspects.main()
    ambiguity.main()


def test_a_model_reads_datasets_of_its_alphabet_and_its_own_images_corrupted(project: Path) -> None:
    probe.main()
    read = {}
    for dataset, *_ in CELLS:
        info, table = read_probes(Path(f"data/probes/{dataset}-dummy-0.parquet"))
        assert (info.dataset, info.flops, info.parameters) == (dataset, None, 2)
        assert info.bytes_on_disk == sum(p.stat().st_size for p in Path(f"data/models/{dataset}-dummy-0").iterdir())
        read[dataset] = Counter(zip(table["probe"].to_pylist(), table["dataset"].to_pylist(), strict=True))
    # vtu's symbols are a subset of fournierp's. A union was trained on all datasets, so nothing is left to transfer to.
    assert read["fournierp"]["transfer", "vtu"] == 12
    assert not [key for dataset in ("vtu", "union") for key in read[dataset] if key[0] == "transfer"]
    for name, strengths in {"clean": 1, **dict.fromkeys(CORRUPTIONS, len(STRENGTHS))}.items():
        assert read["vtu"][name, "vtu"] == 7 * strengths
        assert read["union"][name, "fournierp"] == read["union"][name, "vtu"] == 7 * strengths


def test_tables_agree_with_each_other_and_two_runs_with_each_other(project: Path) -> None:
    run_all()
    tables = sorted(Path("metrics").glob("*.csv"))
    assert [t.stem for t in tables] == ["ambiguity", "cost", "robustness", "suspects", "transfer"]
    before = {path: path.read_bytes() for path in [*tables, *sorted(Path("data/probes").iterdir())]}
    run_all()
    assert {path: path.read_bytes() for path in before} == before

    read = {(row["trained_on"], row["read"]): row for row in rows("metrics/transfer.csv")}
    assert list(read) == [
        ("fournierp", "fournierp"),
        ("fournierp", "vtu"),
        ("union", "fournierp"),
        ("union", "vtu"),
        ("vtu", "vtu"),
    ]
    scored = json.loads(Path("metrics/cells/vtu-dummy-0.json").read_text())["parts"]["vtu"]
    assert int(read["vtu", "vtu"]["n"]) == scored["n"] == 12
    assert float(read["vtu", "vtu"]["exact"]) == pytest.approx(scored["exact"] / scored["n"], abs=1e-6)
    drops = rows("metrics/robustness.csv")
    # Each corruption at each strength, clean and mean, for two datasets, the union and its two members.
    assert len(drops) == (len(CORRUPTIONS) * len(STRENGTHS) + 2) * 5
    assert {row["n"] for row in drops if row["dataset"] == "union"} == {"14"}
    assert [row["dataset"] for row in rows("metrics/cost.csv")] == [cell[0] for cell in CELLS]
    speeds = rows("reports/cost.csv")
    assert [row["dataset"] for row in speeds] == [cell[0] for cell in CELLS]
    assert all(float(row["latency_ms"]) > 0 and row["device"] and row["train_seconds"] == "1.500000" for row in speeds)


def test_a_ceiling_is_known_where_the_fonts_are(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(PARAMS.replace("source: standin", "source: archive"))
    ambiguity.main()
    assert rows("metrics/ambiguity.csv") == []
    assert "known for no dataset of this source" in capsys.readouterr().out


def test_an_empty_fold_and_missing_probes_are_one_clear_line(project: Path) -> None:
    shutil.copytree("data/models/fournierp-dummy-0", "data/models/fournierp-dummy-9")
    assert "folds: [0]" in PARAMS
    Path("params.yaml").write_text(PARAMS.replace("count: 5", "count: 10").replace("folds: [0]", "folds: [9]"))
    with pytest.raises(InputError, match="fold 9 holds no images"):
        probe.main()
    assert not Path("data/probes").exists()
    Path("params.yaml").write_text(PARAMS)
    for cell in CELLS:
        predict.main(*cell)
    score.main()
    with pytest.raises(InputError, match="run `dvc repro probe`"):
        probes.main()
    Path("data/predictions/vtu-dummy-0.parquet").unlink()
    with pytest.raises(InputError, match="run `dvc repro predict@vtu-dummy-0`"):
        suspects.main()
    assert not list(Path("metrics").glob("*.csv"))
