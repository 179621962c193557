"""NIfTI-1 and NIfTI-2 files: read whole and checked, written on the source's grid."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ..errors import (
    HydraSegError,
    NotAVolume,
    TruncatedFile,
    UnsupportedDtype,
    VolumeTooLarge,
)
from ..types import SourceGrid

MAX_VOXELS = 2**31
_GEOMETRY = (
    "pixdim qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y "
    "qoffset_z srow_x srow_y srow_z xyzt_units"
).split()
_LOOKS_LIKE = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"PK\x03\x04": "a zip archive",
    b"<htm": "a web page",
    b"<!DO": "a web page",
    b"%PDF": "a PDF",
}


def read_bytes(path: Path) -> tuple[bytes, str]:
    """Read a file to its last byte, unpacking gzip, and take its checksum.

    nibabel stops at the last voxel, so that the checksum at the end of a gzip
    stream is never compared and a flipped bit goes unnoticed; here it is.

    Parameters
    ----------
    path : Path
        Any file; gzip is known by its content, not by its suffix.

    Returns
    -------
    content : bytes
        The unpacked content.
    sha256 : str
        Digest of the file as it lies on disk.

    Raises
    ------
    NotAVolume
        If there is no such regular file or it is empty.
    TruncatedFile
        If the gzip stream ends early or its checksum is wrong.
    """
    if not path.is_file():
        kind = "is no regular file" if path.exists() else "does not exist"
        raise NotAVolume(f"{path.name} {kind}.", "Choose a scan file.")
    raw = path.read_bytes()
    if not raw:
        raise NotAVolume(f"{path.name} is empty.", "Copy or export the scan again.")
    digest = hashlib.sha256(raw).hexdigest()
    if raw[:2] != b"\x1f\x8b":
        return raw, digest
    try:
        return gzip.decompress(raw), digest
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise TruncatedFile(
            f"{path.name} is damaged: its compressed data end early or fail their "
            "checksum.",
            "Copy or export the scan again.",
        ) from error


def parse(
    content: bytes, name: str
) -> tuple[NDArray[Any], NDArray[np.float64], SourceGrid, list[str]]:
    """Make voxels and geometry of the bytes of a NIfTI file.

    Parameters
    ----------
    content : bytes
        The unpacked file.
    name : str
        Name for messages.

    Returns
    -------
    data : ndarray
        Voxels in the file's order; native byte order; the stored type, or float32
        where the header rescales.
    affine : ndarray, shape (4, 4)
        Voxel to mm in RAS, chosen as nibabel does (sform, then qform).
    grid : SourceGrid
        What is needed to write on the same grid (transform still empty).
    notes : list of str
        What was unusual.
    """
    image_class = _image_class(content, name)
    try:
        header = image_class.header_class.from_fileobj(io.BytesIO(content))
        _check_size(header, content, name)
        image = image_class.from_bytes(content)
        affine = np.asarray(image.affine, dtype=np.float64)
        data = _voxels(image, name)
    except HydraSegError:
        raise
    except Exception as error:  # nibabel raises many kinds on malformed headers
        raise NotAVolume(
            f"{name} has a NIfTI header that cannot be used ({type(error).__name__}).",
            "Export the scan again.",
        ) from error
    grid = SourceGrid(
        shape=tuple(int(n) for n in data.shape),
        transform=np.empty((0, 2)),
        header={key: np.array(header[key]).tolist() for key in _GEOMETRY},
        format="nifti2" if image_class is nib.Nifti2Image else "nifti1",
    )
    return data, affine, grid, _notes(header)


def _image_class(content: bytes, name: str) -> type[nib.Nifti1Image]:
    for size, image_class in ((348, nib.Nifti1Image), (540, nib.Nifti2Image)):
        for order in ("little", "big"):
            if content[:4] == size.to_bytes(4, order):
                if len(content) < size:
                    raise TruncatedFile(
                        f"{name} ends within its header ({len(content)} bytes).",
                        "Copy or export the scan again.",
                    )
                return image_class
    looks = next((v for k, v in _LOOKS_LIKE.items() if content.startswith(k)), "")
    raise NotAVolume(
        f"{name} is {looks or 'no NIfTI file'}.", "Choose a .nii or .nii.gz file."
    )


def _check_size(header: Any, content: bytes, name: str) -> None:
    """Compare what the header promises with what is there, before allocating."""
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7 or any(n < 1 for n in dims[1 : dims[0] + 1]):
        raise NotAVolume(f"{name} has impossible dimensions {dims}.")
    voxels = 1
    for n in dims[1 : dims[0] + 1]:
        voxels *= n
    if voxels > MAX_VOXELS:
        raise VolumeTooLarge(
            f"{name} promises {voxels:.3g} voxels; the limit is {MAX_VOXELS:.3g}.",
            "Crop or resample the scan.",
        )
    wanted = voxels * header.get_data_dtype().itemsize
    here = len(content) - int(header["vox_offset"])
    if here < wanted:
        raise TruncatedFile(
            f"{name} ends early: {here} of {wanted} bytes of voxels are there.",
            "Copy or export the scan again.",
        )


def _voxels(image: Any, name: str) -> NDArray[Any]:
    kind = image.get_data_dtype()
    if kind.fields is not None:
        raise UnsupportedDtype(f"{name} is a colour image.", "Choose one channel.")
    if kind.kind == "c":
        raise UnsupportedDtype(
            f"{name} holds complex numbers.", "Export its magnitude."
        )
    data = np.asanyarray(image.dataobj)
    # a rescaled array arrives as float64; grey values need no more than float32
    if data.dtype.kind == "f" and (kind.kind != "f" or data.dtype.itemsize > 4):
        data = data.astype(np.float32)
    native: NDArray[Any] = data.astype(data.dtype.newbyteorder("="), copy=False)
    return native


def _notes(header: Any) -> list[str]:
    notes = []
    if header["qform_code"] == 0 and header["sform_code"] == 0:
        notes.append("The file does not say how the scan is oriented.")
    elif header["qform_code"] > 0 and header["sform_code"] > 0:
        difference = np.abs(header.get_qform() - header.get_sform()).max()
        if difference > 1e-2:
            notes.append(
                f"The two orientations in the header differ (up to {difference:.3g}); "
                "the sform is used."
            )
    return notes


def write(
    stream: BinaryIO,
    labels: NDArray[Any],
    grid: SourceGrid,
    affine_ras: NDArray[np.float64],
    *,
    compress: bool,
) -> None:
    """Write labels with a fresh header that carries geometry and nothing else.

    Parameters
    ----------
    stream : BinaryIO
        Where to.
    labels : ndarray of uint8 or uint16
        In the file's own order and shape.
    grid : SourceGrid
        Its raw header fields are copied bit for bit; without any, `affine_ras` is
        written as sform.
    affine_ras : ndarray, shape (4, 4)
        Voxel to mm in RAS.
    compress : bool
        Whether to gzip.
    """
    # typed as Any: nibabel has no types of its own
    image_class: Any = nib.Nifti2Image if grid.format == "nifti2" else nib.Nifti1Image
    header = image_class.header_class()
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape)
    if grid.header:
        _copy_geometry(header, grid.header)
        image = image_class(labels, None, header)
    else:
        header.set_xyzt_units("mm")
        image = image_class(labels, affine_ras, header)
    content = image.to_bytes()
    # mtime 0: equal masks are equal bytes; level 1 is five times faster than 6 for
    # masks, at little more size
    stream.write(gzip.compress(content, 1, mtime=0) if compress else content)


def _copy_geometry(header: Any, fields: Mapping[str, Any]) -> None:
    for key, value in fields.items():
        header[key] = value
