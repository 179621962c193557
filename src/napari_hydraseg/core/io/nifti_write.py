"""Writing NIfTI: a fresh header that carries geometry and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from ..errors import SaveError
from ..types import SourceGrid

_SLAB_BYTES = 2**18  # stays in the processor's cache
# ISA-L's levels go from 0 to 3; 2 makes a mask a tenth smaller than 1, as fast
_LEVEL = 2
_LONGEST_AXIS = 2**15 - 1  # NIfTI-1 counts voxels in 16 bits
_SHEAR = 1e-3  # largest cosine between axes that ITK takes for orthogonal


def write(
    stream: BinaryIO,
    values: NDArray[Any],
    grid: SourceGrid,
    affine_ras: NDArray[np.float64],
    *,
    compress: bool,
) -> int:
    """Write labels or probabilities on the grid of a scan.

    Parameters
    ----------
    stream : BinaryIO
        Where to.
    values : ndarray of uint8, uint16 or float32
        In the file's own order and shape. A view that is turned is cheap: slices are
        copied one slab at a time.
    grid : SourceGrid
        Its raw header fields are copied bit for bit; without any, `affine_ras` is
        written.
    affine_ras : ndarray, shape (4, 4)
        Voxel to mm in RAS.
    compress : bool
        Whether to gzip.

    Returns
    -------
    int
        CRC-32 of the bytes that went into `stream`; see `check`.
    """
    head = _header(values, grid, affine_ras)
    summed = _Summed(stream)
    if not compress:
        _write_all(summed, head, values)
        return summed.crc
    # no file name and no time: equal masks are equal bytes, and no name travels
    with igzip.IGzipFile(
        filename="", fileobj=summed, mode="wb", compresslevel=_LEVEL, mtime=0
    ) as packed:
        _write_all(packed, head, values)
    return summed.crc  # of the packed bytes, the last of which came with the end


def check(path: Path, crc: int) -> None:
    """Read a file that was just written back from the disk.

    Parameters
    ----------
    path : Path
        The file.
    crc : int
        From `write`.

    Raises
    ------
    SaveError
        If it does not hold what was written.
    """
    found = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(_SLAB_BYTES):
                found = isal_zlib.crc32(block, found)
    except OSError as error:
        raise _unlike() from error
    if found != crc:
        raise _unlike()


def _unlike() -> SaveError:
    return SaveError(
        "What the disk gave back was not what was written.", "Save to another disk."
    )


def _header(
    values: NDArray[Any], grid: SourceGrid, affine_ras: NDArray[np.float64]
) -> bytes:
    large = max(values.shape) > _LONGEST_AXIS
    # typed as Any: nibabel has no types of its own
    kind: Any = (
        nib.Nifti2Header if large or grid.format == "nifti2" else nib.Nifti1Header
    )
    header = kind(endianness="<")
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    if grid.header:
        _copy_geometry(header, grid.header)
    else:
        _set_geometry(header, affine_ras, scanner=grid.format == "dicom")
    header.set_slope_inter(1, 0)  # ids are ids
    header["vox_offset"] = len(header.binaryblock) + 4
    return bytes(header.binaryblock) + bytes(4)  # no extensions follow


def _copy_geometry(header: Any, fields: Mapping[str, Any]) -> None:
    for key, value in fields.items():
        header[key] = value


def _set_geometry(
    header: Any, affine_ras: NDArray[np.float64], *, scanner: bool
) -> None:
    code = "scanner" if scanner else "aligned"
    header.set_xyzt_units("mm")
    header.set_sform(affine_ras, code=code)
    axes = affine_ras[:3, :3] / np.linalg.norm(affine_ras[:3, :3], axis=0)
    square = np.abs(axes.T @ axes - np.eye(3)).max() <= _SHEAR
    # a quaternion cannot say a shear; then there is none, rather than a wrong one
    header.set_qform(affine_ras, code=code if square else "unknown")


class _Summed:
    """Take the CRC-32 of what passes through."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.crc = 0

    def write(self, block: Any) -> int:
        self.crc = int(isal_zlib.crc32(block, self.crc))
        return self.stream.write(block)


def _write_all(stream: Any, head: bytes, values: NDArray[Any]) -> None:
    stream.write(head)
    little = values.dtype.newbyteorder("<")
    step = max(1, _SLAB_BYTES // max(1, values.itemsize * values[:, :, 0].size))
    for place in np.ndindex(values.shape[:2:-1]):  # the fourth axis runs slower
        volume = values[(..., *place[::-1])] if place else values
        for start in range(0, volume.shape[2], step):
            slab = volume[:, :, start : start + step].astype(little, copy=False)
            # flipped along all axes, the flat view runs backwards: it must be copied
            flat = np.ascontiguousarray(slab.reshape(-1, order="F"))
            stream.write(flat.view(np.uint8).data)
