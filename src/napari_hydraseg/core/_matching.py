"""Which voxels and which labels of two masks belong together."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .errors import GeometryMismatchError, LabelShape
from .types import PLANES, Segmentation

Mask = NDArray[np.bool_]
SAME_PLACE_MM = 1e-3  # float32 headers round by some 1e-5 mm; a real shift is larger


def ensure_same_grid(reference: Segmentation, candidate: Segmentation) -> None:
    """Refuse masks of different scans.

    Raises
    ------
    GeometryMismatchError
        The grids differ in shape, or by more than 0.001 mm at a corner.
    """
    wanted, got = reference.labels.shape, candidate.labels.shape
    if wanted != got:
        raise GeometryMismatchError(
            f"Masks on one grid are wanted; the reference has {_times(wanted)} voxels, "
            f"the candidate {_times(got)}.",
            "Compare masks of the same scan.",
        )
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in got))])
    ways = corners @ (candidate.affine - reference.affine).T
    apart_mm = float(np.linalg.norm(ways[:, :3], axis=1).max())
    if not apart_mm <= SAME_PLACE_MM:
        raise GeometryMismatchError(
            "Masks on one grid are wanted; the corners of reference and candidate lie "
            f"up to {apart_mm:.4g} mm apart.",
            "Compare masks of the same scan.",
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def vouched_voxels(reference: Segmentation) -> Mask | None:
    """Give the voxels that the reference vouches for; None: all.

    Raises
    ------
    LabelShape
        ``reference.annotated`` fits neither the slices nor the voxels.
    """
    annotated, shape = reference.annotated, reference.labels.shape
    if annotated is None or annotated.shape == shape:
        return annotated
    axis = PLANES.index(reference.plane)
    if annotated.shape != (shape[axis],):
        raise LabelShape(
            f"One annotated mark per {reference.plane} slice ({shape[axis]}) or voxel "
            f"is wanted; {_times(annotated.shape)} came.",
            "Mark the annotated slices again.",
        )
    along = [1, 1, 1]
    along[axis] = -1
    return np.broadcast_to(annotated.reshape(along), shape)


def matched(
    reference: Segmentation, candidate: Segmentation
) -> Iterator[tuple[int, str, tuple[Mask, Mask]]]:
    """Pair the labels, by name where both sides share one, else by id.

    Yields
    ------
    label, name, masks : int, str, pair of ndarray of bool, shape (z, y, x)
        The reference's id where it has one; the reference's mask comes first.
    """
    theirs, ours = _names(reference), _names(candidate)
    if set(reference.names.values()) & set(candidate.names.values()):
        for name in dict.fromkeys([*theirs.values(), *ours.values()]):
            ids = [id for id, other in theirs.items() if other == name]
            found = [id for id, other in ours.items() if other == name]
            masks = (_mask(reference, ids), _mask(candidate, found))
            yield (ids or found)[0], name, masks
        return
    for id in sorted(theirs | ours):
        name = reference.names.get(id) or candidate.names.get(id) or f"label {id}"
        yield id, name, (_mask(reference, [id]), _mask(candidate, [id]))


def _names(side: Segmentation) -> dict[int, str]:
    """Name of every label that is painted or named, background left out."""
    painted = np.flatnonzero(np.bincount(side.labels.ravel())).tolist()
    ids = sorted({*painted, *side.names} - {0})
    return {id: side.names.get(id, f"label {id}") for id in ids}


def _mask(side: Segmentation, ids: list[int]) -> Mask:
    if len(ids) == 1:
        return np.asarray(side.labels == ids[0])
    return np.isin(side.labels, ids)
