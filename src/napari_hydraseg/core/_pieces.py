"""Connected pieces of a mask."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

Box = tuple[slice, ...]


def boxes(labels: NDArray[Any]) -> Iterator[tuple[int, Box]]:
    """Give each class that is there, and the smallest box that holds it.

    Parameters
    ----------
    labels : ndarray of int
        Class indices, 0 background.

    Yields
    ------
    tuple of int and tuple of slice
        In the order of the classes.
    """
    for index, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            yield index, box


def pieces_of(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Number the pieces of a mask; voxels that touch by a face belong together.

    Parameters
    ----------
    mask : ndarray of bool
        What is to be taken apart.

    Returns
    -------
    ndarray of int, of the shape of the mask
        0 outside, else the number of the piece.
    ndarray of int, shape (pieces + 1,)
        Voxels of each; 0 for the outside.
    """
    pieces = label(mask, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces, sizes


def keep_largest(labels: NDArray[Any]) -> NDArray[Any]:
    """Keep of each class only its largest piece; the rest becomes background.

    Parameters
    ----------
    labels : ndarray of int, shape (z, y, x)
        Class indices, 0 background.

    Returns
    -------
    ndarray
        Of the same shape and type. Voxels that touch by a face belong together; of
        pieces of one size the first is kept.
    """
    kept = np.zeros_like(labels)
    for index, box in boxes(labels):
        pieces, sizes = pieces_of(labels[box] == index)
        kept[box][pieces == sizes.argmax()] = index
    return kept
