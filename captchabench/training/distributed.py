"""One cell over several devices: `torchrun --nproc-per-node N -m stages.train D M F`.

Each process takes its share of every batch, the gradients are averaged, and all hold the same weights. Without
torchrun there is one process and nothing here does anything.
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
    """Join the processes that torchrun started, on this process's own GPU where there is one."""
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
    """The number of this process among them; 0 writes the results."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(order: Tensor) -> Tensor:
    """This process's part of each batch of `order` [steps, batch]: [steps, batch / world_size].

    Raises InputError where a batch cannot be shared out evenly.
    """
    if order.shape[1] % world_size():
        raise InputError(
            f"training.batch_size {order.shape[1]} cannot be shared by {world_size()} processes; choose a multiple"
        )
    return order[:, rank() :: world_size()]


def agreed(wish: bool) -> bool:
    """What the first process wishes, in all of them."""
    if world_size() == 1:
        return wish
    heard = torch.tensor(wish, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(heard, 0)
    return bool(heard)


def all_agree(wish: bool) -> bool:
    """Whether every process wishes it."""
    if world_size() == 1:
        return wish
    heard = torch.tensor(int(wish), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(heard, dist.ReduceOp.MIN)
    return bool(heard)


def gathered(own: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """What each process holds, by rank, in the first process; in the others an empty list. Tensors are on the CPU."""
    if world_size() == 1:
        return [own]
    everyones: list[Any] = [None] * world_size() if rank() == 0 else []
    dist.gather_object(own, everyones or None)
    return everyones


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each floating-point tensor by its mean over the processes, in place."""
    if world_size() == 1:
        return
    for tensor in tensors:
        if tensor.is_floating_point():
            dist.all_reduce(tensor)
            tensor /= world_size()
