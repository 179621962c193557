"""How far out a scan lies among reference scans, by depth, calibrated by scan.

The unit is the scan. Every scan, new or reference, gives the same number of slices at
the same relative positions. Two distances to all the others are computed for the new
scan and, in the same way, for each reference scan: the MMD, and the Mahalanobis
distance, which sees what does not go together as it does in the others. The largest
over both and over depths counts. The grey values that the encoder gets are one more
depth: an encoder learns to look past changes of them that a person should know of.
Under exchangeability the rank of the new scan among all is uniform, so
``p = rank / (n + 1)`` needs no further assumption (conformal p-value [1]_). Scaling,
kernel width and covariance therefore see all n + 1 scans alike: computed from the
reference alone, they would treat the new one differently and alarm too often. Scans of
one person (two phases of a heart) are never held against each other, and share one
vote.

References
----------
.. [1] S. Bates, E. Candes, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with
   conformal p-values", Annals of Statistics 51(1), 2023. :doi:`10.1214/22-AOS2244`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._kernels import gram_of, mean_kernel_strips, median_gamma
from ._levels import GREY
from ._novelty import novelty, novelty_to
from ._reference import depths, deviation, levels, stilled
from .errors import DimensionMismatch

Entry: TypeAlias = Mapping[str, NDArray[Any]]
Floats: TypeAlias = NDArray[np.float64]

SLICES = 16  # slices per scan that are compared
NO_SPREAD = 1e-9  # of distances: below it, they differ by rounding
NEAR = 0.15  # a slice is held against reference slices so close in position (of 1)


@dataclass(frozen=True, eq=False)
class Judgement:
    """The place of one scan among the reference scans.

    Attributes
    ----------
    levels : list of str
        "grey" where grey values were compared, and the encoder depths, finest first.
    mmd2 : ndarray, shape (level,)
        Unbiased MMD^2 between the new scan and the reference.
    novelty : ndarray, shape (level,)
        Mahalanobis distance in units of that of the median reference scan: 1 is usual.
    percentiles : ndarray, shape (level,)
        Share of reference scans, in percent, that lie closer to the rest, by the larger
        of the two distances, both standardised.
    score : float
        Standardised distance, the largest over both and over levels.
    by_features : float
        Mean over encoder depths of the logarithm of `novelty`. Which head a scan is
        nearest to is told by what it shows, not by how bright it is, and by a distance
        that has no ceiling: a standardised one is at most the root of the number of
        scans, so that whatever is far out seemed nearest to the smallest reference.
    p, percentile : float
        Of `score` among those of the reference scans.
    slices : int
        Slices per scan that were compared.
    persons : int
        Persons that the reference scans are of: what p is counted in.
    """

    levels: list[str]
    mmd2: Floats
    novelty: Floats
    percentiles: Floats
    score: float
    by_features: float
    p: float
    percentile: float
    slices: int
    persons: int


def judge(reference: Entry, new: Entry) -> Judgement:
    """Rank a scan among reference scans.

    Parameters
    ----------
    reference, new : mapping of ndarray
        Entries as `reference_features` makes them; `new` holds one scan.

    Returns
    -------
    Judgement
        The distances, and their rank among those of the reference scans.

    Raises
    ------
    DimensionMismatch
        If the entries are not of one encoder.
    """
    names = same_encoder(reference, new)
    new = stilled(new, reference)
    slices = min(SLICES, len(new["scan"]))
    stored, fresh = matched_rows(reference, slices), matched_rows(new, slices)
    picked = np.concatenate((stored, fresh + len(reference["scan"])))
    persons = _persons(reference)
    rivals: Floats = (persons[:, None] != persons).astype(np.float64)
    tables = [np.concatenate((reference[name], new[name]))[picked] for name in names]
    found = [_distances(table, picked, persons, rivals) for table in tables]
    mmd2, far = np.array(found).swapaxes(0, 1)  # each (level, reference scans + 1)
    both = np.maximum(_standard(mmd2), _standard(np.log(far)))
    scores = both.max(axis=0)  # the new scan last
    weight = 1 / (rivals[:-1] == 0).sum(axis=1)  # the scans of a person share one vote
    votes = float(weight.sum())
    count = round(votes)
    novel = far[:, -1] / np.median(far[:, :-1], axis=1)
    farther = float(weight[scores[:-1] >= scores[-1]].sum())
    return Judgement(
        levels=names,
        mmd2=mmd2[:, -1],
        novelty=novel,
        percentiles=100 * ((both[:, :-1] < both[:, -1:]) @ weight) / votes,
        score=float(scores[-1]),
        by_features=float(np.log(novel[-len(depths(new)) :]).mean()),
        p=(1 + farther) / (1 + count),
        percentile=float(100 * ((scores[:-1] < scores[-1]) @ weight) / votes),
        slices=slices,
        persons=count,
    )


def witness(reference: Entry, new: Entry) -> Floats:
    """Tell how unlike the reference each slice of a scan is.

    Parameters
    ----------
    reference, new : mapping of ndarray
        As in `judge`; `new` may hold every slice of the scan.

    Returns
    -------
    ndarray, shape (slice,)
        How little a slice resembles the reference (mean kernel value with its scans),
        or how novel it is (Mahalanobis distance), whichever is more: in standard
        deviations, averaged over levels, above the 95th percentile of reference slices
        at about the same position. Above 0: unlike the reference.
    """
    names = same_encoder(reference, new)
    new = stilled(new, reference)
    usual = np.zeros((2, len(reference["scan"])))
    found = np.zeros((2, len(new["scan"])))
    for name in names:
        stored, fresh = scaled(reference[name], new[name])
        for kind, (near, close) in enumerate(
            (
                _resemblance(stored, fresh, reference),
                _familiarity(stored, fresh, reference),
            )
        ):
            scale = max(float(near.std()), 1e-12) * len(names)
            usual[kind] += (near.mean() - near) / scale
            found[kind] += (near.mean() - close) / scale
    most = _high_end(usual.max(axis=0), reference["position"], new["position"])
    unlike: Floats = found.max(axis=0) - most
    return unlike


def _resemblance(
    stored: NDArray[np.float32], fresh: NDArray[np.float32], reference: Entry
) -> tuple[Floats, Floats]:
    """Mean kernel value of stored slices with other persons', of new ones with all."""
    subject = subject_of_rows(reference)
    gram = gram_of("rbf", median_gamma(np.concatenate((stored, fresh))))
    size = np.bincount(reference["scan"])
    weight = 1 / size[reference["scan"]]  # every scan counts the same
    near = np.empty(len(stored))
    for at in range(0, len(stored), 1024):
        part = slice(at, at + 1024)
        others = weight * (subject[part, None] != subject)
        near[part] = (gram(stored[part], stored) * others).sum(axis=1)
        near[part] /= np.maximum(others.sum(axis=1), 1e-12)
    return near, gram(fresh, stored) @ weight / weight.sum()


