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

from ._kernels import Array, Gram, Kernel, gram_of, mean_kernel_strips, median_gamma
from .errors import DimensionMismatch, NonFiniteFeatures, TooFewSamples


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
    float64 input is multiplied in float64. float32 input is multiplied in float32 after
    its common mean was taken off (which leaves every kernel here but "polynomial"
    unchanged or the statistic invariant); all sums are float64.

    Examples
    --------
    >>> x = np.arange(8.0).reshape(4, 2)
    >>> round(mmd(x, x + 100, kernel="linear", unbiased=False), 6)
    20000.0
    """
    x, y = checked(x, y, least=2 if unbiased else 1)
    x, y = _centred(x, y, kernel)
    gram = gram_of(kernel, _gamma(kernel, gamma, np.concatenate((x, y))))
    n, m = len(x), len(y)
    if unbiased:
        within_x, within_y = n * (n - 1), m * (m - 1)
        ends = 0.0
    else:
        within_x, within_y = n * n, m * m
        ends = _diagonal(gram, x).sum() / within_x + _diagonal(gram, y).sum() / within_y
    return float(
        _off_diagonal_sum(gram, x, block) / within_x
        + _off_diagonal_sum(gram, y, block) / within_y
        - 2 * _cross_sum(gram, x, y, block) / (n * m)
        + ends
    )


def mmd_test(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups_x: ArrayLike | None = None,
    groups_y: ArrayLike | None = None,
    permutations: int = 1000,
    seed: int = 0,
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
        raise TooFewSamples(f"A permutation test with {permutations} permutations.")
    x, y = checked(x, y, least=2)
    rows_x, count_x = _by_group(groups_x, len(x), "groups_x")
    rows_y, count_y = _by_group(groups_y, len(y), "groups_y")
    n, m = len(count_x), len(count_y)
    if min(n, m) < 2:
        raise TooFewSamples(
            f"The samples have {n} and {m} groups; at least 2 on each side are needed.",
            "Add scans, or judge the single scan with shift.",
        )
    x, y = _centred(x, y, "rbf")
    pooled = np.concatenate((x[rows_x], y[rows_y]))
    gram = gram_of("rbf", _gamma("rbf", None, pooled))
    member = np.zeros((permutations + 1, n + m), pooled.dtype)
    member[:, :n] = 1  # row 0 is the observed labelling
    np.random.default_rng(seed).permuted(member[1:], axis=1, out=member[1:])
    values = _relabelled(gram, pooled, np.concatenate((count_x, count_y)), member, n)
    # A relabelling that equals the observed one must count as a tie, whatever rounding.
    tie = 1e-12 if pooled.dtype == np.float64 else 1e-7
    at_least = int((values[1:] >= values[0] - tie).sum())
    return float(values[0]), (1 + at_least) / (1 + permutations)


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
    small = all(t.dtype in (np.float32, np.float16) for t in tables)
    tables = [t.astype(np.float32 if small else np.float64) for t in tables]
    for name, table in zip("xy", tables, strict=True):
        bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
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


def _centred(x: Array, y: Array, kernel: Kernel) -> tuple[Array, Array]:
    """Take the common mean off, so that products of large numbers do not cancel."""
    if kernel == "polynomial":  # the only one that a common shift would change
        return x.astype(np.float64), y.astype(np.float64)
    total = x.sum(axis=0, dtype=np.float64) + y.sum(axis=0, dtype=np.float64)
    mean = total / (len(x) + len(y))
    return (x - mean).astype(x.dtype), (y - mean).astype(y.dtype)


def _diagonal(gram: Gram, x: Array) -> Array:
    """Kernel of each row with itself, in float64."""
    return np.array([gram(row, row)[0, 0] for row in x[:, None]], np.float64)


def _blocks(rows: int, block: int) -> list[slice]:
    if block < 1:
        raise ValueError(f"block must be at least 1, not {block}")
    return [slice(at, min(at + block, rows)) for at in range(0, rows, block)]


def _cross_sum(gram: Gram, x: Array, y: Array, block: int) -> float:
    return sum(
        float(gram(x[i], y[j]).sum(dtype=np.float64))
        for i in _blocks(len(x), block)
        for j in _blocks(len(y), block)
    )


def _off_diagonal_sum(gram: Gram, x: Array, block: int) -> float:
    """Sum over all ordered pairs of different rows; only one half is computed."""
    total = 0.0
    blocks = _blocks(len(x), block)
    for place, i in enumerate(blocks):
        values = gram(x[i], x[i])
        np.fill_diagonal(values, 0)
        total += float(values.sum(dtype=np.float64))
        for j in blocks[place + 1 :]:
            total += 2 * float(gram(x[i], x[j]).sum(dtype=np.float64))
    return total


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


def _relabelled(
    gram: Gram, rows: Array, counts: NDArray[np.intp], member: Array, n: int
) -> NDArray[np.float64]:
    """Unbiased MMD^2 of every labelling: one matrix product for all of them.

    With M the groups' kernel matrix without its diagonal and a = 1 for the members of
    the first side, the three sums are a'Ma, a'M(1-a) and (1-a)'M(1-a): all follow from
    a'Ma, a'M1 and 1'M1. A constant taken off all of M changes nothing, and keeps
    float32 products small.
    """
    m = len(counts) - n
    inside = np.zeros(len(member))
    reach = np.zeros(len(counts))
    shift: float | None = None
    for strip, means in mean_kernel_strips(gram, rows, counts):
        if shift is None:
            shift = float(means.mean(dtype=np.float64))
        means = means - np.asarray(shift, means.dtype)
        here = np.arange(strip.start, strip.stop)
        means[here, here - strip.start] = 0
        inside += np.einsum(
            "pg,pg->p", member @ means, member[:, strip], dtype=np.float64
        )
        reach[strip] = means.sum(axis=0, dtype=np.float64)
    across = member @ reach - inside
    beyond = reach.sum() - 2 * across - inside
    between = -2 * across / (n * m)
    result: NDArray[np.float64] = (
        inside / (n * (n - 1)) + beyond / (m * (m - 1)) + between
    )
    return result
