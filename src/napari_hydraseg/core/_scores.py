"""How well a head does on the scans of a split, beside trivial answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import grid, inference
from ._datasets import Dataset
from .metrics import evaluate
from .types import (
    Checkpoint,
    ModelSpec,
    Progress,
    Segmentation,
    Steps,
    Volume,
    finish,
)

WORST = 5  # cases that are named
RESAMPLES = 2000
GRID = (24, 64, 64)  # slices, rows, columns that mean shapes are kept on


@dataclass(frozen=True, eq=False)
class Scored:
    """One class of one scan.

    Attributes
    ----------
    subject, case, name : str
        Who, which file, which class.
    dice : float
        NaN where reference and answer are both empty.
    hd95_mm : float
        NaN where a mask is empty or the voxel size is not real.
    empty : bool
        Whether the reference is.
    background, mean_shape : float
        Dice of the trivial answers.
    """

    subject: str
    case: str
    name: str
    dice: float
    hd95_mm: float
    empty: bool
    background: float
    mean_shape: float


def score(
    checkpoint: Checkpoint, sets: Sequence[Dataset], split: str
) -> Steps[dict[str, list[Scored]]]:
    """Segment the scans of a split on their own grids, each once with all its heads.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    sets : sequence of Dataset
        Sets that teach its heads.
    split : {"train", "val", "test"}
        Which scans.

    Returns
    -------
    dict of str to list of Scored
        Head -> one entry for each scan and class.
    """
    spec = checkpoint.spec
    found: dict[str, list[Scored]] = {head: [] for head in spec.heads}
    for number, data in enumerate(sets):
        shapes = mean_shapes(data, spec)
        for subject, volume, labels in data.scans(split):
            yield Progress(number, len(sets), f"measuring {volume.source}")
            steps = inference.segment(volume, checkpoint, heads=tuple(data.heads))
            for head, answer in finish(steps).items():
                names, ids = spec.heads[head], data.heads[head]
                truth = as_classes(labels, ids, names)
                rows = {row["name"]: row for row in evaluate(truth, answer)}
                for name in dict.fromkeys(ids.values()):
                    case = (subject, volume.source, name)
                    mask = truth.labels == names.index(name)
                    shape = shapes[head, name]
                    row = rows.get(name, {})
                    found[head].append(_scored(case, row, mask, shape, volume, data))
    return found


def table(found: Sequence[Scored], *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Summarise scores by class.

    Parameters
    ----------
    found : sequence of Scored
        Of one head.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict of str to dict
        Class -> ``mean``, ``sd`` and ``n`` of Dice over scans; ``low`` and ``high``, a
        95 % bootstrap interval of the mean over subjects; ``hd95_mm`` (median) and its
        ``n_mm``; ``n_empty`` scans without the organ and on how many of them
        something was found (``false_alarms``); ``background`` and ``mean_shape``, the
        mean Dice of the trivial answers; ``worst``, the scans with the lowest Dice.
    """
    names = dict.fromkeys(one.name for one in found)
    return {
        name: _summary([one for one in found if one.name == name], seed)
        for name in names
    }


def as_classes(
    labels: Segmentation, ids: Mapping[int, str], names: tuple[str, ...]
) -> Segmentation:
    """Renumber a set's labels as a head's classes."""
    renumbered = np.zeros(int(labels.labels.max(initial=0)) + 1, np.uint8)
    for label, name in ids.items():
        if label < len(renumbered):
            renumbered[label] = names.index(name)
    return replace(
        labels, labels=renumbered[labels.labels], names=dict(enumerate(names[1:], 1))
    )


def mean_shapes(
    data: Dataset, spec: ModelSpec
) -> dict[tuple[str, str], NDArray[np.float32]]:
    """Average the masks of the training scans, stretched onto one grid.

    Returns
    -------
    dict of (str, str) to ndarray of float32, shape GRID
        Head and class -> share of the scans that show it there.
    """
    sums = {
        (head, name): np.zeros(GRID, np.float32)
        for head, ids in data.heads.items()
        for name in ids.values()
    }
    count = 0
    for _, volume, labels in data.scans("train"):
        count += 1
        for head, ids in data.heads.items():
            names = spec.heads[head]
            slices = as_classes(labels, ids, names).labels
            small = grid.scale_labels(grid.to_slices(slices, volume.plane), GRID)
            for name in dict.fromkeys(ids.values()):
                sums[head, name] += small == names.index(name)
    return {key: total / np.float32(max(1, count)) for key, total in sums.items()}


def _scored(
    case: tuple[str, str, str],
    row: Mapping[str, Any],
    mask: NDArray[np.bool_],
    shape: NDArray[np.float32],
    volume: Volume,
    data: Dataset,
) -> Scored:
    slices = grid.to_slices(mask, volume.plane)
    likely = grid.scale_labels(shape, slices.shape) > 0.5
    empty = not mask.any()
    real = not data.nominal and "spacing" in volume.known
    return Scored(
        *case,
        dice=float(row.get("dice", np.nan)),
        hd95_mm=float(row.get("hd95_mm", np.nan)) if real else float("nan"),
        empty=empty,
        background=float("nan") if empty else 0.0,
        mean_shape=_dice(slices, likely),
    )


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else float("nan")


def _summary(found: list[Scored], seed: int) -> dict[str, Any]:
    known = [one for one in found if np.isfinite(one.dice)]
    dice = np.array([one.dice for one in known])
    low, high = _interval(known, seed)
    far = np.array([one.hd95_mm for one in found])
    far = far[np.isfinite(far)]
    empty = [one for one in found if one.empty]
    worst = sorted(known, key=lambda one: one.dice)[:WORST]
    return {
        "mean": _rounded(dice.mean()) if len(dice) else None,
        "sd": _rounded(dice.std(ddof=1)) if len(dice) > 1 else None,
        "n": len(dice),
        "subjects": len({one.subject for one in known}),
        "low": low,
        "high": high,
        "hd95_mm": _rounded(np.median(far)) if len(far) else None,
        "n_mm": len(far),
        "n_empty": len(empty),
        "false_alarms": sum(bool(np.isfinite(one.dice)) for one in empty),
        "background": _mean(one.background for one in found),
        "mean_shape": _mean(one.mean_shape for one in found),
        "worst": [{"case": one.case, "dice": _rounded(one.dice)} for one in worst],
    }


def _interval(known: list[Scored], seed: int) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of the mean over subjects, scans of one together."""
    groups: dict[str, list[float]] = {}
    for one in known:
        groups.setdefault(one.subject, []).append(one.dice)
    if len(groups) < 2:
        return None, None
    means = np.array([np.mean(values) for values in groups.values()])
    drawn = np.random.default_rng(seed).integers(
        len(means), size=(RESAMPLES, len(means))
    )
    low, high = np.percentile(means[drawn].mean(1), (2.5, 97.5))
    return _rounded(low), _rounded(high)


def _mean(values: Iterator[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return _rounded(np.mean(finite)) if finite else None


def _rounded(value: Any) -> float:
    return round(float(value), 4)
