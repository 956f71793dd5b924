"""What a training has come to so far."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from captchabench.training.checkpoints import CurvePoint


@dataclass
class TrainingRun:
    """What a training says of itself.

    prepare_seconds: warm-up, compilation, recording. taken: steps. spent: seconds in them. seconds: for each point of
    the curve, those spent until then; preparation, evaluations and checkpoints are left out. clock: tells seconds.
    refused: see `Prepared`.
    """

    prepare_seconds: float
    refused: str = ""
    clock: Callable[[], float] = time.perf_counter
    taken: int = 0
    spent: float = 0.0
    curve: list[CurvePoint] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _started: float = 0.0

    def start_clock(self) -> None:
        """Steps follow."""
        self._started = self.clock()

    def stop_clock(self, taken: int) -> None:
        """No steps for a while: `taken` there were so far."""
        self.taken = taken
        self.spent += self.clock() - self._started

    @property
    def evaluated(self) -> int:
        """The step of the last evaluation."""
        return self.curve[-1].step if self.curve else 0


class Best:
    """The best weights seen. score: exact match and the loss below zero. stale: evaluations since they were seen."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.score = (-1.0, -math.inf)
        self.stale = 0
        self.weights: dict[str, Tensor] = copy.deepcopy(network.state_dict())

    def offer(self, exact: float, loss: float) -> None:
        """Keep the network's weights if they score better than those kept."""
        self.stale += 1
        if (exact, -loss) > self.score:
            self.score, self.stale = (exact, -loss), 0
            self.weights = copy.deepcopy(self._network.state_dict())

    def restore(self) -> None:
        """Put them back."""
        self._network.load_state_dict(self.weights)
