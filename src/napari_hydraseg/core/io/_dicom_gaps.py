"""Whether positions of slices are evenly spaced and stacked straight; what is wrong."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DicomSeriesError, MissingSlices

Points: TypeAlias = NDArray[np.float64]

# Positions are rounded when they are written, some to 0.1 mm: a slice may lie off the
# even grid by 1 % of the spacing, or 0.01 mm where that is more.
OFF_GRID = 0.01
OFF_GRID_MM = 0.01
TILT_MM = 0.1  # sideways drift of a whole stack that rounding explains
REGULARISE = "Export the series again, or let it be interpolated.", "--regularise"


def evenness(
    positions: Points, normal: Points, name: str
) -> tuple[DicomSeriesError | None, list[str]]:
    """Compare positions with an even grid.

    The grid that is used goes through the first and the last slice. Whether the slices
    are even is told from the one that fits all best, so that a rounded end counts once.
    """
    count = len(positions)
    places = np.arange(count) - (count - 1) / 2
    step = places @ positions / (places @ places)
    off = positions - positions.mean(axis=0) - places[:, None] * step
    spacing = float(step @ normal)
    tolerance = max(OFF_GRID * spacing, OFF_GRID_MM)
    if np.abs(off @ normal).max() > tolerance:
        return _gap_fault(positions @ normal, name), []
    worst = float(np.sqrt((off**2).sum(axis=1)).max())
    sideways = step - spacing * normal
    drift = float(np.sqrt((sideways**2).sum())) * (count - 1)
    if worst > max(tolerance, TILT_MM):
        return DicomSeriesError(
            f"{name}: slices lie up to {worst:.2f} mm beside a straight line.",
            *REGULARISE,
        ), []
    if drift > max(tolerance, TILT_MM):
        angle = np.degrees(np.arctan2(drift, spacing * (count - 1)))
        return DicomSeriesError(
            f"{name} was taken with a tilted gantry: {angle:.1f}°, {drift:.1f} mm from "
            "the first to the last slice.",
            "Let it be straightened.",
            REGULARISE[1],
        ), []
    if worst > OFF_GRID_MM:
        return None, [f"Positions of slices are rounded, by up to {worst:.2f} mm."]
    return None, []


def whole_gaps(gaps: Points) -> bool:
    """Whether most gaps are one spacing, and the others several: slices are missing."""
    times = gaps / gaps.min()
    whole = np.abs(times - times.round()).max() <= 2 * OFF_GRID
    return bool(whole and np.mean(times < 1.5) >= 0.5 and times.max() > 1.5)


def _gap_fault(heights: Points, name: str) -> DicomSeriesError:
    gaps = np.diff(heights)
    if not whole_gaps(gaps):
        return DicomSeriesError(
            f"The slices of {name} are {gaps.min():.3f} to {gaps.max():.3f} mm apart "
            f"(median {np.median(gaps):.3f}).",
            *REGULARISE,
        )
    spacing = float(gaps.min())
    times = gaps / spacing
    lost = [
        height + spacing * (extra + 1)
        for height, more in zip(heights, times.round().astype(int) - 1, strict=False)
        for extra in range(min(int(more), 1000))
    ]
    listed = ", ".join(f"{height:.1f}" for height in lost[:4])
    rest = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
    return MissingSlices(
        f"{name} lacks {len(lost)} of {len(heights) + len(lost)} slices, which are "
        f"{spacing:.2f} mm apart: at {listed} mm{rest}.",
        *REGULARISE,
    )
