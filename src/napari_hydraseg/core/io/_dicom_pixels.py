"""Pixels of DICOM frames, rescaled, straight into their place in one array."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ..errors import TruncatedFile, VolumeReadError
from ._dicom_frames import NATIVE, Frame
from ._dicom_headers import Header
from ._dicom_jpeg import SYNTAXES, check_jpeg, deep_frames, is_deep
from ._dicom_open import DoesNotFit, named, opened, quiet
from ._dicom_values import Voxels, has_palette, kinds_of, settle, streams
from ._limits import check_size

Make: TypeAlias = Callable[[np.dtype[Any]], tuple[Voxels, Voxels]]
Wanted: TypeAlias = Mapping[int, tuple[Frame, Voxels]]

_END = b"\xfe\xff\xdd\xe0"  # the item that ends compressed pixels
# Run lengths: damaged ones make pylibjpeg panic, not raise. gdcm comes last: damaged
# JPEG 2000 makes it end the process; it is the only one that reads lossless JPEG.
_PLUGINS = ("pydicom", "pylibjpeg", "pyjpegls", "pillow", "gdcm")
_THREADS = 4  # reading, checksums and arithmetic let go of the interpreter
# bytes of a series below which threads cost more processor time, in handing over to one
# another, than is worth a tenth of a second
_ALONE = 2**27


def fill(
    frames: Sequence[Frame], name: str, *, make: Make | None = None
) -> tuple[Voxels, str]:
    """Read frames into an array.

    Parameters
    ----------
    frames : sequence of Frame
        In the order of the slices.
    name : str
        Name for messages.
    make : callable, optional
        Given a dtype, returns a new array and a view (column, row, slice) of it; else
        the array is (slice, row, column).

    Returns
    -------
    array : ndarray
        New, filled.
    sha256 : str
        Of the file; of several files, of their digests in sorted order.

    Raises
    ------
    TruncatedFile
        If a file ends early.
    VolumeReadError
        If pixels cannot be decoded.
    """
    header = frames[0].header
    shape = header.number("Columns"), header.number("Rows"), len(frames)
    for kind in kinds_of(frames):
        check_size(shape, kind.itemsize, name)
        array, view = make(kind) if make else _plain(shape, kind)
        files: defaultdict[Header, dict[int, tuple[Frame, Voxels]]] = defaultdict(dict)
        for place, frame in enumerate(frames):
            files[frame.header][frame.number] = (frame, view[:, :, place].T)
        try:
            return array, _digest(_read_all(files))
        except DoesNotFit:
            continue
    raise VolumeReadError(
        f"{name} holds values that fit no type.", "Export the series again."
    )


def _plain(shape: tuple[int, ...], kind: np.dtype[Any]) -> tuple[Voxels, Voxels]:
    array = np.empty(shape[::-1], kind)
    return array, array.T


def _read_all(files: Mapping[Header, Wanted]) -> list[str]:
    with quiet("A slice"):
        if len(files) == 1 or sum(header.size for header in files) < _ALONE:
            return [_read_file(*item) for item in files.items()]
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            return list(pool.map(_read_file, files, files.values()))


def _digest(digests: list[str]) -> str:
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _read_file(header: Header, wanted: Wanted) -> str:
    """Read the wanted frames of a file into their planes; return its digest."""
    with named(header.name):
        if streams(header):
            return _stream(header, wanted)
        for number, stored in decoded(header, sorted(wanted)):
            frame, plane = wanted[number]
            settle(stored, frame, plane)
        return digest_of(header.path)


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored_type(header: Header) -> np.dtype[Any]:
    sign = "i" if header.number("PixelRepresentation") == 1 else "u"
    size = header.number("BitsAllocated") // 8
    return np.dtype(f"{NATIVE[header.syntax]}{sign}{size}")


def _stream(header: Header, wanted: Wanted) -> str:
    kind = _stored_type(header)
    shape = header.number("Rows"), header.number("Columns")
    digest, scratch = hashlib.sha256(), np.empty(shape, kind)
    with header.path.open("rb") as file:
        digest.update(file.read(header.start))
        for number in range(header.frames):
            frame, plane = wanted.get(number, (None, scratch))
            in_place = plane.flags.c_contiguous and plane.itemsize == kind.itemsize
            stored = (
                plane.view(kind) if in_place and plane.dtype.kind != "f" else (scratch)
            )
            _read_into(file, stored, header)
            digest.update(stored.data if stored.flags.c_contiguous else b"")
            if frame is not None:
                settle(stored, frame, plane)
        while piece := file.read(1 << 16):
            digest.update(piece)
    return digest.hexdigest()


def _read_into(file: BinaryIO, stored: Voxels, header: Header) -> None:
    got = file.readinto(stored.reshape(-1).view(np.uint8).data)  # type: ignore[attr-defined]  # files of bytes have it
    if got != stored.nbytes:
        raise TruncatedFile(
            f"{header.name} ends early, or was changed while it was read.",
            "Copy or export the scan again.",
        )


def decoded(header: Header, numbers: Sequence[int]) -> Iterator[tuple[int, Voxels]]:
    """Decode frames with pydicom and its plugins.

    Yields
    ------
    number : int
        Place of the frame in the file.
    stored : ndarray, shape (row, column) or (row, column, 3)
        As stored; colours as RGB.
    """
    from pydicom import dcmread
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import iter_pixels
    from pydicom.uid import UID

    name = header.name
    with opened(header.path) as (file, _):
        dataset = dcmread(file, force=True)
    dataset.file_meta.TransferSyntaxUID = UID(header.syntax)
    if header.length == -1 and not _ends(dataset.PixelData, header):
        raise TruncatedFile(
            f"{name} ends within its compressed pixels.",
            "Copy or export the scan again.",
        )
    shape = header.number("Rows"), header.number("Columns")
    grey = header.number("SamplesPerPixel", 1) == 1
    if header.syntax in SYNTAXES:
        check_jpeg(dataset.PixelData, header, numbers)
    arrays: Iterator[Voxels] = (
        deep_frames(dataset.PixelData, header, numbers)
        if is_deep(header) and grey
        else iter_pixels(
            dataset,
            indices=list(numbers),
            raw=grey,
            decoding_plugin=_plugin(header.syntax),
        )
    )
    try:
        for number, stored in zip(numbers, arrays, strict=True):
            if stored.shape[:2] != shape:
                raise VolumeReadError(
                    f"{name} holds a frame of another size than its header says.",
                    "Export the series again.",
                )
            yield (
                number,
                apply_color_lut(stored, dataset) if has_palette(header) else stored,
            )
    except RuntimeError as error:  # what the decoder refused
        raise VolumeReadError(
            f"The pixels of {name} cannot be unpacked.",
            "Export the series without compression.",
        ) from error


def _plugin(syntax: str) -> str:
    """Choose a decoder; "" where none is needed."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    available = get_decoder(UID(syntax)).available_plugins
    return next((plugin for plugin in _PLUGINS if plugin in available), "")


def _ends(pixels: bytes, header: Header) -> bool:
    """Whether the item that ends compressed pixels is in the file."""
    with opened(header.path) as (file, _):
        content = file.read()
    place = content.rfind(pixels[-64:]) if pixels else -1
    return place >= 0 and _END in content[place:]


def same_pixels(first: Frame, second: Frame) -> bool:
    """Whether two frames have equal values."""
    if first is second:
        return True
    if (first.slope, first.intercept) != (second.slope, second.intercept):
        return False
    with quiet("A slice"):
        return bool(np.array_equal(_one(first), _one(second)))


def _one(frame: Frame) -> Voxels:
    if not streams(frame.header):
        return next(decoded(frame.header, [frame.number]))[1]
    shape = frame.header.number("Rows"), frame.header.number("Columns")
    stored = np.empty(shape, _stored_type(frame.header))
    with frame.header.path.open("rb") as file:
        file.seek(frame.header.start + frame.number * stored.nbytes)
        _read_into(file, stored, frame.header)
    return stored
