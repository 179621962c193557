"""The header of an ordinary slice, parsed without what a whole data set costs.

The files of a series say nearly the same: a value that was converted once is taken
again. pydicom splits the elements and converts the values; whatever is unusual (no
preamble, sequences, other character sets, an element that is cut) is left to its
full reader.
"""

from __future__ import annotations

import io
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXEL_DATA = 0x7FE00010
_PIXELS = frozenset((_PIXEL_DATA, 0x7FE00008, 0x7FE00009))  # those of floats too
_UNDEFINED = 0xFFFFFFFF
_IMPLICIT, _BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_STANDARD = "1.2.840.10008.1.2"
_META = 132  # bytes of the preamble and "DICM"
_CLASS, _SYNTAX, _CHARACTERS = 0x00020002, 0x00020010, 0x00080005
_LATIN = (b"", b"ISO_IR 6", b"ISO_IR 100")

Known: TypeAlias = MutableMapping[tuple[Any, ...], tuple[str, Any]]
"""What tag, kind, order and bytes of an element mean: keyword and value."""


class AtPixels:
    """Stop a parser of pydicom where the pixels begin, and remember them."""

    def __init__(self) -> None:
        self._seen: tuple[int, str | None, int] | None = None

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        if tag in _PIXELS:
            self._seen = tag, vr, length
        return self._seen is not None

    def place(self, stream: BinaryIO) -> tuple[int, int] | None:
        """Place and length of the value, as in `Parsed`, of the parsed stream."""
        if self._seen is None or self._seen[0] != _PIXEL_DATA:
            return None
        _, vr, length = self._seen
        # with a VR the head of the element takes 12 bytes: tag, VR, 2 unused, length
        start = stream.tell() + (12 if vr else 8)
        return start, -1 if length == _UNDEFINED else length


@dataclass(frozen=True, eq=False)
class Parsed:
    """What a file says before its pixels.

    Attributes
    ----------
    values : dict
        Elements by keyword.
    syntax, storage : str
        UIDs of the transfer syntax and of the storage class.
    pixels : tuple of int, or None
        Place and length of the value of Pixel Data in bytes, -1 where the length is not
        told; None if there are none.
    """

    values: dict[str, Any]
    syntax: str
    storage: str
    pixels: tuple[int, int] | None


def quick_header(head: bytes, tags: Sequence[int], known: Known) -> Parsed | None:
    """Parse the head of a file, if it reaches to the pixels and holds nothing odd.

    Parameters
    ----------
    head : bytes
        The first bytes of a file.
    tags : sequence of int
        Elements to read; no others are.
    known : mapping
        Filled with what was converted, for the next file of the series.
    """
    if head[128:_META] != b"DICM":
        return None
    # what fails here fails again, and is named, when pydicom reads the whole
    with suppress(Exception):
        return _parsed(io.BytesIO(head), tags, known)
    return None


def _parsed(stream: io.BytesIO, tags: Sequence[int], known: Known) -> Parsed | None:
    from pydicom.filereader import data_element_generator

    stream.seek(_META)
    meta = data_element_generator(
        stream, False, True, lambda tag, vr, length: tag >> 16 != 2
    )
    uids = {int(raw.tag): raw.value for raw in meta}
    syntax = _uid(uids.get(_SYNTAX))
    if not syntax.startswith(_STANDARD) or syntax == DEFLATED:
        return None
    stop, implicit, little = AtPixels(), syntax == _IMPLICIT, syntax != _BIG
    rest = data_element_generator(
        stream, implicit, little, stop, specific_tags=list(tags)
    )
    values = {}
    for raw in rest:
        tag = int(raw.tag)  # tags of pydicom are compared in Python
        if tag == _CHARACTERS:
            if raw.value is not None and raw.value.strip(b" \0") not in _LATIN:
                return None
        elif raw.VR == "SQ" or not isinstance(raw.value, bytes | None):
            return None
        else:
            key = tag, raw.VR, little, raw.value
            if key not in known:
                known[key] = _converted(raw)
            keyword, value = known[key]
            values[keyword] = value
    place = stop.place(stream)
    if place is None:
        return None
    return Parsed(values, syntax, _uid(uids.get(_CLASS)), place)


def _converted(raw: Any) -> tuple[str, Any]:
    from pydicom.dataelem import convert_raw_data_element

    element = convert_raw_data_element(raw, encoding="iso8859")
    if "Sequence" in element.keyword:  # bytes where a sequence belongs
        raise ValueError(element.keyword)
    return element.keyword, element.value


def _uid(value: Any) -> str:
    text = value.rstrip(b" \0") if isinstance(value, bytes) else b""
    return text.decode("ascii", "replace")
