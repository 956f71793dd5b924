"""One cell trained on several devices: `torchrun --nproc-per-node N -m stages.train D M F`.

Each process takes its share of every batch. The gradients are averaged, so all processes hold the same weights.
Without torchrun there is one process, and these functions do nothing.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from captchabench.errors import InputError


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, each on its own GPU if there are GPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them; process 0 writes the results."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(order: Tensor) -> Tensor:
    """This process's part of each batch of `order` [steps, batch]: [steps, batch / world_size].

    Raises InputError if a batch cannot be divided evenly.
    """
    if order.shape[1] % world_size():
        raise InputError(
            f"training.batch_size {order.shape[1]} cannot be shared by {world_size()} processes; choose a multiple"
        )
    return order[:, rank() :: world_size()]


def decision_of_first(decision: bool) -> bool:
    """The decision of the first process, in every process."""
    if world_size() == 1:
        return decision
    flag = torch.tensor(decision, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(flag, 0)
    return bool(flag)


def all_agree(vote: bool) -> bool:
    """Whether every process votes yes."""
    if world_size() == 1:
        return vote
    flag = torch.tensor(int(vote), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


def gather_to_first(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The `tensors` of every process by rank, in the first process; an empty list in the others. All are on the CPU."""
    if world_size() == 1:
        return [tensors]
    by_rank: list[Any] = [None] * world_size() if rank() == 0 else []
    dist.gather_object(tensors, by_rank or None)
    return by_rank


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each floating-point tensor by its mean over the processes, in place."""
    if world_size() == 1:
        return
    for tensor in tensors:
        if tensor.is_floating_point():
            dist.all_reduce(tensor)
            tensor /= world_size()
