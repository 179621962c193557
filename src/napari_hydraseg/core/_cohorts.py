"""Cohorts of scans held against one another, from their encoder features."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._calibration import SLICES, Entry, matched_rows, scaled
from ._embedding import embed, scan_points
from ._exchange import Exchanged, exchange, holm
from ._fingerprint import WORDS, outside, usual_ranges
from ._kernels import gram_of, mean_kernel_strips, median_gamma
from ._levels import DIFFERENT, flat_notes, verdict_of
from ._reference import depths
from .errors import DimensionMismatch

LOW_POWER = 20  # persons a side: with fewer, a moderate shift is easily missed


@dataclass(frozen=True, eq=False)
class Member:
    """One scan of a cohort.

    Attributes
    ----------
    cohort : str
        Which one.
    person : hashable
        Whose scan; several scans of a person in a cohort count as one.
    entry : mapping of ndarray
        As `reference_features` makes it of the one scan.
    """

    cohort: str
    person: Hashable
    entry: Entry


@dataclass(frozen=True, eq=False)
class Matrix:
    """All pairs of cohorts.

    Attributes
    ----------
    pairs : list of (str, str, Exchanged)
        Two names, and how far apart they are.
    flat : list of str
        Depths at which all scans have the same features.
    """

    pairs: list[tuple[str, str, Exchanged]]
    flat: list[str]


def compare(members: Sequence[Member], *, permutations: int, seed: int) -> Matrix:
    """Hold every cohort against every other one.

    Parameters
    ----------
    members : sequence of Member
        All scans; at least two persons in each cohort.
    permutations : int
        Random exchanges of persons for each pair.
    seed : int
        Their seed.

    Returns
    -------
    Matrix
        One comparison for each two cohorts, in the order in which they came.

    Raises
    ------
    DimensionMismatch
        If the scans are not of one encoder.
    """
    names = same_depths(members)
    slices = slices_of(members)
    persons: dict[tuple[str, Hashable], list[Member]] = {}
    for member in members:
        persons.setdefault((member.cohort, member.person), []).append(member)
    found = [_kernel(list(persons.values()), name, slices) for name in names]
    kernels = np.array([kernel for kernel, _ in found])
    who = list(persons)
    pairs = []
    for a, b in combinations(dict.fromkeys(cohort for cohort, _ in who), 2):
        mine = [i for i, (cohort, _) in enumerate(who) if cohort == a]
        others = [i for i, (cohort, _) in enumerate(who) if cohort == b]
        both = np.array([*mine, *others])
        exchanged = exchange(
            kernels[:, both[:, None], both],
            [who[i][1] for i in mine],
            [who[i][1] for i in others],
            permutations=permutations,
            seed=seed,
        )
        pairs.append((a, b, exchanged))
    flat = [name for name, (_, same) in zip(names, found, strict=True) if same]
    return Matrix(pairs, flat)


def pair_rows(matrix: Matrix) -> list[dict[str, Any]]:
    """One row for each pair; p and the smallest possible p corrected for the pairs."""
    corrected = holm([found.p for _, _, found in matrix.pairs])
    return [
        {
            "a": a,
            "b": b,
            "verdict": verdict_of(p, p_floor=least),
            "mmd2": float(found.mmd2.mean()),
            "p": found.p,
            "p_corrected": p,
            "p_floor": least,
            "both": found.both,
        }
        for (a, b, found), p, least in zip(
            matrix.pairs, corrected, floors(matrix), strict=True
        )
    ]


def floors(matrix: Matrix) -> list[float]:
    """The smallest p that each pair could have, corrected as the p are."""
    return holm([found.p_floor for _, _, found in matrix.pairs])


def depth_rows(matrix: Matrix, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each pair and depth."""
    return [
        {"a": a, "b": b, "depth": int(name), "mmd2": float(mmd2), "p": float(p)}
        for a, b, found in matrix.pairs
        for name, mmd2, p in zip(names, found.mmd2, found.p_depth, strict=True)
    ]


