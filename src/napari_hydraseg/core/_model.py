"""Models: how to build one, its weights, its line in a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """All that is needed to rebuild a network and to feed it. Plain JSON.

    Attributes
    ----------
    network : str
        A file of `core.networks`.
    channels : tuple of str
        Names of the image channels.
    heads : mapping of str to tuple of str
        Class names of each head, background first.
    patch : tuple of int
        Two numbers: slice-wise in the acquisition plane; three: volumetric.
        The size that training used; inference takes any in-plane size.
    spacing_mm : mapping of str to number or list
        Voxel size that the network wants. The key is a head's name or a modality
        ("MR"); the head wins, so that heads of small and large organs can share an
        encoder, and heads of equal spacing share one pass. A number is the in-plane
        size (2-D) or the size along all axes (3-D); ``{"longest": n}`` scales the
        longer side to n pixels, for pictures that have no millimetres. ``{"mm": x}``
        is the number x, beside which may stand "foreground" (true: air around the body
        is cut off), "align" and "crop" (of slices; see `grid.Frame`).
    intensity : mapping of str to mapping
        Normalisation by modality; see `core.grid.normalise`.
    orientation : str
        Directions of rows and columns of an axial slice.
    threshold : float, mapping of str to float, or None
        Probability of the foreground above which two-class heads (or those that are
        named) say yes; else the most probable class.
    largest : tuple of str
        Heads of which only the largest connected piece of each class is kept: organs
        that are there once.
    mirror : tuple of str
        Heads that look at the scan and at its mirror image (columns reversed) and
        answer with the mean of both logits: heads that learned from mirrored scans.
    options : mapping
        Arguments of the network's ``build``.
    """

    network: str
    channels: tuple[str, ...]
    heads: Mapping[str, tuple[str, ...]]
    patch: tuple[int, ...]
    spacing_mm: Mapping[str, Any] = field(default_factory=dict)
    intensity: Mapping[str, Any] = field(default_factory=dict)
    orientation: str = "P,L"
    threshold: float | Mapping[str, float] | None = None
    largest: tuple[str, ...] = ()
    mirror: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slicewise(self) -> bool:
        """Whether the network sees slices (True) or blocks (False)."""
        return len(self.patch) == 2


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model in one piece.

    Attributes
    ----------
    spec : ModelSpec
        How to rebuild and feed the network.
    weights : mapping of str to ndarray
        The network's tensors by name.
    card : mapping
        Plain JSON: name, licence per head, citation, training data, metrics with n,
        parent, what was frozen.
    reference : mapping of str to mapping of str to ndarray
        For each head the features of its training scans: per depth an array
        (slice, feature), with "scan" (slice,) and "position" (slice,) beside them.
    """

    spec: ModelSpec
    weights: Mapping[str, NDArray[Any]]
    card: Mapping[str, Any] = field(default_factory=dict)
    reference: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The model's name, from its card."""
        return str(self.card.get("name", "unnamed"))


@dataclass(frozen=True)
class ModelInfo:
    """One line of the list of models; read without loading a tensor."""

    name: str
    network: str
    heads: Mapping[str, tuple[str, ...]]
    modality: tuple[str, ...]
    licence: str
    size_mb: float
    path: Path
    source: Literal["bundled", "user", "file"]
    card: Mapping[str, Any] = field(default_factory=dict)
