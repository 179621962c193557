"""Frames of DICOM files: where each lies and how its numbers are to be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    DicomSeriesError,
    GeometryError,
    TruncatedFile,
    UnsupportedDtype,
    UnsupportedShape,
    UnsupportedTransferSyntax,
    VolumeTooLarge,
)
from ._dicom_headers import Header
from ._limits import MAX_VOXELS

EXTRA = 'pip install "napari-hydraseg[dicom]"'
NATIVE = {  # transfer syntaxes that lay the pixels down as they are: byte order
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.2": ">",
}
_JPEG = "1.2.840.10008.1.2.4."
_MOST_PACKED = {  # bytes of pixels that a byte can hold; of others, any number
    **dict.fromkeys(NATIVE, 1),
    "1.2.840.10008.1.2.5": 64,  # runs of 128 in 2 bytes
    **dict.fromkeys((f"{_JPEG}50", f"{_JPEG}51"), 1024),  # 2 bits for 64 or more
    **dict.fromkeys((f"{_JPEG}57", f"{_JPEG}70"), 32),  # a bit for a pixel
}
POSITION = "ImagePositionPatient (0020,0032)"
ORIENTATION = "ImageOrientationPatient (0020,0037)"
SPACING = "PixelSpacing (0028,0030)"
# What tells the volumes of one series apart, in the order of their numbering
_VOLUMES = (
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "EchoTime",
    "DiffusionBValue",
    "TriggerTime",
)


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice.

    Attributes
    ----------
    header : Header
        The file it is in.
    number : int
        Its place in the file, from 0.
    position : ndarray, shape (3,), or None
        Centre of the first pixel, mm in LPS.
    orientation : ndarray, shape (2, 3), or None
        Unit vectors along a row (to the next column) and along a column.
    spacing_mm : ndarray, shape (2,), or None
        Distance between rows and between columns.
    slope, intercept : float
        From stored to measured values.
    key : tuple
        Order among frames at the same position.
    """

    header: Header
    number: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing_mm: NDArray[np.float64] | None
    slope: float
    intercept: float
    key: tuple[Any, ...]


def check_header(header: Header) -> None:
    """Refuse what is no grey-value scan or is not there, before allocating.

    Raises
    ------
    UnsupportedDtype
        If a pixel is no whole number.
    VolumeTooLarge
        If the header promises more voxels than can be held.
    TruncatedFile
        If it promises more than the file holds.
    UnsupportedTransferSyntax
        If there is no decoder.
    """
    name = header.name
    rows, columns = header.number("Rows"), header.number("Columns")
    bits, samples = header.number("BitsAllocated"), header.number("SamplesPerPixel", 1)
    if rows < 1 or columns < 1:
        raise UnsupportedShape(
            f"{name} has {rows} rows and {columns} columns.", "Export it again."
        )
    voxels = rows * columns * header.frames
    if voxels > MAX_VOXELS:  # free memory is compared when all slices are known
        raise VolumeTooLarge(
            f"{name} promises {voxels:.3g} voxels; the limit is {MAX_VOXELS:.3g}.",
            "Crop or resample the scan.",
        )
    if bits not in (8, 16, 32) or not 1 <= header.number("BitsStored", bits) <= bits:
        raise UnsupportedDtype(
            f"{name} has pixels of {bits} bits; 8, 16 and 32 can be read.",
            "Export it in grey.",
        )
    if header.syntax not in NATIVE:
        _check_decoder(header.syntax, name)
    wanted = voxels * samples * bits // 8
    if header.text("PhotometricInterpretation") == "YBR_FULL_422":
        wanted = wanted * 2 // 3  # two pixels share their colours
    here = header.size - header.start
    if header.length >= 0:
        here = min(here, header.length)
    most = here * _MOST_PACKED.get(header.syntax, wanted)
    if header.start and most < wanted:
        raise TruncatedFile(
            f"{name} ends early: {max(here, 0)} of {wanted} bytes of pixels are there.",
            "Copy or export the scan again.",
        )


def _check_decoder(syntax: str, name: str) -> None:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    # names of UIDs that nobody registered could be anything
    called = uid.name if uid.is_transfer_syntax and uid.name != uid else "unknown"
    try:
        decoder = get_decoder(uid)
    except NotImplementedError as error:
        raise UnsupportedTransferSyntax(
            f"The pixels of {name} are stored as {called}, which is not supported.",
            "Export the series without compression.",
        ) from error
    if not decoder.is_available:
        raise UnsupportedTransferSyntax(
            f"{name} is compressed ({called[:60]}).", f"To read it: {EXTRA}"
        )


