"""The nouns: what the verbs of this package take and give.

Voxel arrays are in the order (z, y, x), z towards Superior, y towards Posterior, x
towards Left; affines map (z, y, x, 1) to millimetres in (S, P, L). See `core.io` for
the only place where other conventions appear.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Modality: TypeAlias = Literal["MR", "CT", "US", "XR"]
Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]
Verdict: TypeAlias = Literal["different", "borderline", "similar", "cannot-judge"]

MODALITIES: tuple[Modality, ...] = ("MR", "CT", "US", "XR")
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")  # slices along z, y, x

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One sign of life of a long verb."""

    done: int
    total: int
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    preview: Any = None


Steps: TypeAlias = Generator[Progress, str | None, T]
"""A long verb: yields `Progress`, returns its result; see `finish`.

One that can end early with what it has takes the message ``"stop"`` (``send``).
"""


def finish(
    steps: Steps[T], on_progress: Callable[[Progress], object] | None = None
) -> T:
    """Run a long verb here and now.

    Parameters
    ----------
    steps : Steps
        What a long verb such as `segment` returned.
    on_progress : callable, optional
        Called with each `Progress`.

    Returns
    -------
    object
        The result of the verb.
    """
    while True:
        try:
            progress = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if on_progress is not None:
            on_progress(progress)


