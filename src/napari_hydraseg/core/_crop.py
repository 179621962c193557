"""Cutting the air around a body or head away, and putting labels back in their place.

What is cut away is dark from edge to edge; a model has nothing to say about it, and
need not spend time on it. `paste` is the exact way back.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import Segmentation, Volume

Box: TypeAlias = tuple[slice, slice, slice]
"""Voxels that are kept along z, y, x."""

MARGIN_MM = 10.0  # models look at what is around a structure too
_DARK = 0.05  # share of the range of grey values below which a voxel is air


def foreground(volume: Volume, *, margin_mm: float = MARGIN_MM) -> Box:
    """Find the box around all that is not dark, in any channel.

    Parameters
    ----------
    volume : Volume
        A scan.
    margin_mm : float
        How much is kept around it; where the voxel size is not known, pixels.

    Returns
    -------
    tuple of slice
        Along z, y, x. The whole scan if nothing stands out.
    """
    bright = np.zeros(volume.shape, bool)
    for channel in volume.data:
        # single hot voxels must not decide what is dark: MR has them
        low, high = np.percentile(channel, (0.5, 99.5))
        bright |= channel > low + _DARK * (float(high) - float(low))
    z, y, x = (
        _span(
            np.asarray(bright.any(axis=tuple(a for a in range(3) if a != axis))),
            int(np.ceil(margin_mm / volume.spacing_mm[axis])),
        )
        for axis in range(3)
    )
    return z, y, x


def _span(bright: NDArray[np.bool_], margin: int) -> slice:
    found = np.flatnonzero(bright)
    if not found.size:
        return slice(0, len(bright))
    first, last = int(found[0]), int(found[-1])
    return slice(max(0, first - margin), min(len(bright), last + 1 + margin))


def crop(volume: Volume, box: Box) -> Volume:
    """Keep the voxels of a box; they stay at their millimetres.

    Parameters
    ----------
    volume : Volume
        A scan.
    box : tuple of slice
        From `foreground`.

    Returns
    -------
    Volume
        A view of the same voxels. It no longer has the grid of its file.
    """
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return replace(volume, data=volume.data[:, *box], affine=affine, grid=None)


def paste(part: Segmentation, box: Box, volume: Volume) -> Segmentation:
    """Put labels of a cropped scan back on the whole one: inverse of `crop`.

    Parameters
    ----------
    part : Segmentation
        Labels, perhaps with probabilities, on ``crop(volume, box)``.
    box : tuple of slice
        What was kept.
    volume : Volume
        The whole scan.

    Returns
    -------
    Segmentation
        Background outside of the box.
    """
    labels = np.zeros(volume.shape, part.labels.dtype)
    labels[box] = part.labels
    probabilities: NDArray[Any] | None = None
    if part.probabilities is not None:
        count = len(part.probabilities)
        probabilities = np.zeros((count, *volume.shape), part.probabilities.dtype)
        probabilities[0] = 1  # background
        probabilities[:, *box] = part.probabilities
    return replace(
        part,
        labels=labels,
        probabilities=probabilities,
        affine=volume.affine,
        grid=volume.grid,
    )
