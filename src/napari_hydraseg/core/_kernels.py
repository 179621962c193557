"""Kernels, their width by the median heuristic, and Gram matrices in strips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Kernel: TypeAlias = Literal["rbf", "multi-rbf", "linear", "polynomial", "laplacian"]
Array: TypeAlias = NDArray[Any]
Gram: TypeAlias = Callable[[Array, Array], Array]
"""Two tables (n, d) and (m, d) -> kernel values (n, m)."""

KERNELS = ("rbf", "multi-rbf", "linear", "polynomial", "laplacian")
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of gamma, in "multi-rbf"
DEGREE, OFFSET = 3, 1.0  # of "polynomial": (gamma <x, y> + 1)^3
MEDIAN_ROWS = 1000  # rows that the median heuristic looks at, evenly spread
STRIP_VALUES = 2**23  # kernel values held at a time


def gram_of(kernel: Kernel, gamma: float) -> Gram:
    """Return the function that computes kernel values."""
    if kernel == "rbf":
        return lambda x, y: _falling(_squared(x, y), gamma)
    if kernel == "multi-rbf":
        return lambda x, y: _many_widths(_squared(x, y), gamma)
    if kernel == "linear":
        return lambda x, y: x @ y.T
    if kernel == "polynomial":
        return lambda x, y: (gamma * (x @ y.T) + OFFSET) ** DEGREE
    if kernel == "laplacian":
        return lambda x, y: _falling(_city_block(x, y), gamma)
    raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, not {kernel!r}")


def diagonal_sum(kernel: Kernel, gamma: float, rows: Array) -> float:
    """Sum of the kernel values of each row with itself."""
    if kernel in ("rbf", "multi-rbf", "laplacian"):
        return float(len(rows))
    squares = (rows.astype(np.float64) ** 2).sum(axis=1)
    if kernel == "linear":
        return float(squares.sum())
    return float(((gamma * squares + OFFSET) ** DEGREE).sum())


def median_gamma(rows: Array, *, absolute: bool = False) -> float:
    """1 / median squared (or absolute) distance of the rows to one another.

    At most 1000 evenly spread rows are looked at. If more than half of the pairs
    coincide, the mean distance stands in, and 1 if all do.
    """
    step = -(-len(rows) // MEDIAN_ROWS)
    some = rows[::step].astype(np.float64)
    distance = _city_block(some, some) if absolute else _squared(some, some)
    pairs = distance[np.triu_indices(len(some), 1)]
    # Below this, a distance is the rounding of the products that it comes from.
    nothing = 1e-12 * max(float((some**2).sum(axis=1).max(initial=0)), 1e-290)
    for width in (np.median(pairs), np.mean(pairs)) if len(pairs) else ():
        if width > nothing:
            return float(1 / width)
    return 1.0


def mean_kernel_strips(
    gram: Gram, rows: Array, counts: NDArray[np.intp]
) -> Iterator[tuple[slice, Array]]:
    """Mean kernel value of every group with a strip of groups, strip by strip.

    Parameters
    ----------
    gram : callable
        (n, d), (m, d) -> (n, m).
    rows : ndarray, shape (n, d)
        Sorted by group.
    counts : ndarray of int, shape (groups,)
        Rows of each group.

    Yields
    ------
    strip : slice
        Which groups.
    means : ndarray, shape (groups, groups in the strip)
        Mean over the rows of both; the diagonal holds the groups with themselves.
    """
    ends = np.cumsum(counts)
    starts = ends - counts
    width = max(1, STRIP_VALUES // len(rows))  # rows per strip
    first = 0
    while first < len(counts):
        last = max(
            first + 1, int(np.searchsorted(ends, starts[first] + width, "right"))
        )
        strip = slice(first, last)
        values = gram(rows, rows[starts[first] : ends[last - 1]])
        if len(counts) < len(rows):
            values = np.add.reduceat(values, starts, axis=0, dtype=np.float64)
            values = np.add.reduceat(values, starts[strip] - starts[first], axis=1)
            values /= counts[:, None] * counts[strip]
        yield strip, values.astype(rows.dtype, copy=False)
        first = last


def _falling(distance: Array, gamma: float) -> Array:
    """``exp(-gamma distance)``, written over the distances: a Gram matrix is large."""
    distance *= -gamma
    return np.exp(distance, out=distance)


def _squared(x: Array, y: Array) -> Array:
    """Squared Euclidean distances (n, m), by one matrix product."""
    distance = x @ y.T
    distance *= -2
    distance += (x**2).sum(axis=1)[:, None]
    distance += (y**2).sum(axis=1)
    np.maximum(distance, 0, out=distance)
    return distance


def _city_block(x: Array, y: Array) -> Array:
    distance: Array = cdist(x, y, "cityblock")
    return distance


def _many_widths(squared: Array, gamma: float) -> Array:
    total = np.zeros_like(squared)
    for scale in SCALES:
        total += np.exp(-gamma * scale * squared)
    total /= len(SCALES)
    return total
