"""An accelerated step is used only if it agrees with the eager one; otherwise training stays eager, without a trace."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from captchabench.errors import InputError
from captchabench.models.crnn import Config, Crnn
from captchabench.networks.network import Network
from captchabench.samples.shards import Samples
from captchabench.training.acceleration import EAGER, Acceleration, acceleration_for
from captchabench.training.engine import train_network
from captchabench.training.run import TrainingRun
from captchabench.training.settings import TrainingConfig
from captchabench.training.step import TrainingStep

MakeSamples = Callable[..., Samples]
RunStep = Callable[[], None]


@dataclass(frozen=True)
class Fake(Acceleration):
    """Stands in for a recording. make: from a training's step to the accelerated one."""

    make: Callable[[TrainingStep], RunStep]

    def build(self, step: TrainingStep) -> RunStep:
        return self.make(step)


def fake(make: Callable[[TrainingStep], RunStep]) -> Fake:
    return Fake(compile=False, graph=True, make=make)


def train(
    samples: Samples, acceleration: Acceleration, window_bytes: int | None = None, **training: Any
) -> tuple[TrainingRun, torch.Tensor]:
    """Train ten steps with augmentation and dropout. Returns the run and the final weights and statistics."""
    budget = TrainingConfig(
        **{"steps": 10, "batch_size": 8, "evaluations": 2, "augment": 1.0, "guide": 5.0, **training}
    )
    config = Config(channels=(8, 8, 8), stem_stride=2, hidden=8, layers=2, dropout=0.2, training=budget)
    torch.manual_seed(0)
    model = Crnn(samples.info.spec, config)
    tensors = model.tensors(samples)
    run = train_network(
        model.network, tensors, tensors, budget, seed=0, acceleration=acceleration, window_bytes=window_bytes
    )
    return run, torch.cat([tensor.flatten() for tensor in model.network.state_dict().values()])


