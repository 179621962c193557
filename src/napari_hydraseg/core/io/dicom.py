"""DICOM: the series of a folder, or one file, as a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MixedSeries, NotAVolume
from ..types import Modality, SourceGrid, Volume
from . import frame as frames
from ._dicom_even import even
from ._dicom_frames import Frame, check_header, frames_of
from ._dicom_headers import Header, headers_in, read_header
from ._dicom_open import is_dicom, quiet
from ._dicom_picture import picture
from ._dicom_pixels import fill, same_pixels
from ._dicom_sort import Stack, check_geometry, stack
from ._stream import short_name

__all__ = ["Series", "is_dicom", "read_series", "series_in"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MODALITIES: dict[str, Modality] = {
    "MR": "MR",
    "CT": "CT",
    "US": "US",
    "CR": "XR",
    "DX": "XR",
}


@dataclass(frozen=True)
class Series:
    """One row of the table of series; nothing in it is about a person.

    Attributes
    ----------
    number : int
        Place in the table, from 1; `read_series` takes it too.
    description, modality : str
        As the scanner wrote them; "" where it did not.
    size : str
        Columns x rows x slices.
    uid : str
        Series Instance UID.
    """

    number: int
    description: str
    modality: str
    size: str
    uid: str


def series_in(folder: Path) -> list[Series]:
    """List the DICOM series of a folder.

    Raises
    ------
    NotAVolume
        If there is none.
    """
    return _table(_groups(headers_in(folder)[0]))


def read_series(
    folder: Path,
    *,
    series: str | None = None,
    regularise: bool = False,
    index: int | None = None,
) -> Volume:
    """Read one DICOM series.

    Slices are sorted by their positions along the normal, and distances are taken from
    positions, never from the thickness.

    Parameters
    ----------
    folder : Path
        A folder of slices, or one file.
    series : str, optional
        Series Instance UID, number in the table of `series_in`, or description.
    regularise : bool
        Interpolate where slices are missing, uneven or tilted.
    index : int, optional
        Which volume where every position has several slices; which frame of a film;
        which channel of a colour picture.

    Returns
    -------
    Volume
        Rescaled by slope and intercept; whole numbers stay whole.

    Raises
    ------
    NotAVolume
        If there is no image.
    MixedSeries
        If there are several series and none was chosen.
    MissingSlices, DicomSeriesError
        If slices are missing, doubled, uneven or tilted.
    GeometryError
        If the header does not say where slices lie.
    VolumeReadError
        If a file is damaged, compressed without a decoder, or too large.
    """
    name = short_name(folder)
    if folder.is_dir():
        found, skipped = headers_in(folder)
        headers = _chosen(_groups(found), series, name)
    else:
        headers, skipped = [read_header(folder)], 0
    notes = tuple(dict.fromkeys(note for header in headers for note in header.notes))
    if skipped:
        notes = (*notes, f"{skipped} DICOM files are no images and were left out.")
    with quiet(name):
        listed = [one for header in headers for one in _checked(header)]
        placed = check_geometry(listed, name)
    volume = (
        _volume(listed, name, regularise=regularise, index=index)
        if placed
        else picture(listed, name, index=index)
    )
    return replace(
        volume,
        modality=_MODALITIES.get(headers[0].text("Modality")),
        source=name,
        notes=(*notes, *volume.notes),
    )


def _checked(header: Header) -> list[Frame]:
    check_header(header)
    return frames_of(header)


def _groups(headers: Sequence[Header]) -> list[list[Header]]:
    """Gather headers by series, in the order of the series' numbers."""
    series: defaultdict[str, list[Header]] = defaultdict(list)
    for header in headers:
        series[header.text("SeriesInstanceUID")].append(header)
    with quiet("A series"):
        return sorted(
            series.values(),
            key=lambda group: (
                group[0].number("SeriesNumber"),
                group[0].text("SeriesInstanceUID"),
            ),
        )


