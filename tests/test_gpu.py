"""Recorded and compiled training on a GPU, compared with eager training: `make test-gpu`.

Without a GPU most of these tests run on the CPU with a stand-in for the recording, which checks the tests themselves.
Those that need a GPU are marked `gpu`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from captchabench.cli.app import app
from captchabench.models import build_recogniser, neural
from captchabench.models.neural import NeuralRecogniser
from captchabench.samples.shards import Samples
from captchabench.training import acceleration, engine
from captchabench.training.acceleration import EAGER, Acceleration
from captchabench.training.checkpoints import Checkpoints
from captchabench.training.feed import default_window_bytes
from captchabench.training.step import TrainingStep

MakeSamples = Callable[..., Samples]
DEEP: dict[str, dict[str, Any]] = {
    "char_cnn": {"channels": [8, 8, 16, 16]},
    "cnn_transformer": {"channels": [8, 8, 16], "stem_stride": 2, "dimension": 16, "heads": 2, "feedforward": 32},
    "crnn": {"channels": [8, 8, 16], "stem_stride": 2, "hidden": 16, "layers": 2},
    # Large for a CPU.
    "effnet_b1": {"training": {"steps": 4, "batch_size": 4, "evaluations": 1}},
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@dataclass(frozen=True)
class StandIn(Acceleration):
    """Imitates a recording on a machine without a GPU."""

    def build(self, step: TrainingStep) -> Callable[[], None]:
        return step.run_eagerly


@dataclass(frozen=True)
class Unrecordable(Acceleration):
    """A step that waits for the device, which a CUDA graph cannot record."""

    def build(self, step: TrainingStep) -> Callable[[], None]:
        def run_step() -> None:
            step.run_eagerly()
            step.loss_sum()

        return acceleration._record(step, run_step)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    chosen = torch.device("cuda", 0) if request.param == "cuda" else torch.device("cpu")
    for module in (engine, neural):
        monkeypatch.setattr(module, "choose_device", lambda: chosen)
    return chosen


def recorded(device: torch.device) -> Acceleration:
    return (Acceleration if device.type == "cuda" else StandIn)(compile=False, graph=True)


def trained(
    name: str, samples: Samples, way: Acceleration, checkpoints: Checkpoints | None = None, **training: Any
) -> NeuralRecogniser:
    """A recogniser after some steps with augmentation, dropout and Muon, in float32."""
    usual = {"steps": 12, "batch_size": 16, "evaluations": 3, "augment": 0.5, "guide": 5.0, "muon": 0.01}
    own = DEEP[name].get("training", {})
    budget = {"training": {**usual, "precision": "float32", **training, **own}}
    model = build_recogniser(name, samples.info.spec, {"dropout": 0.1, **DEEP[name], **budget})
    assert isinstance(model, NeuralRecogniser)
    model.acceleration = way
    model.fit(samples, samples, seed=0, checkpoints=checkpoints)
    return model


def curve(model: NeuralRecogniser) -> list[float]:
    assert model.trained is not None
    return [loss for point in model.trained.curve for loss in (point.train_loss, point.validation_loss) if loss]


def close(device: torch.device) -> float:
    """The largest allowed difference of losses. The order of sums on a GPU varies, and training amplifies that."""
    return 0.05 if device.type == "cuda" else 1e-6


@pytest.mark.parametrize("name", sorted(DEEP))
def test_a_recorded_training_is_the_eager_one(name: str, device: torch.device, make_samples: MakeSamples) -> None:
    samples = make_samples(16)
    fast = trained(name, samples, recorded(device))
    assert fast.trained is not None
    assert not fast.trained.refusal
    assert curve(fast) == pytest.approx(curve(trained(name, samples, EAGER)), rel=close(device))


def test_a_recorded_training_in_bfloat16_is_the_eager_one(device: torch.device, make_samples: MakeSamples) -> None:
    samples = make_samples(48)
    fast = trained("crnn", samples, recorded(device), precision="bfloat16")
    assert fast.trained is not None
    assert not fast.trained.refusal
    eager = trained("crnn", samples, EAGER, precision="bfloat16")
    assert curve(fast) == pytest.approx(curve(eager), rel=close(device))


def test_a_recorded_training_sees_each_window(
    device: torch.device, make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(300)
    monkeypatch.setattr(engine, "default_window_bytes", lambda _: 128 * samples.pixels[0].size)
    fast = trained("crnn", samples, recorded(device), steps=40)
    assert curve(fast) == pytest.approx(curve(trained("crnn", samples, EAGER, steps=40)), rel=close(device))


def test_a_recorded_training_continues_from_its_checkpoint(
    device: torch.device, make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    monkeypatch.setenv("CAPTCHABENCH_CHECKPOINT_SECONDS", "0")
    samples = make_samples(48)
    run, left = TrainingStep.run, 7

    def count(step: TrainingStep) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        run(step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "run", count)
        with pytest.raises(Killed):
            trained("crnn", samples, recorded(device), Checkpoints(tmp_path))
    whole = trained("crnn", samples, recorded(device))
    assert curve(trained("crnn", samples, recorded(device), Checkpoints(tmp_path))) == pytest.approx(
        curve(whole), rel=close(device)
    )


@pytest.mark.parametrize("name", sorted(DEEP))
def test_a_device_reads_as_the_cpu_does_one_by_one_and_together(
    name: str, device: torch.device, make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(16)
    model = trained(name, samples, EAGER, steps=6)
    together = model.predict(samples.pixels)
    single = [model.predict(samples.pixels[i : i + 1]) for i in range(8)]
    monkeypatch.setattr(neural, "choose_device", lambda: torch.device("cpu"))
    model.network.cpu()
    there = model.predict(samples.pixels)
    assert [one.texts[0] for one in single] == together.texts[:8]
    assert together.texts == there.texts
    np.testing.assert_allclose([one.confidences[0] for one in single], together.confidences[:8], atol=1e-4)
    np.testing.assert_allclose(together.confidences, there.confidences, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(DEEP))
def test_a_compiled_and_recorded_training_is_the_eager_one(name: str, make_samples: MakeSamples) -> None:
    samples = make_samples(48)
    fast = trained(name, samples, Acceleration(compile=True, graph=True))
    assert fast.trained is not None
    assert not fast.trained.refusal
    assert curve(fast) == pytest.approx(curve(trained(name, samples, EAGER)), rel=0.05)


@pytest.mark.gpu
def test_a_step_that_cannot_be_recorded_runs_eagerly(make_samples: MakeSamples) -> None:
    samples = make_samples(48)
    model = trained("crnn", samples, Unrecordable(compile=False, graph=True))
    assert model.trained is not None
    assert model.trained.refusal
    assert curve(model) == pytest.approx(curve(trained("crnn", samples, EAGER)), rel=0.05)
    # The failed recording does not prevent the next one.
    after = trained("crnn", samples, Acceleration(compile=False, graph=True))
    assert after.trained is not None
    assert not after.trained.refusal


@pytest.mark.gpu
def test_a_share_of_memory_is_respected(make_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 0)
    whole = default_window_bytes(cuda)
    monkeypatch.setenv("CAPTCHABENCH_MEMORY_SHARE", "0.00001")
    part = default_window_bytes(cuda)
    assert whole is not None
    assert part is not None
    assert part < whole / 1000
    samples = make_samples(600)
    # Not all data fits, so it is streamed; training is still recorded.
    assert part < samples.pixels.nbytes
    fast = trained("crnn", samples, Acceleration(compile=False, graph=True), steps=40)
    assert fast.trained is not None
    assert not fast.trained.refusal


@pytest.mark.gpu
def test_the_doctor_finds_nothing_wrong() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    result = json.loads(done.output)
    assert not result["problems"]
    assert [device["device"] for device in result["devices"]][:2] == ["cpu", "cuda"]
    assert done.exit_code == 0
