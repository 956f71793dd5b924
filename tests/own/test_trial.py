"""One training: which images it sees, and that it goes on where it was interrupted."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from captchabench.own import trial
from captchabench.own.plan import Size, plan_for
from captchabench.own.trial import Spec, learning_part, run_trial
from captchabench.samples.shards import Samples, schema, write_shards


def test_smaller_shares_are_parts_of_larger_ones(make_samples: Callable[..., Samples]) -> None:
    samples = make_samples(200)
    parts = {share: learning_part(samples, 0, share, deciding=True) for share in (0.25, 0.5, 1.0)}
    ids = {share: [set(part.sample_ids) for part in three] for share, three in parts.items()}
    held_out = set(samples.where(samples.folds == 0).sample_ids)
    for train, validation, unseen in ids.values():
        assert validation == ids[1.0][1]
        assert not train & (validation | unseen)
        assert not held_out & (train | validation | unseen)
    assert ids[0.25][0] < ids[0.5][0] < ids[1.0][0]
    # What the smaller models check: the half, the other half of the half.
    assert ids[0.5][0] | ids[0.5][2] == ids[1.0][0]
    assert ids[0.25][0] | ids[0.25][2] == ids[0.5][0]
    assert len(ids[1.0][0]) + len(ids[1.0][1]) == 160
    assert len(learning_part(samples, 0, 1.0, deciding=False)[1]) == 3


class _Interrupting(io.StringIO):
    """Raises KeyboardInterrupt at the fifth report of progress."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = 0

    def write(self, text: str) -> int:
        self.reports += text.startswith("{")
        if self.reports == 5:
            raise KeyboardInterrupt
        return super().write(text)


def test_an_interrupted_training_goes_on_to_the_same_bytes(
    tmp_path: Path,
    make_samples: Callable[..., Samples],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = make_samples(60)
    rows = pa.record_batch(
        [
            pa.array(samples.sample_ids),
            pa.array(samples.labels),
            pa.array(samples.folds),
            pa.array([pixels.tobytes() for pixels in samples.pixels], pa.binary(samples.pixels[0].size)),
            pa.array(samples.sample_ids),
        ],
        schema=schema(samples.info),
    )
    plan = plan_for(60, Size(samples.info.height, samples.info.width), tiles=False, minutes=0.01)
    specs = []
    for name in ("whole", "interrupted"):
        folder = tmp_path / name
        write_shards(folder / "shards" / "written", samples.info, [rows], 100)
        parameters = tuple(plan.with_steps(steps) for steps in (4, 8))
        weights = str(folder / "models" / "m")
        specs.append(Spec("t", str(folder), "written", plan.model, parameters, (4.0, 8.0), 0, weights=weights))
    monkeypatch.setenv("CAPTCHABENCH_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(trial, "_SECONDS_BETWEEN_REPORTS", -1.0)
    run_trial(specs[0], io.StringIO())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_trial(specs[1], _Interrupting())
        assert not specs[1].result.exists()
    capsys.readouterr()
    run_trial(specs[1], io.StringIO())
    assert "resuming after step" in capsys.readouterr().out
    for folder in (specs[0].result, Path(specs[0].weights)):
        for path in folder.iterdir():
            other = tmp_path / "interrupted" / path.relative_to(tmp_path / "whole")
            assert path.read_bytes() == other.read_bytes(), path.name
    # Done: nothing is trained again, unless the parameters change.
    out = io.StringIO()
    run_trial(specs[1], out)
    assert out.getvalue() == ""
    run_trial(replace(specs[1], parameters=specs[1].parameters[:1]), out)
    assert out.getvalue() != ""
