"""Drawing a few annotated slices across the organ, the same for all arms."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _classes, _holdout, _saved, grid, training
from .checkpoint import digest
from .errors import AnnotationError
from .types import Segmentation, Volume

Pair: TypeAlias = tuple[Volume, Segmentation]
Place: TypeAlias = tuple[int, int]
"""Case and slice of the acquisition plane."""

INNER = 1 / 3  # of the drawn slices, by which a learning rate is chosen


def painted(pair: Pair) -> list[int]:
    """List the slices that are vouched for and show something."""
    volume, segmentation = pair
    shown = grid.to_slices(segmentation.labels, volume.plane) > 0
    return _indices(shown & training.vouched(segmentation, volume))


def annotated(pair: Pair) -> list[int]:
    """List the slices on which something is vouched for."""
    return _indices(training.vouched(pair[1], pair[0]))


def told(pair: Pair) -> list[Any]:
    """Say by what an annotated scan is known again: voxels, grid, what is painted."""
    volume, segmentation = pair
    vouched = training.vouched(segmentation, volume)
    shown = digest({"labels": segmentation.labels, "vouched": vouched})
    return [_holdout.identity(volume), _saved.about(volume), shown]


def draw(cases: Sequence[Pair], count: int | None, *, seed: int) -> list[Place]:
    """Draw slices of as many scans as possible, from end to end of what is painted.

    Parameters
    ----------
    cases : sequence of (Volume, Segmentation)
        Annotated scans.
    count : int or None
        Painted slices to draw; None: every annotated slice.
    seed : int
        Of the draw.

    Returns
    -------
    list of (int, int)
        Case and slice, each once.

    Raises
    ------
    AnnotationError
        If fewer are painted.
    """
    if count is None:
        return [(c, i) for c, pair in enumerate(cases) for i in annotated(pair)]
    shown = [painted(pair) for pair in cases]
    if count > (there := sum(map(len, shown))):
        raise AnnotationError(
            f"{count} slices were asked for; {there} are painted.",
            "Ask for fewer, or give more scans.",
        )
    rng = np.random.default_rng(seed)
    queue = [int(i) for i in rng.permutation(len(cases)) if shown[i]]
    free = {case: set(shown[case]) for case in queue}
    found: list[Place] = []
    while len(found) < count:
        case = queue.pop(0)
        # one end of the organ in the first scan, the other end in the last
        along = (len(found) + rng.random()) / count
        target = shown[case][int(along * len(shown[case]))]
        index = min(free[case], key=lambda i: (abs(i - target), i))
        free[case].remove(index)
        found.append((case, index))
        if free[case]:
            queue.append(case)
    return found


def inner_split(
    places: Sequence[Place], *, seed: int
) -> tuple[list[Place], list[Place]] | None:
    """Part the drawn slices into those to learn from and those to choose by.

    Whole scans are kept aside where there are several, else neighbouring slices.

    Returns
    -------
    learn, judge : list of (int, int)
        Or None if there is one slice only.
    """
    if len(places) < 2:
        return None
    rng = np.random.default_rng(seed)
    scans = sorted({case for case, _ in places})
    if len(scans) > 1:
        aside = rng.permutation(scans)[: max(1, round(INNER * len(scans)))]
        judge = [place for place in places if place[0] in aside]
    else:
        size = max(1, round(INNER * len(places)))
        first = int(rng.integers(len(places) - size + 1))
        judge = sorted(places)[first : first + size]
    return [place for place in places if place not in judge], judge


def pairs_of(cases: Sequence[Pair], places: Sequence[Place]) -> list[Pair]:
    """Vouch for these slices only; scans of which none is drawn are left out."""
    wanted: dict[int, list[int]] = {}
    for case, index in places:
        wanted.setdefault(case, []).append(index)
    found = []
    for case in sorted(wanted):
        volume, segmentation = cases[case]
        marks = np.zeros(volume.shape[volume.plane_axis], bool)
        marks[wanted[case]] = True
        found.append((volume, _narrowed(segmentation, volume, marks)))
    return found


def _narrowed(
    segmentation: Segmentation, volume: Volume, marks: NDArray[np.bool_]
) -> Segmentation:
    """Keep the marked slices; what lies on others must not be known to any arm."""
    voxels = training.vouched(segmentation, volume) & marks[:, None, None]
    labels = np.where(voxels, grid.to_slices(segmentation.labels, volume.plane), 0)
    before, across = segmentation.annotated, segmentation.plane != volume.plane
    scribbled = before is not None and (before.ndim == 3 or across)
    return replace(
        segmentation,
        labels=grid.from_slices(labels, volume.plane),
        annotated=grid.from_slices(voxels, volume.plane) if scribbled else marks,
        plane=volume.plane,
    )


def numbered(
    train: Sequence[Pair], test: Sequence[Pair], class_names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Number all labels as classes of a new head.

    Parameters
    ----------
    train, test : sequence of (Volume, Segmentation)
        Labels agree by name, else by id.
    class_names : sequence of str
        As in `_classes.classes_of`.

    Returns
    -------
    names, train, test : tuple
        Names with background first; labels are class indices.

    Raises
    ------
    AnnotationError
        If a label is no class, or it is open which.
    """
    names, classes = _classes.classes_of([s for _, s in train], None, class_names)
    numbers = _classes.agreed(classes)
    theirs = [
        _classes.match(
            _classes.painted(s), {} if class_names else s.names, names, numbers
        )
        for _, s in test
    ]
    return names, _renumbered(train, names, classes), _renumbered(test, names, theirs)


def _renumbered(
    pairs: Sequence[Pair],
    names: tuple[str, ...],
    classes: Sequence[_classes.Classes],
) -> tuple[Pair, ...]:
    found = []
    for (volume, segmentation), own in zip(pairs, classes, strict=True):
        table = np.zeros(max(own, default=0) + 1, np.uint8)
        table[list(own)] = list(own.values())
        labels = table[segmentation.labels]
        known = dict(enumerate(names[1:], 1))
        found.append((volume, replace(segmentation, labels=labels, names=known)))
    return tuple(found)


def _indices(voxels: NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(voxels.any((1, 2)))]
