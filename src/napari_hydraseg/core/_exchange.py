"""Two cohorts compared by exchanging persons: what could be where nothing differs.

Persons of one cohort only are permuted between the cohorts. A person who is in both
(two channels of a study, two scanners) is swapped or not: the own likeness of a person
then plays no part. Every depth of the encoder is seen under the same exchanges, and the
largest standardised distance counts, so that p holds for all depths together [1]_.

References
----------
.. [1] P. H. Westfall, S. S. Young, "Resampling-based multiple testing", Wiley, 1993
   (the maximum statistic).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from ._relabel import Labels, discrepancies, labellings

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Exchanged:
    """How far apart two cohorts are.

    Attributes
    ----------
    mmd2, p_depth : ndarray, shape (depth,)
        Unbiased MMD^2 between the persons' mean embeddings, and its p corrected for
        all depths.
    p, p_floor : float
        Of the largest standardised distance, and the smallest that it could be.
    both : int
        Persons who are in both cohorts.
    """

    mmd2: Floats
    p_depth: Floats
    p: float
    p_floor: float
    both: int


def exchange(
    kernels: Floats,
    persons_a: Sequence[Hashable],
    persons_b: Sequence[Hashable],
    *,
    permutations: int,
    seed: int,
) -> Exchanged:
    """Compare two cohorts.

    Parameters
    ----------
    kernels : ndarray, shape (depth, n + m, n + m)
        Mean kernel values between the persons of a (in front) and of b.
    persons_a, persons_b : sequence of hashable
        Who they are; each at most once in a cohort.
    permutations : int
        Random exchanges.
    seed : int
        Their seed.

    Returns
    -------
    Exchanged
        MMD^2 by depth, and p.
    """
    n, m = len(persons_a), len(persons_b)
    known: dict[Hashable, int] = {}
    everyone = np.array(
        [known.setdefault(who, len(known)) for who in (*persons_a, *persons_b)]
    )
    apart = everyone[:, None] != everyone  # nobody is held against himself
    both = n + m - len(known)
    member = _exchanges(persons_a, persons_b, permutations, seed)
    a = member.astype(np.float64)
    found = []
    for kernel in kernels:
        rivals = kernel * apart
        inside = ((a @ rivals) * a).sum(axis=1)
        reach = a @ rivals.sum(axis=1)
        found.append(discrepancies(inside, reach, float(rivals.sum()), n, m, both=both))
    values = np.array(found)  # (depth, 1 + permutations)
    sd = values.std(axis=1, keepdims=True)
    scores = (values - values.mean(axis=1, keepdims=True)) / np.where(sd > 0, sd, 1)
    most = scores.max(axis=0)
    p_floor = smallest_p(n, m, both, permutations)
    far = (1 + (most[1:] >= scores[:, :1] - 1e-9).sum(axis=1)) / (1 + permutations)
    far = np.maximum(far, p_floor)  # exchanges are drawn, not counted
    return Exchanged(
        mmd2=values[:, 0],
        p_depth=far,
        p=float(far[scores[:, 0].argmax()]),
        p_floor=p_floor,
        both=both,
    )


def smallest_p(n: int, m: int, both: int, permutations: int) -> float:
    """The smallest p that exchanging so many persons can give."""
    ways = 2**both * comb(n + m - 2 * both, n - both)
    mirrored = 2 if n == m else 1  # names of the cohorts changed: the same distance
    return float(min(1.0, max(1 / (1 + permutations), mirrored / ways)))


def holm(p: Sequence[float]) -> list[float]:
    """Correct the p of several comparisons by Holm's step-down method.

    References
    ----------
    .. [1] S. Holm, "A simple sequentially rejective multiple test procedure",
       Scandinavian Journal of Statistics 6(2), 65-70, 1979.
    """
    corrected = [1.0] * len(p)
    least = 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = least
    return corrected


def _exchanges(
    persons_a: Sequence[Hashable],
    persons_b: Sequence[Hashable],
    permutations: int,
    seed: int,
) -> Labels:
    """Who is in cohort a: row 0 as observed, then at random."""
    rng = np.random.default_rng(seed)
    n = len(persons_a)
    place_in_b = {person: n + at for at, person in enumerate(persons_b)}
    here = [at for at, person in enumerate(persons_a) if person in place_in_b]
    there = [place_in_b[persons_a[at]] for at in here]
    single = np.setdiff1d(np.arange(n + len(persons_b)), [*here, *there])
    member = np.zeros((permutations + 1, n + len(persons_b)), bool)
    member[:, single] = labellings(
        n - len(here), len(persons_b) - len(here), permutations, rng
    )
    swapped = rng.random((permutations + 1, len(here))) < 0.5
    swapped[0] = False
    member[:, here], member[:, there] = ~swapped, swapped
    return member
