"""Connected pieces of a mask."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label


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
    for index in np.unique(labels[labels > 0]):
        pieces = label(labels == index, connectivity=1)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        kept[pieces == sizes.argmax()] = index
    return kept
