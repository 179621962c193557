"""Uneven, gapped or tilted stacks made even by interpolation, if that is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._dicom_gaps import whole_gaps
from ._dicom_sort import Stack

_SHIFT = 0.02  # of a pixel; slices that lie closer to their place stay as they are


def even(
    voxels: NDArray[Any], stack: Stack
) -> tuple[NDArray[Any], NDArray[np.float64], tuple[str, ...]]:
    """Resample a stack onto evenly spaced slices that stand on each other.

    Parameters
    ----------
    voxels : ndarray, shape (slice, row, column)
        In the order of the stack.
    stack : Stack
        Positions of the slices.

    Returns
    -------
    voxels : ndarray, shape (slice, row, column)
        Linearly interpolated, of the same type. Where no slice reaches, the smallest
        value.
    affine_lps : ndarray, shape (4, 4)
        Index (column, row, slice) to mm in LPS.
    notes : tuple of str
        What was done, with numbers.
    """
    axes = stack.affine_lps[:3, :2]
    normal = np.cross(axes[:, 0], axes[:, 1])
    normal /= np.linalg.norm(normal)
    away = stack.positions - stack.positions[0]
    # shift of each slice in pixels, along columns and rows
    shift = away @ axes / (axes**2).sum(axis=0)
    low = np.floor(shift.min(axis=0) + _SHIFT).astype(int)
    high = np.ceil(shift.max(axis=0) - _SHIFT).astype(int)
    heights = away @ normal
    spacing = _spacing(np.diff(heights))
    count = round(float(heights[-1]) / spacing) + 1
    targets = np.linspace(0, heights[-1], count)
    slices, rows, columns = voxels.shape
    size = (rows + high[1] - low[1], columns + high[0] - low[0])
    result = np.empty((count, *size), voxels.dtype)
    fill = voxels.min()
    for place, target in enumerate(targets):
        above = int(np.clip(np.searchsorted(heights, target), 1, slices - 1))
        width = heights[above] - heights[above - 1]
        weight = float(np.clip((target - heights[above - 1]) / width, 0, 1))
        blend = (1 - weight) * _placed(
            voxels[above - 1], shift[above - 1] - low, size, fill
        ) + weight * _placed(voxels[above], shift[above] - low, size, fill)
        result[place] = np.rint(blend) if result.dtype.kind in "iu" else blend
    affine = stack.affine_lps.copy()
    affine[:3, 2] = normal * (heights[-1] / (count - 1))
    affine[:3, 3] = stack.positions[0] + axes @ low
    return result, affine, _notes(stack, count, float(heights[-1] / (count - 1)))


def _spacing(gaps: NDArray[np.float64]) -> float:
    """Take the usual distance; where slices are missing, that of the others."""
    return float(gaps.min() if whole_gaps(gaps) else np.median(gaps))


def _placed(
    plane: NDArray[Any], shift: NDArray[np.float64], size: tuple[int, ...], fill: Any
) -> NDArray[np.float64]:
    """Lay a slice, shifted by parts of a pixel, on a larger one."""
    whole = np.floor(shift + _SHIFT).astype(int)
    part = shift - whole
    part[np.abs(part) < _SHIFT] = 0
    result = np.full(size, float(fill))
    columns, rows = whole
    result[rows : rows + plane.shape[0], columns : columns + plane.shape[1]] = plane
    for axis, amount in ((1, part[0]), (0, part[1])):
        if amount:
            before = np.roll(result, 1, axis)
            np.moveaxis(before, axis, 0)[0] = fill
            result = (1 - amount) * result + amount * before
    return result


def _notes(stack: Stack, count: int, spacing: float) -> tuple[str, ...]:
    reason = stack.fault.what if stack.fault else ""
    return (
        reason,
        f"The slices were interpolated: {len(stack.frames)} became {count}, "
        f"{spacing:.3f} mm apart.",
    )
