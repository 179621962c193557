"""Where the voxels of a NIfTI or Analyze header lie, and what is odd about it."""

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ..errors import BadSpacing, SingularAffine

_MM_PER_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # xyzt_units: ?, metre, mm, micron
_FLAT = 1e-6  # smallest volume of the cell that unit axes span
_SHEAR = 1e-3  # largest cosine between axes that ITK takes for orthogonal


@dataclass(frozen=True, eq=False)
class Geometry:
    """An affine (4, 4) from voxels to mm in RAS, what is known, and what was odd."""

    affine: NDArray[np.float64]
    known: frozenset[str]
    notes: tuple[str, ...]


def geometry_of(header: Any, name: str, *, spacing_mm: float | None) -> Geometry:
    """Choose the affine as the standard does: sform, then qform, then voxel sizes.

    Parameters
    ----------
    header : nibabel header
        Of NIfTI or Analyze; its ``pixdim`` is put right in place.
    name : str
        Name for messages.
    spacing_mm : float or None
        To use where a voxel size is no size.

    Returns
    -------
    Geometry
        Of the first three axes.

    Raises
    ------
    SingularAffine
        If the matrix that counts maps the volume onto a plane or is not finite.
    BadSpacing
        If a voxel size is zero or not finite, and none was stated.
    """
    nifti = "sform_code" in header
    codes = (int(header["sform_code"]), int(header["qform_code"])) if nifti else (0, 0)
    unit = int(header["xyzt_units"]) & 7 if nifti else 2
    notes = _unit_notes(unit)
    scale = _MM_PER_UNIT.get(unit, 1.0)
    stand_in = None if spacing_mm is None else spacing_mm / scale
    good, more = _mend_pixdim(header, name, stand_in, needed=codes[0] <= 0)
    notes += more
    sform = header.get_sform() if codes[0] > 0 else None
    qform = _qform(header) if codes[1] > 0 and (good or sform is None) else None
    if sform is not None:
        _check_sform(sform, qform, name)
        affine = sform
        notes += _disagreement(sform, qform) + _shear(sform)
    elif codes[1] > 0:
        if qform is None:
            raise SingularAffine(
                f"{name}: the rotation in its header (qform) is none.",
                "Export the scan again.",
            )
        affine = qform
    else:
        affine = header.get_base_affine()
        notes.append("The file does not say how the scan is oriented.")
    known = {"spacing"} | ({"orientation"} if max(codes) > 0 else set())
    in_mm = np.diag([scale, scale, scale, 1.0]) @ np.asarray(affine, np.float64)
    return Geometry(in_mm, frozenset(known), tuple(notes))


def _unit_notes(unit: int) -> list[str]:
    if unit in (1, 3):
        names = {1: "metres", 3: "microns"}
        return [f"Lengths were given in {names[unit]} and converted to mm."]
    if unit not in _MM_PER_UNIT:
        return ["The unit of length is none of the standard; mm was assumed."]
    return [] if unit else ["The file names no unit of length; mm was assumed."]


def _mend_pixdim(
    header: Any, name: str, stand_in: float | None, *, needed: bool
) -> tuple[bool, list[str]]:
    """Make voxel sizes positive; tell whether they can be used."""
    sizes = np.asarray(header["pixdim"][1:4], np.float64)
    bad = ~np.isfinite(sizes) | (sizes == 0)
    notes = []
    if bad.any():
        shown = ", ".join(f"{size:g}" for size in sizes)
        if stand_in is None:
            then = "" if needed else " to go by its sform"
            raise BadSpacing(
                f"{name} has voxel sizes of {shown} mm.",
                f"State the size in mm (assume spacing){then}, or mend the header.",
            )
        if not needed:
            notes.append(f"Its voxel sizes ({shown}) are none; the sform is used.")
        else:
            notes.append(f"A voxel size was assumed in place of {shown} mm.")
    if (sizes < 0).any():
        notes.append("Voxel sizes were negative; their size is used.")
    mended = np.where(bad, 1.0 if stand_in is None else stand_in, np.abs(sizes))
    header["pixdim"][1:4] = mended
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1  # as the standard reads a 0
    return not bad.any(), notes


def _qform(header: Any) -> NDArray[np.float64] | None:
    """Take the qform, or None if its quaternion is no rotation."""
    try:
        qform = np.asarray(header.get_qform(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return None
    return qform if np.isfinite(qform).all() else None


def is_singular(affine: NDArray[np.float64]) -> bool:
    """Whether an affine (4, 4) is not finite or has no inverse."""
    if not np.isfinite(affine).all():
        return True
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(sizes).all() or (sizes == 0).any():
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / sizes)) < _FLAT)


def _check_sform(
    sform: NDArray[np.float64], qform: NDArray[np.float64] | None, name: str
) -> None:
    if not is_singular(sform):
        return
    if qform is None or is_singular(qform):
        hint = "Export the scan again."
    else:
        hint = "Its qform is sound: set sform_code to 0 to use that."
    raise SingularAffine(
        f"{name}: the sform in its header maps the volume onto a plane or holds no "
        "numbers.",
        hint,
    )


def _disagreement(
    sform: NDArray[np.float64], qform: NDArray[np.float64] | None
) -> list[str]:
    if qform is None or np.abs(sform - qform).max() <= 1e-2:
        return []
    ours, other = ("".join(nib.aff2axcodes(a)) for a in (sform, qform))
    sizes = [np.sqrt((a[:3, :3] ** 2).sum(axis=0)) for a in (sform, qform)]
    ours, other = (
        f"{codes} at {' x '.join(f'{n:.3g}' for n in size)}"
        for codes, size in zip((ours, other), sizes, strict=True)
    )
    return [f"The header gives two orientations: {ours} (sform, used) and {other}."]


def _shear(affine: NDArray[np.float64]) -> list[str]:
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if np.abs(axes.T @ axes - np.eye(3)).max() <= _SHEAR:
        return []
    return ["The voxel axes are not at right angles; ITK tools will refuse the scan."]
