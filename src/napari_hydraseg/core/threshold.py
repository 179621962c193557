"""Draw a mask anew from its probabilities, at another threshold."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ._pieces import keep_largest
from .types import Progress, Segmentation, Steps

_VOXELS = 2_000_000  # at once: a sign of life every 100 ms or so


def redraw(
    segmentation: Segmentation, *, threshold: float, largest: bool = False
) -> Steps[Segmentation]:
    """Draw a mask anew: where the foreground is likelier than a threshold.

    Parameters
    ----------
    segmentation : Segmentation
        With probabilities; `names` in the order of its classes, without background,
        as `segment` gives them.
    threshold : float
        From 0 to 1. A voxel is foreground where the probabilities of all classes but
        the background add up to more than this; it gets the likeliest of them.
    largest : bool
        Whether only the largest piece of each class is kept.

    Yields
    ------
    Progress
        After each block of slices.

    Returns
    -------
    Segmentation
        With the new labels; ``made_by["threshold"]`` says which threshold.

    Raises
    ------
    ValueError
        If there are no probabilities, or of other classes than those that are named.

    Examples
    --------
    >>> share = np.array([0.7, 0.3, 0.4, 0.6], np.float32).reshape(2, 1, 1, 2)[::-1]
    >>> noun = Segmentation(
    ...     np.zeros((1, 1, 2), np.uint8), np.eye(4), names={4: "cord"},
    ...     probabilities=share,
    ... )
    >>> from napari_hydraseg.core.types import finish
    >>> finish(redraw(noun, threshold=0.5)).labels.ravel().tolist()
    [4, 0]
    """
    share = segmentation.probabilities
    if share is None or len(share) != len(segmentation.names) + 1:
        raise ValueError("probabilities of the background and of each named class")
    ids = np.array(list(segmentation.names), segmentation.labels.dtype)
    labels = np.zeros_like(segmentation.labels)
    for block in _blocks(labels.shape):
        foreground = 1 - share[0, block] > threshold
        likeliest = ids[share[1:, block].argmax(axis=0)]
        labels[block] = np.where(foreground, likeliest, 0)
        yield Progress(block.stop, len(labels), "drawing the mask anew")
    return replace(
        segmentation,
        labels=keep_largest(labels) if largest else labels,
        made_by={**segmentation.made_by, "threshold": threshold},
    )


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    count, step = shape[0], max(1, _VOXELS // (shape[1] * shape[2]))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
