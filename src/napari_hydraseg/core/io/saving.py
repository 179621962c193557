"""Writing on the grid of a scan: what masks and scans have in common."""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import GeometryMismatchError, SaveError, WouldOverwriteSource
from ..types import SourceGrid, Volume
from . import frame, nifti_write
from .atomic import atomic_write, ensure_writable
from .volumes import AnyPath, suffix_of

_STAND_INS = {"bool": "uint8", "float16": "float32"}  # kinds that NIfTI lacks


def save_volume(volume: Volume, path: AnyPath, *, overwrite: bool = False) -> None:
    """Write a scan, or a map that was computed of it, on the scan's own grid.

    The header is a fresh one that carries nothing but geometry.

    Parameters
    ----------
    volume : Volume
        Its channels become the fourth axis of the file; a single one has none.
    path : path
        Ends in ``.nii`` or ``.nii.gz``.
    overwrite : bool
        Whether an existing file may be replaced. The file that the scan came from never
        is.

    Raises
    ------
    WouldOverwrite
        If the file exists.
    SaveError
        If the folder cannot be written, the disk is full, or the name ends otherwise.
    GeometryMismatchError
        If the voxels no longer have the shape of the source.
    """
    file = Path(path)
    if suffix_of(file) not in (".nii", ".nii.gz"):
        raise SaveError(
            f"Scans are written as .nii.gz or .nii, not as *{suffix_of(file)[:20]}.",
            "Change the ending of the name.",
        )
    grid = volume.grid or plain_grid(volume.shape)
    kind = volume.data.dtype
    data = volume.data.astype(_STAND_INS.get(kind.name, kind), copy=False)
    channels = [in_file_order(channel, grid) for channel in data]
    if len(channels) > 1:
        spatial = grid.shape[:3]
        values = np.stack([one.reshape(spatial) for one in channels], axis=-1)
    else:
        values = channels[0]
    ensure_writable(file, overwrite=overwrite)
    spare_source(file, grid)
    write_nifti(file, values, grid, volume.affine, overwrite=overwrite)


def in_file_order(values: NDArray[Any], grid: SourceGrid) -> NDArray[Any]:
    """Turn voxels (z, y, x) into a view with the shape of the scan's file.

    Parameters
    ----------
    values : ndarray, shape (z, y, x)
        Labels or grey values.
    grid : SourceGrid
        Of the scan.

    Raises
    ------
    GeometryMismatchError
        If they are not as many as those of the scan.
    """
    turned = frame.to_file(values, grid.transform)
    if turned.shape != grid.shape[:3]:
        raise GeometryMismatchError(
            f"There are {turned.shape} voxels here, {grid.shape[:3]} in the scan.",
            "Save on the scan that this was made on.",
        )
    # trailing axes of one stay; of a series or of colours, this is one
    rest = grid.shape[3:]
    return turned.reshape((*turned.shape, *rest)) if set(rest) <= {1} else turned


def spare_source(file: Path, grid: SourceGrid) -> None:
    """Refuse to write over the scan, whatever name or link it goes by.

    Parameters
    ----------
    file : Path
        Where to write.
    grid : SourceGrid
        Of the scan.

    Raises
    ------
    WouldOverwriteSource
        If `file` holds the scan.
    """
    if not grid.sha256 or not file.is_file():
        return
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest in grid.sha256.split():
        raise WouldOverwriteSource(
            "This would replace the scan that it was made on.",
            "Choose another name.",
        )


def write_nifti(
    file: Path,
    values: NDArray[Any],
    grid: SourceGrid,
    affine: NDArray[np.float64],
    *,
    overwrite: bool,
) -> None:
    """Write voxels as NIfTI, and make sure that the disk holds them.

    Parameters
    ----------
    file : Path
        Ends in ``.nii`` or ``.nii.gz``.
    values : ndarray
        From `in_file_order`.
    grid : SourceGrid
        Of the scan.
    affine : ndarray, shape (4, 4)
        Ours: index (z, y, x, 1) to millimetres in (S, P, L).
    overwrite : bool
        Whether an existing file may be replaced.
    """
    affine_ras = frame.affine_to_file(affine, grid.transform, grid.shape)
    compress = suffix_of(file) == ".nii.gz"
    crc = 0

    def write(stream: BinaryIO) -> None:
        nonlocal crc
        crc = nifti_write.write(stream, values, grid, affine_ras, compress=compress)

    atomic_write(
        file,
        write,
        overwrite=overwrite,
        check=lambda path: nifti_write.check(path, crc),
    )


def plain_grid(shape: tuple[int, ...]) -> SourceGrid:
    """Make up a grid in RAS order for voxels (z, y, x) that came from no file."""
    transform = np.array([[2, -1], [1, -1], [0, 1]], dtype=np.float64)
    return SourceGrid(shape=shape[::-1], transform=transform)
