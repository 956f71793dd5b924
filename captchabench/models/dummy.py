"""A baseline that answers the most frequent label for every image. The whole DAG runs with it in seconds."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captchabench.config import Positive
from captchabench.errors import InputError
from captchabench.models import RECOGNISERS
from captchabench.models.base import Recogniser
from captchabench.networks.readings import Reading
from captchabench.samples.shards import Samples, TextSpec
from captchabench.storage.files import write_json
from captchabench.training.checkpoints import Checkpoints, CurvePoint

ANSWER_FILE = "answer.json"


@dataclass(frozen=True)
class Config:
    """Parameters of dummy. rank: 1 for the most frequent label, 2 for the second, and so on."""

    rank: Positive = 1


@RECOGNISERS.register
class Dummy(Recogniser):
    """Answers one label for every image."""

    config_class = Config

    def __init__(self, spec: TextSpec, config: Config) -> None:
        super().__init__(spec, config)
        self.answer = ""
        self.share = 0.0

    def fit(
        self,
        train: Samples,
        validation: Samples,
        *,
        seed: int,
        progress: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> list[CurvePoint]:
        """See Recogniser.fit. Of equally frequent labels the one that sorts first counts as more frequent."""
        ranked = sorted(Counter(train.labels).items(), key=lambda item: (-item[1], item[0]))
        self.answer, count = ranked[min(self.config.rank, len(ranked)) - 1]
        self.share = count / len(train)
        return [CurvePoint(1, 1.0, None, None, None, float(np.mean(validation.labels == self.answer)))]

    def predict(self, pixels: NDArray[np.uint8]) -> Reading:
        """See Recogniser.predict."""
        return Reading([self.answer] * len(pixels), np.full(len(pixels), self.share, np.float32))

    @property
    def parameter_count(self) -> int:
        """See Recogniser.parameter_count: the answer and its share."""
        return 2

    def save_weights(self, folder: Path) -> None:
        """See Recogniser.save_weights."""
        write_json(folder / ANSWER_FILE, {"answer": self.answer, "share": self.share})

    def load_weights(self, folder: Path) -> None:
        """See Recogniser.load_weights."""
        path = folder / ANSWER_FILE
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            self.answer, self.share = str(saved["answer"]), float(saved["share"])
            if self.spec.alphabet.foreign(self.answer) or len(self.answer) > self.spec.max_length:
                raise ValueError("its answer is not a label of config.json's alphabet and length")
            if not 0 <= self.share <= 1:
                raise ValueError(f"its share is {self.share}")
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise InputError(f"{path}: does not hold this model's answer ({error!r}); train the model again") from None