class Counted:
    """Makes a correct step that counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, step: TrainingStep) -> RunStep:
        def run_step() -> None:
            self.count += 1
            step.run_eagerly()

        # Building may train, as the warm-up before a recording does.
        step.run_eagerly()
        return run_step


@pytest.mark.parametrize("muon", [0.0, 0.03])
def test_a_correct_step_is_used_and_leaves_no_trace(
    make_samples: MakeSamples, capsys: pytest.CaptureFixture[str], muon: float
) -> None:
    samples = make_samples(40)
    counted = Counted()
    run, weights = train(samples, fake(counted), muon=muon)
    eager, expected = train(samples, EAGER, muon=muon)
    assert torch.equal(weights, expected)
    assert run.curve == eager.curve
    assert not run.refusal
    # The compared steps, and those of the training.
    assert counted.count == 4 + 10
    assert not capsys.readouterr().out


def test_a_correct_step_sees_each_new_window(make_samples: MakeSamples) -> None:
    samples = make_samples(150)
    window_bytes = 128 * samples.pixels[0].size
    counted = Counted()
    _, weights = train(samples, fake(counted), window_bytes=window_bytes, steps=20)
    _, expected = train(samples, EAGER, window_bytes=window_bytes, steps=20)
    assert torch.equal(weights, expected)
    assert counted.count == 4 + 20


def same_samples(step: TrainingStep) -> RunStep:
    def run_step() -> None:
        kept = step._row.clone()
        step._row.zero_()
        step.run_eagerly()
        step._row.copy_(kept + 1)

    return run_step


def same_rate(step: TrainingStep) -> RunStep:
    def run_step() -> None:
        rates = step.rates.clone()
        step.rates.fill_(rates[0])
        step.run_eagerly()
        step.rates.copy_(rates)

    return run_step


def same_random_numbers(step: TrainingStep) -> RunStep:
    first = torch.get_rng_state()

    def run_step() -> None:
        torch.set_rng_state(first)
        step.run_eagerly()

    return run_step


def constant_counters(step: TrainingStep) -> RunStep:
    def run_step() -> None:
        kept = step._step.clone(), step._row.clone()
        step.run_eagerly()
        step._step.copy_(kept[0])
        step._row.copy_(kept[1])

    return run_step


def constant_generator(step: TrainingStep) -> RunStep:
    def run_step() -> None:
        with torch.random.fork_rng():
            step.run_eagerly()

    return run_step


def frozen_statistics(step: TrainingStep) -> RunStep:
    def run_step() -> None:
        kept = [buffer.clone() for buffer in step.network.buffers()]
        step.run_eagerly()
        for buffer, value in zip(step.network.buffers(), kept, strict=True):
            buffer.copy_(value)

    return run_step


def half_the_loss(step: TrainingStep) -> RunStep:
    return partial(step.run_eagerly, lambda *given: step.mean_loss(*given) / 2)


def not_a_number(step: TrainingStep) -> RunStep:
    return partial(step.run_eagerly, lambda *given: step.mean_loss(*given) * float("nan"))


def nothing(step: TrainingStep) -> RunStep:
    return lambda: None


def raises_at_once(step: TrainingStep) -> RunStep:
    step.run_eagerly()
    raise RuntimeError("no such driver\nat line 7")


def raises_later(step: TrainingStep) -> RunStep:
    counted = Counted()
    run_step = counted(step)

    def fails() -> None:
        if counted.count == 2:
            raise OSError("replay \x1b[31mfailed")
        run_step()

    return fails


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (same_samples, "differ by .*% after 4 steps, rounding explains"),
        (same_rate, "differ by .*% after 4 steps, rounding explains"),
        (same_random_numbers, "differ by .*% after 4 steps, rounding explains"),
        (constant_generator, "differ by .*% after 4 steps, rounding explains"),
        (half_the_loss, r"^losses differ by 50\.00%"),
        (not_a_number, "^losses differ by nan%"),
        (nothing, r"^losses differ by 100\.00%"),
        (constant_counters, "^counters differ from those of eager steps"),
        (frozen_statistics, r"^changes of batch statistics differ by 100\.00%"),
        (raises_at_once, "RuntimeError: no such driver$"),
        (raises_later, r"OSError: replay \\x1b\[31mfailed$"),
    ],
)
def test_any_other_step_is_refused_in_one_line_and_leaves_no_trace(
    make: Callable[[TrainingStep], RunStep], why: str, make_samples: MakeSamples, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(40)
    run, weights = train(samples, fake(make), muon=0.03)
    eager, expected = train(samples, EAGER, muon=0.03)
    assert torch.equal(weights, expected)
    assert run.curve == eager.curve
    assert re.search(why, run.refusal), run.refusal
    assert capsys.readouterr().out == f"recorded steps are not used, training is slower: {run.refusal}\n"


def test_rounding_to_bfloat16_is_no_difference(make_samples: MakeSamples) -> None:
    def rounded(step: TrainingStep) -> RunStep:
        def run_step() -> None:
            step._bfloat16 = True
            step.run_eagerly()
            step._bfloat16 = False

        return run_step

    samples = make_samples(40)
    run, weights = train(samples, fake(rounded), muon=0.03)
    assert not run.refusal
    assert not torch.equal(weights, train(samples, EAGER, muon=0.03)[1])


def test_a_device_left_unusable_is_reported(make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(step: TrainingStep) -> RunStep:
        def broken(*given: Any) -> None:
            raise RuntimeError("Offset increment outside graph capture")

        monkeypatch.setattr(TrainingStep, "run_eagerly", broken)
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(InputError, match=r"Offset increment.*set CAPTCHABENCH_EAGER=1 and run this again"):
        train(make_samples(16), fake(breaks))


def test_divergence_is_reported_as_such(make_samples: MakeSamples) -> None:
    with pytest.raises(InputError, match="training diverged"):
        train(make_samples(16), fake(Counted()), learning_rate=10.0, guide=1e38, clip_norm=1e30)


def test_what_the_eager_step_raises_is_raised(make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingStep, "run_eagerly", full)
    with pytest.raises(torch.OutOfMemoryError):
        train(make_samples(16), fake(Counted()))


def test_a_recording_without_a_gpu_is_refused(make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    run, weights = train(samples, Acceleration(compile=False, graph=True))
    assert run.refusal
    assert torch.equal(weights, train(samples, EAGER)[1])


class Dropping(Network):
    """A network of one layer, which compiles fast, with dropout, which draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.3)
        self.classify = torch.nn.Linear(3200, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classify(self.dropout(images.flatten(1)))
        return scores.log_softmax(1)[:, None]

    def losses(
        self,
        log_probs: torch.Tensor,
        targets: torch.Tensor,
        lengths: torch.Tensor,
        guide: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return -log_probs[:, 0].gather(1, targets[:, :1])[:, 0]

    def read(self, log_probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best, ids = log_probs.max(dim=2)
        return ids, best[:, 0]


def test_a_step_compiled_by_torch_is_used(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # Detecting the vector instructions of the processor takes longer than all else.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", False)
    samples = make_samples(40, lengths=(1, 1))
    tensors = Crnn(samples.info.spec, Config()).tensors(samples)
    losses = []
    for acceleration in (EAGER, Acceleration(compile=True, graph=False)):
        torch.manual_seed(0)
        budget = TrainingConfig(steps=10, batch_size=8, evaluations=2)
        run = train_network(Dropping(), tensors, tensors, budget, seed=0, acceleration=acceleration)
        losses += [point.train_loss for point in run.curve]
    if shutil.which("g++"):
        assert not run.refusal
        assert losses[2:] == pytest.approx(losses[:2], rel=1e-5)
    else:
        assert "compiler" in run.refusal.lower()
        assert losses[2:] == losses[:2]


def test_a_cpu_stays_eager_and_a_gpu_compiles_long_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert acceleration_for(torch.device("cpu"), 10**9) == EAGER
    assert acceleration_for(cuda, 10**5) == Acceleration(compile=False, graph=True)
    assert acceleration_for(cuda, 10**8) == Acceleration(compile=True, graph=True)
    monkeypatch.setenv("CAPTCHABENCH_EAGER", "0")
    assert acceleration_for(cuda, 10**5) != EAGER
    monkeypatch.setenv("CAPTCHABENCH_EAGER", "1")
    assert acceleration_for(cuda, 10**8) == EAGER
