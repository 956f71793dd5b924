"""Suspect labels: planted errors come first, and the list is complete, bounded and ordered."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from captchabench.predictions.held_out import SCHEMA, PredictionInfo
from captchabench.studies.label_errors import LISTED, suspects

DIGITS = np.array(list("0123456789"))
LENGTH = 6

Predictions = tuple[PredictionInfo, pa.Table]


def predictions(
    rows: list[tuple[str, str, float]],
    model: str = "crnn",
    dataset: str = "numbers6",
    losses: Sequence[float | None] | None = None,
) -> Predictions:
    """(label, reading, confidence) of images 0, 1, ... as one cell's predictions of numbers6."""
    n = len(rows)
    labels, readings, confidences = zip(*rows, strict=True)
    columns = [
        [f"{i:05d}" for i in range(n)],
        labels,
        readings,
        np.array(confidences, np.float32),
        [0] * n,
        [model] * n,
        ["numbers6"] * n,
        losses or [None] * n,
    ]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
    return PredictionInfo(dataset, "standin", 1, model, 0, "0123456789", 1), table


def names(n: int) -> dict[str, dict[str, str]]:
    return {"numbers6": {f"{i:05d}": f"{i}.png" for i in range(n)}}


def test_a_confident_contradiction_is_listed_with_all_columns() -> None:
    rows = [("11", "11", 0.9), ("22", "23", 0.95), ("44", "44", 0.8)]
    row = suspects([predictions(rows)], names(3)).row(0, named=True)
    assert row == {
        "dataset": "numbers6",
        "source": "standin",
        "sample_id": "00001",
        "name": "1.png",
        "label": "22",
        "reading": "23",
        # Without a loss the label gets the rest of the probability, 0.05.
        "rank": 1,
        "margin": pytest.approx(0.9),
        "agreeing": 1,
        "readers": 1,
        "models": "crnn",
    }


def test_a_ctc_loss_gives_the_probability_of_the_label() -> None:
    losses = [0.1, -float(np.log(0.01))]
    table = suspects([predictions([("11", "11", 0.9), ("22", "23", 0.95)], losses=losses)], names(2))
    assert table["margin"].to_list() == pytest.approx([0.94], abs=1e-6)


def test_models_are_weighted_by_their_exact_match() -> None:
    good = predictions([("1", "1", 1.0), ("2", "2", 1.0), ("3", "3", 1.0), ("4", "5", 0.9)], "good")
    poor = predictions([("1", "1", 1.0), ("2", "7", 1.0), ("3", "7", 1.0), ("4", "6", 1.0)], "poor")
    table = suspects([good, poor], names(4))
    # 0.75 and 0.25 of right readings: the labels 2 and 3 hold, and for 4 the better model's word counts.
    assert table.select("label", "reading", "models").rows() == [("4", "5", "good")]
    assert table["margin"][0] == pytest.approx(0.75 * 0.9 - 0.75 * 0.1, abs=1e-6)


def test_models_that_agree_are_all_named_and_a_union_says_so() -> None:
    rows = [("1", "1", 1.0), ("2", "3", 0.9)]
    table = suspects([predictions(rows, "crnn"), predictions(rows, "crnn", "union")], names(2))
    assert table["models"].to_list() == ["crnn union/crnn"]


def test_a_reader_that_is_never_right_accuses_nobody() -> None:
    assert suspects([predictions([("1", "2", 1.0), ("3", "4", 1.0)])], names(2)).height == 0


def test_an_image_that_is_hard_to_read_is_no_suspect() -> None:
    rows = [("11", "11", 0.9), ("22", "23", 0.6)]
    assert suspects([predictions(rows)], names(2)).height == 0


def test_models_that_outvote_the_label_need_less_margin() -> None:
    """Two models read 3 with a margin below 0.5, since a third reads the label."""

    def listed(third: str, second: str = "3") -> list[tuple[str, int, int]]:
        cells = [
            predictions([("1", "1", 1.0)] * 99 + [("2", text, share)], name)
            for name, text, share in (("a", "3", 0.9), ("b", second, 0.9), ("c", third, 0.6))
        ]
        return suspects(cells, names(100)).select("reading", "agreeing", "readers").rows()

    # The right model takes 0.6 from a margin of 0.8: (0.9 + 0.9 - 0.1 - 0.1 - 0.6) / 3 is a third.
    assert listed("2") == [("3", 2, 3)]
    # Two of three that differ do not agree on a text.
    assert listed("2", second="4") == []
    assert listed("3") == [("3", 3, 3)]


def test_the_list_is_bounded_and_ordered() -> None:
    rows = [("1", "1", 1.0)] * 10 + [("1", "2", 0.8 + i / 2000) for i in range(300)]
    table = suspects([predictions(rows)], names(310))
    assert table.height == LISTED
    assert table["margin"].is_sorted(descending=True)
    assert table["rank"].to_list() == list(range(1, table.height + 1))
    assert table["sample_id"][0] == "00309"


def posteriors(truth: NDArray[np.int64], distance: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Posteriors of an ideal reader that sees each symbol as a noisy point: [N, LENGTH, 10], calibrated by design."""
    seen = rng.standard_normal((*truth.shape, 10)) + distance * np.eye(10)[truth]
    odds = np.exp(distance * (seen - seen.max(axis=-1, keepdims=True)))
    probabilities: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
    return probabilities


def read(probabilities: NDArray[np.float64], labels: NDArray[np.int64], model: str, *, losses: bool) -> Predictions:
    texts = ["".join(row) for row in DIGITS[probabilities.argmax(axis=-1)]]
    given = ["".join(row) for row in DIGITS[labels]]
    confidences = probabilities.max(axis=-1).prod(axis=-1).tolist()
    likelihoods = np.take_along_axis(probabilities, labels[..., None], axis=-1)[..., 0].prod(axis=-1)
    nats = (-np.log(likelihoods)).tolist() if losses else None
    return predictions(list(zip(given, texts, confidences, strict=True)), model, losses=nats)


@pytest.mark.parametrize("losses", [True, False])
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("whole", [True, False], ids=["another text", "one symbol"])
def test_planted_errors_come_first(models: int, losses: bool, whole: bool) -> None:
    """100 labels of 10,000 are wrong; the readers are 97 % exact."""
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 10, (10_000, LENGTH))
    labels = truth.copy()
    wrong = rng.choice(len(truth), 100, replace=False)
    if whole:
        labels[wrong] = rng.integers(0, 10, (100, LENGTH))
    else:
        symbols = wrong, rng.integers(0, LENGTH, 100)
        labels[symbols] = (labels[symbols] + rng.integers(1, 10, 100)) % 10
    cells = [read(posteriors(truth, 4.6, rng), labels, f"m{k}", losses=losses) for k in range(models)]
    texts = cells[0][1]["prediction"].to_pylist()
    exact = np.mean([text == "".join(row) for text, row in zip(texts, DIGITS[truth], strict=True)])
    assert 0.96 < exact < 0.98
    listed = set(suspects(cells, names(10_000))["sample_id"].to_list())
    recovered = sum(f"{row:05d}" in listed for row in wrong)
    assert len(listed) <= 150
    assert recovered >= 90


def test_two_runs_and_another_order_of_models_list_the_same() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 10, (500, LENGTH))
    labels = np.concatenate([np.roll(truth[:60], 1, axis=0), truth[60:]])
    cells = [read(posteriors(truth, 4.0, rng), labels, name, losses=True) for name in "abc"]
    first, again = (suspects(some, names(500)) for some in (cells, cells[::-1]))
    assert first.height > 20
    assert_frame_equal(first, again)
