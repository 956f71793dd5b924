"""Faster ways to take a training step, each used only where it does what the eager step does."""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from captchabench.errors import InputError, first_line, visible
from captchabench.training import distributed
from captchabench.training.step import TrainingStep

_EAGER = "CAPTCHABENCH_EAGER"
# Compiling takes half a minute or more in every process. It pays where that many images are trained on.
WORTH_COMPILING = 3_000_000
# Steps before a CUDA graph is recorded, so that libraries have chosen their kernels and buffers.
_WARM_UP_STEPS = 3
_COMPARED_STEPS = 4
# Rounding to bfloat16, as a share. How far that leads apart differs by network, so eager steps are also taken from
# weights disturbed so much; others may be three times as far off. docs/training.md has what mistakes come to.
_ROUNDING = 2**-8
_MARGIN = 3.0
_LEAST, _MOST = 0.001, 0.9
_MOST_LETTERS = 200


@dataclass(frozen=True)
class Acceleration:
    """How a training step is run. Both switches change the speed alone, results to rounding.

    compile: kernels fused by `torch.compile`. graph: the step recorded once as a CUDA graph and replayed.
    """

    compile: bool
    graph: bool

    def __str__(self) -> str:
        words = [word for word, used in (("compiled", self.compile), ("recorded", self.graph)) if used]
        return " and ".join(words) or "eager"

    def build(self, step: TrainingStep) -> Callable[[], None]:
        """What takes the step. It may train meanwhile. Raises whatever the compiler or the driver raises."""
        take = step.run_eagerly
        if self.compile:
            # The compiler's own random numbers would be others than the eager step's.
            compiled = torch.compile(step.mean_loss, dynamic=False, options={"fallback_random": True})
            # Compiled here, where no other process waits for this one's gradients.
            step.backward(compiled)
            take = partial(step.run_eagerly, compiled)
        return _recorded(step, take) if self.graph else take


EAGER = Acceleration(compile=False, graph=False)


def acceleration_for(device: torch.device, images: int) -> Acceleration:
    """What pays on `device` for a training that sees `images` images in all.

    On a CPU nothing does: compiled steps were slower than the eager ones of oneDNN. CAPTCHABENCH_EAGER=1 turns all of
    it off, should a driver end the process where it cannot be caught.
    """
    if device.type != "cuda" or os.environ.get(_EAGER, "0") not in ("", "0"):
        return EAGER
    return Acceleration(compile=images >= WORTH_COMPILING, graph=True)


@dataclass(frozen=True)
class Prepared:
    """seconds: what preparing took. refused: why steps are taken eagerly though asked otherwise; else empty."""

    seconds: float = 0.0
    refused: str = ""


def prepare(step: TrainingStep, acceleration: Acceleration) -> Prepared:
    """Let `step` run as `acceleration` says, if that does what its eager steps do; else eagerly.

    A few steps are taken either way from the same weights, counters and random numbers, all of which are put back.
    Processes that train together choose alike. What the eager steps raise is raised; InputError where a refused way
    has left the device unfit for them.
    """
    if acceleration == EAGER:
        return Prepared()
    started = time.perf_counter()
    restore = step.remember()
    eager = _Outcome.of(step, step.run_eagerly)
    restore()
    step.disturb(_ROUNDING)
    rounding = _Outcome.of(step, step.run_eagerly).distances(eager)
    allowed = {name: min(max(_MARGIN * share, _LEAST), _MOST) for name, share in rounding.items()}
    restore()
    refused = ""
    # A compiler, a driver and a library fail in as many ways as there are.
    try:
        take = acceleration.build(step)
        restore()
    except Exception as error:
        refused = _told(error)
    # The others are asked before any of them waits for gradients that a process which failed will not send.
    if distributed.all_agree(not refused):
        try:
            refused = _Outcome.of(step, take).difference(eager, allowed)
        except Exception as error:
            refused = _told(error)
        if distributed.all_agree(not refused):
            step.run_by(take)
    if not step.accelerated:
        refused = refused or "another process refused them"
        _check_still_works(step, restore)
    restore()
    step.wait()
    return Prepared(time.perf_counter() - started, refused)


def _check_still_works(step: TrainingStep, restore: Callable[[], None]) -> None:
    """Raise InputError where eager steps, which were taken before, cannot be taken any more."""
    try:
        restore()
        _Outcome.of(step, step.run_eagerly)
    except Exception as error:
        raise InputError(
            f"an attempt to accelerate training left the device unusable ({_told(error)}); set {_EAGER}=1 and run this "
            "again"
        ) from None


@dataclass(frozen=True)
class _Outcome:
    """What some steps came to.

    losses: of each step. changes: of the weights and of the batch statistics, a vector each. exact: counters and the
    states of the generators.
    """

    losses: list[float]
    changes: dict[str, Tensor]
    exact: dict[str, Tensor]

    @classmethod
    def of(cls, step: TrainingStep, take: Callable[[], None]) -> "_Outcome":
        """Take steps at places all over the tables, so that learning rates differ, and guides."""
        before = {name: vector.clone() for name, vector in step.learned().items()}
        losses = []
        for number in range(_COMPARED_STEPS):
            step.go_to(number / _COMPARED_STEPS)
            take()
            losses.append(step.loss_sum())
        changes = {name: vector - before[name] for name, vector in step.learned().items()}
        return cls(losses, changes, step.places())

    def distances(self, eager: "_Outcome") -> dict[str, float]:
        """How far off losses and changes are, the former at most: as shares of the eager ones, by name."""
        off = [abs(a - b) / abs(b) if b else abs(a) for a, b in zip(self.losses, eager.losses, strict=True)]
        found = {"losses": max(off)} if all(map(math.isfinite, off)) else {"losses": math.nan}
        for name, wanted in eager.changes.items():
            size = wanted.norm().item()
            found[name] = (self.changes[name] - wanted).norm().item() / (size or 1.0)
        return found

    def difference(self, eager: "_Outcome", allowed: Mapping[str, float]) -> str:
        """What differs beyond `allowed`, and by how much; empty where nothing does."""
        for name, share in self.distances(eager).items():
            # What is not a number agrees with nothing.
            if not share <= allowed[name]:
                return (
                    f"{name} are {share:.2%} off after {_COMPARED_STEPS} steps; rounding explains {allowed[name]:.2%}"
                )
        for name, left in self.exact.items():
            if not torch.equal(left, eager.exact[name]):
                return f"{name} are not those of eager steps"
        return ""


def _recorded(step: TrainingStep, take: Callable[[], None]) -> Callable[[], None]:
    """`take` as a CUDA graph."""
    device = step.device
    usual, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_STEPS):
            # The tables may be shorter than the warm-up.
            step.go_to(0.0)
            take()
    usual.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads, which send the next window or watch over NCCL, may go on meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            take()
    except Exception as error:
        # A recording that broke off leaves its stream current, and a generator that waits for its end.
        torch.cuda.set_stream(usual)
        torch.cuda.default_generators[device.index].graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
        # What broke it off says more than that it did.
        raise error.__context__ or error from None
    return graph.replay


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {visible(first_line(error), _MOST_LETTERS)}"
