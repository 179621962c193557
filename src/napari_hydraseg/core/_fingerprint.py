"""Plain quantities of a scan: what a person would name as the reason of a shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ._hounsfield import KEEPS_FAT, eight_bit_window, to_hounsfield
from ._reference import spread
from .types import Volume

Range: TypeAlias = Sequence[float]
"""Low and high end: 5th and 95th percentile over the training scans."""

SLICES = 16  # slices looked at, evenly spread
AIR = 0.1  # of the grey range: below it lies air or a masked background
# Second differences along both axes: blind to planes, so that what is left is noise.
NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)

# quantity -> name, unit, decimals
WORDS: Mapping[str, tuple[str, str, int]] = {
    "pixel_spacing_mm": ("pixel size", " mm", 2),
    "slice_spacing_mm": ("distance between slices", " mm", 2),
    "field_of_view_mm": ("field of view", " mm", 0),
    "stack_mm": ("length of the stack", " mm", 0),
    "air_percent": ("share of air or empty background", " %", 0),
    "brightness_percent": ("typical brightness within the grey range", " %", 0),
    "contrast_percent": ("contrast within the grey range", " %", 0),
    "noise_percent": ("noise within the grey range", " %", 1),
    "sharpness": ("sharpness of edges", "", 2),
    "low_hu": ("darkest tissue (1st percentile)", " HU", 0),
    "high_hu": ("brightest tissue (99th percentile)", " HU", 0),
}


def fingerprint(volume: Volume) -> dict[str, float]:
    """Measure a scan's geometry, contrast, noise and sharpness.

    Parameters
    ----------
    volume : Volume
        A scan; its first channel is measured.

    Returns
    -------
    dict of float
        ``pixel_spacing_mm``, ``slice_spacing_mm``, ``field_of_view_mm`` (the longer
        side of a slice), ``stack_mm`` where the file gave a spacing (the two about
        slices only if there are several); ``air_percent``, ``brightness_percent``,
        ``contrast_percent``, ``noise_percent`` relative to the grey range (1st to 99th
        percentile), because grey values of MR and ultrasound have no unit;
        ``sharpness``, the mean gradient over that of the blurred slice (1: blurred
        already); ``low_hu``, ``high_hu`` for CT. A scan of one grey value has no
        contrast quantities. CT is measured within `KEEPS_FAT`, an 8-bit copy brought
        back to Hounsfield units: what one copy was cut off at is no difference.

    Notes
    -----
    The noise is Immerkaer's estimate [1]_ over tissue; fine texture adds to it.

    References
    ----------
    .. [1] J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image
       Understanding 64(2), 300-302, 1996. :doi:`10.1006/cviu.1996.0060`
    """
    stack = np.moveaxis(volume.data[0], volume.plane_axis, 0)
    found = _geometry(volume, stack.shape) if "spacing" in volume.known else {}
    kept = spread(len(stack), min(SLICES, len(stack)))
    slices = np.nan_to_num(stack[kept].astype(np.float32), posinf=0, neginf=0)
    if volume.modality == "CT":
        window = eight_bit_window(volume.data[0])
        slices = slices if window is None else to_hounsfield(slices, window)
        slices = slices.clip(*KEEPS_FAT)
    low, high = np.percentile(slices, [1, 99])
    if volume.modality == "CT":
        found |= {"low_hu": float(low), "high_hu": float(high)}
    if high > low:
        found |= _contrast((slices - low) / (high - low))
    return found


def outside(
    measured: Mapping[str, float], usual: Mapping[str, Range]
) -> list[dict[str, Any]]:
    """List the quantities that lie outside their usual range, the farthest first.

    Parameters
    ----------
    measured : mapping of str to float
        What `fingerprint` returned.
    usual : mapping of str to (low, high)
        5th and 95th percentile over the training scans.

    Returns
    -------
    list of dict
        ``{"name", "scan", "unit", "reference_low", "reference_high", "text"}``.
    """
    rows = []
    for quantity, (low, high) in usual.items():
        value = measured.get(quantity)
        if value is None or quantity not in WORDS:
            continue
        # Sets of one protocol have no width; a tenth of a value is no cause either way.
        margin = 0.1 * max(high - low, 0.2 * abs(high), 1e-6)
        beyond = max(low - value, value - high)
        if beyond > margin:
            far = beyond / max(high - low, 0.1 * abs(high), 1e-6)
            rows.append((far, _row(quantity, value, low, high)))
    rows.sort(key=lambda item: -item[0])
    return [row for _, row in rows]


def usual_ranges(
    fingerprints: Sequence[Mapping[str, float]],
) -> dict[str, list[float]]:
    """5th and 95th percentile of each quantity over scans that have it.

    Parameters
    ----------
    fingerprints : sequence of mapping
        What `fingerprint` returned, one per scan.

    Returns
    -------
    dict of str to [low, high]
        For ``card["heads"][head]["fingerprint"]``.
    """
    ranges = {}
    for quantity in WORDS:
        values = [found[quantity] for found in fingerprints if quantity in found]
        if values:
            low, high = np.percentile(values, [5, 95])
            ranges[quantity] = [round(float(low), 4), round(float(high), 4)]
    return ranges


def _geometry(volume: Volume, shape: tuple[int, ...]) -> dict[str, float]:
    spacing = list(volume.spacing_mm)
    through = spacing.pop(volume.plane_axis)
    sides = [size * step for size, step in zip(shape[1:], spacing, strict=True)]
    found = {
        "pixel_spacing_mm": float(np.mean(spacing)),
        "field_of_view_mm": float(max(sides)),
    }
    if shape[0] > 1:
        found["slice_spacing_mm"] = through
        found["stack_mm"] = through * shape[0]
    return found


def _contrast(slices: NDArray[np.float32]) -> dict[str, float]:
    """Quantities of slices whose 1st and 99th percentile are 0 and 1."""
    tissue = slices > AIR
    second = ndimage.convolve(slices, NOISE_MASK[None], mode="nearest")
    # 36 = sum of the squared weights; sqrt(pi / 2): from mean absolute value to sd
    noise = np.sqrt(np.pi / 2) * np.abs(second[tissue]).mean() / 6
    blurred = ndimage.gaussian_filter(slices, (0, 2, 2))
    steep, smooth = _steepness(slices), _steepness(blurred)
    return {
        "air_percent": float(100 * (1 - tissue.mean())),
        "brightness_percent": float(100 * np.median(slices[tissue])),
        "contrast_percent": float(100 * np.clip(slices, 0, 1)[tissue].std()),
        "noise_percent": float(100 * noise),
        "sharpness": float(steep / smooth) if smooth > 0 else 1.0,
    }


def _steepness(slices: NDArray[np.float32]) -> float:
    """Mean absolute difference of neighbours within slices."""
    down, right = np.diff(slices, axis=1), np.diff(slices, axis=2)
    return float(np.abs(down).mean() + np.abs(right).mean())


def _row(quantity: str, value: float, low: float, high: float) -> dict[str, Any]:
    name, unit, decimals = WORDS[quantity]
    ends = [f"{end:.{decimals}f}" for end in (low, high)]
    usual = ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
    side = "more" if value > high else "less"
    return {
        "name": name,
        "scan": float(value),
        "unit": unit.strip(),
        "reference_low": float(low),
        "reference_high": float(high),
        "text": f"The {name} is {value:.{decimals}f}{unit}, {side} than in the "
        f"reference scans ({usual}{unit}).",
    }
