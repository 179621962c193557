"""How long a segmentation will take here, measured by its first two steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ._choice import device_of
from .inference import segment
from .types import Checkpoint, Volume


@dataclass(frozen=True)
class Pace:
    """What a short probe found.

    Attributes
    ----------
    device : str
        In words: "CPU, 2 threads", or the name of the graphics card.
    seconds : float
        For the whole scan, preparation included.
    """

    device: str
    seconds: float


def measure_pace(
    volume: Volume,
    checkpoint: Checkpoint,
    *,
    heads: Sequence[str] = (),
    device: str = "auto",
) -> Pace:
    """Begin a segmentation, and tell from its first two steps how long all will take.

    Parameters
    ----------
    volume : Volume
        The scan.
    checkpoint : Checkpoint
        The model.
    heads : sequence of str
        As of `core.segment`.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Returns
    -------
    Pace
        The first step pays for the preparation, the second one gives the pace: what a
        first call costs once (kernels that are chosen, memory) is not multiplied.

    Raises
    ------
    HydraSegError
        As `core.segment` would.
    """
    where = device_of(device)
    start = time.monotonic()
    steps = segment(volume, checkpoint, heads=heads, device=where)
    try:
        first = next(steps)
        begun = time.monotonic()
        if first.done >= first.total:
            return Pace(in_words(where), begun - start)
        second = next(steps)
        each = (time.monotonic() - begun) / max(second.done - first.done, 1)
    finally:
        steps.close()
    return Pace(in_words(where), begun - start + each * (first.total - first.done))


def in_words(device: str) -> str:
    """Name a device for people.

    Parameters
    ----------
    device : {"cpu", "cuda", "mps"}
        Where to compute.
    """
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    if device == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"
