"""Cutting the air around a body or head away.

What is cut away is dark from edge to edge; a model has nothing to say about it, and
need not spend time on it. `Frame` is the exact way back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import PLANES, Volume

Box: TypeAlias = tuple[tuple[int, int], ...]
"""First and one past the last voxel along each axis."""

MARGIN_MM = 10.0  # models look at what is around a structure too
_DARK = 0.05  # share of the range of grey values below which a voxel is air


def foreground(
    volume: Volume, *, slicewise: bool, margin_mm: float = MARGIN_MM
) -> tuple[Volume, Box]:
    """Find all that is not dark, in any channel.

    Parameters
    ----------
    volume : Volume
        A scan.
    slicewise : bool
        Whether all slices of the acquisition plane are kept, and only their rows and
        columns cut.
    margin_mm : float
        How much is kept around it; where the voxel size is not known, pixels.

    Returns
    -------
    part : Volume
        A view of what is kept; its affine is still that of the whole.
    box : tuple of (int, int)
        Along z, y, x; slice-wise along the rows and columns of `grid.to_slices`. All of
        the scan if nothing stands out.
    """
    bright = np.zeros(volume.shape, bool)
    for channel in volume.data:
        # single hot voxels must not decide what is dark: MR has them
        low, high = np.percentile(channel, (0.5, 99.5))
        bright |= channel > low + _DARK * (float(high) - float(low))
    through = PLANES.index(volume.plane) if slicewise else None
    box = [
        (0, volume.shape[axis])
        if axis == through
        else _span(
            np.asarray(bright.any(axis=tuple(a for a in range(3) if a != axis))),
            int(np.ceil(margin_mm / volume.spacing_mm[axis])),
        )
        for axis in range(3)
    ]
    kept = tuple(slice(*span) for span in box)
    part = replace(volume, data=volume.data[:, *kept])
    if through is None:
        return part, tuple(box)
    if through:  # slices that are not axial stand upright: z runs backwards
        height, (first, last) = volume.shape[0], box[0]
        box[0] = height - last, height - first
    return part, tuple(span for axis, span in enumerate(box) if axis != through)


def _span(bright: NDArray[np.bool_], margin: int) -> tuple[int, int]:
    found = np.flatnonzero(bright)
    if not found.size:
        return 0, len(bright)
    first, last = int(found[0]), int(found[-1])
    return max(0, first - margin), min(len(bright), last + 1 + margin)
