"""Stored numbers of a frame to measured ones: bits, sign, inversion, rescaling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedDtype
from ._dicom_frames import NATIVE, Frame
from ._dicom_headers import Header
from ._dicom_open import DoesNotFit

Voxels: TypeAlias = NDArray[Any]

RUN_LENGTHS = "1.2.840.10008.1.2.5"
# numbers that are measured, not shown: dark and bright are not swapped
_MEASURED = ("CT", "PT")


def kinds_of(frames: Sequence[Frame]) -> list[np.dtype[Any]]:
    """Types to hold the values, smallest first: whole numbers stay whole.

    Where the bits that are declared would need more than 16 but those that are used
    may not (CT of 16 bits with an intercept of -1024), the smaller type comes first.
    """
    if not all(f.slope.is_integer() and f.intercept.is_integer() for f in frames):
        return [np.dtype(np.float32)]
    ends = [value for frame in frames for value in _declared(frame)]
    low, high = min(ends), max(ends)
    order: tuple[type[np.generic], ...] = (np.uint8, np.int16, np.uint16)
    for kind in order:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:  # type: ignore[type-var]  # all are integers
            return [np.dtype(kind)]
    wide = np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max
    last = np.dtype(np.int32 if wide else np.float32)
    small = all(f.header.number("BitsAllocated") <= 16 for f in frames)
    return [np.dtype(np.int16), last] if small else [last]


def _declared(frame: Frame) -> tuple[float, float]:
    """Bounds of the values after rescaling, by the number of bits."""
    bits = _bits(frame.header)
    low, high = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if _signed(frame)
        else (
            0,
            2**bits - 1,
        )
    )
    ends = (frame.slope * low, frame.slope * high)
    return min(ends) + frame.intercept, max(ends) + frame.intercept


def _bits(header: Header) -> int:
    return header.number("BitsStored", header.number("BitsAllocated"))


def _signed(frame: Frame) -> bool:
    return frame.header.number("PixelRepresentation") == 1


def is_coloured(header: Header) -> bool:
    """Whether a pixel is a colour: three numbers, or the number of one in a palette."""
    return header.number("SamplesPerPixel", 1) > 1 or has_palette(header)


def has_palette(header: Header) -> bool:
    """Whether the numbers of pixels are places in a table of colours."""
    return header.text("PhotometricInterpretation") == "PALETTE COLOR"


def streams(header: Header) -> bool:
    """Whether the pixels lie in the file as they are, to be read straight from it."""
    # bytes of 8-bit pixels are swapped in pairs in big endian
    return bool(
        header.start
        and header.syntax in NATIVE
        and not is_coloured(header)
        and (NATIVE[header.syntax] == "<" or header.number("BitsAllocated") > 8)
    )


def settle(stored: Voxels, frame: Frame, plane: Voxels) -> None:
    """Turn stored values into measured ones, in their place."""
    header = frame.header
    if stored.ndim != 2 or stored.dtype.kind not in "iu":
        raise UnsupportedDtype(
            f"{header.name} is a colour picture.", "Save it in grey."
        )
    if not stored.dtype.isnative:
        stored = stored.byteswap(inplace=True).view(stored.dtype.newbyteorder("="))
    if streams(header) or header.syntax == RUN_LENGTHS:  # as is, or run lengths
        stored = stored if stored.flags.writeable else stored.copy()
        _drop_overlays(stored, header)
    if (
        header.text("PhotometricInterpretation") == "MONOCHROME1"
        and header.text("Modality") not in _MEASURED
    ):
        mask = -1 if _signed(frame) else (1 << _bits(header)) - 1
        stored = np.bitwise_xor(stored, np.array(mask).astype(stored.dtype))
    if plane.dtype.kind == "f":
        exact = np.dtype(np.float64 if stored.itemsize > 2 else np.float32)
        plane[...] = stored.astype(exact) * frame.slope + frame.intercept
        return
    _check_fit(stored, frame, plane.dtype)
    if not np.may_share_memory(stored, plane):
        # wraps around where the stored type is wider; what follows wraps back
        plane[...] = stored.astype(plane.dtype)
    for value, operate in ((frame.slope, np.multiply), (frame.intercept, np.add)):
        if value != (1 if operate is np.multiply else 0):
            operate(plane, np.int64(value).astype(plane.dtype), out=plane)


def _drop_overlays(stored: Voxels, header: Header) -> None:
    """Keep the bits of the pixel, where others are used for something else."""
    bits, total = _bits(header), stored.itemsize * 8
    above = total - 1 - header.number("HighBit", bits - 1)
    if bits < total and above == total - bits and stored.dtype.kind == "u":
        np.bitwise_and(stored, np.array((1 << bits) - 1, stored.dtype), out=stored)
    elif bits < total and 0 <= above <= total - bits:
        np.left_shift(stored, above, out=stored)
        np.right_shift(stored, total - bits, out=stored)


def _check_fit(stored: Voxels, frame: Frame, kind: np.dtype[Any]) -> None:
    bounds = np.iinfo(kind)
    low, high = _declared(frame)
    if bounds.min <= low and high <= bounds.max:
        return
    ends = [
        int(end) * frame.slope + frame.intercept for end in (stored.min(), stored.max())
    ]
    if min(ends) < bounds.min or max(ends) > bounds.max:
        raise DoesNotFit
