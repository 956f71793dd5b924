"""One training over two processes, as torchrun starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from captchabench.errors import InputError
from captchabench.training import distributed

PROGRAM = """
import sys
from pathlib import Path

import torch
from torch import nn

from captchabench.training import distributed
from captchabench.training.checkpoints import Checkpoints
from captchabench.training.engine import train_network
from captchabench.training.feed import TensorSamples
from captchabench.training.network import Network
from captchabench.training.settings import TrainingConfig


class Tiny(Network):
    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(12, 3)

    def forward(self, images):
        return self.classify(images.flatten(1)).log_softmax(1)[:, None]

    def losses(self, log_probs, targets, lengths, guide=None):
        return -log_probs[:, 0].gather(1, targets)[:, 0]

    def read(self, log_probs):
        best, ids = log_probs.max(dim=2)
        return ids, best[:, 0]


torch.manual_seed(0)
samples = TensorSamples(torch.randint(0, 255, (60, 3, 4), dtype=torch.uint8), torch.randint(0, 3, (60, 1)))
network = Tiny()
with distributed.process_group():
    config = TrainingConfig(steps=30, batch_size=12, learning_rate=0.02, evaluations=3, clip_norm=0.5)
    checkpoints = Checkpoints(Path(sys.argv[2]))
    run = train_network(network, samples, samples, config, seed=0, checkpoints=checkpoints)
    torch.save((network.state_dict(), [vars(p) for p in run.curve]), Path(sys.argv[1]) / f"{distributed.rank()}.pt")
"""


def train(folder: Path, processes: int) -> list[tuple[dict[str, torch.Tensor], list[dict[str, float]]]]:
    folder.mkdir()
    program = folder / "program.py"
    program.write_text(PROGRAM)
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "OMP_NUM_THREADS": "1",
        "CAPTCHABENCH_CHECKPOINT_SECONDS": "0",
    }
    subprocess.run(
        [sys.executable, *launcher, program, folder, folder.parent / f"scratch-{processes}"],
        check=True,
        env=environment,
        timeout=120,
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]


def test_two_processes_learn_what_one_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ((alone, curve),) = train(tmp_path / "one", 1)
    first, second = train(tmp_path / "two", 2)
    assert first[1] == second[1]
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]
    assert first[1][-1]["validation_loss"] == pytest.approx(curve[-1]["validation_loss"], rel=1e-4)
    for name, weight in alone.items():
        assert torch.equal(first[0][name], second[0][name])
        torch.testing.assert_close(first[0][name], weight, rtol=1e-3, atol=1e-5)
    # The checkpoint of step 20 is still there: from it they come to the same.
    for again, before in zip(train(tmp_path / "again", 2), (first, second), strict=True):
        assert again[1] == before[1]
        for name, weight in before[0].items():
            assert torch.equal(again[0][name], weight)
    assert "going on after step 20" in capfd.readouterr().out


def test_a_batch_that_cannot_be_shared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(InputError, match="batch_size 30 cannot be shared by 4"):
        distributed.share(torch.zeros(2, 30))
