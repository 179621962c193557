"""From finished runs to the tables of a comparison."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _paired
from ._arms import Arm
from .types import TransferReport

MANY_P = "p values are not corrected for the number of comparisons."

Run = Mapping[str, Any]
Shown = NDArray[np.bool_]
"""Which test scans show the structure."""


def outcome(
    arms: Sequence[Arm],
    runs: Sequence[Run],
    basis: Mapping[str, Any],
    notes: Sequence[str],
    *,
    head: str,
    seed: int,
) -> TransferReport:
    """Put runs into tables.

    Parameters
    ----------
    arms : sequence of Arm
        That ran, in the order of the table.
    runs : sequence of mapping
        With "slices", "repeat", "arm" and what `_race.run_arm` found.
    basis : mapping
        What was compared.
    notes : sequence of str
        What is to be said already.
    head : str
        What was learned.
    seed : int
        Of the bootstrap.
    """
    said = list(notes)
    everything = np.array([run["dice"] for run in runs])  # (run, person)
    shown = ~np.isnan(everything).all(0)
    if not shown.all():
        said.append(f"{(~shown).sum()} test scans do not show it and do not count.")
    counts = list(dict.fromkeys(run["slices"] for run in runs))
    rows, comparisons = [], []
    for count in counts:
        of = {arm: [r for r in runs if _is(r, count, arm)] for arm in arms}
        of = {arm: some for arm, some in of.items() if some}
        rows += [_row(count, a, some, shown, seed) for a, some in of.items()]
        for ours, theirs in _against(list(of)):
            found = _versus(of[ours], of[theirs], shown, seed)
            names = {"slices": count, "arm": ours.name, "against": theirs.name}
            comparisons.append(names | found)
    if sum(row["p_value"] is not None for row in comparisons) > 1:
        said.append(MANY_P)
    return TransferReport(
        head=head,
        arms=tuple(rows),
        comparisons=tuple(comparisons),
        runs=tuple(runs),
        basis=basis,
        notes=tuple(said),
    )


def _is(run: Mapping[str, Any], count: int | None, arm: Arm) -> bool:
    return (run["slices"], run["arm"]) == (count, arm.name)


def _row(
    count: int | None,
    arm: Arm,
    runs: Sequence[Run],
    shown: Shown,
    seed: int,
) -> dict[str, Any]:
    scores = np.array([run["dice"] for run in runs])[:, shown]
    return {
        "slices": count,
        "arm": arm.name,
        "dice": _paired.spread(scores, seed=seed),
        "updates": float(np.mean([run["updates"] for run in runs])),
        "seconds": float(np.mean([run["seconds"] for run in runs])),
        "rates": [run["rate"] for run in runs],
    }


def _against(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Pair arms with scratch, and what is pretrained with ImageNet; augment alike."""
    return [
        (ours, theirs)
        for base in ("scratch", "imagenet")
        for ours in arms
        for theirs in arms
        if theirs.kind == base and theirs.depth is None
        if ours.augment == theirs.augment
        if ours.pretrained or (base == "scratch" and ours.kind == "imagenet")
    ]


def _versus(
    ours: Sequence[Run],
    theirs: Sequence[Run],
    shown: Shown,
    seed: int,
) -> dict[str, Any]:
    both = {run["repeat"] for run in ours} & {run["repeat"] for run in theirs}
    sides = [
        np.array([run["dice"] for run in side if run["repeat"] in both])[:, shown]
        for side in (ours, theirs)
    ]
    return _paired.versus(*sides, seed=seed)
