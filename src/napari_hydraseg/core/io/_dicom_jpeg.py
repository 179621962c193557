"""A look at JPEG before its decoder, which ends the process on a head of nonsense.

Markers as in ITU-T T.81, annex B: https://www.w3.org/Graphics/JPEG/itu-t81.pdf
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import TruncatedFile, UnsupportedTransferSyntax
from ._dicom_frames import EXTRA
from ._dicom_headers import Header

EXTENDED = "1.2.840.10008.1.2.4.51"
SYNTAXES = {f"1.2.840.10008.1.2.4.{end}" for end in ("50", "51", "57", "70")}
_FRAMES = (0xC0, 0xC1, 0xC3)  # baseline, extended, lossless
_TABLE, _ADOBE, _SCAN = 0xC4, 0xEE, 0xDA
_HARMLESS = {0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # tables, intervals, remarks


def check_jpeg(pixels: bytes, header: Header, numbers: Sequence[int]) -> None:
    """Compare the head of each frame with the header of the file.

    Parameters
    ----------
    pixels : bytes
        The encapsulated value of Pixel Data.
    header : Header
        Its file.
    numbers : sequence of int
        Frames that are to be decoded.

    Raises
    ------
    TruncatedFile
        If size, precision or number of colours are not those of the header, or a
        table is malformed.
    """
    from pydicom.encaps import get_frame

    for number in numbers:
        frame = get_frame(pixels, number, number_of_frames=header.frames)
        if not _sound(frame, header):
            raise TruncatedFile(
                f"The pixels of {header.name} are damaged.",
                "Copy or export the series again.",
            )


def is_deep(header: Header) -> bool:
    """Whether a file is JPEG of more than 8 bits that is not lossless."""
    return header.syntax == EXTENDED and header.number("BitsStored", 8) > 8


def deep_frames(
    pixels: bytes, header: Header, numbers: Sequence[int]
) -> Iterator[NDArray[np.uint16]]:
    """Decode JPEG of 12 bits; call `check_jpeg` first.

    pydicom has no decoder for it but those under the GPL, and leaves gdcm out, whose
    earlier versions could not.

    Raises
    ------
    UnsupportedTransferSyntax
        If gdcm is not installed.
    """
    from pydicom.encaps import get_frame

    shape = header.number("Rows"), header.number("Columns")
    for number in numbers:
        frame = get_frame(pixels, number, number_of_frames=header.frames)
        content = _gdcm_image(frame, header).GetBuffer()
        # gdcm gives bytes as text
        stored = np.frombuffer(content.encode("utf-8", "surrogateescape"), "<u2")
        yield stored.reshape(shape)


def _gdcm_image(frame: bytes, header: Header) -> Any:
    try:
        gdcm: Any = import_module("gdcm")
    except ModuleNotFoundError as error:
        raise UnsupportedTransferSyntax(
            f"{header.name} is compressed (JPEG of 12 bits).", f"To read it: {EXTRA}"
        ) from error
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(frame)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((header.number("Columns"), header.number("Rows"), 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(header.syntax)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    return image


def _sound(frame: bytes, header: Header) -> bool:
    """Whether the parts before the picture are whole and say what the header says."""
    colours, tables = 0, False
    for marker, part in _parts(frame):
        if marker in _FRAMES:
            colours = header.number("SamplesPerPixel", 1)
            if not _sound_frame(part, header):
                return False
        elif marker == _TABLE and _sound_tables(part):
            tables = True
        elif marker == _SCAN:
            return tables and len(part) == 4 + 2 * colours == 4 + 2 * part[0]
        elif marker not in _HARMLESS or (marker == _ADOBE and part[11:12] > b"\2"):
            return False
    return False


def _sound_frame(part: bytes, header: Header) -> bool:
    """Whether precision, size and number of colours are those of the header."""
    colours = header.number("SamplesPerPixel", 1)
    if len(part) != 6 + 3 * colours or part[5] != colours:
        return False
    rows, columns = (int.from_bytes(part[i : i + 2], "big") for i in (1, 3))
    return (rows, columns) == (
        header.number("Rows"),
        header.number("Columns"),
    ) and 2 <= part[0] <= header.number("BitsAllocated")


def _parts(frame: bytes) -> Iterator[tuple[int, bytes]]:
    place = 2
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            place += 1
            continue
        size = int.from_bytes(frame[place + 2 : place + 4], "big")
        yield marker, frame[place + 4 : place + 2 + size]
        place += 2 + size


def _sound_tables(part: bytes) -> bool:
    """Whether Huffman tables have as many codes as fit their lengths."""
    place = 0
    while place + 17 <= len(part):
        counts = part[place + 1 : place + 17]
        room = sum(count << (16 - bits) for bits, count in enumerate(counts, start=1))
        if part[place] & 0xEC or sum(counts) > 256 or room > 1 << 16:
            return False
        place += 17 + sum(counts)
    return place == len(part)
