"""MMD^2 under every relabelling of the groups, by one matrix product for all of them.

With M the groups' kernel matrix without its diagonal, and a = 1 for the members of the
first side, the three sums of the statistic are a'Ma, a'M(1-a) and (1-a)'M(1-a): all
follow from a'Ma, a'M1 and 1'M1. M is streamed in strips and never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._kernels import Array, Gram, mean_kernel_strips

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

BINS = 64  # of the smaller side, when groups are permuted in bins
AT_A_TIME = 128  # labellings turned to floats at a time, so that memory stays small


@dataclass(frozen=True, eq=False)
class Sides:
    """Two samples as one table, rows sorted by group.

    Attributes
    ----------
    rows : ndarray, shape (n, d)
        Both samples, the first one's groups in front.
    counts : ndarray of int, shape (group,)
        Rows of each group.
    first : int
        How many groups are of the first sample.
    """

    rows: Array
    counts: NDArray[np.intp]
    first: int

    @property
    def second(self) -> int:
        """How many groups are of the second sample."""
        return len(self.counts) - self.first


def labellings(n: int, m: int, permutations: int, rng: np.random.Generator) -> Labels:
    """Draw who is on the first side: row 0 as observed, the rest permuted.

    Returns
    -------
    ndarray of bool, shape (1 + permutations, n + m)
        Each row has n members.
    """
    member = np.zeros((permutations + 1, n + m), bool)
    member[:, :n] = True
    rng.permuted(member[1:], axis=1, out=member[1:])
    return member


def discrepancies(
    inside: Floats, reach: Floats, total: float, n: int, m: int, *, both: int = 0
) -> Floats:
    """Unbiased MMD^2 from a'Ma, a'M1 and 1'M1 of each labelling a.

    `both` pairs of the two sides are of one person; M is 0 there.
    """
    across = reach - inside
    beyond = total - 2 * across - inside
    between = -2 * across / (n * m - both)
    found: Floats = inside / (n * (n - 1)) + beyond / (m * (m - 1)) + between
    return found


def relabelled(gram: Gram, sides: Sides, member: Labels) -> tuple[float, Floats]:
    """MMD^2 as observed, and of every labelling of the groups.

    Parameters
    ----------
    gram : callable
        (n, d), (m, d) -> (n, m).
    sides : Sides
        The samples.
    member : ndarray of bool, shape (labelling, group)
        The groups of the first side; row 0 as observed.

    Returns
    -------
    observed : float
        Summed in float64, as by `mmd`.
    values : ndarray, shape (labelling,)
        In the precision of the rows. A constant is taken off M, which changes nothing
        but keeps float32 products small.
    """
    n, m = sides.first, sides.second
    inside = np.zeros(len(member))
    observed = 0.0
    reach = np.zeros(n + m)
    shift: float | None = None
    for strip, means in _strips(gram, sides):
        if shift is None:
            shift = float(means.mean(dtype=np.float64))
        here = np.arange(strip.start, strip.stop)
        means -= np.asarray(shift, means.dtype)
        means[here, here - strip.start] = 0
        reach[strip] = means.sum(axis=0, dtype=np.float64)
        mine = max(min(strip.stop, n) - strip.start, 0)
        observed += float(means[:n, :mine].sum(dtype=np.float64))
        inside += _inside(member, means, strip)
    across = np.array([reach[row].sum() for row in member])
    total = float(reach.sum())
    exact = discrepancies(np.array([observed]), across[:1], total, n, m)
    return float(exact[0]), discrepancies(inside, across, total, n, m)


def relabelled_in_bins(
    gram: Gram, sides: Sides, permutations: int, rng: np.random.Generator
) -> tuple[float, Floats]:
    """MMD^2 as observed, and under permutations of bins of groups.

    The groups must be in random order. Bins hold equally many groups on both sides, so
    that they are exchangeable where the groups are: the level stays exact, the power
    is slightly less. The few groups that fill no bin count for the observed MMD^2
    alone, not for the comparison.

    Returns
    -------
    observed : float
        Of all groups.
    values : ndarray, shape (1 + permutations,)
        Of the groups in bins, as observed and permuted.
    """
    n, m = sides.first, sides.second
    size = max(min(n, m) // BINS, 1)
    bins_x, bins_y = n // size, m // size
    group = np.arange(n + m)
    # Bins of the first side, of the second, then what is left of each.
    bin_of = np.where(group < n, group // size, bins_x + (group - n) // size)
    bin_of[bins_x * size : n] = bins_x + bins_y
    bin_of[n + bins_y * size :] = bins_x + bins_y + 1
    sums = np.zeros((bins_x + bins_y + 2, bins_x + bins_y + 2))
    for strip, means in _strips(gram, sides):
        here = np.arange(strip.start, strip.stop)
        means[here, here - strip.start] = 0
        tall = np.zeros((len(sums), means.shape[1]))
        for number in range(len(sums)):
            rows = np.flatnonzero(bin_of == number)
            if len(rows):  # neighbours, always
                part = means[rows[0] : rows[-1] + 1]
                tall[number] = part.sum(axis=0, dtype=np.float64)
        np.add.at(sums.T, bin_of[strip], tall.T)
    whole = np.zeros(len(sums), bool)
    whole[:bins_x] = whole[-2] = True
    observed = _of_sums(sums, whole[None], n, m)
    kept = sums[:-2, :-2]
    member = labellings(bins_x, bins_y, permutations, rng)
    return float(observed[0]), _of_sums(kept, member, bins_x * size, bins_y * size)


def _strips(gram: Gram, sides: Sides) -> Iterator[tuple[slice, Array]]:
    return mean_kernel_strips(gram, sides.rows, sides.counts)


def _inside(member: Labels, means: Array, strip: slice) -> Floats:
    """The part of a'Ma that a strip of M gives, for every labelling a."""
    found = np.empty(len(member))
    for at in range(0, len(member), AT_A_TIME):
        some = member[at : at + AT_A_TIME].astype(means.dtype)
        product = some @ means
        product *= some[:, strip]
        found[at : at + AT_A_TIME] = product.sum(axis=1, dtype=np.float64)
    return found


def _of_sums(sums: Floats, member: Labels, n: int, m: int) -> Floats:
    """MMD^2 of labellings of bins, from the sums of M over pairs of bins."""
    a = member.astype(np.float64)
    inside = ((a @ sums) * a).sum(axis=1)
    return discrepancies(inside, a @ sums.sum(axis=1), float(sums.sum()), n, m)
