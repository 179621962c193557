"""DICOM segmentations of a series, through highdicom (the ``[dicom]`` extra)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ..errors import GeometryMismatchError, SaveError
from ..palette import colours_for
from ..types import Segmentation
from . import frame
from .atomic import atomic_write, ensure_writable
from .dicom import sources_of

EXTRA = 'pip install "napari-hydraseg[dicom]"'
SAME_GRID_MM = 1e-2  # as for channels
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GEOMETRY = (  # of the source, without which a mask does not lie on it
    "BitsAllocated Columns FrameOfReferenceUID ImageOrientationPatient "
    "ImagePositionPatient ImageType Modality NumberOfFrames "
    "PerFrameFunctionalGroupsSequence PixelSpacing Rows SOPClassUID SOPInstanceUID "
    "SamplesPerPixel SeriesInstanceUID SharedFunctionalGroupsSequence SliceThickness "
    "SpacingBetweenSlices StudyInstanceUID"
).split()
_PERSON = (  # what DICOM demands, empty unless it is asked for
    "AccessionNumber PatientBirthDate PatientID PatientName PatientSex "
    "ReferringPhysicianName StudyDate StudyID StudyTime"
).split()


def save_dicom_seg(
    segmentation: Segmentation,
    path: str | Path,
    *,
    source: str | Path,
    series: str | None = None,
    index: int | None = None,
    patient: bool = False,
    overwrite: bool = False,
) -> None:
    """Write labels as a DICOM segmentation of the series that they were made on.

    The UIDs of study, series and slices go with it, because they are what ties the
    segmentation to its scan. Names, dates and numbers of the patient stay empty, unless
    `patient` is true.

    Parameters
    ----------
    segmentation : Segmentation
        On the grid of the series.
    path : path
        The file to write.
    source : path
        Folder or file of the series.
    series : str, optional
        Which series of the folder, as in `load_volume`.
    index : int, optional
        Which volume of the series, as in `load_volume`.
    patient : bool
        Whether to copy what an archive files it by: name, number, dates.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    GeometryMismatchError
        If the labels lie on another grid than the series.
    SaveError
        If highdicom is missing, nothing is labelled, or the file cannot be written.
    """
    try:
        import highdicom
    except ModuleNotFoundError as error:
        raise SaveError("DICOM-SEG needs highdicom.", f"Install it: {EXTRA}") from error
    file, names = Path(path), names_of(segmentation)
    ensure_writable(file, overwrite=overwrite)
    if not segmentation.labels.any():
        raise SaveError("Nothing is labelled.", "Paint or segment something first.")
    elements = [*_GEOMETRY, *(_PERSON if patient else ())]
    datasets, order, affine_lps = sources_of(
        Path(source), series=series, index=index, elements=elements
    )
    for dataset in datasets:
        for word in _PERSON:
            if word not in dataset:
                setattr(dataset, word, "")
    pixels = _frames(segmentation, order, affine_lps)
    seg = highdicom.seg.Segmentation(
        source_images=datasets,
        pixel_array=_numbered(pixels, names),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(names, segmentation),
        series_instance_uid=highdicom.UID(),
        series_number=100,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="napari-hydraseg",
        manufacturer_model_name="napari-hydraseg",
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
    )
    atomic_write(file, lambda stream: seg.save_as(stream), overwrite=overwrite)


def _frames(
    segmentation: Segmentation, order: list[int], affine_lps: NDArray[np.float64]
) -> NDArray[Any]:
    """Labels (frame, row, column) in the order of the frames of the source."""
    labels, affine = on_grid(segmentation)
    _check_grid(labels, RAS_TO_LPS @ affine, len(order), affine_lps)
    pixels = np.zeros((len(order), *labels.shape[1::-1]), labels.dtype)
    for place, number in enumerate(order):
        pixels[number] = labels[:, :, place].T
    return pixels


def _check_grid(
    labels: NDArray[Any],
    affine_lps: NDArray[np.float64],
    slices: int,
    source_lps: NDArray[np.float64],
) -> None:
    corner = np.array([*labels.shape, 1.0])
    apart = np.abs((affine_lps - source_lps) @ corner).max()
    if labels.shape[2] != slices or apart > SAME_GRID_MM:
        raise GeometryMismatchError(
            f"The mask lies up to {apart:.2f} mm off the series, or has other slices.",
            "Export it with the series that it was made on, not resampled.",
        )


def _numbered(pixels: NDArray[Any], names: Mapping[int, str]) -> NDArray[Any]:
    """Number the labels 1, 2, ..., as DICOM wants its segments."""
    numbers = np.zeros(int(pixels.max()) + 1, pixels.dtype)
    for number, label in enumerate(names, start=1):
        if label < len(numbers):
            numbers[label] = number
    return np.asarray(numbers[pixels])


def _segments(names: Mapping[int, str], segmentation: Segmentation) -> list[Any]:
    import highdicom
    from pydicom.sr.codedict import codes

    by_hand = not segmentation.made_by
    algorithm = None
    if not by_hand:
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name="napari-hydraseg",
            family=codes.DCM.ArtificialIntelligence,
            version=__version__,
        )
    colours = colours_for(names, segmentation.colours)
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type="MANUAL" if by_hand else "AUTOMATIC",
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*rgb(colours[label])),
        )
        for number, (label, name) in enumerate(names.items(), start=1)
    ]


def rgb(colour: str) -> tuple[int, int, int]:
    """Parts of ``#RRGGBB``, 0 to 255."""
    red, green, blue = bytes.fromhex(colour.lstrip("#"))
    return red, green, blue


def on_grid(
    segmentation: Segmentation,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Labels (i, j, k) in the order of the scan's file, and their affine in RAS."""
    grid = segmentation.grid
    if grid is None:
        axes = np.array([[2, 1], [1, 1], [0, 1]], dtype=np.float64)  # to L, P, S
        turned = frame.to_file(segmentation.labels, axes)
        return turned, frame.affine_to_file(segmentation.affine, axes, turned.shape)
    turned = frame.to_file(segmentation.labels, grid.transform)
    if turned.shape != tuple(grid.shape[:3]):
        raise GeometryMismatchError(
            f"The labels have {turned.shape} voxels, the scan {grid.shape[:3]}.",
            "Save them on the scan that they were made on.",
        )
    shape = turned.shape
    return turned, frame.affine_to_file(segmentation.affine, grid.transform, shape)


def names_of(segmentation: Segmentation) -> dict[int, str]:
    """Names of all labels that have one or are painted."""
    painted = np.unique(segmentation.labels)
    names = {int(i): f"label {i}" for i in painted if i}
    names |= {i: _plain(name) for i, name in segmentation.names.items() if i}
    return dict(sorted(names.items()))


def _plain(name: str) -> str:
    """One line, without the letters that part fields."""
    kept = "".join(c if c.isprintable() and c not in "\\|" else " " for c in name)
    return " ".join(kept.split()) or "unnamed"
