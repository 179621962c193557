"""Labels: files to segmentations and back, on the grid of the scan."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import (
    GeometryMismatchError,
    HydraSegError,
    LabelDtype,
    SaveError,
    UnknownLabelId,
)
from ..types import Segmentation, SourceGrid
from . import frame, images, nifti
from .atomic import atomic_write
from .volumes import AnyPath, read_scan, suffix_of


def load_segmentation(
    path: AnyPath, *, names: Mapping[int, str] | None = None
) -> Segmentation:
    """Load labels.

    Parameters
    ----------
    path : path
        A NIfTI file or a PNG of whole numbers.
    names : mapping of int to str, optional
        Label names; default: from the table of label names beside the file, if any.

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
    volume = read_scan(file)
    values = volume.data[0]
    if values.dtype.kind == "f" and not (np.floor(values) == values).all():
        raise LabelDtype(
            f"{file.name} holds values that are no whole numbers.",
            "Choose a file of labels, not an image.",
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise UnknownLabelId(
            f"{file.name} holds label ids from {low} to {high}; 0 to 65535 are used.",
            "Renumber the labels.",
        )
    return Segmentation(
        labels=values.astype(_label_type(high)),
        affine=volume.affine,
        names=dict(names) if names is not None else _read_names(file),
        plane=volume.plane,
        grid=volume.grid,
    )


def save_segmentation(
    segmentation: Segmentation, path: AnyPath, *, overwrite: bool = False
) -> None:
    """Write labels on the grid of the file that the scan came from.

    The header is a fresh one that carries nothing but geometry. Label names are
    written beside it as a table (``index``, ``name``; tab-separated).

    Parameters
    ----------
    segmentation : Segmentation
        Labels of uint8 or uint16.
    path : path
        Ends in ``.nii``, ``.nii.gz`` or, for a picture, ``.png``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    SaveError
        If the file exists, the folder cannot be written, or the disk is full.
    GeometryMismatchError
        If the labels no longer have the shape of the source.
    """
    file = Path(path)
    grid = segmentation.grid or _plain_grid(segmentation)
    highest = int(segmentation.labels.max(initial=0))
    labels = frame.to_file(
        segmentation.labels.astype(_label_type(highest)), grid.transform
    )
    if labels.size != np.prod(grid.shape) or labels.shape != grid.shape[:3]:
        raise GeometryMismatchError(
            f"The labels have {labels.shape} voxels, the scan {grid.shape[:3]}.",
            "Save them on the scan that they were made on.",
        )
    labels = labels.reshape(grid.shape)
    affine_ras = frame.affine_to_file(segmentation.affine, grid.transform, grid.shape)
    suffix = suffix_of(file)
    if suffix not in (".nii", ".nii.gz", ".png"):
        raise SaveError(
            f"Masks are written as .nii.gz, .nii or .png, not as {file.name}.",
            "Change the ending of the name.",
        )
    if suffix == ".png" and grid.format != "image":
        raise SaveError(f"{file.name} is one picture.", "Save a volume as .nii.gz.")
    atomic_write(
        file,
        lambda stream: (
            stream.write(images.write(labels))
            if suffix == ".png"
            else nifti.write(
                stream, labels, grid, affine_ras, compress=suffix == ".nii.gz"
            )
        ),
        overwrite=overwrite,
    )
    if segmentation.names:
        _write_names(segmentation.names, file, overwrite=overwrite)


def names_path(path: AnyPath) -> Path:
    """Where the table of label names of a mask lies: the same name, ``.tsv``."""
    file = Path(path)
    return file.with_name(file.name[: -len(suffix_of(file)) or None] + ".tsv")


def _label_type(highest: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16


def _plain_grid(segmentation: Segmentation) -> SourceGrid:
    """Make up a grid in RAS order for labels that came from no file."""
    transform = np.array([[2, -1], [1, -1], [0, 1]], dtype=np.float64)
    return SourceGrid(shape=segmentation.labels.shape[::-1], transform=transform)


def _write_names(names: Mapping[int, str], mask: Path, *, overwrite: bool) -> None:
    lines = ["index\tname", *(f"{i}\t{name}" for i, name in sorted(names.items()))]
    text = "\n".join(lines) + "\n"
    atomic_write(
        names_path(mask), lambda s: s.write(text.encode()), overwrite=overwrite
    )


def _read_names(mask: Path) -> dict[int, str]:
    table = names_path(mask)
    if not table.is_file():
        return {}
    try:
        rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()[1:]]
        return {int(row[0]): row[1] for row in rows if len(row) > 1}
    except (ValueError, UnicodeDecodeError) as error:
        raise HydraSegError(
            f"{table.name} is no table of label names.", "Remove or mend it."
        ) from error
