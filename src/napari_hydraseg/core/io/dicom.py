"""DICOM: the series of a folder, or one file, as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryError, NotAVolume
from ..types import Modality, SourceGrid, Volume
from . import frame as frames
from ._dicom_choice import Series, headers_of, series_in
from ._dicom_even import even
from ._dicom_frames import Frame, check_header, frames_of
from ._dicom_headers import Header
from ._dicom_mosaic import is_mosaic, mosaic
from ._dicom_open import is_dicom, opened, quiet
from ._dicom_picture import picture
from ._dicom_pixels import fill, same_pixels
from ._dicom_sort import Stack, check_geometry, stack
from ._names import short_name

__all__ = ["Series", "is_dicom", "read_series", "series_in", "sources_of"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MODALITIES: dict[str, Modality] = {
    "MR": "MR",
    "CT": "CT",
    "US": "US",
    "CR": "XR",
    "DX": "XR",
}


def read_series(
    folder: Path,
    *,
    series: str | None = None,
    regularise: bool = False,
    index: int | None = None,
    assume_spacing_mm: float | None = None,
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
    assume_spacing_mm : float, optional
        Thickness of a single slice that does not say.

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
    headers, skipped = headers_of(folder, series)
    notes = tuple(dict.fromkeys(note for header in headers for note in header.notes))
    if skipped:
        notes = (*notes, f"{skipped} DICOM files are no images and were left out.")
    with quiet(name):
        listed = [one for header in headers for one in _checked(header)]
        placed = check_geometry(listed, name)
    if any(map(is_mosaic, headers)):
        voxels, affine, digest, more = mosaic(listed, name, index=index)
        volume = replace(_in_our_order(voxels, affine, digest), notes=tuple(more))
    elif placed:
        found = _stacked(listed, name, index, assume_spacing_mm)
        volume = _volume(found, name, regularise=regularise)
    else:
        volume = picture(listed, name, index=index)
    return replace(
        volume,
        modality=_MODALITIES.get(headers[0].text("Modality")),
        source=name,
        notes=(*notes, *volume.notes),
    )


def sources_of(
    path: Path,
    *,
    elements: Sequence[str],
    series: str | None = None,
    index: int | None = None,
) -> tuple[list[Any], list[int], NDArray[np.float64]]:
    """Describe the slices of a series for what is made of them.

    Parameters
    ----------
    path : Path
        A folder of slices, or one file.
    elements : sequence of str
        Keywords of the elements to read; no others are.
    series : str, optional
        As in `read_series`.
    index : int, optional
        As in `read_series`.

    Returns
    -------
    datasets : list of Dataset
        One per file, in the order of the slices, without pixels.
    order : list of int
        For each slice of the volume its place among the frames of all data sets.
    affine_lps : ndarray, shape (4, 4)
        Index (column, row, slice) to mm in LPS.

    Raises
    ------
    DicomSeriesError
        If the slices are no even stack.
    GeometryError
        If they do not say where they lie.
    """
    from pydicom import dcmread

    name = short_name(path)
    headers, _ = headers_of(path, series)
    if any(map(is_mosaic, headers)):
        raise NotAVolume(f"The slices of {name} are no files.", "Save a NIfTI mask.")
    with quiet(name):
        listed = [one for header in headers for one in _checked(header)]
        if not check_geometry(listed, name):
            raise GeometryError(f"{name} does not say where it lies.", "Save a PNG.")
        found = stack(listed, name, same=same_pixels, index=index)
        if found.fault is not None:
            raise found.fault
        files = list(dict.fromkeys(frame.header for frame in found.frames))
        if len(files) > 1 and any(header.frames > 1 for header in files):
            raise NotAVolume(
                f"{name} is in several files of many frames.", "Join them."
            )
        datasets = []
        for header in files:
            with opened(header.path) as (file, _):
                datasets.append(
                    dcmread(
                        file,
                        stop_before_pixels=True,
                        force=True,
                        specific_tags=list(elements),
                    )
                )
    single = len(files) == 1
    order = [one.number if single else n for n, one in enumerate(found.frames)]
    return datasets, order, found.affine_lps


def _checked(header: Header) -> list[Frame]:
    check_header(header)
    return frames_of(header)


def _stacked(
    listed: Sequence[Frame], name: str, index: int | None, thickness_mm: float | None
) -> Stack:
    with quiet(name):
        found = stack(listed, name, same=same_pixels, index=index)
    if found.thick or thickness_mm is None:
        return found
    affine = found.affine_lps @ np.diag([1.0, 1.0, thickness_mm, 1.0])
    note = f"A thickness of {thickness_mm} mm was assumed."
    return replace(found, affine_lps=affine, thick=True, notes=(*found.notes, note))


def _volume(found: Stack, name: str, *, regularise: bool) -> Volume:
    if found.fault is None:
        return _even_volume(found, name)
    if not regularise:
        raise found.fault
    voxels, digest = fill(found.frames, name)
    voxels, affine, notes = even(voxels, found)
    volume = _in_our_order(voxels.transpose(2, 1, 0), affine, digest)
    return replace(volume, notes=(*found.notes, *notes))


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

    voxels, digest = fill(found.frames, name, make=make)
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
        grid=SourceGrid(shape=shape, transform=transform, format="dicom"),
        sha256=digest,
    )
    plane = frames.acquisition_plane(volume.shape, volume.spacing_mm)
    return replace(volume, plane=plane)
