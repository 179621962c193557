"""Fill the slices between two annotated ones: shapes that change evenly.

Signed distances to the outline are interpolated linearly, in mm.

References
----------
.. [1] S. P. Raya, J. K. Udupa, "Shape-based interpolation of multidimensional
   objects", IEEE Transactions on Medical Imaging 9(1), 1990. :doi:`10.1109/42.52980`
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .errors import AnnotationError
from .types import PLANES, Progress, Segmentation, Steps

Depth = NDArray[np.float64]


def fill_between(segmentation: Segmentation) -> Steps[Segmentation]:
    """Fill the slices between annotated slices by shapes that change evenly.

    All classes together make a shape, interpolated as in [1]_; each of its voxels gets
    the class that is nearest, by distances interpolated likewise. So classes never
    overlap, no gap opens between two that touch, a thin wall stays whole, and one
    class alone is that of [1]_.

    Departure from [1]_: distances are Euclidean, in mm, not city-block in pixels. As
    there, nothing is drawn where the two outlines do not overlap seen along the
    slices: annotate a slice more in between.

    Parameters
    ----------
    segmentation : Segmentation
        `annotated` says which slices of `plane` are vouched for, one bool per slice.

    Yields
    ------
    Progress
        After each slice, and between the classes.

    Returns
    -------
    Segmentation
        The annotated slices are as before, and so are those before the first and after
        the last. `annotated` is as before too: nobody vouches yet for what was
        filled. ``made_by["interpolated"]`` lists the filled slices. A class that only
        one of two neighbouring annotated slices has is not carried on: where it ends
        is not known.

    Raises
    ------
    AnnotationError
        If there are no slices between annotated ones.

    Examples
    --------
    >>> mask = np.zeros((3, 1, 5), np.uint8)
    >>> mask[0, 0, :1] = mask[2, 0, :3] = 1
    >>> drawn = np.array([True, False, True])
    >>> from napari_hydraseg.core.types import finish
    >>> found = finish(fill_between(Segmentation(mask, np.eye(4), annotated=drawn)))
    >>> found.labels[1].tolist(), found.made_by["interpolated"]
    ([[1, 1, 0, 0, 0]], [1])
    """
    axis = PLANES.index(segmentation.plane)
    labels = segmentation.labels.copy()
    slices = np.moveaxis(labels, axis, 0)  # a view
    gaps = _gaps(segmentation, len(slices))
    spacing_mm = [s for a, s in enumerate(segmentation.spacing_mm) if a != axis]
    filled: list[int] = []
    total = sum(after - before - 1 for before, after in gaps)
    for before, after in gaps:
        pair = slices[before], slices[after]
        classes = np.intersect1d(pair[0][pair[0] > 0], pair[1][pair[1] > 0])
        box = _box(pair, classes)
        ends: list[list[Depth]] = [[], []]
        for index in (None, *classes):
            for end, drawn in zip(ends, pair, strict=True):
                shape = np.isin(drawn[box], classes if index is None else index)
                depth = _depth if index is None else _nearness
                end.append(depth(shape, spacing_mm))
            yield Progress(len(filled), total, "filling slices")
        first, last = (np.stack(end) for end in ends)  # (1 + k, rows, columns)
        for at in range(before + 1, after):
            share = (at - before) / (after - before)
            slices[at] = 0
            if classes.size:
                slices[at][box] = _shape(first, last, share, classes)
            filled.append(at)
            yield Progress(len(filled), total, "filling slices")
    return replace(
        segmentation,
        labels=labels,
        probabilities=None,
        made_by={**segmentation.made_by, "interpolated": filled},
    )


def _gaps(segmentation: Segmentation, count: int) -> list[tuple[int, int]]:
    """List the pairs of annotated slices that have others between them."""
    vouched = segmentation.annotated
    if vouched is None or vouched.shape != (count,):
        raise AnnotationError(
            "It is not known which slices are annotated.",
            "Say so, one answer for each slice.",
        )
    drawn = [int(at) for at in np.flatnonzero(vouched)]
    gaps = [(one, two) for one, two in pairwise(drawn) if two - one > 1]
    if not gaps:
        raise AnnotationError(
            f"{len(drawn)} slices are annotated, and there is none to fill between.",
            "Annotate two slices that are some slices apart.",
        )
    return gaps


def _box(pair: tuple[NDArray[Any], ...], classes: NDArray[Any]) -> tuple[slice, slice]:
    """Give the rows and columns that matter: outside, both slices are background."""
    drawn = np.isin(pair[0], classes) | np.isin(pair[1], classes)
    sides = []
    for axis in (0, 1):
        at = np.flatnonzero(drawn.any(axis=1 - axis))
        # one more on each side, so that the nearest background is in the box
        low, high = (at[0] - 1, at[-1] + 2) if at.size else (0, 1)
        sides.append(slice(max(0, int(low)), int(high)))
    return sides[0], sides[1]


def _depth(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Depth:
    """Measure how deep in a shape each pixel lies, in mm; negative outside."""
    far = float(np.linalg.norm(np.multiply(mask.shape, spacing_mm)))
    if mask.all() or not mask.any():  # there is no outline to measure from
        return np.where(mask, far, -far)
    inside: Depth = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    return inside + _nearness(mask, spacing_mm)


def _nearness(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> Depth:
    """Measure how far from a shape each pixel lies, in mm, as a negative number."""
    outside: Depth = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    return -outside


def _shape(
    first: Depth, last: Depth, share: float, classes: NDArray[Any]
) -> NDArray[Any]:
    """Draw one slice, a share of the way from the first to the last."""
    depth = (1 - share) * first + share * last
    return np.where(depth[0] >= 0, classes[depth[1:].argmax(axis=0)], 0)
