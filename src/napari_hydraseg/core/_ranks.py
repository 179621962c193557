"""Several processes that train one model together (torchrun)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import distributed, nn

from ._choice import device_of


@dataclass(frozen=True)
class Ranks:
    """Who takes part, and where this process computes.

    Attributes
    ----------
    rank, world : int
        Number of this process, and of all.
    device : str
        Where it computes.
    """

    rank: int
    world: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process validates, saves and logs."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """Return the first process's number, so that all stop at the same step."""
        if self.world == 1:
            return value
        number = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(number, 0)
        return float(number)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes."""
        if self.world == 1:
            return
        every = list(parameters)
        # a head that had no slices on this process still takes part
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in every]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat / self.world, [p.numel() for p in every])
        for parameter, part in zip(every, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def wait(self) -> None:
        """Wait until all have come here."""
        if self.world > 1:
            self.agree(0.0)


def join(device: str) -> Ranks:
    """Join the processes that torchrun started; alone where it did not.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda" or "mps"; with CUDA each process takes a GPU of its own.
    """
    name = device_of(device)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks(0, 1, name)
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if name == "cuda":
        name = f"cuda:{local}"
        torch.cuda.set_device(local)
    if not distributed.is_initialized():
        distributed.init_process_group("gloo" if name == "cpu" else "nccl")
    return Ranks(rank, world, name)
