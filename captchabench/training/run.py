"""The progress of a training: steps taken, their time, the learning curve, the best weights."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from captchabench.training.checkpoints import CurvePoint


@dataclass
class TrainingRun:
    """The steps, times and learning curve of a training.

    prepare_seconds: warm-up, compilation and recording. refusal: see `Prepared`. clock: returns seconds. steps_done:
    the number of steps so far. step_seconds: the time that they took, without preparation, evaluations and
    checkpoints. curve_seconds: `step_seconds` at each point of the curve.
    """

    prepare_seconds: float
    refusal: str = ""
    clock: Callable[[], float] = time.perf_counter
    steps_done: int = 0
    step_seconds: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)
    curve_seconds: list[float] = field(default_factory=list)
    _started: float = 0.0

    def start_clock(self) -> None:
        """Count the time from here on: steps follow."""
        self._started = self.clock()

    def stop_clock(self, steps_done: int) -> None:
        """Add the time since `start_clock`. steps_done: the number of steps so far."""
        self.steps_done = steps_done
        self.step_seconds += self.clock() - self._started

    @property
    def last_evaluation(self) -> int:
        """The step of the last evaluation; 0 before the first."""
        return self.curve[-1].step if self.curve else 0


class Best:
    """The best weights so far.

    score: their exact match and negative loss. stale: the number of evaluations since they were found.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.score = (-1.0, -math.inf)
        self.stale = 0
        self.weights: dict[str, Tensor] = copy.deepcopy(network.state_dict())

    def offer(self, exact: float, loss: float) -> None:
        """Keep the network's present weights if their score is better."""
        self.stale += 1
        if (exact, -loss) > self.score:
            self.score, self.stale = (exact, -loss), 0
            self.weights = copy.deepcopy(self._network.state_dict())

    def restore(self) -> None:
        """Load the best weights into the network."""
        self._network.load_state_dict(self.weights)
