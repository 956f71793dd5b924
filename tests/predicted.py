"""Prediction files with given predictions."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from captchabench.networks.readings import Reading
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.shards import Samples, ShardInfo


@pytest.fixture
def predict(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes (label, prediction) pairs as one cell's predictions and returns the file."""

    def write(
        pairs: Sequence[tuple[str, str]],
        *,
        dataset: str = "numbers6",
        model: str = "crnn",
        fold: int = 0,
        members: Sequence[str] | None = None,
        ids: Sequence[str] | None = None,
        folds: Sequence[int] | None = None,
        confidences: Sequence[float] | None = None,
        losses: Sequence[float] | None = None,
        source: str = "standin",
        pretraining: str = "",
        precision: str = "",
    ) -> Path:
        n = len(pairs)
        info = ShardInfo(dataset, source, 1, 2, 2, "0123456789", 1, 6)
        samples = Samples(
            info,
            np.array(ids or [f"{fold}-{i:04d}" for i in range(n)], object),
            np.array([label for label, _ in pairs], object),
            np.array(folds or [fold] * n, np.int8),
            np.array(members or [dataset] * n, object),
            np.zeros((n, 2, 2), np.uint8),
        )
        path = tmp_path / "data" / "predictions" / f"{dataset}-{model}-{fold}.parquet"
        write_predictions(
            path,
            PredictionInfo(dataset, source, 1, model, fold, info.alphabet, 1234, (), pretraining, precision),
            samples,
            Reading([read for _, read in pairs], np.array(confidences or [0.9] * n, np.float32)),
            None if losses is None else np.array(losses, np.float32),
        )
        return path

    return write
