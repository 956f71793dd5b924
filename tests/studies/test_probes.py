"""Files of probes, and the tables of transfer, robustness and cost that are computed from them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captchabench.cells.cell import Cell
from captchabench.errors import InputError
from captchabench.predictions.probes import Probe, ProbeInfo, read_probes, write_probes
from captchabench.samples.shards import Samples, ShardInfo, unsealed_metadata
from captchabench.scoring.cells import ScoredCell, score_predictions
from captchabench.scoring.intervals import wilson
from captchabench.scoring.leaderboard import Timing
from captchabench.storage.checksum import seal
from captchabench.studies.cost import counted_cost, measured_cost, read_latency
from captchabench.studies.robustness import robustness
from captchabench.studies.transfer import transfer

Predict = Callable[..., Path]
Probes = tuple[ProbeInfo, pa.Table]


def info(dataset: str = "numbers6", model: str = "crnn", fold: int = 0, flops: int | None = 7) -> ProbeInfo:
    return ProbeInfo(dataset, "standin", model, fold, 1000 + fold, flops, 2000 + fold)


def probe(name: str, pairs: list[tuple[str, str]], strength: int = 0, datasets: list[str] | None = None) -> Probe:
    """(label, reading) pairs under one probe."""
    n = len(pairs)
    samples = Samples(
        ShardInfo("numbers6", "standin", 1, 2, 2, "0123456789", 1, 6),
        np.array([f"{i:04d}" for i in range(n)], object),
        np.array([label for label, _ in pairs], object),
        np.zeros(n, np.int8),
        np.array(datasets or ["numbers6"] * n, object),
        np.zeros((n, 2, 2), np.uint8),
    )
    return Probe(name, strength, samples, [read for _, read in pairs])


@pytest.fixture
def probed(tmp_path: Path) -> Callable[..., Probes]:
    """Write probes and read them again."""

    def write(described: ProbeInfo, *probes: Probe) -> Probes:
        path = tmp_path / "probes" / f"{described.dataset}-{described.model}-{described.fold}.parquet"
        write_probes(path, described, probes)
        return read_probes(path)

    return write


def right(count: int, of: int) -> list[tuple[str, str]]:
    return [("1", "1")] * count + [("1", "2")] * (of - count)


def test_what_is_written_is_read(probed: Callable[..., Probes], tmp_path: Path) -> None:
    description, table = probed(info(flops=None), probe("noise", right(1, 2), 3), probe("transfer", [("Ab", "b")]))
    assert description == info(flops=None)
    assert table.to_pylist() == [
        {"probe": name, "strength": s, "dataset": "numbers6", "sample_id": i, "label": a, "prediction": b}
        for name, s, i, a, b in (
            ("noise", 3, "0000", "1", "1"),
            ("noise", 3, "0001", "1", "2"),
            ("transfer", 0, "0000", "Ab", "b"),
        )
    ]
    path = tmp_path / "probes/numbers6-crnn-0.parquet"
    before = path.read_bytes()
    probed(info(flops=None), probe("noise", right(1, 2), 3), probe("transfer", [("Ab", "b")]))
    assert path.read_bytes() == before


def test_a_missing_damaged_or_foreign_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "union-crnn-0.parquet"
    with pytest.raises(InputError, match=r"cannot be read .*; run `dvc repro probe`"):
        read_probes(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"is damaged \(it holds no checksum\); run `dvc repro -f -s probe`"):
        read_probes(path)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(unsealed_metadata("{}")), path)
    seal(path)
    with pytest.raises(InputError, match="is not one of our probes"):
        read_probes(path)


def test_a_flipped_bit_anywhere_is_found(probed: Callable[..., Probes], tmp_path: Path) -> None:
    probed(info(flops=None), probe("noise", right(1, 2), 3))
    path = tmp_path / "probes/numbers6-crnn-0.parquet"
    sound = path.read_bytes()
    for offset in range(0, len(sound), len(sound) // 50):
        path.write_bytes(sound[:offset] + bytes([sound[offset] ^ 1 << offset % 8]) + sound[offset + 1 :])
        with pytest.raises(InputError, match=r"numbers6-crnn-0\.parquet: is damaged .*run `dvc repro -f -s probe`"):
            read_probes(path)


def test_robustness_pools_folds_and_compares_with_the_same_images_unchanged(probed: Callable[..., Probes]) -> None:
    folds = [
        probed(info(fold=0), probe("clean", right(3, 4)), probe("blur", right(1, 4), 1), probe("blur", right(0, 4), 2)),
        probed(info(fold=1), probe("clean", right(2, 4)), probe("blur", right(2, 4), 1), probe("blur", right(1, 4), 2)),
    ]
    rows = robustness(folds).select("corruption", "strength", "n", "exact", "relative_drop").rows()
    assert rows == [
        ("blur", 1, 8, 3 / 8, pytest.approx(1 - 3 / 5)),
        ("blur", 2, 8, 1 / 8, pytest.approx(1 - 1 / 5)),
        ("clean", 0, 8, 5 / 8, 0.0),
        ("mean", None, 8, pytest.approx(2 / 8), pytest.approx((2 / 5 + 4 / 5) / 2)),
    ]


def test_a_model_that_reads_nothing_has_no_relative_drop(probed: Callable[..., Probes]) -> None:
    table = robustness([probed(info(), probe("clean", right(0, 2)), probe("jpeg", right(1, 2), 1))])
    assert table["relative_drop"].to_list() == [None, None, None]
    assert table["exact"].to_list() == [0, 0.5, 0.5]


def test_a_union_is_shown_whole_and_by_member(probed: Callable[..., Probes]) -> None:
    members = ["fournierp", "numbers6"]
    clean = probe("clean", [("1", "1"), ("2", "2")], 0, members)
    lines = probe("lines", [("1", "1"), ("2", "7")], 1, members)
    table = robustness([probed(info("union"), clean, lines)])
    drops = {(d, c): drop for d, c, drop in table.select("dataset", "corruption", "relative_drop").rows()}
    assert {key[0] for key in drops} == {"union", "union/fournierp", "union/numbers6"}
    assert (drops["union", "lines"], drops["union/fournierp", "lines"], drops["union/numbers6", "lines"]) == (0.5, 0, 1)


def scored(predict: Predict, pairs: list[tuple[str, str]], **more: object) -> ScoredCell:
    return score_predictions(predict(pairs, **more))


def test_transfer_has_the_diagonal_from_the_cells_and_the_rest_from_the_probes(
    probed: Callable[..., Probes], predict: Predict
) -> None:
    cells = [scored(predict, [("12", "12"), ("34", "3")], fold=fold) for fold in (0, 1)]
    elsewhere = probe("transfer", [("Ab", "ab"), ("cd", "cd"), ("ef", "gh")], 0, ["vtu"] * 3)
    both = [probed(info(fold=fold), probe("clean", right(1, 1)), elsewhere) for fold in (0, 1)]
    table = transfer(both, cells)
    assert table.select("trained_on", "model", "read", "source", "n", "exact", "exact_folded", "cer").rows() == [
        ("numbers6", "crnn", "numbers6", "standin", 4, 0.5, 0.5, 0.25),
        ("numbers6", "crnn", "vtu", "standin", 6, pytest.approx(1 / 3), pytest.approx(2 / 3), 0.5),
    ]
    assert table.select("exact_lo", "exact_hi").rows()[1] == wilson(2, 6)


def test_a_union_is_read_on_each_member(probed: Callable[..., Probes], predict: Predict) -> None:
    cell = scored(predict, [("12", "12"), ("34", "3")], dataset="union", members=["fournierp", "vtu"])
    table = transfer([probed(info("union"), probe("clean", right(1, 1)))], [cell])
    assert table.select("trained_on", "read", "exact").rows() == [("union", "fournierp", 1.0), ("union", "vtu", 0.0)]


def test_counted_cost_is_that_of_the_largest_fold() -> None:
    table = counted_cost([info(fold=0), info(fold=1), info("vtu", "hog_svc", flops=None)])
    assert table.rows() == [("numbers6", "crnn", 1001, 7, 2001), ("vtu", "hog_svc", 1000, None, 2000)]


def test_measured_cost_pools_folds(tmp_path: Path) -> None:
    for fold, torch in ((0, ', "torch": "2.6"'), (1, ', "torch": "2.6"'), (2, "")):
        text = f'{{"latency_ms": {fold + 1}, "device": "cpu", "threads": 2{torch}}}'
        (tmp_path / f"vtu-crnn-{fold}.json").write_text(text)
    cells = [Cell("vtu", "crnn", fold) for fold in range(3)]
    timings = {cell: Timing(10.0 + cell.fold, 100, 0.5, "cpu", 2) for cell in cells}
    table = measured_cost(timings, {cell: read_latency(tmp_path, cell) for cell in cells})
    assert table.rows() == [("vtu", "crnn", 11.0, 200.0, 2.0, "cpu", 2, "2.6")]


def test_a_missing_or_damaged_latency_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vtu-crnn-0\.json: cannot be read .*run `dvc repro latency`"):
        read_latency(tmp_path, Cell("vtu", "crnn", 0))
    (tmp_path / "vtu-crnn-0.json").write_text("{}")
    with pytest.raises(InputError, match=r"is not one of our latencies"):
        read_latency(tmp_path, Cell("vtu", "crnn", 0))