def frames_of(header: Header) -> list[Frame]:
    """List the frames of one file; call `check_header` first.

    Raises
    ------
    GeometryError
        If a position or direction is no set of numbers.
    DicomSeriesError
        If the file describes fewer frames than it holds.
    """
    values = header.values
    single = values.get("PerFrameFunctionalGroupsSequence")
    if not single:
        numbers = tuple(_number(values, word) for word in _VOLUMES)
        kind = "\\".join(str(word) for word in values.get("ImageType") or ())
        key = (*numbers, kind, header.number("InstanceNumber"))
        whole = header.frames == 1  # positions of one frame say nothing of others
        return [
            _frame(header, number, [values] if whole else [], (*key, number))
            for number in range(header.frames)
        ]
    if len(single) < header.frames:
        raise DicomSeriesError(
            f"{header.name} has {header.frames} frames and describes {len(single)}.",
            "Export the series again.",
        )
    shared = values.get("SharedFunctionalGroupsSequence") or [None]
    return [
        _enhanced(header, number, [single[number], shared[0]])
        for number in range(header.frames)
    ]


def _enhanced(header: Header, number: int, groups: list[Any]) -> Frame:
    """Frame of an enhanced file: what is said of it alone comes first."""
    found = []
    for group in filter(None, groups):
        for word in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
        ):
            found += list(group.get(word) or ())
    content = groups[0].get("FrameContentSequence") or [{}]
    place = content[0].get("DimensionIndexValues") or ()
    places = [place] if isinstance(place, int) else list(place)
    return _frame(header, number, found, (tuple(map(int, places)), number))


def _frame(
    header: Header, number: int, sources: list[Any], key: tuple[Any, ...]
) -> Frame:
    name = header.name
    position = _vector(sources, "ImagePositionPatient", 3, f"{POSITION} of {name}")
    axes = _vector(sources, "ImageOrientationPatient", 6, f"{ORIENTATION} of {name}")
    spacing = _vector(sources, "PixelSpacing", 2, f"{SPACING} of {name}")
    if axes is not None:
        axes = _unit(axes.reshape(2, 3), name)
    if spacing is not None and (spacing <= 0).any():
        raise GeometryError(
            f"{SPACING} of {name} is {spacing[0]:g}, {spacing[1]:g} mm.",
            "Export the series again.",
        )
    values = [*sources, header.values]
    slope, intercept = (
        _first(values, "RescaleSlope"),
        _first(values, "RescaleIntercept"),
    )
    return Frame(
        header,
        number,
        position,
        axes,
        spacing,
        # 0 is forbidden, and would wipe the slice out
        1.0 if slope is None or slope == 0 else slope,
        intercept or 0.0,
        key,
    )


def _unit(axes: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Check that the two directions are unit vectors at a right angle."""
    lengths = np.sqrt((axes**2).sum(axis=1))
    # 1e-3: some scanners write three digits
    if (np.abs(lengths - 1) > 1e-3).any() or abs(axes[0] @ axes[1]) > 1e-3:
        raise GeometryError(
            f"{ORIENTATION} of {name} is no pair of directions at a right angle.",
            "Export the series again.",
        )
    return np.asarray(axes / lengths[:, None], dtype=np.float64)


def _vector(
    sources: Sequence[Any], word: str, count: int, called: str
) -> NDArray[np.float64] | None:
    for source in sources:
        value = source.get(word)
        if value is None or value == "":
            continue
        try:
            numbers = np.array([float(number) for number in value], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise GeometryError(
                f"{called} is no list of numbers.", "Export the series again."
            ) from error
        if numbers.size != count or not np.isfinite(numbers).all():
            raise GeometryError(
                f"{called} is no list of {count} finite numbers.",
                "Export the series again.",
            )
        return numbers
    return None


def _first(sources: Sequence[Any], word: str) -> float | None:
    return next((n for s in sources if (n := _number(s, word, None)) is not None), None)


def _number(source: Any, word: str, default: float | None = 0.0) -> float | None:
    value = source.get(word)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return number if math.isfinite(number) else default
