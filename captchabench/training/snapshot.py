"""All that a training is between two steps: what is learned, the generators, the place in the data, the best so far."""

import json
from dataclasses import asdict
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from captchabench.storage.checksum import UNSEALED
from captchabench.training import distributed
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from captchabench.training.run import Best, TrainingRun
from captchabench.training.step import TrainingStep

_SAID = "said"


class Snapshot:
    """A checkpoint that was read. taken: the steps before it."""

    def __init__(self, tensors: dict[str, Tensor], said: dict[str, Any]) -> None:
        self._tensors = tensors
        self._said = said
        self.taken: int = said["taken"]

    def restore(self, step: TrainingStep, run: TrainingRun, best: Best) -> None:
        """Put everything back as it was: tensors in place, which a recorded graph reads, and both generators."""
        for place, tensor in enumerate(step.shared()):
            tensor.copy_(self._tensors[f"shared.{place}"])
        rank = distributed.rank()
        for place, tensor in enumerate(step.own()):
            tensor.copy_(self._tensors[f"{rank}.{place}"])
        torch.set_rng_state(self._tensors[f"{rank}.cpu"])
        if step.device.type == "cuda":
            torch.cuda.set_rng_state(self._tensors[f"{rank}.cuda"], step.device)
        for name, weight in best.weights.items():
            weight.copy_(self._tensors[f"best.{name}"])
        best.score, best.stale = tuple(self._said["score"]), self._said["stale"]
        run.taken, run.spent, run.seconds = self.taken, self._said["spent"], self._said["seconds"]
        run.curve = [CurvePoint(**point) for point in self._said["curve"]]


def read_snapshot(checkpoints: Checkpoints) -> Snapshot | None:
    """The last snapshot of a training; None if it has to begin anew."""
    encoded = checkpoints.read()
    if encoded is None:
        return None
    tensors = load(encoded)
    said = json.loads(tensors.pop(_SAID).numpy().tobytes())
    if said["inputs"] != checkpoints.inputs:
        checkpoints.set_aside(f"is of {said['inputs']}")
        return None
    if distributed.rank() == 0:
        checkpoints.going_on(said["taken"], said["elapsed"])
    return Snapshot(tensors, said)


def write_snapshot(checkpoints: Checkpoints, step: TrainingStep, run: TrainingRun, best: Best) -> None:
    """Keep the present state. All processes of a training call this together; the first one writes."""
    mine = {str(place): tensor.cpu() for place, tensor in enumerate(step.own())}
    mine["cpu"] = torch.get_rng_state()
    if step.device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(step.device)
    everyones = distributed.gathered(mine)
    if distributed.rank() != 0:
        return
    said = {
        "inputs": checkpoints.inputs,
        "elapsed": checkpoints.seconds,
        "taken": run.taken,
        "spent": run.spent,
        "seconds": run.seconds,
        "curve": [asdict(point) for point in run.curve],
        "score": best.score,
        "stale": best.stale,
    }
    tensors = {_SAID: torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)}
    tensors |= {f"shared.{place}": tensor for place, tensor in enumerate(step.shared())}
    tensors |= {f"best.{name}": weight for name, weight in best.weights.items()}
    tensors |= {f"{rank}.{name}": tensor for rank, own in enumerate(everyones) for name, tensor in own.items()}
    kept = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    checkpoints.write(save(kept, {"checksum": UNSEALED}))