def _familiarity(
    stored: NDArray[np.float32], fresh: NDArray[np.float32], reference: Entry
) -> tuple[Floats, Floats]:
    """Negative logarithm of the novelty of stored slices, and of new ones."""
    near = novelty(stored, subject_of_rows(reference))
    return -np.log(near), -np.log(novelty_to(stored, fresh))


def matched_rows(entry: Entry, slices: int) -> NDArray[np.intp]:
    """Rows of each scan nearest to evenly spread positions, shape (scan, slices)."""
    wanted = (np.arange(slices) + 0.5) / slices
    picked = []
    for scan in range(int(entry["scan"].max()) + 1):
        rows = np.flatnonzero(entry["scan"] == scan)
        far = np.abs(entry["position"][rows][:, None] - wanted)
        picked.append(rows[far.argmin(axis=0)])
    return np.stack(picked)


def subject_of_rows(entry: Entry) -> NDArray[Any]:
    """Say whose each row is; where the entry does not, each scan is a person."""
    return entry["subject"] if "subject" in entry else entry["scan"]


def same_encoder(reference: Entry, new: Entry) -> list[str]:
    """Levels of two entries, or an error if they come from different encoders."""
    names = depths(reference)
    widths = [reference[name].shape[1] for name in names]
    if names != depths(new) or widths != [new[name].shape[1] for name in names]:
        found = [new[name].shape[1] for name in depths(new)]
        raise DimensionMismatch(
            f"The scan has {found} features per depth; the reference has {widths}.",
            "Compare with a reference that was made by the same model.",
        )
    both = GREY in reference and GREY in new
    return levels(reference) if both else names


