"""Labels: files to segmentations and back, on the grid of the scan."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    LabelDtype,
    SaveError,
    UnknownLabelId,
)
from ..types import Segmentation, SourceGrid, Volume
from . import images, label_table, regrid
from .atomic import atomic_write, ensure_writable
from .saving import in_file_order, plain_grid, spare_source, write_nifti
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
    grid = segmentation.grid or plain_grid(segmentation.labels.shape)
    _check_name(file, grid)
    labels = in_file_order(_as_labels(segmentation.labels, "The mask"), grid)
    table = names_path(file)
    # names of an older mask must not be read as those of this one
    named = bool(segmentation.names) or (overwrite and label_table.is_table(table))
    for target in (file, table) if named else (file,):
        ensure_writable(target, overwrite=overwrite)  # both or none
    spare_source(file, grid)
    if suffix_of(file) == ".png":
        picture = images.write(labels)
        atomic_write(file, lambda s: s.write(picture), overwrite=overwrite)
    else:
        write_nifti(file, labels, grid, segmentation.affine, overwrite=overwrite)
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
