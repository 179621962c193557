"""Distances between the surfaces of two masks, in millimetres.

The surface of a mask is the set of its voxels that touch the outside through a face;
the edge of the image counts as outside. A distance runs between voxel centres. Where an
annotator vouches for a part of the scan only, the rest counts neither as inside nor as
outside: the rim of that part is no surface, so that single annotated slices are judged
by their contours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ._overlap import check_same_shape

Mask = NDArray[np.bool_]
Distances = tuple[NDArray[np.float64], NDArray[np.float64]]


def hausdorff_mm(
    reference: Mask, candidate: Mask, *, spacing_mm: tuple[float, ...]
) -> float:
    """Longest way from one surface to the nearest point of the other, in mm.

    ``inf`` if one mask is empty, ``nan`` if both are.

    D. P. Huttenlocher et al., IEEE TPAMI 15(9), 1993. :doi:`10.1109/34.232073`
    """
    return percentile_of(_distances(reference, candidate, spacing_mm))


def hausdorff95_mm(
    reference: Mask, candidate: Mask, *, spacing_mm: tuple[float, ...]
) -> float:
    """As `hausdorff_mm`, leaving out the farthest 5 % of each surface.

    The larger of the two directions' 95th percentiles, not the percentile of both
    directions together, in which the larger surface would outvote the smaller.
    """
    distances = _distances(reference, candidate, spacing_mm)
    return percentile_of(distances, percentile=95)


def mean_surface_distance_mm(
    reference: Mask, candidate: Mask, *, spacing_mm: tuple[float, ...]
) -> float:
    """Average symmetric surface distance: mean over the voxels of both surfaces.

    ``inf`` if one mask is empty, ``nan`` if both are.

    T. Heimann et al., IEEE TMI 28(8), 2009. :doi:`10.1109/TMI.2009.2013851`
    """
    return average_of(_distances(reference, candidate, spacing_mm))


def surface_dice(
    reference: Mask,
    candidate: Mask,
    *,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float = 1.0,
) -> float:
    """Share of both surfaces within a tolerance of the other; ``nan`` if both empty.

    Surface voxels are counted; the paper weighs them with the area of the surface that
    passes through them, which differs little on smooth shapes.

    S. Nikolov et al., J. Med. Internet Res. 23(7), 2021. :doi:`10.2196/26151`
    """
    distances = _distances(reference, candidate, spacing_mm)
    return share_of(distances, tolerance_mm=tolerance_mm)


def surface_distances(
    reference: Mask,
    candidate: Mask,
    *,
    spacing_mm: tuple[float, ...],
    vouched: Mask | None = None,
) -> Distances:
    """From every surface voxel of each mask the way to the surface of the other.

    Parameters
    ----------
    reference, candidate : ndarray of bool
        Masks on the same grid.
    spacing_mm : tuple of float
        Voxel size along each axis.
    vouched : ndarray of bool, optional
        The voxels that count; all if not given.

    Returns
    -------
    tuple of two ndarrays of float
        From the reference to the candidate, and back. A mask that is empty has no
        distances of its own, and the other's are infinite.

    Notes
    -----
    One exact Euclidean distance transform per mask, inside the box around both: every
    surface voxel lies in that box, so cropping changes no distance.
    """
    if vouched is not None:
        reference, candidate = reference & vouched, candidate & vouched
    box = _box(reference | candidate)
    if box is None:
        return np.empty(0), np.empty(0)
    known = None if vouched is None else vouched[box]
    first = _surface(reference[box], _at_edge(box, reference.shape), known)
    second = _surface(candidate[box], _at_edge(box, reference.shape), known)
    return (
        _to_nearest(second, spacing_mm)[first],
        _to_nearest(first, spacing_mm)[second],
    )


def percentile_of(distances: Distances, *, percentile: float = 100.0) -> float:
    """Take the larger of both directions' percentiles; ``inf`` if one mask is empty."""
    there, back = distances
    if not there.size and not back.size:
        return float("nan")
    if not there.size or not back.size:
        return float("inf")
    return float(max(np.percentile(there, percentile), np.percentile(back, percentile)))


def average_of(distances: Distances) -> float:
    """Average over the surface voxels of both masks; ``inf`` if one mask is empty."""
    both = np.concatenate(distances)
    return float(both.mean()) if both.size else float("nan")


def share_of(distances: Distances, *, tolerance_mm: float) -> float:
    """Share of both surfaces that lies within the tolerance of the other."""
    both = np.concatenate(distances)
    return float((both <= tolerance_mm).mean()) if both.size else float("nan")


def _box(mask: Mask) -> tuple[slice, ...] | None:
    # One voxel of margin, so that the neighbours of every surface voxel are inside.
    found = ndimage.find_objects(mask.astype(np.uint8))
    if not found:
        return None
    return tuple(
        slice(max(side.start - 1, 0), min(side.stop + 1, size))
        for side, size in zip(found[0], mask.shape, strict=True)
    )


def _at_edge(box: tuple[slice, ...], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    # Where the box ends at the edge of the image, a layer of outside is put around it.
    return [
        (int(side.start == 0), int(side.stop == size))
        for side, size in zip(box, shape, strict=True)
    ]


def _surface(mask: Mask, edge: list[tuple[int, int]], known: Mask | None) -> Mask:
    solid = mask if known is None else mask | ~known
    padded = np.pad(solid, edge)
    # The margin inside the image must not be eaten from the rim of the box: there the
    # voxels are outside of both masks or not known, whatever lies beyond.
    inner = ndimage.binary_erosion(padded, border_value=1)
    cut = tuple(
        slice(before, before + size)
        for (before, _), size in zip(edge, mask.shape, strict=True)
    )
    surface: Mask = mask & ~inner[cut]
    return surface


def _to_nearest(surface: Mask, spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    if not surface.any():
        return np.full(surface.shape, np.inf)
    found: NDArray[np.float64] = ndimage.distance_transform_edt(
        ~surface, sampling=spacing_mm
    )
    return found


def _distances(
    reference: Mask, candidate: Mask, spacing_mm: tuple[float, ...]
) -> Distances:
    check_same_shape(reference, candidate)
    return surface_distances(reference, candidate, spacing_mm=spacing_mm)