def relay(steps: Steps[T], shown: Callable[[Progress], Progress]) -> Steps[T]:
    """Run another verb as a part of one's own.

    Parameters
    ----------
    steps : Steps
        The other verb; it is closed with this one, and gets what is sent in.
    shown : callable
        Turns its `Progress` into that of the whole.

    Yields
    ------
    Progress
        As `shown` turns it.

    Returns
    -------
    object
        The result of the other verb.
    """
    said: str | None = None
    try:
        while True:
            said = yield shown(steps.send(said))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """The grid of the file that a scan came from: enough to write back on it.

    Attributes
    ----------
    shape : tuple of int
        Shape in the file's own order, trailing single dimensions included.
    transform : ndarray, shape (3, 2)
        For each spatial axis of the file: our axis and the direction (nibabel's
        orientation convention).
    header : mapping
        Raw geometry fields of the header, by the names of the NIfTI standard.
    format : str
        "nifti1", "nifti2", "mgh", "nrrd", "meta", or "image" (2-D picture without
        geometry).
    sha256 : str
        Digests of the scan's files, spaces between, so that no mask is written over
        one of them.
    """

    shape: tuple[int, ...]
    transform: NDArray[np.float64]
    header: Mapping[str, Any] = field(default_factory=dict)
    format: str = "nifti1"
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan of one or more co-registered channels.

    Attributes
    ----------
    data : ndarray, shape (channel, z, y, x)
        Grey values in native byte order.
    affine : ndarray, shape (4, 4)
        Index (z, y, x, 1) to millimetres in (S, P, L).
    names : tuple of str
        One name per channel.
    modality : {"MR", "CT", "US", "XR"} or None
        None where the file does not say and the user did not.
    known : frozenset of str
        Which of "spacing" and "orientation" the file really gave.
    plane : {"axial", "coronal", "sagittal"}
        The acquisition plane.
    grid : SourceGrid or None
        The file's own grid.
    source : str
        A short name for messages. Never written inside a result.
    sha256 : str
        Digest of the file(s), for provenance. Empty if not from a file.
    notes : tuple of str
        What was unusual about the file and how it was read.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    names: tuple[str, ...] = ("image",)
    modality: Modality | None = None
    known: frozenset[str] = frozenset({"spacing", "orientation"})
    plane: Plane = "axial"
    grid: SourceGrid | None = None
    source: str = "scan"
    sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        _, z, y, x = self.data.shape
        return z, y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along z, y, x (1 where the file gave none)."""
        z, y, x = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(z), float(y), float(x)

    @property
    def plane_axis(self) -> int:
        """The voxel axis (0 = z, 1 = y, 2 = x) along which the slices are stacked."""
        return PLANES.index(self.plane)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels on the grid of a scan.

    Attributes
    ----------
    labels : ndarray of uint8 or uint16, shape (z, y, x)
        0 is background.
    affine : ndarray, shape (4, 4)
        As in `Volume`.
    names : mapping of int to str
        Name of each label id.
    annotated : ndarray of bool or None
        What the annotator vouches for: one value per slice of `plane`, or one per
        voxel, or None for all.
    plane : {"axial", "coronal", "sagittal"}
        The plane that a per-slice `annotated` counts in.
    probabilities : ndarray of float32, shape (class, z, y, x), or None
        Softmax output, background first.
    grid : SourceGrid or None
        The grid of the scan's file, so that the mask can be written on it.
    made_by : mapping
        Provenance: model, versions, parameters, fall-backs. Empty for hand-made ones.
    colours : mapping of int to str
        ``#RRGGBB`` by label id, where a file or a person chose one.
    """

    labels: NDArray[Any]
    affine: NDArray[np.float64]
    names: Mapping[int, str] = field(default_factory=dict)
    annotated: NDArray[np.bool_] | None = None
    plane: Plane = "axial"
    probabilities: NDArray[np.float32] | None = None
    grid: SourceGrid | None = None
    made_by: Mapping[str, Any] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along z, y, x."""
        z, y, x = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(z), float(y), float(x)


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


@dataclass(frozen=True, eq=False)
class Report:
    """A result to be read by people: `core.write_report` makes a file of it.

    Attributes
    ----------
    title, verdict : str
        Headline and one-sentence answer.
    rows : tuple of mapping
        A table, one mapping of column to value per row.
    figures : tuple of mapping
        Data to draw, not pictures: ``{"kind": "line" | "bar" | "scatter" | "image",
        "title": ..., ...}``; see `core.report`.
    basis : mapping
        What was compared: sizes, seed, versions.
    notes : tuple of str
        Paragraphs of plain text.
    """

    title: str
    verdict: str
    rows: tuple[Mapping[str, Any], ...] = ()
    figures: tuple[Mapping[str, Any], ...] = ()
    basis: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """What a fine-tuning run gave.

    Attributes
    ----------
    checkpoint : Checkpoint
        The new model if it was accepted, else the one that went in.
    candidate : Checkpoint
        The trained model, accepted or not.
    head, init, mode : str
        What was trained, where it started from ("random" or a head), and how.
    reason : str
        Why it started there, in plain words.
    before, after : mapping
        ``{"dice", "n", "low", "high"}`` on the same held-out slices; ``n`` counts
        slices, ``low`` and ``high`` bound a 95 % bootstrap interval over them.
    accepted : bool
        Whether after is better than before.
    epochs : int
        Passes over the annotated slices.
    curve : tuple of mapping
        ``{"epoch", "loss", "dice"}``, baseline first.
    frozen : mapping
        ``{"tensors", "sha256_before", "sha256_after"}`` over every frozen parameter
        and buffer.
    train, hold_out : mapping
        ``{"cases", "slices"}``; ``hold_out`` also has ``kind``: "scan", "slab" or
        "none".
    warnings : tuple of str
        What to be careful about, in plain words.
    """

    checkpoint: Checkpoint
    candidate: Checkpoint
    head: str
    init: str
    mode: str
    reason: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    accepted: bool
    epochs: int
    curve: tuple[Mapping[str, float], ...]
    frozen: Mapping[str, Any]
    train: Mapping[str, Any]
    hold_out: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """How like the training scans a scan is.

    Attributes
    ----------
    verdict : {"different", "borderline", "similar", "cannot-judge"}
        By p: at most .05, at most .15, above; too few reference scans.
    p, p_floor : float
        Share of reference scans that lie at least as far out, corrected over
        depths, and the smallest value it could have taken. ``nan``: cannot judge.
    percentile : float
        Share of the reference scans, in percent, that are closer to the rest.
    n_reference : int
        Reference scans compared with.
    by_depth : tuple of mapping
        ``{"depth", "mmd2", "novelty", "percentile"}`` per encoder depth; novelty is the
        Mahalanobis distance in units of that of the median reference scan.
    per_case : tuple of mapping
        ``{"case", "verdict", "p", "percentile"}`` per scan.
    per_slice : tuple of mapping
        ``{"case", "slice", "witness"}``; above 0: unlike the reference.
    causes : tuple of mapping
        ``{"name", "scan", "reference_low", "reference_high"}``.
    advice : mapping
        ``{"init", "depth", "text"}``.
    basis : mapping
        Model, head, sizes, seed.
    picture : mapping
        ``{"method", "reference", "scans", "note"}``: points (x, y) of all scans by PCA
        or t-SNE. Empty if there is no reference.
    notes : tuple of str
        What to be careful about.
    """

    verdict: Verdict
    p: float
    p_floor: float
    percentile: float
    n_reference: int
    by_depth: tuple[Mapping[str, Any], ...]
    per_case: tuple[Mapping[str, Any], ...] = ()
    per_slice: tuple[Mapping[str, Any], ...] = ()
    causes: tuple[Mapping[str, Any], ...] = ()
    advice: Mapping[str, Any] = field(default_factory=dict)
    basis: Mapping[str, Any] = field(default_factory=dict)
    picture: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CohortReport:
    """How far apart cohorts of scans are: sites, scanners, channels of one study.

    Attributes
    ----------
    cohorts : tuple of mapping
        ``{"cohort", "persons", "scans"}``.
    pairs : tuple of mapping
        ``{"a", "b", "verdict", "mmd2", "p", "p_corrected", "p_floor", "both"}`` for
        each two cohorts; ``mmd2`` is the mean over depths, ``p_corrected`` Holm's, and
        ``both`` counts persons who are in both. With a second model also
        ``mmd2_after`` and ``p_after``.
    by_depth : tuple of mapping
        ``{"a", "b", "depth", "mmd2", "p"}``; p is corrected over depths.
    scans : tuple of mapping
        ``{"cohort", "pca", "tsne"}`` per scan: its points in two pictures, ``tsne``
        None where there are too few scans.
    causes : tuple of mapping
        ``{"name"}`` and for each cohort its usual range in words.
    notes : tuple of str
        What to be careful about.
    basis : mapping
        Model, head, sizes, seed.
    """

    cohorts: tuple[Mapping[str, Any], ...]
    pairs: tuple[Mapping[str, Any], ...]
    by_depth: tuple[Mapping[str, Any], ...]
    scans: tuple[Mapping[str, Any], ...] = ()
    causes: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    basis: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TransferReport:
    """Whether a head learns better from a pretrained encoder, and by how much.

    Attributes
    ----------
    head : str
        What was learned.
    arms : tuple of mapping
        ``{"slices", "arm", "dice", "updates", "seconds", "rates"}`` for each number of
        annotated slices and arm. ``dice``: ``mean``; ``sd`` over repeats; ``low`` and
        ``high``, a 95 % bootstrap interval over test scans; ``values``, one for each
        repeat. Updates and seconds are means over repeats; ``slices`` is None where
        every annotated slice was used.
    comparisons : tuple of mapping
        ``{"slices", "arm", "against", "difference", "low", "high", "gain_percent",
        "error_gone_percent", "p_value", "n"}``; ``p_value`` is None below 6 scans.
    runs : tuple of mapping
        ``{"slices", "repeat", "arm", "rate", "updates", "seconds", "choice_seconds",
        "dice"}``; ``dice`` holds one number for each test scan.
    basis : mapping
        Model, sizes, budget, seed, versions.
    notes : tuple of str
        What was left out, and what to be careful about.
    """

    head: str
    arms: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Mapping[str, Any], ...]
    runs: tuple[Mapping[str, Any], ...]
    basis: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
