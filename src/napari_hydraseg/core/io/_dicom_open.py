"""Opening DICOM files: unpacked, bounded, and with one net under the parser."""

from __future__ import annotations

import gzip
import io
import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import HydraSegError, TruncatedFile, VolumeReadError, VolumeTooLarge
from ._dicom_quick import DEFLATED, AtPixels
from ._names import short_name
from ._sniff import is_bare_dicom

MAX_BYTES = 2**33  # of one file after unpacking: as many voxels as may be, in int32
UNASKED = 2**27  # bytes that are unpacked before the header is asked how many there are
_PIECE = 2**20
_EXPLICIT = b"1.2.840.10008.1.2.1\0\0\0"  # as long as that, and not packed
_SIZES = {  # what is multiplied is the number of bits
    0x00280010: "Rows",
    0x00280011: "Columns",
    0x00280002: "SamplesPerPixel",
    0x00280008: "NumberOfFrames",
    0x00280100: "BitsAllocated",
}


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, also inside gzip or without preamble."""
    try:
        return sniff(path)
    except OSError:
        return False


def sniff(path: Path) -> bool:
    """Do what `is_dicom` does, and raise OSError if the file cannot be read."""
    with path.open("rb") as file:
        head = file.read(132)
        if head[:2] == b"\x1f\x8b":
            file.seek(0)
            try:
                with gzip.open(file) as unpacked:
                    head = unpacked.read(132)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                return False
    return head[128:132] == b"DICM" or is_bare_dicom(head)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file; give its content and whether that had to be unpacked."""
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(0)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(file) as packed:
                yield _bounded(packed, short_name(path)), True
            return
        if DEFLATED.encode() in head:
            _check_deflated(file, short_name(path))
            file.seek(0)
        yield file, False


def _bounded(packed: gzip.GzipFile, name: str) -> BinaryIO:
    content, most = io.BytesIO(), UNASKED
    while piece := packed.read(_PIECE):
        content.write(piece)
        if content.tell() > most == UNASKED:
            most = _most(io.BytesIO(content.getbuffer()[:_PIECE]))
        if content.tell() > most:
            raise _too_large(name)
    content.seek(0)
    return content


def _check_deflated(file: BinaryIO, name: str) -> None:
    """Inflate piece by piece, keeping nothing, before the parser does so at once."""
    head = file.read(144)  # preamble, "DICM", and the length of the group that follows
    meta = file.read(int.from_bytes(head[140:], "little"))
    inflate, total, most = zlib.decompressobj(-zlib.MAX_WBITS), 0, UNASKED
    first = bytearray(head + meta.replace(DEFLATED.encode(), _EXPLICIT))
    piece = file.read(1 << 16)
    while piece and not inflate.eof:
        unpacked = inflate.decompress(piece, _PIECE)
        total += len(unpacked)
        if len(first) < _PIECE:
            first += unpacked
        if total > most == UNASKED:
            most = _most(io.BytesIO(first))
        if total > most:
            raise _too_large(name)
        piece = inflate.unconsumed_tail or file.read(1 << 16)


def _most(beginning: BinaryIO) -> int:
    """How long a file may be, by the size of the pixels that its header declares."""
    from pydicom.filereader import read_partial

    try:
        said: Any = read_partial(
            beginning, AtPixels(), force=True, specific_tags=list(_SIZES)
        )
        pixels = math.prod(int(said.get(tag) or 1) for tag in _SIZES.values())
    except Exception:  # a header that cannot be read declares nothing
        return UNASKED
    return min(MAX_BYTES, UNASKED + pixels // 8)


def _too_large(name: str) -> VolumeTooLarge:
    return VolumeTooLarge(
        f"{name} unpacks to far more than its header declares, or than can be held.",
        "Export the series without compression.",
    )


class DoesNotFit(Exception):
    """A value is outside of the integer type that was hoped for."""


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep values of elements out of warnings and logs; see `named` for errors.

    For the thread that calls, not for those that it starts.
    """
    import pydicom.config

    def drop(record: logging.LogRecord) -> bool:
        return False

    log = logging.getLogger("pydicom")
    log.addFilter(drop)
    try:
        with (
            named(name),
            warnings.catch_warnings(),
            pydicom.config.disable_value_validation(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeFilter(drop)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Name what cannot be read.

    The libraries raise many kinds of errors on damaged files; this is the one place
    that catches them all.
    """
    try:
        yield
    except (HydraSegError, DoesNotFit):
        raise
    except MemoryError as error:
        raise VolumeTooLarge(
            f"{name} needs more memory than there is.", "Crop or resample the scan."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TruncatedFile(
            f"{name} is damaged: it ends early or fails its checksum.",
            "Copy or export the scan again.",
        ) from error
    except Exception as error:
        raise VolumeReadError(
            f"{name} is DICOM that cannot be read ({type(error).__name__}).",
            "Copy or export the scan again.",
        ) from error
