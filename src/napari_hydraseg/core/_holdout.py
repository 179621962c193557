"""What is kept aside to judge a fine-tuned model, and how sure the judgement is."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .types import Volume

SHARE = 0.2  # of the annotated slices of a lone scan, at least one
Slices: TypeAlias = dict[str, list[int]]
"""Of each scan."""


@dataclass(frozen=True)
class Split:
    """Slices of each case to learn from, and to judge by.

    Attributes
    ----------
    train, held : list of list of int
        Slice indices, one list for each case.
    kind : {"scan", "slab", "none"}
        Whole scans, or slices of scans that are learned from, or nothing was held out.
    """

    train: list[list[int]]
    held: list[list[int]]
    kind: Literal["scan", "slab", "none"]


def identity(volume: Volume) -> str:
    """Name a scan by a hash of its voxels, so that a later round knows it again."""
    sha = hashlib.sha256(str(volume.data.shape).encode())
    sha.update(np.ascontiguousarray(volume.data).tobytes())
    return sha.hexdigest()[:32]


def identities(volume: Volume) -> tuple[str, ...]:
    """Name a scan as a whole, and each channel of it: one may come alone next time.

    A channel counts as float32: beside another one it may have come as such.
    """
    parts = [identity(volume)]
    for channel in volume.data:
        sha = hashlib.sha256(str((1, *channel.shape)).encode())
        for plane in channel:  # a copy of a plane is small
            sha.update(np.ascontiguousarray(plane, np.float32).tobytes())
        parts.append(sha.hexdigest()[:32])
    return tuple(dict.fromkeys(parts))


def split(
    scans: Sequence[Sequence[str]],
    annotated: Sequence[Sequence[int]],
    painted: Sequence[Sequence[int]],
    *,
    ledger: Mapping[str, Sequence[int]],
    wanted: bool,
) -> Split:
    """Hold out one scan of several, or a slab of neighbouring slices of a lone one.

    The choice hangs on a hash of the scans alone. Slices that an earlier round held
    out (`ledger`) are held out again, and never learned from. What is given of one
    scan in several cases is one scan.

    Parameters
    ----------
    scans : sequence of sequence of str
        `identities` of each.
    annotated, painted : sequence of sequence of int
        Slices that are vouched for, and those of them that show something.
    ledger : mapping of str to sequence of int
        Identity -> slices held out before.
    wanted : bool
        False: hold out only what an earlier round did.

    Returns
    -------
    Split
        ``kind`` "none" if too little is annotated to spare any.
    """
    names = _names(scans)
    known = _together(names, annotated)
    shown = _together(names, painted)
    before: dict[str, set[int]] = {name: set() for name in known}
    for name, some in zip(names, scans, strict=True):
        before[name].update(*(ledger.get(one, ()) for one in some))
    held = {name: sorted(before[name] & set(known[name])) for name in known}
    if not any(held.values()) and wanted:
        held = _scan(known, shown) if len(known) > 1 else _slab(known, shown)
    left = {name: _without(slices, held[name]) for name, slices in known.items()}
    kind: Literal["scan", "slab", "none"] = "scan" if any(held.values()) else "none"
    if any(held[name] and left[name] for name in known):
        kind = "slab"
    train, out = (
        [
            sorted(set(slices) & set(part[name]))
            for name, slices in zip(names, annotated, strict=True)
        ]
        for part in (left, held)
    )
    return Split(train, out, kind)


def _names(scans: Sequence[Sequence[str]]) -> list[str]:
    """Name each case by the first one that shows the same scan."""
    firsts: dict[str, str] = {}
    for some in scans:
        name = next((firsts[one] for one in some if one in firsts), some[0])
        firsts |= {one: firsts.get(one, name) for one in some}
    return [firsts[some[0]] for some in scans]


def _together(names: Sequence[str], slices: Sequence[Sequence[int]]) -> Slices:
    """Unite the slices of cases that show one scan."""
    found: Slices = {}
    for name, some in zip(names, slices, strict=True):
        found[name] = sorted({*found.get(name, ()), *some})
    return found


def _scan(known: Slices, shown: Slices) -> Slices:
    able = [name for name in known if shown[name]]
    chosen = min(able, key=lambda name: _rank(name, 0)) if len(able) > 1 else None
    return {name: known[name] if name == chosen else [] for name in known}


def _slab(known: Slices, shown: Slices) -> Slices:
    ((scan, slices),) = known.items()
    painted = set(shown[scan])
    count = max(1, round(SHARE * len(slices)))
    windows = [
        slices[i : i + count]
        for i in range(len(slices) - count + 1)
        if painted & set(slices[i : i + count])
        and painted - set(slices[i : i + count])  # something painted must be left
    ]
    return {scan: min(windows, key=lambda w: _rank(scan, w[0]), default=[])}


def _without(slices: Sequence[int], held: Sequence[int]) -> list[int]:
    """Leave out held slices, and direct neighbours where enough others are left."""
    left = [s for s in slices if s not in set(held)]
    apart = [s for s in left if all(abs(s - h) > 1 for h in held)]
    return apart if len(apart) >= max(2, len(left) // 2) else left


def _rank(scan: str, place: int) -> str:
    return hashlib.sha256(f"{scan}|{place}".encode()).hexdigest()


def dice_of(counts: NDArray[np.float64]) -> float:
    """Mean Dice over classes from counts of shape (slice, 2, class), pooled."""
    pooled = counts.sum(0)
    shown = pooled[1] > 0
    return float((pooled[0][shown] / pooled[1][shown]).mean()) if shown.any() else 1.0


def interval(counts: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of `dice_of` over slices; nan for fewer than two."""
    n = len(counts)
    if n < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    draws = [dice_of(counts[rng.integers(n, size=n)]) for _ in range(1000)]
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)
