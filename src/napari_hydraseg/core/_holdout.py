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

Shown: TypeAlias = Mapping[int, Sequence[int]]
"""Class -> slices that show it."""


@dataclass(frozen=True)
class Split:
    """Slices of each case to learn from, and to judge by.

    Attributes
    ----------
    train, held : list of list of int
        Slice indices, one list for each case.
    kind : {"scan", "slab", "none"}
        Whole scans, or slices of scans that are learned from, or nothing was held out.
    lost : tuple of int
        Classes of which no slice is left to learn from.
    """

    train: list[list[int]]
    held: list[list[int]]
    kind: Literal["scan", "slab", "none"]
    lost: tuple[int, ...] = ()


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
    painted: Sequence[Shown],
    *,
    ledger: Mapping[str, Sequence[int]],
    wanted: bool,
) -> Split:
    """Hold out one scan of several, or a slab of neighbouring slices of a lone one.

    The choice hangs on a hash of the scans alone, as long as no class is lost by it.
    Slices that an earlier round held out (`ledger`) are held out again, and never
    learned from. What is given of one scan in several cases is one scan.

    Parameters
    ----------
    scans : sequence of sequence of str
        `identities` of each.
    annotated : sequence of sequence of int
        Slices that are vouched for.
    painted : sequence of mapping of int to sequence of int
        Class -> those of them that show it.
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
    classes = sorted({cls for part in painted for cls in part})
    shown = {
        cls: _together(names, [part.get(cls, ()) for part in painted])
        for cls in classes
    }
    before: dict[str, set[int]] = {name: set() for name in known}
    for name, some in zip(names, scans, strict=True):
        before[name].update(*(ledger.get(one, ()) for one in some))
    held = {name: sorted(before[name] & set(known[name])) for name in known}
    if not any(held.values()) and wanted:
        every = [[i for where in part.values() for i in where] for part in painted]
        ways = (_scans if len(known) > 1 else _slabs)(known, _together(names, every))
        ways.sort(key=lambda way: len(_lost(shown, _left(known, way))))
        held = ways[0] if ways else held
    left = _left(known, held)
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
    return Split(train, out, kind, lost=_lost(shown, left))


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


def _scans(known: Slices, painted: Slices) -> list[Slices]:
    """List what may be held out of several scans, by chance."""
    able = sorted((n for n in known if painted[n]), key=lambda n: _rank(n, 0))
    nothing: Slices = {name: [] for name in known}
    return [nothing | {name: known[name]} for name in able if len(able) > 1]


def _slabs(known: Slices, painted: Slices) -> list[Slices]:
    """List what may be held out of a lone scan, by chance."""
    ((scan, slices),) = known.items()
    shown, count = set(painted[scan]), max(1, round(SHARE * len(slices)))
    windows = [
        slices[i : i + count]
        for i in range(len(slices) - count + 1)
        if shown & set(slices[i : i + count])
        and shown - set(slices[i : i + count])  # something painted must be left
    ]
    return [{scan: w} for w in sorted(windows, key=lambda w: _rank(scan, w[0]))]


def _left(known: Slices, held: Slices) -> Slices:
    """Leave out held slices, and direct neighbours where enough others are left."""
    found: Slices = {}
    for name, slices in known.items():
        out = set(held[name])
        left = [s for s in slices if s not in out]
        apart = [s for s in left if not {s - 1, s + 1} & out]
        found[name] = apart if len(apart) >= max(2, len(left) // 2) else left
    return found


def _lost(shown: Mapping[int, Slices], left: Slices) -> tuple[int, ...]:
    """Classes that none of the slices shows."""
    return tuple(
        cls
        for cls, where in shown.items()
        if all(set(where[name]).isdisjoint(left[name]) for name in left)
    )


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
