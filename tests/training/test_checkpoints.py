"""A killed training resumes from its checkpoint and ends as if it had not been interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captchabench.errors import InputError
from captchabench.models.char_cnn import CharCnn
from captchabench.models.char_cnn import Config as CharCnnConfig
from captchabench.models.crnn import Config, Crnn
from captchabench.models.neural import NeuralRecogniser
from captchabench.samples.shards import Samples
from captchabench.training import engine
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from captchabench.training.settings import TrainingConfig
from captchabench.training.step import TrainingStep

MakeSamples = Callable[..., Samples]


class Killed(Exception):
    """Stands in for a kill."""


@pytest.fixture(autouse=True)
def at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTCHABENCH_CHECKPOINT_SECONDS", "0")


def crnn(samples: Samples, **training: Any) -> Crnn:
    budget = TrainingConfig(**{"steps": 12, "batch_size": 8, "evaluations": 4, "augment": 1.0, **training})
    config = Config(channels=(8, 8, 8), stem_stride=2, hidden=8, layers=1, dropout=0.2, training=budget)
    return Crnn(samples.info.spec, config)


def char_cnn(samples: Samples, **training: Any) -> CharCnn:
    budget = TrainingConfig(**{"steps": 12, "batch_size": 8, "evaluations": 4, **training})
    return CharCnn(samples.info.spec, CharCnnConfig(channels=(4, 4, 4, 4), training=budget))


def fit(
    model: NeuralRecogniser,
    samples: Samples,
    storage: Checkpoints | Path | None,
    monkeypatch: pytest.MonkeyPatch,
    steps: int = 10**6,
) -> list[CurvePoint]:
    """Train, and be killed after so many `steps`."""
    checkpoints = Checkpoints(storage) if isinstance(storage, Path) else storage
    run, left = TrainingStep.run, steps

    def count(step: TrainingStep) -> None:
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        run(step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "run", count)
        return model.fit(samples, samples, seed=0, checkpoints=checkpoints)


def weights(model: NeuralRecogniser) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in model.network.state_dict().values()])


@pytest.mark.parametrize(
    ("make", "training"),
    [
        (crnn, {}),
        (crnn, {"schedule": "plateau", "evaluations": 12, "learning_rate": 0.3}),
        (crnn, {"guide": 5.0, "guide_share": 1.0, "patience": 2}),
        (char_cnn, {}),
    ],
)
def test_killed_twice_a_training_ends_with_the_same_weights_and_curve(
    make: Callable[..., NeuralRecogniser],
    training: dict[str, object],
    make_samples: MakeSamples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = make_samples(30)
    uninterrupted = make(samples, **training)
    curve = fit(uninterrupted, samples, None, monkeypatch)
    for _ in range(2):
        with pytest.raises(Killed):
            fit(make(samples, **training), samples, tmp_path, monkeypatch, steps=4)
    interrupted = make(samples, **training)
    assert fit(interrupted, samples, tmp_path, monkeypatch) == curve
    assert torch.equal(weights(uninterrupted), weights(interrupted))
    output = capsys.readouterr().out
    assert "resuming after step 4" in output
    assert "resuming after step 8" in output


def test_streamed_data_resume_in_the_same_window(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows of 64 samples, 8 steps each.
    samples = make_samples(150)
    per_image = samples.pixels[0].size
    monkeypatch.setattr(engine, "default_window_bytes", lambda device: 128 * per_image)
    uninterrupted = crnn(samples, steps=20)
    curve = fit(uninterrupted, samples, None, monkeypatch)
    for steps in (3, 5, 4):
        with pytest.raises(Killed):
            fit(crnn(samples, steps=20), samples, tmp_path, monkeypatch, steps)
    interrupted = crnn(samples, steps=20)
    assert fit(interrupted, samples, tmp_path, monkeypatch) == curve
    assert torch.equal(weights(uninterrupted), weights(interrupted))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-1], "is damaged"),
        (lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:], "is damaged"),
        (lambda content: b"", "is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_with_a_message(
    spoil: Callable[[bytes], bytes],
    reason: str,
    make_samples: MakeSamples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = make_samples(30)
    with pytest.raises(Killed):
        fit(crnn(samples), samples, tmp_path, monkeypatch, steps=5)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    uninterrupted, interrupted = crnn(samples), crnn(samples)
    fit(uninterrupted, samples, None, monkeypatch)
    fit(interrupted, samples, tmp_path, monkeypatch)
    assert torch.equal(weights(uninterrupted), weights(interrupted))
    output = capsys.readouterr().out
    assert reason in output
    assert "set aside, training starts from the beginning" in output
    assert path.with_suffix(".aside").exists()


def test_a_checkpoint_of_other_inputs_is_set_aside(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(30)
    with pytest.raises(Killed):
        fit(crnn(samples), samples, tmp_path / "cell.1", monkeypatch, steps=5)
    (tmp_path / "cell.1").rename(tmp_path / "cell.2")
    fit(crnn(samples), samples, tmp_path / "cell.2", monkeypatch)
    assert "belongs to cell.1; set aside" in capsys.readouterr().out


def test_seconds_include_those_of_earlier_processes(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(30)
    earlier = Checkpoints(tmp_path)
    earlier.resume(0, 1000.0)
    with pytest.raises(Killed):
        fit(crnn(samples), samples, earlier, monkeypatch, steps=5)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.seconds < 100
    fit(crnn(samples), samples, checkpoints, monkeypatch)
    assert 1000 < checkpoints.seconds < 1100


@pytest.mark.parametrize("text", ["-1", "soon", "nan"])
def test_an_impossible_interval_is_an_error(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTCHABENCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(InputError, match="CAPTCHABENCH_CHECKPOINT_SECONDS: must be a number of seconds"):
        Checkpoints(tmp_path)
