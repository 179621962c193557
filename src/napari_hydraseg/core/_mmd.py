"""Maximum mean discrepancy: whether two samples come from one distribution.

MMD is the distance between the kernel mean embeddings of two samples [1]_. What is
returned is its square, MMD^2. The Gram matrix is streamed in blocks and never held
whole; a test permutes whole groups (scans), because the slices of one scan are not
independent observations.

References
----------
.. [1] A. Gretton, K. M. Borgwardt, M. J. Rasch, B. Schoelkopf, A. Smola, "A kernel
   two-sample test", Journal of Machine Learning Research 13, 723-773, 2012.
   https://jmlr.org/papers/v13/gretton12a.html
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._centred import Centred, blocks_of
from ._kernels import Array, Kernel, diagonal_sum, gram_of, median_gamma
from ._relabel import Sides, labellings, relabelled, relabelled_in_bins
from .errors import DimensionMismatch, NonFiniteFeatures, TooFewSamples

BINNED_FROM = 2000  # groups a side, on average: from there, bins of them are permuted
FEW_ROWS = 512  # fewer are always multiplied in float64: rounding averages out in many
CHECKED_ROWS = 4096  # rows looked at together for values that are no numbers


def mmd(
    x: ArrayLike,
    y: ArrayLike,
    *,
    kernel: Kernel = "rbf",
    gamma: float | None = None,
    unbiased: bool = True,
    block: int = 2048,
) -> float:
    """Squared maximum mean discrepancy of two samples.

    Parameters
    ----------
    x : array_like, shape (n, d)
        First sample, one observation per row.
    y : array_like, shape (m, d)
        Second sample.
    kernel : {"rbf", "multi-rbf", "linear", "polynomial", "laplacian"}
        ``exp(-gamma |x - y|^2)``; the mean of five of these at gamma / 4 to 4 gamma;
        ``<x, y>``; ``(gamma <x, y> + 1)^3``; ``exp(-gamma |x - y|_1)``.
    gamma : float, optional
        Inverse width. By default the median heuristic over both samples together:
        1 / median squared (laplacian: absolute) distance; 1 / d for "polynomial".
    unbiased : bool
        The U-statistic of the paper's equation (3), which can be slightly negative;
        else the V-statistic, equation (5), which cannot.
    block : int
        Rows per block of the Gram matrix. It bounds memory (a few ``block**2``
        values) and does not change the answer.

    Returns
    -------
    float
        MMD^2: about 0 for samples of one distribution.

    Raises
    ------
    TooFewSamples
        If a sample has no row, or only one and `unbiased`.
    DimensionMismatch
        If the samples are not tables with the same number of columns.
    NonFiniteFeatures
        If a value is not a finite number.

    Notes
    -----
    float64 input is multiplied in float64. float32 input is multiplied in float32 (if
    there are 512 rows or more), after its common mean was taken off; all sums are
    float64. Beside the input, memory
    is needed for a few blocks only. The statistic does not change when both samples are
    moved alike, except with "polynomial", whose values grow with the sixth power of
    that distance and are always computed in float64; "linear" is, too.

    Examples
    --------
    >>> x = np.arange(8.0).reshape(4, 2)
    >>> round(mmd(x, x + 100, kernel="linear", unbiased=False), 6)
    20000.0
    """
    x, y = checked(x, y, least=2 if unbiased else 1)
    pair = Centred.of(x, y, kernel)
    width = _gamma(kernel, gamma, pair.some())
    gram = gram_of(kernel, width)
    n, m = len(x), len(y)
    if kernel == "linear":
        within_x, within_y, across = pair.linear_sums(block)
    else:
        within_x = pair.off_diagonal_sum(gram, x, block)
        within_y = pair.off_diagonal_sum(gram, y, block)
        across = pair.cross_sum(gram, block)
    if unbiased:
        return (
            within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)
        )
    for part in blocks_of(n, block):
        within_x += diagonal_sum(kernel, width, pair.rows(x, part))
    for part in blocks_of(m, block):
        within_y += diagonal_sum(kernel, width, pair.rows(y, part))
    return within_x / n**2 + within_y / m**2 - 2 * across / (n * m)


def mmd_test(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups_x: ArrayLike | None = None,
    groups_y: ArrayLike | None = None,
    permutations: int = 1000,
    seed: int = 0,
    binned: bool | None = None,
) -> tuple[float, float]:
    """Test whether two samples come from one distribution, by permuting groups.

    Parameters
    ----------
    x, y : array_like, shape (n, d) and (m, d)
        Samples, one observation (slice) per row.
    groups_x, groups_y : array_like, shape (n,) and (m,), optional
        The scan that each row belongs to. Rows of one scan stay together when labels
        are permuted, and every scan counts the same, however many rows it has. The
        ids of the two sides are not compared. By default every row is on its own.
    permutations : int
        Random relabellings. The smallest possible p is ``1 / (1 + permutations)``.
    seed : int
        Seed of the relabellings.
    binned : bool, optional
        Whether groups are drawn into bins and bins are permuted: many times faster for
        many groups, with the same level and slightly less power. By default from 2000
        groups a side on.

    Returns
    -------
    mmd2 : float
        Unbiased MMD^2 (rbf kernel, median heuristic) between the groups' mean
        embeddings: pairs of rows of one group are left out. Without groups the same
        as `mmd`.
    p : float
        ``(1 + #(permuted >= observed)) / (1 + permutations)`` [1]_, never 0.

    Raises
    ------
    TooFewSamples
        If a side has fewer than two groups, or there is no permutation.
    DimensionMismatch, NonFiniteFeatures
        As for `mmd`; also if there is not one group id per row.

    References
    ----------
    .. [1] B. Phipson, G. K. Smyth, "Permutation P-values should never be zero",
       Statistical Applications in Genetics and Molecular Biology 9(1), 2010.
       :doi:`10.2202/1544-6115.1585`
    """
    if permutations < 1:
        raise TooFewSamples(
            f"A permutation test with {permutations} permutations.", "Ask for 1000."
        )
    x, y = checked(x, y, least=2)
    rng = np.random.default_rng(seed)
    rows_x, count_x = _by_group(groups_x, len(x), "groups_x")
    rows_y, count_y = _by_group(groups_y, len(y), "groups_y")
    n, m = len(count_x), len(count_y)
    if min(n, m) < 2:
        raise TooFewSamples(
            f"The samples have {n} and {m} groups; at least 2 on each side are needed.",
            "Add scans, or judge the single scan with shift.",
        )
    if binned is None:
        binned = min(n, m) >= BINNED_FROM
    if binned:  # each bin is a random draw of groups
        rows_x, count_x = _shuffled(rows_x, count_x, rng)
        rows_y, count_y = _shuffled(rows_y, count_y, rng)
    pair = Centred.of(x, y, "rbf")
    pooled = np.concatenate((pair.rows(x, rows_x), pair.rows(y, rows_y)))
    sides = Sides(pooled, np.concatenate((count_x, count_y)), n)
    gram = gram_of("rbf", _gamma("rbf", None, pair.some()))
    if binned:
        mmd2, values = relabelled_in_bins(gram, sides, permutations, rng)
    else:
        member = labellings(n, m, permutations, rng)
        mmd2, values = relabelled(gram, sides, member)
    # A relabelling that equals the observed one must count as a tie, whatever rounding.
    tie = 1e-12 if pooled.dtype == np.float64 else 1e-7
    at_least = int((values[1:] >= values[0] - tie).sum())
    return mmd2, (1 + at_least) / (1 + permutations)


def checked(x: ArrayLike, y: ArrayLike, *, least: int) -> tuple[Array, Array]:
    """Two tables of one float type, or the error that says what is wrong with them."""
    tables = [np.asarray(x), np.asarray(y)]
    for name, table in zip("xy", tables, strict=True):
        if table.ndim != 2:
            raise DimensionMismatch(
                f"Sample {name} has shape {table.shape}; a table (rows, features) is "
                "needed."
            )
        if len(table) < least:
            raise TooFewSamples(
                f"Sample {name} has {len(table)} rows; at least {least} are needed.",
                "Add scans or slices.",
            )
    if tables[0].shape[1] != tables[1].shape[1]:
        raise DimensionMismatch(
            f"The samples have {tables[0].shape[1]} and {tables[1].shape[1]} features.",
            "Compare features of one encoder at one depth.",
        )
    single = all(t.dtype in (np.float32, np.float16) for t in tables)
    if len(tables[0]) + len(tables[1]) < FEW_ROWS:
        single = False
    kind = np.float32 if single else np.float64
    tables = [t.astype(kind, copy=False) for t in tables]
    for name, table in zip("xy", tables, strict=True):
        bad = _bad_rows(table)
        if len(bad):
            raise NonFiniteFeatures(
                f"Sample {name} has values that are no numbers in {len(bad)} of "
                f"{len(table)} rows, the first in row {bad[0]}.",
                "Leave these rows out.",
            )
    return tables[0], tables[1]


def _gamma(kernel: Kernel, gamma: float | None, pooled: Array) -> float:
    if gamma is not None:
        if not gamma > 0 or not np.isfinite(gamma):
            raise ValueError(f"gamma must be a positive number, not {gamma}")
        return float(gamma)
    if kernel == "polynomial":
        return 1.0 / max(int(pooled.shape[1]), 1)
    if kernel == "linear":
        return 1.0
    return median_gamma(pooled, absolute=kernel == "laplacian")


def _bad_rows(table: Array) -> NDArray[np.intp]:
    """Rows with a value that is no finite number."""
    parts = [
        at + np.flatnonzero(~np.isfinite(table[at : at + CHECKED_ROWS]).all(axis=1))
        for at in range(0, len(table), CHECKED_ROWS)
    ]
    return np.concatenate(parts)


def _by_group(
    groups: ArrayLike | None, rows: int, name: str
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row order that brings groups together, and the size of each group."""
    if groups is None:
        return np.arange(rows), np.ones(rows, np.intp)
    ids = np.asarray(groups)
    if ids.shape != (rows,):
        raise DimensionMismatch(
            f"{name} has shape {ids.shape}; one id for each of {rows} rows is needed."
        )
    _, which, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return np.argsort(which, kind="stable"), counts


def _shuffled(
    rows: NDArray[np.intp], counts: NDArray[np.intp], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Bring groups into random order; the rows of a group stay together."""
    order = rng.permutation(len(counts))
    rank = np.empty(len(counts), np.intp)
    rank[order] = np.arange(len(counts))
    return rows[np.argsort(np.repeat(rank, counts), kind="stable")], counts[order]
