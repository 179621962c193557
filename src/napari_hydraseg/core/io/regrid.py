"""One scan on the grid of another: images linearly, labels by the nearest voxel."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

# two files share a grid if no corner differs by more; float32 headers round to 1e-5
SAME_GRID_MM = 1e-2

Shape = tuple[int, int, int]


def same_grid(
    shape: Shape,
    affine: NDArray[np.float64],
    other_shape: Shape,
    other_affine: NDArray[np.float64],
) -> bool:
    """Whether two grids have the same voxels in the same places.

    Parameters
    ----------
    shape, other_shape : tuple of int
        Voxels along z, y, x.
    affine, other_affine : ndarray, shape (4, 4)
        Index to mm.

    Returns
    -------
    bool
        Whether no corner lies more than a hundredth of a millimetre apart.
    """
    if shape != other_shape:
        return False
    corners = np.array([[*at, 1] for at in product(*((0, n - 1) for n in shape))])
    apart = (affine - other_affine) @ corners.T
    return bool(np.abs(apart).max() <= SAME_GRID_MM)


def onto(
    data: NDArray[Any],
    affine: NDArray[np.float64],
    shape: Shape,
    target: NDArray[np.float64],
    *,
    nearest: bool = False,
) -> NDArray[Any]:
    """Sample a volume on another grid.

    A place counts as inside up to the outer faces of the outermost voxels, as in ITK.

    Parameters
    ----------
    data : ndarray, shape (z, y, x)
        Grey values or labels.
    affine : ndarray, shape (4, 4)
        Where they lie: index to mm.
    shape : tuple of int
        Voxels of the other grid along z, y, x.
    target : ndarray, shape (4, 4)
        Index of the other grid to mm.
    nearest : bool
        For labels: no value is made up. Default: linear, as for images.

    Returns
    -------
    ndarray, shape `shape`
        float32, or the type of `data` if `nearest`. Outside of `data` lies its
        smallest value, or 0 if `nearest`.
    """
    from scipy import ndimage

    matrix = np.linalg.inv(affine) @ target
    rows, columns = np.indices(shape[1:], dtype=np.float64)
    in_plane = np.einsum("ia,ayx->iyx", matrix[:3, 1:3], np.stack([rows, columns]))
    last = np.array(data.shape).reshape(3, 1, 1) - 0.5
    made = np.empty(shape, data.dtype if nearest else np.float32)
    outside = 0 if nearest else data.min()
    for z in range(shape[0]):  # slice by slice: the places take 24 bytes a voxel
        places = in_plane + (matrix[:3, 0] * z + matrix[:3, 3]).reshape(3, 1, 1)
        inside = ((places >= -0.5) & (places <= last)).all(axis=0)
        values = ndimage.map_coordinates(
            data, places, made.dtype, order=0 if nearest else 1, mode="nearest"
        )
        made[z] = np.where(inside, values, outside)
    return made
