"""NIfTI-1, NIfTI-2 and Analyze 7.5: headers read by hand."""

import math
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np

from ..errors import (
    HydraSegError,
    NotAVolume,
    TruncatedFile,
    UnsupportedDtype,
    UnsupportedShape,
)
from ._geometry import geometry_of
from ._voxels import Layout

_GEOMETRY = (
    "pixdim qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y "
    "qoffset_z srow_x srow_y srow_z xyzt_units"
).split()
_GREY = {  # datatype codes of the standard that hold one real number
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_COLOURS = {128: 3, 2304: 4}
_COMPLEX = {32, 1792, 2048}
_QUAD = 1536


def layout_of(
    head: bytes, name: str, *, single: bool, assume_spacing_mm: float | None = None
) -> Layout:
    """Read the header of a NIfTI or Analyze file.

    Parameters
    ----------
    head : bytes
        The file's first bytes: 348 or 540 of them are needed.
    name : str
        Name for messages.
    single : bool
        Whether the voxels follow in the same file.
    assume_spacing_mm : float, optional
        To use where a voxel size is no size.

    Returns
    -------
    Layout
        Nothing of it is believed before `read_voxels` compared it with the file.

    Raises
    ------
    VolumeReadError
        If the header cannot be used.
    """
    header = _header(head, name)
    try:
        with np.errstate(all="ignore"):  # absurd numbers are looked at, not computed
            return _layout(header, name, single, assume_spacing_mm)
    except HydraSegError:
        raise
    except Exception as error:  # nibabel raises many kinds on malformed headers
        raise NotAVolume(
            f"{name} has a header that cannot be used ({type(error).__name__}).",
            "Export the scan again.",
        ) from error


def twin_of(path: Path) -> tuple[Path, Path] | None:
    """Name header and voxel file of a pair, by the ending of one of them.

    Returns
    -------
    tuple of Path or None
        ``.hdr`` and ``.img``, either of them perhaps ``.gz``; None for other endings.
    """
    packed = ".gz" if path.name.lower().endswith(".gz") else ""
    name = path.name[: -len(packed) or None]
    stem, ending = name[:-4], name[-4:]
    if ending.lower() not in (".hdr", ".img"):
        return None
    other = {"h": "img", "H": "IMG", "i": "hdr", "I": "HDR"}[ending[1]]
    beside = [path.with_name(f"{stem}.{other}{gz}") for gz in (packed, "", ".gz")]
    twin = next((file for file in beside if file.is_file()), beside[0])
    return (path, twin) if ending.lower() == ".hdr" else (twin, path)


def _header(head: bytes, name: str) -> Any:
    """Make a nibabel header without its repairs, which are silent."""
    for size in (348, 540):
        for order in ("little", "big"):
            if head[:4] == size.to_bytes(4, order):
                if len(head) < size:
                    raise TruncatedFile(
                        f"{name} ends within its header ({len(head)} of {size} bytes).",
                        "Copy or export the scan again.",
                    )
                kind: Any = nib.Nifti1Header if size == 348 else nib.Nifti2Header
                if size == 348 and head[344:346] not in (b"n+", b"ni"):
                    kind = nib.AnalyzeHeader
                endianness = "<" if order == "little" else ">"
                return kind(head[:size], endianness=endianness, check=False)
    raise NotAVolume(f"{name} is no NIfTI file.", "Choose a .nii or .nii.gz file.")


def _layout(
    header: Any, name: str, single: bool, assume_spacing_mm: float | None
) -> Layout:
    shape = _shape(header, name)
    code = int(header["datatype"])
    kind, samples = _stored(code, name)
    order: Literal["<", ">"] = header.endianness
    fields = {key: np.array(header[key]).tolist() for key in _GEOMETRY if key in header}
    place = geometry_of(header, name, spacing_mm=assume_spacing_mm)
    scaling, notes = _scaling(header, samples)
    if code == _QUAD:
        notes.append("Voxels of 128-bit floating point were rounded to 64.")
    return Layout(
        shape=shape,
        dtype=np.dtype(kind).newbyteorder(order),
        offset=_offset(header, name, single),
        affine=place.affine,
        format="nifti2" if isinstance(header, nib.Nifti2Header) else "nifti1",
        header=fields
        if "sform_code" in fields
        else {**fields, "qform_code": 0, "sform_code": 0, "xyzt_units": 2},
        known=place.known,
        slope=scaling[0],
        inter=scaling[1],
        samples=samples,
        quad=order if code == _QUAD else "",
        notes=(*place.notes, *notes),
    )


def _shape(header: Any, name: str) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7:
        raise NotAVolume(
            f"{name} claims to have {dims[0]} dimensions.", "Export the scan again."
        )
    shape = dims[1 : dims[0] + 1]
    if any(n < 1 for n in shape):
        raise UnsupportedShape(
            f"{name} has impossible dimensions {tuple(shape)}.",
            "Export the scan again.",
        )
    return tuple(shape)


def _stored(code: int, name: str) -> tuple[str, int]:
    if code in _GREY:
        return _GREY[code], 1
    if code in _COLOURS:
        return "u1", _COLOURS[code]
    if code == _QUAD:
        return "u8", 1
    if code in _COMPLEX:
        raise UnsupportedDtype(
            f"{name} holds complex numbers.", "Export its magnitude."
        )
    raise UnsupportedDtype(
        f"{name} holds voxels of type {code}, which is none of the standard's numbers.",
        "Save it as int16 or float32.",
    )


def _offset(header: Any, name: str, single: bool) -> int:
    offset = float(header["vox_offset"])
    first = int(header.sizeof_hdr) + 4 if single else 0  # 4: which extensions follow
    if not math.isfinite(offset) or offset != int(offset) or offset < first:
        raise NotAVolume(
            f"{name} says that its voxels begin at byte {offset:g}.",
            "Export the scan again.",
        )
    return int(offset)


def _scaling(header: Any, samples: int) -> tuple[tuple[float, float], list[str]]:
    """Slope and intercept; none where the standard or common sense says so."""
    if "scl_slope" not in header:
        # SPM kept its scale factor in a field that Analyze leaves to anyone
        factor = float(header["funused1"]) if "funused1" in header else 0.0
        usable = math.isfinite(factor) and factor > 0
        return (factor if usable else 1.0, 0.0), []
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope) or samples > 1:
        return (1.0, 0.0), []
    if math.isinf(slope) or not math.isfinite(inter):
        return (1.0, 0.0), [
            f"The scaling in the header ({slope:g}, {inter:g}) is none; stored values "
            "are used."
        ]
    return (slope, inter), []
