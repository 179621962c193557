"""Between the frames of files and ours: the only place that flips or permutes voxels.

Files (through nibabel): voxel (i, j, k) to millimetres towards Right, Anterior,
Superior. Ours: voxel (z, y, x) to millimetres towards Superior, Posterior, Left.
"""

from typing import TypeVar

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from ..errors import BadSpacing, SingularAffine
from ..types import PLANES, Plane

D = TypeVar("D", bound=np.generic)

RAS_TO_SPL = np.array(
    [[0, 0, 1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64
)
_SPL = orientations.axcodes2ornt(("S", "P", "L"))


def transform_of(affine_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find how the voxel axes of a file map on ours.

    Parameters
    ----------
    affine_ras : ndarray, shape (4, 4)
        Voxel (i, j, k) to mm in RAS.

    Returns
    -------
    ndarray, shape (3, 2)
        For each file axis our axis and the direction, as in nibabel.

    Raises
    ------
    SingularAffine
        If the affine has no inverse or holds a value that is not finite.
    BadSpacing
        If a voxel size is zero.
    """
    if not np.isfinite(affine_ras).all():
        raise SingularAffine(
            "The scan's affine holds values that are no numbers.",
            "Export the scan again from the scanner's archive.",
        )
    spacing = np.sqrt((affine_ras[:3, :3] ** 2).sum(axis=0))
    if (spacing == 0).any():
        shown = ", ".join(f"{size:g}" for size in spacing)
        raise BadSpacing(
            f"The scan has a voxel size of 0 mm ({shown}).",
            "Export the scan again from the scanner's archive.",
        )
    if abs(np.linalg.det(affine_ras[:3, :3] / spacing)) < 1e-6:
        raise SingularAffine(
            "The scan's affine maps the volume onto a plane.",
            "Export the scan again from the scanner's archive.",
        )
    return np.asarray(
        orientations.ornt_transform(orientations.io_orientation(affine_ras), _SPL),
        dtype=np.float64,
    )


def to_ours(data: NDArray[D], transform: NDArray[np.float64]) -> NDArray[D]:
    """Reorder (i, j, k) voxels of a file to (z, y, x); see `transform_of`."""
    return np.ascontiguousarray(orientations.apply_orientation(data, transform))


def to_file(data: NDArray[D], transform: NDArray[np.float64]) -> NDArray[D]:
    """Reorder (z, y, x) voxels to the (i, j, k) of a file: inverse of `to_ours`."""
    axes = transform[:, 0].astype(int)
    flipped = tuple(int(axis) for axis, sign in transform if sign < 0)
    turned: NDArray[D] = np.flip(data, axis=flipped)
    return turned.transpose(axes)


def affine_to_ours(
    affine_ras: NDArray[np.float64],
    transform: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """Express a file's affine for our voxel order and frame.

    Parameters
    ----------
    affine_ras : ndarray, shape (4, 4)
        Voxel (i, j, k) to mm in RAS.
    transform : ndarray, shape (3, 2)
        From `transform_of`.
    shape : tuple of int
        Spatial shape of the file.

    Returns
    -------
    ndarray, shape (4, 4)
        Voxel (z, y, x) to mm in SPL.
    """
    return np.asarray(
        RAS_TO_SPL @ affine_ras @ orientations.inv_ornt_aff(transform, shape[:3]),
        dtype=np.float64,
    )


def affine_to_file(
    affine: NDArray[np.float64],
    transform: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """Inverse of `affine_to_ours`; `shape` is again that of the file."""
    inverse = np.linalg.inv(orientations.inv_ornt_aff(transform, shape[:3]))
    return np.asarray(RAS_TO_SPL.T @ affine @ inverse, dtype=np.float64)


def acquisition_plane(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> Plane:
    """Name the plane of the slices: across the coarsest axis, else axial.

    Parameters
    ----------
    shape : tuple of int
        Voxels along z, y, x. A single-slice axis decides.
    spacing_mm : tuple of float
        Voxel size along z, y, x.
    """
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return PLANES[single[0]]
    # 5 %: a scan of nominally equal voxel sizes is isotropic
    if max(spacing_mm) <= 1.05 * min(spacing_mm):
        return "axial"
    return PLANES[int(np.argmax(spacing_mm))]
