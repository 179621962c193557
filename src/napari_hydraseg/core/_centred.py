"""Sums of kernel values over pairs of rows, block by block and without their mean.

Products of large numbers cancel: samples far from the origin are moved there first. A
block is moved when it is used, so that no copy of a sample is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._kernels import MEDIAN_ROWS, Array, Gram, Kernel


@dataclass(frozen=True, eq=False)
class Centred:
    """Two samples, their common mean taken off block by block, without a copy.

    Attributes
    ----------
    x, y : ndarray, shape (n, d) and (m, d)
        The samples as they came.
    mean : ndarray of float64, shape (d,), or None
        What is taken off; None where that would change the statistic ("polynomial").
    """

    x: Array
    y: Array
    mean: Array | None

    @classmethod
    def of(cls, x: Array, y: Array, kernel: Kernel) -> Centred:
        """Prepare two samples for a kernel."""
        if kernel == "polynomial":
            return cls(x, y, None)
        total = x.sum(axis=0, dtype=np.float64) + y.sum(axis=0, dtype=np.float64)
        return cls(x, y, total / (len(x) + len(y)))

    @property
    def centre(self) -> Array:
        """What is taken off each row; 0 for "polynomial"."""
        return np.zeros(self.x.shape[1]) if self.mean is None else self.mean

    def rows(self, table: Array, which: slice | NDArray[np.intp]) -> Array:
        """Some rows of one of the samples, centred, in the precision of the sample."""
        if self.mean is None:
            return table[which].astype(np.float64)
        if table.dtype == np.float64:
            found: Array = table[which] - self.mean
            return found
        result = np.empty((len(table[which]), table.shape[1]), table.dtype)
        # The difference is taken in float64 and rounded once.
        np.subtract(table[which], self.mean, out=result, casting="same_kind")
        return result

    def some(self) -> Array:
        """Evenly spread rows of both, for the median heuristic."""
        n, m = len(self.x), len(self.y)
        step = -(-(n + m) // MEDIAN_ROWS)
        of_y = slice(-n % step, None, step)
        return np.concatenate(
            (self.rows(self.x, slice(0, None, step)), self.rows(self.y, of_y))
        )

    def cross_sum(self, gram: Gram, block: int) -> float:
        """Sum over all pairs of a row of each sample."""
        total = 0.0
        for i in blocks_of(len(self.x), block):
            left = self.rows(self.x, i)
            for j in blocks_of(len(self.y), block):
                values = gram(left, self.rows(self.y, j))
                total += float(values.sum(dtype=np.float64))
        return total

    def off_diagonal_sum(self, gram: Gram, table: Array, block: int) -> float:
        """Sum over all ordered pairs of different rows; only one half is computed."""
        total = 0.0
        blocks = blocks_of(len(table), block)
        for place, i in enumerate(blocks):
            left = self.rows(table, i)
            values = gram(left, left)
            np.fill_diagonal(values, 0)
            total += float(values.sum(dtype=np.float64))
            for j in blocks[place + 1 :]:
                values = gram(left, self.rows(table, j))
                total += 2 * float(values.sum(dtype=np.float64))
        return total

    def linear_sums(self, block: int) -> tuple[float, float, float]:
        """The three sums of the linear kernel, from sums of rows and of squares."""
        sums, within = [], []
        for table in (self.x, self.y):
            total, squares = np.zeros(table.shape[1]), 0.0
            for part in blocks_of(len(table), block):
                rows = table[part] - self.centre  # float64
                total += rows.sum(axis=0)
                squares += float((rows**2).sum())
            sums.append(total)
            within.append(float(total @ total) - squares)
        return within[0], within[1], float(sums[0] @ sums[1])


def blocks_of(rows: int, block: int) -> list[slice]:
    if block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    return [slice(at, min(at + block, rows)) for at in range(0, rows, block)]