def _table(groups: Sequence[Sequence[Header]]) -> list[Series]:
    rows = []
    with quiet("A series"):
        for place, group in enumerate(groups):
            first = group[0]
            slices = sum(header.frames for header in group)
            size = f"{first.number('Columns')} x {first.number('Rows')} x {slices}"
            rows.append(
                Series(
                    place + 1,
                    first.text("SeriesDescription")[:64],
                    first.text("Modality")[:16],
                    size,
                    first.text("SeriesInstanceUID"),
                )
            )
    return rows


def _chosen(groups: list[list[Header]], series: str | None, name: str) -> list[Header]:
    table = _table(groups)
    if series is None and len(groups) == 1:
        return groups[0]
    if series is None:
        raise MixedSeries(
            f"{name} holds {len(groups)} series: {_listed(table)}.",
            "Choose one (--series NUMBER).",
        )
    wanted = series.strip().casefold()
    for names in (
        [row.uid for row in table],
        [str(row.number) for row in table],
        [row.description.casefold() for row in table],
    ):
        if names.count(wanted) == 1:
            return groups[names.index(wanted)]
    raise NotAVolume(
        f"{name} has no such series; it holds {_listed(table)}.",
        "Choose one (--series NUMBER).",
    )


def _listed(table: Sequence[Series]) -> str:
    """Name series in the space that a message has."""
    words: list[str] = []
    for row in table:
        size = row.size.replace(" ", "")
        word = f"{row.number}: {row.description[:16]} {row.modality} {size}"
        word = " ".join(word.split())
        if sum(map(len, words)) + len(word) > 80:
            return ", ".join([*words, "…"])
        words.append(word)
    return ", ".join(words)


def _volume(
    listed: Sequence[Frame], name: str, *, regularise: bool, index: int | None
) -> Volume:
    with quiet(name):
        found = stack(listed, name, same=same_pixels, index=index)
    if found.fault is None:
        return _even_volume(found, name)
    if not regularise:
        raise found.fault
    voxels, digest = fill(found.frames, _plain(found), name)
    voxels, affine, notes = even(voxels, found)
    volume = _in_our_order(voxels.transpose(2, 1, 0), affine, digest)
    return replace(volume, notes=(*found.notes, *notes))


def _plain(found: Stack) -> Any:
    columns, rows, slices = found.shape

    def make(kind: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        array = np.empty((slices, rows, columns), kind)
        return array, array.transpose(2, 1, 0)

    return make


def _even_volume(found: Stack, name: str) -> Volume:
    """Read slices straight to where they belong in our order."""
    affine = LPS_TO_RAS @ found.affine_lps
    transform = frames.transform_of(affine)
    where = [0, 0, 0]
    for size, axis in zip(found.shape, transform[:, 0].astype(int), strict=True):
        where[axis] = size

    def make(kind: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        array = np.empty(where, kind)
        return array, frames.to_file(array, transform)

    voxels, digest = fill(found.frames, make, name)
    volume = _assembled(voxels, affine, transform, found.shape, digest)
    known = volume.known if found.thick else volume.known - {"spacing"}
    return replace(volume, known=known, notes=found.notes)


def _in_our_order(
    voxels: NDArray[Any], affine_lps: NDArray[np.float64], digest: str
) -> Volume:
    affine = LPS_TO_RAS @ affine_lps
    transform = frames.transform_of(affine)
    shape = voxels.shape
    return _assembled(
        frames.to_ours(voxels, transform), affine, transform, shape, digest
    )


def _assembled(
    voxels: NDArray[Any],
    affine_ras: NDArray[np.float64],
    transform: NDArray[np.float64],
    shape: tuple[int, ...],
    digest: str,
) -> Volume:
    volume = Volume(
        data=voxels[None],
        affine=frames.affine_to_ours(affine_ras, transform, shape),
        grid=SourceGrid(shape=shape, transform=transform),
        sha256=digest,
    )
    plane = frames.acquisition_plane(volume.shape, volume.spacing_mm)
    return replace(volume, plane=plane)
