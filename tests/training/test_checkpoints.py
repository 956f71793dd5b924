"""A training that is killed goes on from its checkpoint and ends as if nothing had been."""

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
    """Stands for a kill."""


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
    kept: Checkpoints | Path | None,
    monkeypatch: pytest.MonkeyPatch,
    steps: int = 10**6,
) -> list[CurvePoint]:
    """Train, killed before the step after so many."""
    checkpoints = Checkpoints(kept) if isinstance(kept, Path) else kept
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
def test_killed_twice_it_ends_with_the_same_weights_and_curve(
    make: Callable[..., NeuralRecogniser],
    training: dict[str, object],
    make_samples: MakeSamples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = make_samples(30)
    undisturbed = make(samples, **training)
    curve = fit(undisturbed, samples, None, monkeypatch)
    for _ in range(2):
        with pytest.raises(Killed):
            fit(make(samples, **training), samples, tmp_path, monkeypatch, steps=4)
    disturbed = make(samples, **training)
    assert fit(disturbed, samples, tmp_path, monkeypatch) == curve
    assert torch.equal(weights(undisturbed), weights(disturbed))
    said = capsys.readouterr().out
    assert "going on after step 4" in said
    assert "going on after step 8" in said


def test_data_that_streams_goes_on_in_the_window_it_was_in(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows of 64 samples, 8 steps each.
    samples = make_samples(150)
    per_image = samples.pixels[0].size
    monkeypatch.setattr(engine, "default_window_bytes", lambda device: 128 * per_image)
    undisturbed = crnn(samples, steps=20)
    curve = fit(undisturbed, samples, None, monkeypatch)
    for steps in (3, 5, 4):
        with pytest.raises(Killed):
            fit(crnn(samples, steps=20), samples, tmp_path, monkeypatch, steps)
    disturbed = crnn(samples, steps=20)
    assert fit(disturbed, samples, tmp_path, monkeypatch) == curve
    assert torch.equal(weights(undisturbed), weights(disturbed))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-1], "is damaged"),
        (lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:], "is damaged"),
        (lambda content: b"", "is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_with_a_line(
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
    undisturbed, disturbed = crnn(samples), crnn(samples)
    fit(undisturbed, samples, None, monkeypatch)
    fit(disturbed, samples, tmp_path, monkeypatch)
    assert torch.equal(weights(undisturbed), weights(disturbed))
    said = capsys.readouterr().out
    assert reason in said
    assert "set aside, training begins anew" in said
    assert path.with_suffix(".aside").exists()


def test_a_checkpoint_of_other_inputs_is_set_aside(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = make_samples(30)
    with pytest.raises(Killed):
        fit(crnn(samples), samples, tmp_path / "cell.1", monkeypatch, steps=5)
    (tmp_path / "cell.1").rename(tmp_path / "cell.2")
    fit(crnn(samples), samples, tmp_path / "cell.2", monkeypatch)
    assert "is of cell.1; set aside" in capsys.readouterr().out


def test_seconds_count_those_of_earlier_processes(
    make_samples: MakeSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(30)
    earlier = Checkpoints(tmp_path)
    earlier.going_on(0, 1000.0)
    with pytest.raises(Killed):
        fit(crnn(samples), samples, earlier, monkeypatch, steps=5)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.seconds < 100
    fit(crnn(samples), samples, checkpoints, monkeypatch)
    assert 1000 < checkpoints.seconds < 1100


@pytest.mark.parametrize("text", ["-1", "soon", "nan"])
def test_an_impossible_interval_is_said(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTCHABENCH_CHECKPOINT_SECONDS", text)
    with pytest.raises(InputError, match="CAPTCHABENCH_CHECKPOINT_SECONDS: must be a number of seconds"):
        Checkpoints(tmp_path)
