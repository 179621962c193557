"""Overlap of two masks, from four counts of voxels.

A quotient without denominator is ``nan``; see `core.metrics` for why.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Counts(NamedTuple):
    """Voxels in both masks, in the candidate only, the reference only, in neither."""

    hit: int
    false: int
    missed: int
    clear: int


def count(reference: Mask, candidate: Mask) -> Counts:
    """Count the four kinds of voxels.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    check_same_shape(reference, candidate)
    hit = int(np.count_nonzero(reference & candidate))
    false = int(np.count_nonzero(candidate)) - hit
    missed = int(np.count_nonzero(reference)) - hit
    return Counts(hit, false, missed, reference.size - hit - false - missed)


def ratios(counts: Counts) -> dict[str, float]:
    """All overlap metrics of `core.metrics.evaluate`, in its order."""
    hit, false, missed, clear = counts
    return {
        "dice": _share(2 * hit, 2 * hit + false + missed),
        "iou": _share(hit, hit + false + missed),
        "precision": _share(hit, hit + false),
        "sensitivity": _share(hit, hit + missed),
        "specificity": _share(clear, clear + false),
        "accuracy": _share(hit + clear, sum(counts)),
    }


def check_same_shape(reference: Mask, candidate: Mask) -> None:
    """Raise a ``ValueError`` unless both masks have one shape."""
    if reference.shape != candidate.shape:
        raise ValueError(
            f"masks of one shape wanted, not {reference.shape} and {candidate.shape}"
        )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def dice(reference: Mask, candidate: Mask) -> float:
    """Overlap of two masks: twice the shared voxels over the voxels of both.

    Parameters
    ----------
    reference, candidate : ndarray of bool
        Masks on the same grid.

    Returns
    -------
    float
        0 (disjoint) to 1 (identical); ``nan`` if both are empty: a structure that is
        absent and rightly not found tells nothing about overlap.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    .. [1] L. R. Dice, "Measures of the amount of ecologic association between
       species", Ecology 26(3), 1945. :doi:`10.2307/1932409`

    Examples
    --------
    >>> round(dice(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool)), 3)
    0.667
    """
    return ratios(count(reference, candidate))["dice"]


def iou(reference: Mask, candidate: Mask) -> float:
    """Shared voxels over the voxels of either; ``nan`` if both masks are empty.

    P. Jaccard, New Phytologist 11, 1912. :doi:`10.1111/j.1469-8137.1912.tb05611.x`
    """
    return ratios(count(reference, candidate))["iou"]


def precision(reference: Mask, candidate: Mask) -> float:
    """Share of the candidate that is right; ``nan`` if the candidate is empty."""
    return ratios(count(reference, candidate))["precision"]


def sensitivity(reference: Mask, candidate: Mask) -> float:
    """Share of the reference that was found; ``nan`` if the reference is empty."""
    return ratios(count(reference, candidate))["sensitivity"]


def specificity(reference: Mask, candidate: Mask) -> float:
    """Share of the outside that was left out; ``nan`` if there is no outside.

    Close to 1 for every small structure: it does not tell good from bad there.
    """
    return ratios(count(reference, candidate))["specificity"]


def accuracy(reference: Mask, candidate: Mask) -> float:
    """Share of all voxels that agree; as blind to small structures as `specificity`."""
    return ratios(count(reference, candidate))["accuracy"]


def conformity(reference: Mask, candidate: Mask) -> float:
    """One minus the wrong voxels per right one: ``3 - 2 / dice``.

    1 for identical masks, negative below a Dice of 2/3, ``-inf`` for disjoint masks,
    ``nan`` if both are empty.

    H.-H. Chang et al., NeuroImage 47(1), 2009. :doi:`10.1016/j.neuroimage.2009.03.068`
    """
    hit, false, missed, _ = count(reference, candidate)
    if hit == 0:
        return float("-inf") if false + missed else float("nan")
    return 1.0 - (false + missed) / hit
