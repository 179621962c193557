"""At what spacing a head learns, and what it takes from a donor."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import grid, networks
from ._matching import vouched_voxels
from .errors import (
    EmptyAnnotation,
    GeometryMismatchError,
    LabelDtype,
    LabelShape,
    UnknownLabelId,
)
from .networks import MultiHead
from .types import Checkpoint, ModelSpec, Segmentation, Volume

PART_PX = 32  # a typical painted part is scaled to about this many pixels across
SCALING = 2.0  # at most, either way
LONGEST = 512  # pixels of a slice, at most
NEAR = 0.5  # of a voxel: labels that lie further away belong to another grid


def check(
    volume: Volume, segmentation: Segmentation, *, blank: bool = False
) -> Segmentation:
    """Refuse labels that do not lie on the scan, are no ids, or say nothing.

    Parameters
    ----------
    volume : Volume
        The scan.
    segmentation : Segmentation
        Its labels.
    blank : bool
        Whether they may show nothing.

    Returns
    -------
    Segmentation
        With labels of 8 or 16 bits.

    Raises
    ------
    LabelShape
        If the shapes differ, or that of the marks of what is annotated.
    GeometryMismatchError
        If the grids do.
    LabelDtype, UnknownLabelId
        If a label is no whole number from 0 to 65535.
    EmptyAnnotation
        If nothing is painted where somebody vouches for it.
    """
    if segmentation.labels.shape != volume.shape:
        raise LabelShape(
            f"The labels have shape {segmentation.labels.shape}, the scan "
            f"{volume.shape}.",
            "Paint on a layer made from this scan.",
        )
    away = _displacement_mm(volume, segmentation)
    if not away <= NEAR * min(volume.spacing_mm):
        raise GeometryMismatchError(
            f"The labels lie up to {away:.1f} mm away from the scan.",
            "Give labels that were painted on this scan.",
        )
    shown, vouched = segmentation.labels != 0, vouched_voxels(segmentation)
    if not blank and not shown.any():
        raise EmptyAnnotation("Nothing is painted.", "Paint a few slices first.")
    if not blank and vouched is not None and not (shown & vouched).any():
        raise EmptyAnnotation(
            "Nothing is painted on the slices that are marked as annotated.",
            "Mark painted slices as annotated, too.",
        )
    return replace(segmentation, labels=_whole(segmentation.labels))


def _displacement_mm(volume: Volume, segmentation: Segmentation) -> float:
    """Distance, at the worst corner, between where scan and labels place a voxel."""
    ends = [(0, n - 1) for n in volume.shape]
    corners = np.array([(*corner, 1) for corner in product(*ends)])
    apart = corners @ (volume.affine - segmentation.affine).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())


def _whole(labels: NDArray[Any]) -> NDArray[Any]:
    """Bring labels to 8 or 16 bits without changing one."""
    if labels.dtype in (np.uint8, np.uint16):
        return labels
    if labels.dtype.kind not in "buif" or (labels != np.floor(labels)).any():
        raise LabelDtype(
            "The labels are not whole numbers.", "Give a label image, not a picture."
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max:
        raise UnknownLabelId(
            f"Label ids go from {labels.min():.0f} to {labels.max():.0f}; they must "
            "lie between 0 and 65535.",
            "Give the labels other ids.",
        )
    return labels.astype(np.uint16 if labels.max() > 255 else np.uint8)


def extended(
    spec: ModelSpec,
    head: str,
    names: tuple[str, ...],
    cases: Sequence[tuple[Volume, Segmentation]],
) -> ModelSpec:
    """Add a head to a spec: with a spacing of its own, where the model sees slices.

    Where the encoder sees one channel and the scans have several, the head reads them
    all, each encoded apart; the option ``reads`` keeps their names.
    """
    wider = replace(spec, heads={**spec.heads, head: names})
    if spec.slicewise:
        spacing = {**spec.spacing_mm, head: spacing_for(cases)}
        wider = replace(wider, spacing_mm=spacing)
    channels = cases[0][0].names
    if len(spec.channels) == 1 < len(channels):
        reads = {**spec.options.get("reads", {}), head: list(channels)}
        wider = replace(wider, options={**spec.options, "reads": reads})
    return wider


def spacing_for(cases: Sequence[tuple[Volume, Segmentation]]) -> Any:
    """Choose the spacing of a new head: the usual painted part gets about 32 pixels.

    Parameters
    ----------
    cases : sequence of (Volume, Segmentation)
        Annotated scans.

    Returns
    -------
    float or dict
        In-plane mm, or ``{"longest": pixels}`` where the scans have no millimetres.
        Between half and twice the scans' own; slices stay below 512 pixels.
    """
    across, pixel, longest = [], [], []
    for volume, segmentation in cases:
        slices = grid.to_slices(segmentation.labels, volume.plane)
        across += [_diameter(part) for part in slices if part.any()]
        in_plane = [
            mm for i, mm in enumerate(volume.spacing_mm) if i != volume.plane_axis
        ]
        pixel.append(float(np.mean(in_plane)))
        longest.append(max(slices.shape[1:]))
    factor = float(np.clip(PART_PX / np.median(across), 1 / SCALING, SCALING))
    factor = min(factor, LONGEST / max(longest))
    if all("spacing" in volume.known for volume, _ in cases):
        return round(float(np.median(pixel)) / factor, 3)
    return {"longest": round(float(np.median(longest)) * factor)}


def _diameter(slice_labels: NDArray[Any]) -> float:
    """Median diameter of the painted parts of a slice, as circles of their area."""
    parts, count = ndimage.label(slice_labels > 0)
    areas = np.bincount(parts.ravel())[1:] if count else np.ones(1)
    return float(2 * np.sqrt(np.median(areas) / np.pi))


def grown(checkpoint: Checkpoint, spec: ModelSpec, *, seed: int) -> MultiHead:
    """Rebuild a model's network with room for a new head, which starts at random."""
    net = networks.build(spec, seed=seed)
    old = networks.network(checkpoint).state_dict()
    net.load_state_dict({**net.state_dict(), **old})
    return net.eval()


def adopt(net: MultiHead, head: str, donor: str, spec: ModelSpec) -> None:
    """Copy a donor's decoder; class layers agree by name, others stay as they are.

    The statistics of a donor's batch norms have no place where the head has others.
    """
    source, target = net.heads[donor].state_dict(), net.heads[head].state_dict()
    taken = {
        k: v.clone()
        for k, v in source.items()
        if k in target and v.shape == target[k].shape
    }
    theirs, ours = spec.heads[donor], spec.heads[head]
    for key in _class_rows(target):
        rows = target[key].clone()
        first = len(ours) - len(rows)  # 1 where no logit of the background is learned
        for i, name in enumerate(ours[first:]):
            if name in theirs[first:]:
                rows[i] = source[key][theirs.index(name) - first]
        taken[key] = rows
    net.heads[head].load_state_dict({**target, **taken})


def _class_rows(names: Iterable[str]) -> list[str]:
    """Tensors of a head with a row for each class: those of its very last layer."""
    inside = [name for name in names if name.startswith("classify.")]
    layers = [name.rpartition(".")[0] for name in inside]
    return [n for n, at in zip(inside, layers, strict=True) if at == layers[-1]]