def scan_rows(members: Sequence[Member], *, seed: int) -> tuple[list[Any], str]:
    """Points of all scans in two pictures, and why one may be missing."""
    points = scan_points([member.entry for member in members], slices_of(members))
    drawn = embed(points, seed=seed)
    rows = [
        {
            "cohort": member.cohort,
            "pca": drawn.pca[at].tolist(),
            "tsne": None if drawn.tsne is None else drawn.tsne[at].tolist(),
        }
        for at, member in enumerate(members)
    ]
    return rows, drawn.note


def cause_rows(
    prints: Mapping[str, Sequence[Mapping[str, float]]],
) -> list[dict[str, str]]:
    """Quantities whose typical value in one cohort is unusual in another one."""
    usual = {cohort: usual_ranges(found) for cohort, found in prints.items()}
    unlike: dict[str, None] = {}
    for cohort, found in prints.items():
        typical = {
            name: float(np.median([one[name] for one in found if name in one]))
            for name in usual[cohort]
        }
        for other, ranges in usual.items():
            if other != cohort:
                unlike.update(
                    dict.fromkeys(r["name"] for r in outside(typical, ranges))
                )
    rows = []
    for quantity, (name, unit, decimals) in WORDS.items():
        if name in unlike:
            cells = {
                cohort: _range(ranges.get(quantity), unit, decimals)
                for cohort, ranges in usual.items()
            }
            rows.append({"name": name} | cells)
    return rows


def cautions(members: Sequence[Member], matrix: Matrix) -> list[str]:
    """What a reader of the comparison must know, in plain words."""
    counts: dict[str, set[Hashable]] = {}
    for member in members:
        counts.setdefault(member.cohort, set()).add(member.person)
    said = flat_notes(matrix.flat)
    few = [f"{name} {len(who)}" for name, who in counts.items() if len(who) < LOW_POWER]
    if few:
        said.append(
            f"Low power: few persons ({', '.join(few)}; {LOW_POWER} are advised). No "
            "evidence of a shift is no evidence of none."
        )
    least = max(floors(matrix), default=0.0)
    if least > DIFFERENT:
        said.append(
            f"With so few persons p cannot be below {least:.2g}: there is no verdict."
        )
    if len(matrix.pairs) > 1:
        said.append(f"Verdicts are corrected for {len(matrix.pairs)} pairs (Holm).")
    if any(found.both for _, _, found in matrix.pairs):
        said.append(
            "Persons who are in both cohorts were swapped between them and never "
            "compared with themselves."
        )
    return said


def same_depths(members: Sequence[Member]) -> list[str]:
    """Depths that all scans have, with the same number of features each."""
    shapes = [
        {name: member.entry[name].shape[1] for name in depths(member.entry)}
        for member in members
    ]
    if any(shape != shapes[0] for shape in shapes):
        raise DimensionMismatch(
            "The scans of the cohorts were not seen by one encoder.",
            "Encode all of them with one model.",
        )
    return list(shapes[0])


def slices_of(members: Sequence[Member]) -> int:
    """Slices per scan that are compared: as many as the shortest has, at most 16."""
    return min(SLICES, *(len(member.entry["scan"]) for member in members))


def _kernel(
    persons: Sequence[Sequence[Member]], name: str, slices: int
) -> tuple[NDArray[np.float64], bool]:
    """Mean kernel values between persons, and whether all features are the same."""
    tables = [
        member.entry[name][matched_rows(member.entry, slices)[0]]
        for person in persons
        for member in person
    ]
    counts = np.array([slices * len(person) for person in persons], np.intp)
    (rows,) = scaled(np.concatenate(tables))
    gram = gram_of("rbf", median_gamma(rows))
    kernel = np.empty((len(persons), len(persons)))
    for strip, means in mean_kernel_strips(gram, rows, counts):
        kernel[:, strip] = means
    return kernel, not rows.any()


def _range(ends: Sequence[float] | None, unit: str, decimals: int) -> str:
    if ends is None:
        return "n/a"
    low, high = (f"{end:.{decimals}f}" for end in ends)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"
