"""A faster step is used only where it does what the eager one does; else training goes on eagerly, as if untried."""

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
Take = Callable[[], None]


@dataclass(frozen=True)
class Fake(Acceleration):
    """Stands for a recording; its steps are what `make` makes of a training's."""

    make: Callable[[TrainingStep], Take]

    def build(self, step: TrainingStep) -> Take:
        return self.make(step)


def fake(make: Callable[[TrainingStep], Take]) -> Fake:
    return Fake(compile=False, graph=True, make=make)


def train(
    samples: Samples, acceleration: Acceleration, window_bytes: int | None = None, **training: Any
) -> tuple[TrainingRun, torch.Tensor]:
    """A training of ten steps with augmentation and dropout, and the weights and statistics that it ends with."""
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
    """A right step that counts."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self, step: TrainingStep) -> Take:
        def take() -> None:
            self.taken += 1
            step.run_eagerly()

        # A build may train, as the warm-up before a recording does.
        step.run_eagerly()
        return take


@pytest.mark.parametrize("muon", [0.0, 0.03])
def test_a_right_step_is_used_and_leaves_no_trace(
    make_samples: MakeSamples, capsys: pytest.CaptureFixture[str], muon: float
) -> None:
    samples = make_samples(40)
    counted = Counted()
    run, weights = train(samples, fake(counted), muon=muon)
    eager, expected = train(samples, EAGER, muon=muon)
    assert torch.equal(weights, expected)
    assert run.curve == eager.curve
    assert not run.refused
    # Those that were compared, and all of the training.
    assert counted.taken == 4 + 10
    assert not capsys.readouterr().out


def test_a_right_step_sees_each_new_window(make_samples: MakeSamples) -> None:
    samples = make_samples(150)
    room = 128 * samples.pixels[0].size
    counted = Counted()
    _, weights = train(samples, fake(counted), window_bytes=room, steps=20)
    _, expected = train(samples, EAGER, window_bytes=room, steps=20)
    assert torch.equal(weights, expected)
    assert counted.taken == 4 + 20


def same_samples(step: TrainingStep) -> Take:
    def take() -> None:
        kept = step._row.clone()
        step._row.zero_()
        step.run_eagerly()
        step._row.copy_(kept + 1)

    return take


def same_rate(step: TrainingStep) -> Take:
    def take() -> None:
        rates = step.rates.clone()
        step.rates.fill_(rates[0])
        step.run_eagerly()
        step.rates.copy_(rates)

    return take


def same_random_numbers(step: TrainingStep) -> Take:
    first = torch.get_rng_state()

    def take() -> None:
        torch.set_rng_state(first)
        step.run_eagerly()

    return take


def counters_that_stand(step: TrainingStep) -> Take:
    def take() -> None:
        kept = step._step.clone(), step._row.clone()
        step.run_eagerly()
        step._step.copy_(kept[0])
        step._row.copy_(kept[1])

    return take


def generator_that_stands(step: TrainingStep) -> Take:
    def take() -> None:
        with torch.random.fork_rng():
            step.run_eagerly()

    return take


def frozen_statistics(step: TrainingStep) -> Take:
    def take() -> None:
        kept = [buffer.clone() for buffer in step.network.buffers()]
        step.run_eagerly()
        for buffer, value in zip(step.network.buffers(), kept, strict=True):
            buffer.copy_(value)

    return take


def half_the_loss(step: TrainingStep) -> Take:
    return partial(step.run_eagerly, lambda *given: step.mean_loss(*given) / 2)


def no_number(step: TrainingStep) -> Take:
    return partial(step.run_eagerly, lambda *given: step.mean_loss(*given) * float("nan"))


def nothing(step: TrainingStep) -> Take:
    return lambda: None


def raises_at_once(step: TrainingStep) -> Take:
    step.run_eagerly()
    raise RuntimeError("no such driver\nat line 7")


def raises_later(step: TrainingStep) -> Take:
    counted = Counted()
    take = counted(step)

    def fails() -> None:
        if counted.taken == 2:
            raise OSError("replay \x1b[31mfailed")
        take()

    return fails


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (same_samples, "are .*% off after 4 steps"),
        (same_rate, "are .*% off after 4 steps"),
        (same_random_numbers, "are .*% off after 4 steps"),
        (generator_that_stands, "are .*% off after 4 steps"),
        (half_the_loss, r"^losses are 50\.00% off"),
        (no_number, "^losses are nan% off"),
        (nothing, r"^losses are 100\.00% off"),
        (counters_that_stand, "^counters are not those of eager steps"),
        (frozen_statistics, r"^changes of batch statistics are 100\.00% off"),
        (raises_at_once, "RuntimeError: no such driver$"),
        (raises_later, r"OSError: replay \\x1b\[31mfailed$"),
    ],
)
def test_any_other_step_is_refused_in_one_line_and_leaves_no_trace(
    make: Callable[[TrainingStep], Take], why: str, make_samples: MakeSamples, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(40)
    run, weights = train(samples, fake(make), muon=0.03)
    eager, expected = train(samples, EAGER, muon=0.03)
    assert torch.equal(weights, expected)
    assert run.curve == eager.curve
    assert re.search(why, run.refused), run.refused
    assert capsys.readouterr().out == f"training goes on eagerly, without recorded steps: {run.refused}\n"


def test_rounding_to_bfloat16_is_no_difference(make_samples: MakeSamples) -> None:
    def rounded(step: TrainingStep) -> Take:
        def take() -> None:
            step._bfloat16 = True
            step.run_eagerly()
            step._bfloat16 = False

        return take

    samples = make_samples(40)
    run, weights = train(samples, fake(rounded), muon=0.03)
    assert not run.refused
    assert not torch.equal(weights, train(samples, EAGER, muon=0.03)[1])


def test_a_device_left_unusable_is_said(make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(step: TrainingStep) -> Take:
        def broken(*given: Any) -> None:
            raise RuntimeError("Offset increment outside graph capture")

        monkeypatch.setattr(TrainingStep, "run_eagerly", broken)
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(InputError, match=r"Offset increment.*set CAPTCHABENCH_EAGER=1 and run this again"):
        train(make_samples(16), fake(breaks))


def test_a_training_that_diverges_says_so_and_nothing_else(make_samples: MakeSamples) -> None:
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
    assert run.refused
    assert torch.equal(weights, train(samples, EAGER)[1])


class Dropping(Network):
    """A network of one layer, with dropout, so that the compiler has little to do and random numbers to draw."""

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


def test_a_step_that_is_compiled_in_earnest_is_used(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # Asking what vectors the processor has takes longer than all else.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", False)
    samples = make_samples(40, lengths=(1, 1))
    tensors = Crnn(samples.info.spec, Config()).tensors(samples)
    losses = []
    for way in (EAGER, Acceleration(compile=True, graph=False)):
        torch.manual_seed(0)
        budget = TrainingConfig(steps=10, batch_size=8, evaluations=2)
        run = train_network(Dropping(), tensors, tensors, budget, seed=0, acceleration=way)
        losses += [point.train_loss for point in run.curve]
    if shutil.which("g++"):
        assert not run.refused
        assert losses[2:] == pytest.approx(losses[:2], rel=1e-5)
    else:
        assert "compiler" in run.refused.lower()
        assert losses[2:] == losses[:2]


def test_a_cpu_takes_the_eager_step_and_a_gpu_compiles_what_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert acceleration_for(torch.device("cpu"), 10**9) == EAGER
    assert acceleration_for(cuda, 10**5) == Acceleration(compile=False, graph=True)
    assert acceleration_for(cuda, 10**8) == Acceleration(compile=True, graph=True)
    monkeypatch.setenv("CAPTCHABENCH_EAGER", "0")
    assert acceleration_for(cuda, 10**5) != EAGER
    monkeypatch.setenv("CAPTCHABENCH_EAGER", "1")
    assert acceleration_for(cuda, 10**8) == EAGER
