"""What a fine-tuning run works on: network, prepared scans, what is frozen and held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from . import _choice, _heads, _holdout, networks, training
from .errors import EmptyAnnotation, WrongInput
from .networks import MultiHead
from .types import Checkpoint, ModelSpec, Segmentation, Volume

Mode: TypeAlias = Literal["frozen", "full", "scratch"]
Pair: TypeAlias = tuple[Volume, Segmentation]

PATCH = 256  # pixels; slices up to this size are learned whole


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
    classes : mapping of int to int
        Label id -> class index.
    pairs : tuple of (Volume, Segmentation)
        The annotated scans.
    cases : tuple of Case
        The same, as the model wants them.
    split : Split
        Which slices are learned from and which are held out.
    frozen : bool
        Whether the whole encoder is frozen.
    patch : tuple of int
        Rows and columns of what is learned from.
    device : str
        Where to compute.
    rng : numpy.random.Generator
        Source of all chance.
    """

    net: MultiHead
    checkpoint: Checkpoint
    spec: ModelSpec
    head: str
    classes: Mapping[int, int]
    pairs: tuple[Pair, ...]
    cases: tuple[training.Case, ...]
    split: _holdout.Split
    frozen: bool
    patch: tuple[int, int]
    device: str
    rng: np.random.Generator

    @property
    def slices(self) -> int:
        """Neighbouring slices that make one input."""
        return int(self.spec.options.get("slices", 1))


def make_job(
    checkpoint: Checkpoint,
    pairs: Sequence[Pair],
    *,
    head: str,
    class_names: Sequence[str],
    mode: Mode,
    depth: int | None,
    hold_out: bool,
    seed: int,
    device: str,
) -> Job:
    """Check and prepare everything that a run needs; see `core.finetune`."""
    if not checkpoint.spec.slicewise:
        raise WrongInput(
            f"{checkpoint.name} is volumetric; slices cannot teach it yet.",
            "Choose a slice-wise model, such as hydranet.",
        )
    if not pairs:
        raise EmptyAnnotation("No annotated scan was given.", "Paint a few slices.")
    for volume, segmentation in pairs:
        _heads.check(volume, segmentation)
    existing = checkpoint.spec.heads.get(head)
    names, classes = _heads.classes_of(
        [segmentation for _, segmentation in pairs], existing, class_names
    )
    spacing = None if existing else _heads.spacing_for(pairs)
    spec = _heads.extended(checkpoint.spec, head, names, spacing)
    if head in networks.classifiers(spec):
        raise WrongInput(
            f"The head {head!r} says one thing about a whole image; it learns no mask.",
            "Choose another head.",
        )
    cases = tuple(
        training.prepare(
            volume,
            segmentation,
            spec,
            head=head,
            modality=modality_of(volume, checkpoint, head),
            classes=classes,
        )
        for volume, segmentation in pairs
    )
    net = (
        networks.build(spec, seed=seed).eval()
        if mode == "scratch"
        else _heads.grown(checkpoint, spec, seed=seed)
    )
    where = _choice.device_of(device)
    net = net.to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return Job(
        net=net,
        checkpoint=checkpoint,
        spec=spec,
        head=head,
        classes=classes,
        pairs=tuple(pairs),
        cases=cases,
        split=_split(checkpoint, pairs, cases, hold_out=hold_out),
        frozen=_freeze(net, head, mode, depth),
        patch=_patch(cases),
        device=where,
        rng=np.random.default_rng(seed),
    )


def modality_of(volume: Volume, checkpoint: Checkpoint, head: str) -> str:
    """Settle as which modality an annotated scan counts."""
    known = (head,) if head in checkpoint.spec.heads else ()
    return _choice.modality_of(volume, checkpoint, known)[0]


def _split(
    checkpoint: Checkpoint,
    pairs: Sequence[Pair],
    cases: Sequence[training.Case],
    *,
    hold_out: bool,
) -> _holdout.Split:
    return _holdout.split(
        [_holdout.identity(volume) for volume, _ in pairs],
        [case.annotated.tolist() for case in cases],
        [case.painted for case in cases],
        ledger=checkpoint.card.get("held_out", {}),
        wanted=hold_out,
    )


def _freeze(net: MultiHead, head: str, mode: Mode, depth: int | None) -> bool:
    """Switch off what is not trained; return whether the whole encoder is frozen.

    The network stays in eval mode throughout, so that no statistics move.
    """
    levels = net.encoder.levels()
    count = 0 if mode != "frozen" else len(levels) if depth is None else depth
    net.requires_grad_(False)
    net.heads[head].requires_grad_(True)
    for module in (module for level in levels[count:] for module in level):
        module.requires_grad_(True)
    return not any(p.requires_grad for p in net.encoder.parameters())


def _patch(cases: Sequence[training.Case]) -> tuple[int, int]:
    """Whole slices, in multiples of 32, up to the size that a step can take."""
    sizes = np.array([case.labels.shape[1:] for case in cases]).max(0)
    rows, columns = (int(min(-(-n // 32) * 32, PATCH)) for n in sizes)
    return rows, columns


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that take gradients."""
    return [p for p in module.parameters() if p.requires_grad]
