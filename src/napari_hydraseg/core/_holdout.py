"""What is kept aside to judge a fine-tuned model, and how sure the judgement is."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .types import Volume

SHARE = 0.2  # of the annotated slices of a lone scan, at least one
Slices = list[list[int]]


@dataclass(frozen=True)
class Split:
    """Slices of each case to learn from, and to judge by.

    Attributes
    ----------
    train, held : list of list of int
        Slice indices, one list for each case.
    kind : {"scan", "slab", "none"}
        Whole scans, neighbouring slices of one scan, or nothing was held out.
    """

    train: Slices
    held: Slices
    kind: Literal["scan", "slab", "none"]


def identity(volume: Volume) -> str:
    """Name a scan by a hash of its voxels, so that a later round knows it again."""
    sha = hashlib.sha256(str(volume.data.shape).encode())
    sha.update(np.ascontiguousarray(volume.data).tobytes())
    return sha.hexdigest()[:32]


def split(
    scans: Sequence[str],
    annotated: Sequence[Sequence[int]],
    painted: Sequence[Sequence[int]],
    *,
    ledger: Mapping[str, Sequence[int]],
    wanted: bool,
) -> Split:
    """Hold out one scan of several, or a slab of neighbouring slices of a lone one.

    The choice hangs on a hash of the scans alone. Slices that an earlier round held
    out (`ledger`) are held out again, and never learned from.

    Parameters
    ----------
    scans : sequence of str
        `identity` of each.
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
    held: Slices = [
        sorted(set(ledger.get(scan, ())) & set(slices))
        for scan, slices in zip(scans, annotated, strict=True)
    ]
    kind: Literal["scan", "slab", "none"] = "slab" if len(scans) == 1 else "scan"
    if not any(held) and wanted:
        held = (
            _scan(scans, annotated, painted)
            if len(scans) > 1
            else [_slab(scans[0], annotated[0], painted[0])]
        )
    train = [
        _without(slices, out, gap=kind == "slab")
        for slices, out in zip(annotated, held, strict=True)
    ]
    if not any(held):
        return Split([list(s) for s in annotated], held, "none")
    return Split(train, held, kind)


def _scan(
    scans: Sequence[str],
    annotated: Sequence[Sequence[int]],
    painted: Sequence[Sequence[int]],
) -> Slices:
    able = [i for i in range(len(scans)) if len(painted[i])]
    if len(able) < 2:
        return [[] for _ in scans]
    chosen = min(able, key=lambda i: _rank(scans[i], 0))
    return [list(s) if i == chosen else [] for i, s in enumerate(annotated)]


def _slab(scan: str, annotated: Sequence[int], painted: Sequence[int]) -> list[int]:
    slices, shown = sorted(annotated), set(painted)
    count = max(1, round(SHARE * len(slices)))
    windows = [
        slices[i : i + count]
        for i in range(len(slices) - count + 1)
        if shown & set(slices[i : i + count])
        and shown - set(slices[i : i + count])  # something painted must be left
    ]
    return min(windows, key=lambda w: _rank(scan, w[0]), default=[])


def _without(slices: Sequence[int], held: Sequence[int], *, gap: bool) -> list[int]:
    """Leave out held slices, and direct neighbours where enough others are left."""
    left = [s for s in slices if s not in set(held)]
    apart = [s for s in left if all(abs(s - h) > 1 for h in held)]
    return apart if gap and len(apart) >= max(2, len(left) // 2) else left


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
