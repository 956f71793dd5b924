"""The table of how far stand-ins carry."""

from collections.abc import Callable

import pytest

from captchabench.cells.cell import Cell
from captchabench.samples.shards import Samples
from captchabench.scoring.intervals import wilson
from captchabench.studies.carry import Carried, carry


def test_each_model_has_a_row_and_folds_are_not_pooled(make_samples: Callable[..., Samples]) -> None:
    samples = make_samples(4, alphabet="Ab", lengths=(3, 3))
    right = samples.labels.tolist()
    swapped = [label.swapcase() for label in right]
    cells = [Cell("union", "crnn", 0), Cell("parsasam", "crnn", 1), Cell("parsasam", "crnn", 0)]
    found = carry([Carried(cell, samples, texts) for cell, texts in zip(cells, [swapped, swapped, right], strict=True)])
    assert found.select("read", "source", "trained_on", "fold", "n", "exact", "exact_folded", "cer").rows() == [
        ("written", "standin", "parsasam", 0, 4, 1.0, 1.0, 0.0),
        ("written", "standin", "parsasam", 1, 4, 0.0, 1.0, 1.0),
        ("written", "standin", "union", 0, 4, 0.0, 1.0, 1.0),
    ]
    assert found.row(0)[7:9] == pytest.approx(wilson(4, 4))
