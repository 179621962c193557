"""What a fine-tuning run works on: network, prepared scans, what is frozen and held."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import _choice, _holdout, grid, networks, training
from ._classes import Classes
from .networks import MultiHead
from .types import Checkpoint, ModelSpec, Segmentation, Volume

Mode: TypeAlias = Literal["frozen", "full", "scratch"]
Pair: TypeAlias = tuple[Volume, Segmentation]


@dataclass(frozen=True, eq=False)
class Job:
    """One run.

    Attributes
    ----------
    net : MultiHead
        Trained in place.
    checkpoint : Checkpoint
        The model that went in.
    spec : ModelSpec
        Of the model that comes out, all heads included.
    head : str
        The head that learns.
    mode : {"frozen", "full", "scratch"}
        What is trained, and from where.
    classes : tuple of mapping of int to int
        For each scan: label id -> class index.
    pairs : tuple of (Volume, Segmentation)
        The annotated scans.
    cases : tuple of Case
        The same, as the model wants them.
    truths : tuple of ndarray of uint8, shape (slice, row, column)
        Class indices on the scans' own grids; `IGNORE` where nobody vouches.
    lessons : tuple of Case
        Those of `cases` that are learned from, with nothing annotated that is not.
    split : Split
        Which slices are learned from and which are held out.
    depth : int
        How many of the encoder's levels are frozen, the finest first.
    frozen : bool
        Whether the whole encoder is frozen.
    patch : tuple of int
        Size of what is learned from: rows and columns, or z, y, x.
    device : str
        Where to compute.
    rng : numpy.random.Generator
        Source of all chance.
    """

    net: MultiHead
    checkpoint: Checkpoint
    spec: ModelSpec
    head: str
    mode: Mode
    classes: tuple[Classes, ...]
    pairs: tuple[Pair, ...]
    cases: tuple[training.Case, ...]
    truths: tuple[NDArray[np.uint8], ...]
    lessons: tuple[training.Case, ...]
    split: _holdout.Split
    depth: int
    frozen: bool
    patch: tuple[int, ...]
    device: str
    rng: np.random.Generator

    @property
    def slices(self) -> int:
        """Neighbouring slices that make one input."""
        return int(self.spec.options.get("slices", 1))

    @property
    def format(self) -> torch.memory_format:
        """Order of the axes in memory that convolutions like."""
        return torch.channels_last if self.spec.slicewise else torch.channels_last_3d

    def learn(self) -> None:
        """Let the norms of what is trained follow the batches; frozen ones never do.

        A pretrained encoder keeps its statistics also where it is trained: those of a
        few slices are no better.
        """
        self.net.eval()
        self.net.heads[self.head].train()
        if self.mode == "scratch":
            self.net.encoder.train()

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute what the head reads."""
        batch = images.to(self.device, memory_format=self.format)
        return self.net.features(networks.padded(batch, self.net), self.head)

    def frame(self, case: int) -> grid.Frame:
        """Return the frame through which the model sees a scan."""
        volume = self.pairs[case][0]
        modality = modality_of(volume, self.checkpoint, self.head)
        return grid.frame_of(volume, self.spec, modality=modality, head=self.head)[0]

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that may change, buffers included."""
        fixed = "encoder." if self.frozen else None
        own = f"heads.{self.head}."
        return {
            name: value
            for name, value in self.net.state_dict().items()
            if name.startswith(own) or (not fixed and name.startswith("encoder."))
        }


def modality_of(volume: Volume, checkpoint: Checkpoint, head: str) -> str:
    """Settle as which modality an annotated scan counts."""
    known = (head,) if head in checkpoint.spec.heads else ()
    return _choice.modality_of(volume, checkpoint, known)[0]


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that take gradients."""
    return [p for p in module.parameters() if p.requires_grad]
