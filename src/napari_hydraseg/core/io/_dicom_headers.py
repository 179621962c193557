"""Headers of DICOM files: what geometry and pixels need, and nothing about people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import (
    NotAVolume,
    TruncatedFile,
    VolumeReadError,
    VolumeTooLarge,
)
from ._dicom_open import named, opened, quiet, sniff
from ._dicom_quick import DEFLATED, AtPixels, Known, Parsed, quick_header
from ._names import short_name

MAX_FILES = 100_000
DIRECTORY = "1.2.840.10008.1.3.10"
_HEAD_BYTES = 2**16
_PROGRAMS = {
    b"MZ": "Windows",
    b"\x7fELF": "Linux",
    b"\xfe\xed\xfa": "macOS",
    b"\xcf\xfa\xed\xfe": "macOS",
    b"\xca\xfe\xba\xbe": "macOS",
}
# The only elements that are read: what is not listed never enters the process
TAGS = (
    "AcquisitionNumber BitsAllocated BitsStored BurnedInAnnotation Columns "
    "DiffusionBValue EchoTime HighBit ImageOrientationPatient ImagePositionPatient "
    "ImageType ImagerPixelSpacing InstanceNumber Modality NumberOfFrames "
    "PerFrameFunctionalGroupsSequence PhotometricInterpretation PixelRepresentation "
    "PixelSpacing RescaleIntercept RescaleSlope Rows SOPClassUID "
    "SamplesPerPixel SequenceOfUltrasoundRegions SeriesDescription SeriesInstanceUID "
    "SeriesNumber "
    "SharedFunctionalGroupsSequence SliceThickness SpacingBetweenSlices "
    "TemporalPositionIdentifier TriggerTime"
).split()
_NO_SCANS = {  # storage classes whose pixels are no grey values of a body
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation",
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose distribution",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
}
_SCANS = {  # classes that never come without pixels: CR, DX, CT, US, MR
    f"1.2.840.10008.5.1.4.1.1.{end}"
    for end in ("1", "1.1", "2", "2.1", "3.1", "4", "4.1", "6.1")
}


@dataclass(frozen=True, eq=False)
class Header:
    """What one file says, and where its pixels begin.

    Attributes
    ----------
    path : Path
        The file.
    values : mapping
        The elements of `TAGS`, by keyword; sequences hold data sets.
    syntax : str
        UID of the transfer syntax.
    start, length : int
        Place of the value of Pixel Data in the file in bytes; ``start`` is 0 where
        the file must be unpacked first, ``length`` -1 where it is not told.
    size : int
        Size of the file in bytes.
    notes : tuple of str
        What was unusual.
    """

    path: Path
    values: Mapping[str, Any]
    syntax: str
    start: int
    length: int
    size: int
    notes: tuple[str, ...] = ()

    @cached_property
    def name(self) -> str:
        """Name of the file for messages."""
        return short_name(self.path)

    def number(self, name: str, default: int = 0) -> int:
        """Value of an element as a whole number."""
        value = self.values.get(name)
        return default if value in (None, "") else int(value)

    def text(self, name: str) -> str:
        """Value of an element as one line of printable text."""
        value = str(self.values.get(name) or "")
        if not value.isprintable():
            value = "".join(c if c.isprintable() else " " for c in value)
        return " ".join(value.split())

    @property
    def frames(self) -> int:
        """Number of frames; 1 for a file that does not count them."""
        return max(self.number("NumberOfFrames", 1), 1)


def files_in(folder: Path) -> list[Path]:
    """List the files that may belong to a series; below a DICOMDIR, all of them.

    Raises
    ------
    VolumeTooLarge
        If there are too many.
    """
    below = (folder / "DICOMDIR").is_file()
    found = []
    for path in folder.rglob("*") if below else folder.iterdir():
        if path.is_file() and not path.name.startswith(".") and path.name != "DICOMDIR":
            found.append(path)
        if len(found) > MAX_FILES:
            raise VolumeTooLarge(
                f"{short_name(folder)} holds more than {MAX_FILES} files.",
                "Choose the folder of one series.",
            )
    return sorted(found)


def headers_in(folder: Path) -> tuple[list[Header], int]:
    """Read the headers of all images of a folder.

    Returns
    -------
    headers : list of Header
        In the order of the names of the files.
    skipped : int
        How many DICOM files are no images.

    Raises
    ------
    NotAVolume
        If not one is an image.
    """
    headers, skipped, last = [], 0, ""
    known: Known = {}
    with quiet(short_name(folder)):
        for path in files_in(folder):
            try:
                if sniff(path):
                    headers.append(_read(path, known))
            except NotAVolume as error:
                skipped, last = skipped + 1, error.what
            except OSError as error:  # a slice that is left out would go unnoticed
                raise VolumeReadError(
                    f"{short_name(path)} cannot be read: {error.strerror}.",
                    "Give yourself the right to read it.",
                ) from error
    if headers:
        return headers, skipped
    if skipped:
        raise NotAVolume(
            f"None of {skipped} DICOM files in {short_name(folder)} is an image.",
            f"({last})" if skipped == 1 else "Choose the folder of a scan.",
        )
    raise NotAVolume(
        f"The folder {short_name(folder)} holds no DICOM file.",
        "Choose a folder of DICOM slices, or a scan file.",
    )


def read_header(path: Path) -> Header:
    """Read the header of one file.

    Raises
    ------
    NotAVolume
        If it is no image.
    TruncatedFile
        If it is damaged.
    VolumeReadError
        If its structure cannot be read.
    """
    with quiet(short_name(path)):
        return _read(path, {})


def _read(path: Path, known: Known) -> Header:
    name, size = short_name(path), path.stat().st_size
    with named(name), opened(path) as (file, packed):
        head = file.read(_HEAD_BYTES)
        found = quick_header(head, _tags(), known) or _parse(file)
    values, pixels = found.values, found.pixels
    classes = {str(values.get("SOPClassUID")), found.storage}
    if DIRECTORY in classes:
        raise NotAVolume(f"{name} is an index of DICOM files.", "Choose its folder.")
    for other in classes & _NO_SCANS.keys():
        raise NotAVolume(f"{name} is {_NO_SCANS[other]}, no scan.", "Choose a scan.")
    if pixels is None and classes & _SCANS:
        raise TruncatedFile(
            f"{name} ends before its pixels ({size} bytes).",
            "Copy or export the scan again.",
        )
    if pixels is None or "Rows" not in values:
        raise NotAVolume(f"{name} is {_kind(values)}.", "Choose a scan.")
    start, length = pixels
    return Header(
        path,
        values,
        found.syntax,
        0 if packed or found.syntax == DEFLATED else start,
        length,
        size,
        _notes(values, head),
    )


def _parse(file: BinaryIO) -> Parsed:
    """Read up to the pixels, whatever the file."""
    from pydicom.filereader import read_partial

    file.seek(0)
    stop = AtPixels()
    dataset: Any = read_partial(file, stop, force=True, specific_tags=_tags())
    meta = _values(dataset.file_meta)
    syntax = str(meta.get("TransferSyntaxUID") or _guess(dataset))
    storage = str(meta.get("MediaStorageSOPClassUID"))
    return Parsed(_values(dataset), syntax, storage, stop.place(file))


def _values(dataset: Any) -> dict[str, Any]:
    """Elements by keyword; a sequence where none belongs could hold anything."""
    return {
        element.keyword: element.value
        for element in dataset
        if (element.VR == "SQ") == ("Sequence" in element.keyword)
    }


@cache
def _tags() -> list[Any]:
    from pydicom.datadict import tag_for_keyword

    return [tag_for_keyword(word) for word in TAGS]


def _kind(values: Mapping[str, Any]) -> str:
    modality = str(values.get("Modality", ""))
    if modality.isalnum() and modality.isupper() and len(modality) <= 16:
        return f"a DICOM object without grey values ({modality})"
    return "no DICOM image"


def _guess(dataset: Any) -> str:
    """Name the transfer syntax that the parser found, where the file names none."""
    implicit, little = dataset.original_encoding
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _notes(values: Mapping[str, Any], head: bytes) -> tuple[str, ...]:
    notes = []
    for magic, system in _PROGRAMS.items():
        if head.startswith(magic):
            notes.append(f"A file starts like a {system} program; that is ignored.")
    if str(values.get("BurnedInAnnotation", "")).upper() == "YES":
        notes.append(
            "The scan says that text about the patient may be burned into its pixels; "
            "look before you share a picture."
        )
    return tuple(notes)
