"""The step: compiled, it gives the losses of the eager step; and it never waits for the device."""

from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from captchabench.models import build_recogniser
from captchabench.models.neural import NeuralRecogniser
from captchabench.samples.shards import Samples
from captchabench.training.acceleration import Acceleration, prepare
from captchabench.training.feed import TensorSamples, Window
from captchabench.training.settings import TrainingConfig
from captchabench.training.step import TrainingStep

MakeSamples = Callable[..., Samples]
# Without dropout, which draws other random numbers when compiled.
NARROW = {
    "crnn": {"channels": (4, 4, 4), "stem_stride": 2, "hidden": 4, "layers": 1, "dropout": 0.0},
    "cnn_transformer": {
        "channels": (4, 4, 4),
        "stem_stride": 2,
        "dimension": 8,
        "heads": 2,
        "feedforward": 8,
        "layers": 1,
        "dropout": 0.0,
    },
}


def recogniser(name: str, samples: Samples) -> NeuralRecogniser:
    torch.manual_seed(0)
    model = build_recogniser(name, samples.info.spec, NARROW[name])
    assert isinstance(model, NeuralRecogniser)
    return model


def losses(
    name: str, samples: Samples, acceleration: Acceleration, device: torch.device, augment: float
) -> list[float]:
    """The loss of each of eight steps after `prepare`, which must not change them."""
    model = recogniser(name, samples)
    model.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
    model.network.train()
    order = torch.arange(64).remainder(len(samples)).view(8, 8).to(device)
    window = Window(model.tensors(samples).to(device), order)
    config = TrainingConfig(steps=8, batch_size=8, augment=augment, guide=5.0)
    step = TrainingStep(model.network, config, window)
    torch.manual_seed(1)
    assert not prepare(step, acceleration).refusal
    of_steps = []
    for _ in range(8):
        step.run()
        of_steps.append(step.loss_sum())
    return of_steps


@pytest.mark.parametrize("name", sorted(NARROW))
def test_a_compiled_step_gives_the_losses_of_an_eager_one(
    make_samples: MakeSamples, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(24)
    compile_ = torch.compile
    # Tracing and the joint graph could change the result. Kernels are left out: compiling them takes a minute.
    monkeypatch.setattr(torch, "compile", lambda f, **_: compile_(f, backend="aot_eager", dynamic=False))
    cpu = torch.device("cpu")
    eager, compiled = (
        losses(name, samples, Acceleration(compile=c, graph=False), cpu, augment=1.0) for c in (False, True)
    )
    assert compiled == pytest.approx(eager, rel=1e-4)


def test_a_step_never_reads_a_value_back_from_the_device(make_samples: MakeSamples) -> None:
    samples = make_samples(24)
    config = TrainingConfig(steps=4, batch_size=8, augment=1.0, guide=5.0)
    # Fake tensors have no values: reading one raises an error.
    with FakeTensorMode():
        images = torch.empty(samples.pixels.shape, dtype=torch.uint8)
        window = Window(
            TensorSamples(images, torch.zeros(24, 4, dtype=torch.int64)), torch.zeros(4, 8, dtype=torch.int64)
        )
        step = TrainingStep(recogniser("crnn", samples).network, config, window)
        step.run()
        with pytest.raises(Exception, match="local_scalar"):
            step.loss_sum()
