"""The complete state of a training between two steps, as a checkpoint: read, restored, written.

It holds the weights, the optimiser's state, the random generators, the position in the data and the best weights.
"""

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

# The tensor that holds all that is not a tensor, as JSON.
_RECORD = "record"


class Snapshot:
    """A checkpoint that was read. steps_done: the number of steps before it."""

    def __init__(self, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        self._tensors = tensors
        self._record = record
        self.steps_done: int = record["steps_done"]

    def restore(self, step: TrainingStep, run: TrainingRun, best: Best) -> None:
        """Restore the state. Tensors are copied in place, since a recorded graph reads from their addresses."""
        for index, tensor in enumerate(step.shared_state()):
            tensor.copy_(self._tensors[f"shared.{index}"])
        rank = distributed.rank()
        for index, tensor in enumerate(step.process_state()):
            tensor.copy_(self._tensors[f"{rank}.{index}"])
        torch.set_rng_state(self._tensors[f"{rank}.cpu"])
        if step.device.type == "cuda":
            torch.cuda.set_rng_state(self._tensors[f"{rank}.cuda"], step.device)
        for name, weight in best.weights.items():
            weight.copy_(self._tensors[f"best.{name}"])
        best.score, best.stale = tuple(self._record["score"]), self._record["stale"]
        run.steps_done, run.step_seconds = self.steps_done, self._record["step_seconds"]
        run.curve = [CurvePoint(**point) for point in self._record["curve"]]
        run.curve_seconds = self._record["curve_seconds"]


def read_snapshot(checkpoints: Checkpoints) -> Snapshot | None:
    """The last snapshot of a training; None if the training starts from the beginning."""
    encoded = checkpoints.read()
    if encoded is None:
        return None
    tensors = load(encoded)
    record = json.loads(tensors.pop(_RECORD).numpy().tobytes())
    if record["inputs"] != checkpoints.inputs:
        checkpoints.set_aside(f"belongs to {record['inputs']}")
        return None
    if distributed.rank() == 0:
        checkpoints.resume(record["steps_done"], record["elapsed"])
    return Snapshot(tensors, record)


def write_snapshot(checkpoints: Checkpoints, step: TrainingStep, run: TrainingRun, best: Best) -> None:
    """Write the present state. All processes of a training call this together; the first one writes."""
    of_process = {str(index): tensor.cpu() for index, tensor in enumerate(step.process_state())}
    of_process["cpu"] = torch.get_rng_state()
    if step.device.type == "cuda":
        of_process["cuda"] = torch.cuda.get_rng_state(step.device)
    by_rank = distributed.gather_to_first(of_process)
    if distributed.rank() != 0:
        return
    record = {
        "inputs": checkpoints.inputs,
        "elapsed": checkpoints.seconds,
        "steps_done": run.steps_done,
        "step_seconds": run.step_seconds,
        "curve": [asdict(point) for point in run.curve],
        "curve_seconds": run.curve_seconds,
        "score": best.score,
        "stale": best.stale,
    }
    tensors = {_RECORD: torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)}
    tensors |= {f"shared.{index}": tensor for index, tensor in enumerate(step.shared_state())}
    tensors |= {f"best.{name}": weight for name, weight in best.weights.items()}
    tensors |= {f"{rank}.{name}": tensor for rank, part in enumerate(by_rank) for name, tensor in part.items()}
    # safetensors refuses tensors that share memory.
    copies = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
    checkpoints.write(save(copies, {"checksum": UNSEALED}))