def _persons(reference: Entry) -> NDArray[np.intp]:
    """Whose each reference scan is, and at last the new one, who is nobody of them."""
    last = int(reference["scan"].max()) + 1
    persons = np.full(last + 1, -1, np.intp)
    persons[reference["scan"]] = subject_of_rows(reference)
    return persons


def _standard(distances: Floats) -> Floats:
    """Every depth (row) at mean 0 and standard deviation 1 over all scans."""
    spread = distances.std(axis=1, keepdims=True)
    centred = distances - distances.mean(axis=1, keepdims=True)
    result: Floats = centred / np.where(spread > NO_SPREAD, spread, 1)
    return result


def scaled(*tables: NDArray[Any]) -> list[NDArray[np.float32]]:
    """Every feature at mean 0 and standard deviation 1 over all tables together."""
    pooled = np.concatenate(tables).astype(np.float64)
    mean, scale = pooled.mean(axis=0), deviation(pooled)
    return [((table - mean) / scale).astype(np.float32) for table in tables]


def _distances(
    features: NDArray[Any],
    picked: NDArray[np.intp],
    persons: NDArray[np.intp],
    rivals: Floats,
) -> tuple[Floats, Floats]:
    """Unbiased MMD^2 and novelty of each scan against all its rivals.

    `features` is (scan, slices, d); `picked` (scan, slices) says which stored slice
    each is, as a short scan gives some of its slices twice; `rivals` (scan, scan) is 1
    where a scan (row) is held against another (column): one of somebody else.
    """
    scans, slices, width = features.shape
    (rows,) = scaled(features.reshape(-1, width))
    far = novelty(rows, np.repeat(persons, slices)).reshape(scans, slices)
    mmd2 = _mmd2(rows.reshape(features.shape), picked, rivals)
    return mmd2, far.mean(axis=1)


def _mmd2(
    features: NDArray[np.float32], picked: NDArray[np.intp], rivals: Floats
) -> Floats:
    """Unbiased MMD^2 of each scan with all its rivals pooled."""
    scans, slices, width = features.shape
    rows = features.reshape(-1, width)
    gram = gram_of("rbf", median_gamma(rows))
    means = np.empty((scans, scans))
    counts = np.full(scans, slices, np.intp)
    for strip, values in mean_kernel_strips(gram, rows, counts):
        means[:, strip] = values
    np.fill_diagonal(means, 0)
    own = np.ones(scans)  # of a single slice with itself
    for scan, block in enumerate(features):
        different = picked[scan][:, None] != picked[scan]
        if different.any():
            own[scan] = gram(block, block)[different].mean()
    count = rivals.sum(axis=1)
    across = (rivals * means).sum(axis=1) / count
    pairs = np.maximum(count * (count - 1), 1)
    others = ((rivals @ means) * rivals).sum(axis=1) / pairs
    result: Floats = own + others - 2 * across
    return result


def _high_end(usual: Floats, position: NDArray[Any], wanted: NDArray[Any]) -> Floats:
    """95th percentile of reference slices' values about each wanted position."""
    ends = np.empty(len(wanted))
    for slot, place in enumerate(wanted):
        close = np.abs(position - place) <= NEAR
        ends[slot] = np.percentile(usual[close] if close.sum() >= 20 else usual, 95)
    return ends
