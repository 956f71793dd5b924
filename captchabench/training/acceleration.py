"""Faster ways to run a training step, each used only if its results agree with those of the eager step."""

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
# Compiling takes half a minute or more in every process. It pays off if a training sees at least this many images.
WORTH_COMPILING = 3_000_000
# Steps before a CUDA graph is recorded, so that libraries have chosen their kernels and buffers.
_WARM_UP_STEPS = 3
_COMPARED_STEPS = 4
# The relative rounding error of bfloat16. How much such errors grow depends on the network, so it is measured with
# eager steps from weights perturbed by this much. Accelerated steps may differ _MARGIN times as much. docs/training.md
# shows how much mistakes differ.
_ROUNDING = 2**-8
_MARGIN = 3.0
# Lower and upper limit of what may differ, as a share.
_LEAST, _MOST = 0.001, 0.9
_MAX_REASON = 200  # characters


@dataclass(frozen=True)
class Acceleration:
    """How a training step is run. Both options change its speed, and its results only by rounding.

    compile: kernels fused by `torch.compile`. graph: the step recorded once as a CUDA graph and replayed.
    """

    compile: bool
    graph: bool

    def __str__(self) -> str:
        options = [option for option, used in (("compiled", self.compile), ("recorded", self.graph)) if used]
        return " and ".join(options) or "eager"

    def build(self, step: TrainingStep) -> Callable[[], None]:
        """A function that runs `step`. Building it may train. Raises whatever the compiler or the driver raises."""
        run_step = step.run_eagerly
        if self.compile:
            # The compiler's own random numbers would differ from those of the eager step.
            compiled = torch.compile(step.mean_loss, dynamic=False, options={"fallback_random": True})
            # Compiled here, where no other process waits for the gradients of this one.
            step.backward(compiled)
            run_step = partial(step.run_eagerly, compiled)
        return _record(step, run_step) if self.graph else run_step


EAGER = Acceleration(compile=False, graph=False)


def acceleration_for(device: torch.device, images: int) -> Acceleration:
    """The fastest acceleration on `device` for a training that sees `images` images in all.

    On a CPU it is none: compiled steps were slower than eager ones. CAPTCHABENCH_EAGER=1 turns acceleration off, for
    drivers that crash the process.
    """
    if device.type != "cuda" or os.environ.get(_EAGER, "0") not in ("", "0"):
        return EAGER
    return Acceleration(compile=images >= WORTH_COMPILING, graph=True)


@dataclass(frozen=True)
class Prepared:
    """seconds: how long the preparation took. refusal: why the acceleration is not used; empty if it is used."""

    seconds: float = 0.0
    refusal: str = ""


def prepare(step: TrainingStep, acceleration: Acceleration) -> Prepared:
    """Accelerate `step` if accelerated steps agree with eager ones; otherwise it stays eager.

    Runs a few steps of both kinds from the same state, then restores that state. Processes that train together decide
    alike. Raises what eager steps raise, and InputError if a failed acceleration left the device unable to run them.
    """
    if acceleration == EAGER:
        return Prepared()
    started = time.perf_counter()
    restore = step.remember()
    eager = _Outcome.of(step, step.run_eagerly)
    restore()
    step.perturb_weights(_ROUNDING)
    rounding = _Outcome.of(step, step.run_eagerly).differences(eager)
    allowed = {name: min(max(_MARGIN * share, _LEAST), _MOST) for name, share in rounding.items()}
    restore()
    refusal = ""
    # Compilers, drivers and libraries raise exceptions of any type.
    try:
        run_step = acceleration.build(step)
        restore()
    except Exception as error:
        refusal = _reason(error)
    # All processes vote before any of them waits for gradients, which a process that failed would never send.
    if distributed.all_agree(not refusal):
        try:
            refusal = _Outcome.of(step, run_step).disagreement(eager, allowed)
        except Exception as error:
            refusal = _reason(error)
        if distributed.all_agree(not refusal):
            step.accelerate(run_step)
    if not step.accelerated:
        refusal = refusal or "another process refused them"
        _check_eager_steps(step, restore)
    restore()
    step.wait()
    return Prepared(time.perf_counter() - started, refusal)


def _check_eager_steps(step: TrainingStep, restore: Callable[[], None]) -> None:
    """Raise InputError if eager steps, which worked before, no longer work."""
    try:
        restore()
        _Outcome.of(step, step.run_eagerly)
    except Exception as error:
        raise InputError(
            f"an attempt to accelerate training left the device unusable ({_reason(error)}); set {_EAGER}=1 and run "
            "this again"
        ) from None


@dataclass(frozen=True)
class _Outcome:
    """The result of a few steps.

    losses: one per step. changes: of the weights and of the batch statistics, one vector each. counters: counters and
    generator states after the steps.
    """

    losses: list[float]
    changes: dict[str, Tensor]
    counters: dict[str, Tensor]

    @classmethod
    def of(cls, step: TrainingStep, run_step: Callable[[], None]) -> "_Outcome":
        """Run steps at positions spread over the tables, so that learning rates and guides differ."""
        before = {name: vector.clone() for name, vector in step.learned().items()}
        losses = []
        for number in range(_COMPARED_STEPS):
            step.seek(number / _COMPARED_STEPS)
            run_step()
            losses.append(step.loss_sum())
        changes = {name: vector - before[name] for name, vector in step.learned().items()}
        return cls(losses, changes, step.counters())

    def differences(self, eager: "_Outcome") -> dict[str, float]:
        """Relative differences from eager steps: the largest of the losses, and those of the changes, by name."""
        of_losses = [abs(a - b) / abs(b) if b else abs(a) for a, b in zip(self.losses, eager.losses, strict=True)]
        shares = {"losses": max(of_losses) if all(map(math.isfinite, of_losses)) else math.nan}
        for name, change in eager.changes.items():
            size = change.norm().item()
            shares[f"changes of {name}"] = (self.changes[name] - change).norm().item() / (size or 1.0)
        return shares

    def disagreement(self, eager: "_Outcome", allowed: Mapping[str, float]) -> str:
        """The first difference from eager steps that is larger than `allowed`, in words; empty if there is none."""
        for name, share in self.differences(eager).items():
            # Comparisons with NaN are false, so NaN always disagrees.
            if not share <= allowed[name]:
                return (
                    f"{name} differ by {share:.2%} after {_COMPARED_STEPS} steps, rounding explains {allowed[name]:.2%}"
                )
        for name, counter in self.counters.items():
            if not torch.equal(counter, eager.counters[name]):
                return f"{name} differ from those of eager steps"
        return ""


def _record(step: TrainingStep, run_step: Callable[[], None]) -> Callable[[], None]:
    """Record `run_step` as a CUDA graph. Returns the function that replays it."""
    device = step.device
    usual, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(usual)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP_STEPS):
            # The tables may have fewer entries than the warm-up has steps.
            step.seek(0.0)
            run_step()
    usual.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads, which send the next window or watch NCCL, may use the device meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            run_step()
    except Exception as error:
        # A failed recording leaves its stream current and the generator waiting for the end of the recording.
        torch.cuda.set_stream(usual)
        torch.cuda.default_generators[device.index].graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
        # The error that stopped the recording says more than the one about the stop.
        raise error.__context__ or error from None
    return graph.replay


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {visible(first_line(error), _MAX_REASON)}"
