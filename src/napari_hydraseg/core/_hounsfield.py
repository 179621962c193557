"""CT that came as 8-bit pictures: back to Hounsfield units.

Published CT sets are often 8-bit copies. Two windows are common: one that keeps fat
(-125 to 275 HU and the like), and values that were simply cut off at 0 and 255 HU.
They are told apart by fat, which fills a body: where the window keeps it, it is dark
grey; where it was cut off, almost nothing lies between black and soft tissue but the
traces that lossy compression left next to black.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KEEPS_FAT = (-125.0, 275.0)
CUT_OFF = (0.0, 255.0)
_TRACES = slice(1, 8)  # grey values just above black
_FAT = slice(8, 31)  # where fat (-112 to -78 HU) lies in a window that keeps it


def eight_bit_window(values: NDArray[np.generic]) -> tuple[float, float] | None:
    """Find which window an 8-bit CT was made with.

    Parameters
    ----------
    values : ndarray
        Grey values of a CT.

    Returns
    -------
    tuple of float or None
        Hounsfield units that 0 and 255 stand for: `KEEPS_FAT` or `CUT_OFF`. None if
        the values are no 8-bit copy (not whole, or outside of 0 to 255): they are
        Hounsfield units then.
    """
    if values.min() < 0 or values.max() > 255 or values.max() == values.min():
        return None
    whole = values.astype(np.uint8)
    if values.dtype.kind not in "iub" and not np.array_equal(whole, values):
        return None
    counts = np.bincount(whole.ravel(), minlength=256)
    return CUT_OFF if counts[_TRACES].sum() > counts[_FAT].sum() else KEEPS_FAT


def to_hounsfield(
    values: NDArray[np.generic], window: Sequence[float]
) -> NDArray[np.float32]:
    """Turn 0..255 into the Hounsfield units of a window."""
    low, high = window
    return values.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)
