"""Labels: files to segmentations and back, on the grid of the scan."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    GeometryMismatchError,
    LabelDtype,
    SaveError,
    UnknownLabelId,
    WouldOverwriteSource,
)
from ..types import Segmentation, SourceGrid, Volume
from . import frame, images, label_table, nifti_write, regrid
from .atomic import atomic_write, ensure_writable
from .volumes import AnyPath, read_scan, suffix_of


def load_segmentation(
    path: AnyPath,
    *,
    names: Mapping[int, str] | None = None,
    onto: Volume | None = None,
) -> Segmentation:
    """Load labels.

    Parameters
    ----------
    path : path
        A NIfTI file or a PNG of whole numbers.
    names : mapping of int to str, optional
        Label names; default: from the table of label names beside the file, if any.
    onto : Volume, optional
        A scan whose grid the labels are brought onto, each voxel taking the label that
        lies nearest; default: they stay on their own.

    Returns
    -------
    Segmentation
        All of it annotated.

    Raises
    ------
    LabelDtype
        If a value is not a whole number.
    UnknownLabelId
        If a value is below 0 or above 65535.
    """
    file = Path(path)
    volume = read_scan(file, ids=True)
    table, colours = label_table.read_table(names_path(file))
    labels = _as_labels(volume.data[0], file.name)
    # a mask may be corrected and saved under its own name; a scan may not
    grid = None if volume.grid is None else replace(volume.grid, sha256="")
    if onto is not None:
        if not regrid.same_grid(labels.shape, volume.affine, onto.shape, onto.affine):
            labels = regrid.onto(
                labels, volume.affine, onto.shape, onto.affine, nearest=True
            )
        volume, grid = onto, onto.grid
    return Segmentation(
        labels=labels,
        affine=volume.affine,
        names=dict(names) if names is not None else table,
        colours=colours,
        plane=volume.plane,
        grid=grid,
    )


def save_segmentation(
    segmentation: Segmentation, path: AnyPath, *, overwrite: bool = False
) -> None:
    """Write labels on the grid of the file that the scan came from.

    The header is a fresh one that carries nothing but geometry. Label names and colours
    are written beside it as a table (BIDS ``dseg.tsv``).

    Parameters
    ----------
    segmentation : Segmentation
        Whole numbers from 0 to 65535.
    path : path
        Ends in ``.nii``, ``.nii.gz`` or, for a picture, ``.png``.
    overwrite : bool
        Whether an existing file may be replaced. The scan itself never is.

    Raises
    ------
    WouldOverwrite
        If the file exists.
    SaveError
        If the folder cannot be written, or the disk is full.
    GeometryMismatchError
        If the labels no longer have the shape of the source.
    LabelDtype, UnknownLabelId
        If the labels are no label ids.
    """
    file = Path(path)
    grid = segmentation.grid or _plain_grid(segmentation)
    _check_name(file, grid)
    labels = _in_file_order(_as_labels(segmentation.labels, "The mask"), grid)
    table = names_path(file)
    # names of an older mask must not be read as those of this one
    named = bool(segmentation.names) or (overwrite and label_table.is_table(table))
    for target in (file, table) if named else (file,):
        ensure_writable(target, overwrite=overwrite)  # both or none
    _spare_source(file, grid)
    if suffix_of(file) == ".png":
        picture = images.write(labels)
        atomic_write(file, lambda s: s.write(picture), overwrite=overwrite)
    else:
        _write_nifti(file, labels, grid, segmentation.affine, overwrite=overwrite)
    if named:
        rows = label_table.table_of(segmentation.names, segmentation.colours)
        atomic_write(table, lambda s: s.write(rows), overwrite=overwrite)


def names_path(path: AnyPath) -> Path:
    """Where the table of label names of a mask lies: the same name, ``.tsv``."""
    file = Path(path)
    return file.with_name(file.name[: -len(suffix_of(file)) or None] + ".tsv")


def _as_labels(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Make uint8, or uint16 if need be, of whole numbers."""
    if values.dtype == np.uint8:  # always so for few labels: nothing to look for
        return values
    kind = values.dtype.kind
    if kind not in "buif" or (kind == "f" and not (np.floor(values) == values).all()):
        raise LabelDtype(
            f"{name} holds values that are no whole numbers.",
            "Choose labels, not an image.",
        )
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise UnknownLabelId(
            f"{name} holds label ids from {low} to {high}; 0 to 65535 are used.",
            "Renumber the labels.",
        )
    wanted = np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16
    return values.astype(wanted, copy=False)


def _check_name(file: Path, grid: SourceGrid) -> None:
    suffix = suffix_of(file)
    if suffix not in (".nii", ".nii.gz", ".png"):
        raise SaveError(
            f"Masks are written as .nii.gz, .nii or .png, not as *{suffix[:20]}.",
            "Change the ending of the name.",
        )
    if suffix == ".png" and grid.format != "image":
        raise SaveError("A PNG is one picture.", "Save a volume as .nii.gz.")


def _in_file_order(labels: NDArray[Any], grid: SourceGrid) -> NDArray[Any]:
    """Turn labels (z, y, x) into a view with the shape of the scan's file."""
    turned = frame.to_file(labels, grid.transform)
    if turned.shape != grid.shape[:3]:
        raise GeometryMismatchError(
            f"The labels have {turned.shape} voxels, the scan {grid.shape[:3]}.",
            "Save them on the scan that they were made on.",
        )
    # trailing axes of one stay; of a series or of colours, the mask is of one
    rest = grid.shape[3:]
    return turned.reshape((*turned.shape, *rest)) if set(rest) <= {1} else turned


def _spare_source(file: Path, grid: SourceGrid) -> None:
    """Refuse to write a mask over the scan, whatever name or link it goes by."""
    if not grid.sha256 or not file.is_file():
        return
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest in grid.sha256.split():
        raise WouldOverwriteSource(
            "The mask would replace the scan that it was made on.",
            "Choose another name.",
        )


def _write_nifti(
    file: Path,
    labels: NDArray[Any],
    grid: SourceGrid,
    affine: NDArray[np.float64],
    *,
    overwrite: bool,
) -> None:
    affine_ras = frame.affine_to_file(affine, grid.transform, grid.shape)
    compress = suffix_of(file) == ".nii.gz"
    crc = 0

    def write(stream: BinaryIO) -> None:
        nonlocal crc
        crc = nifti_write.write(stream, labels, grid, affine_ras, compress=compress)

    atomic_write(
        file,
        write,
        overwrite=overwrite,
        check=lambda path: nifti_write.check(path, crc),
    )


def _plain_grid(segmentation: Segmentation) -> SourceGrid:
    """Make up a grid in RAS order for labels that came from no file."""
    transform = np.array([[2, -1], [1, -1], [0, 1]], dtype=np.float64)
    return SourceGrid(shape=segmentation.labels.shape[::-1], transform=transform)
