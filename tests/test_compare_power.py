"""The simulation of the error rates of `captchabench compare`: its counts, and that it is reproducible."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare_power
from benchmarks.compare_power import Scenario


def test_equal_models_and_very_unequal_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_power, "SCENARIOS", (Scenario(100, 3.0, 0.0), Scenario(200, 3.0, 3.0)))
    texts = []
    for _ in range(2):
        compare_power.main(pairs=20, out=tmp_path / "found.json")
        texts.append((tmp_path / "found.json").read_text())
    assert texts[0] == texts[1]
    equal, unequal = json.loads(texts[0])["rows"]
    assert equal["exact_first"] == pytest.approx(equal["exact_second"], abs=0.03)
    assert max(equal["significant"].values()) <= 0.2
    assert unequal["exact_second"] > unequal["exact_first"] + 0.2
    assert set(unequal["significant"].values()) == {1.0}
    assert capsys.readouterr().out.rstrip().endswith("┘")


def test_shares_are_of_pairs_below_5_percent() -> None:
    tests = dict.fromkeys(compare_power.TESTS, 0.5) | {"verdict": 0.049}
    other = dict.fromkeys(compare_power.TESTS, 0.05)
    shared = {"exact_first": 0.5, "exact_second": 0.7}
    result = [{**shared, "differing": 4, **tests}, {**shared, "differing": 8, **other}]
    row = compare_power._row(Scenario(10, 1.0, 0.5), result)
    assert row["significant"] == {**dict.fromkeys(compare_power.TESTS, 0.0), "verdict": 0.5}
    assert (row["differing_least"], row["differing_median"]) == (4, 6)


def test_the_gain_is_the_second_models() -> None:
    rng = np.random.default_rng(0)
    pair = compare_power._simulate(Scenario(2000, 3.0, 1.0), rng)
    assert pair["exact_second"] > pair["exact_first"]
    assert pair["verdict"] < 0.001
