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
from captchabench.training.acceleration import Acceleration
from captchabench.training.checkpoints import Checkpoints
from captchabench.training.engine import train_network
from captchabench.training.feed import TensorSamples
from captchabench.networks.network import Network
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


class Elsewhere(Acceleration):
    def build(self, step):
        if distributed.rank() == 1:
            raise RuntimeError("no graph here")
        return step.run_eagerly


torch.manual_seed(0)
samples = TensorSamples(torch.randint(0, 255, (60, 3, 4), dtype=torch.uint8), torch.randint(0, 3, (60, 1)))
folder = Path(sys.argv[1])
config = TrainingConfig(steps=30, batch_size=12, learning_rate=0.02, evaluations=3, clip_norm=0.5)
with distributed.process_group():
    # The second training resumes from the last checkpoint of the first.
    for time in ("first", "again"):
        torch.manual_seed(1)
        network = Tiny()
        run = train_network(network, samples, samples, config, seed=0, checkpoints=Checkpoints(folder / "scratch"))
        done = network.state_dict(), [vars(p) for p in run.curve]
        torch.save(done, folder / f"{time}-{distributed.rank()}.pt")
    torch.manual_seed(1)
    network = Tiny()
    run = train_network(network, samples, samples, config, seed=0, acceleration=Elsewhere(compile=False, graph=True))
    torch.save((network.state_dict(), run.refusal), folder / f"elsewhere-{distributed.rank()}.pt")
"""


Done = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


def train(folder: Path, processes: int, devices: str = "") -> tuple[list[Done], list[Done]]:
    """Train twice. Returns the weights and curve of each process, of the first and of the second training."""
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
        "CUDA_VISIBLE_DEVICES": devices,
        "CAPTCHABENCH_CHECKPOINT_SECONDS": "0",
    }
    subprocess.run(
        [sys.executable, *launcher, program, folder],
        check=True,
        env=environment,
        timeout=900,
    )
    first, again = (
        [torch.load(folder / f"{time}-{rank}.pt", weights_only=True) for rank in range(processes)]
        for time in ("first", "again")
    )
    return first, again


def test_two_processes_learn_what_one_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ((alone, curve),), _ = train(tmp_path / "one", 1)
    (first, second), again = train(tmp_path / "two", 2)
    assert first[1] == second[1]
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]
    assert first[1][-1]["validation_loss"] == pytest.approx(curve[-1]["validation_loss"], rel=1e-4)
    for name, weight in alone.items():
        assert torch.equal(first[0][name], second[0][name])
        torch.testing.assert_close(first[0][name], weight, rtol=1e-3, atol=1e-5)
    # Resumed from a checkpoint, the result is the same.
    for after, before in zip(again, (first, second), strict=True):
        assert after[1] == before[1]
        for name, weight in before[0].items():
            assert torch.equal(after[0][name], weight)
    assert "resuming after step 20" in capfd.readouterr().out
    # If one process refuses accelerated steps, both stay eager.
    elsewhere = [torch.load(tmp_path / "two" / f"elsewhere-{rank}.pt", weights_only=True) for rank in range(2)]
    assert [refusal for _, refusal in elsewhere] == ["another process refused them", "RuntimeError: no graph here"]
    for weights, _ in elsewhere:
        for name, weight in first[0].items():
            assert torch.equal(weights[name], weight)


@pytest.mark.gpu
def test_two_gpus_learn_what_one_does(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    ((alone, _),), _ = train(tmp_path / "one", 1, "0")
    (first, second), again = train(tmp_path / "two", 2, "0,1")
    assert "steps are not used" not in capfd.readouterr().out
    for name, weight in alone.items():
        assert torch.equal(first[0][name], second[0][name])
        torch.testing.assert_close(first[0][name], weight, rtol=0.05, atol=1e-3)
        torch.testing.assert_close(again[0][0][name], first[0][name], rtol=0.05, atol=1e-3)


def test_a_batch_that_cannot_be_shared_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(InputError, match="batch_size 30 cannot be shared by 4"):
        distributed.share(torch.zeros(2, 30))
