"""Clean a mask up: largest pieces, small pieces, holes. Sizes are in mm3."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ._pieces import boxes, pieces_of
from .errors import UnknownLabelId
from .types import PLANES, Progress, Segmentation, Steps

_ROUNDING = 1e-6  # voxels: 30 mm3 of voxels of 0.3 mm3 are 100, not 99.999


def clean(
    segmentation: Segmentation,
    *,
    largest: bool = False,
    smallest_mm3: float = 0.0,
    holes_mm3: float = 0.0,
    in_slices: bool = False,
    classes: Collection[int] = (),
    known_mm: bool | None = None,
) -> Steps[Segmentation]:
    """Drop stray pieces of a mask and fill its holes, class by class.

    Pieces go first, holes are filled afterwards, so that a speck of one class inside
    another leaves no hole. A voxel of one class never becomes that of another unless
    it was dropped as a stray piece. Cleaning twice is cleaning once.

    Parameters
    ----------
    segmentation : Segmentation
        The mask; it stays as it is.
    largest : bool
        Whether only the largest piece of each class is kept.
    smallest_mm3 : float
        Pieces smaller than this are dropped; 0: none.
    holes_mm3 : float
        Holes up to this size are filled; 0: none, infinity: all. A hole is
        background that no path of faces joins with the border of the scan; it gets
        the class that encloses most of its surface.
    in_slices : bool
        Whether holes are looked for in each slice of the mask's plane by itself.
    classes : collection of int
        Label ids to clean; default: all. The others stay as they are.
    known_mm : bool, optional
        Whether the voxel size is known; if it is not, sizes count voxels. Default:
        not for a mask of a picture (PNG, JPEG, TIFF).

    Yields
    ------
    Progress
        After each class.

    Returns
    -------
    Segmentation
        Without probabilities. Its ``made_by["cleaned"]`` says what was done: "unit"
        of all sizes ("mm3" or "voxels"), the options, and "classes": for each class
        its id, name, pieces, removed, holes, filled and what is left.

    Raises
    ------
    ValueError
        If a size is negative or no number.
    UnknownLabelId
        If the mask has no such class.

    Examples
    --------
    >>> mask = np.zeros((1, 1, 5), np.uint8)
    >>> mask[0, 0, [0, 1, 4]] = 1
    >>> from napari_hydraseg.core.types import finish
    >>> found = finish(clean(Segmentation(mask, np.eye(4)), smallest_mm3=2))
    >>> found.labels.ravel().tolist()
    [1, 1, 0, 0, 0]
    """
    for size in (smallest_mm3, holes_mm3):
        if not size >= 0:
            raise ValueError(f"a size must be 0 or more, not {size}")
    mm = _known(segmentation) if known_mm is None else known_mm
    voxel = math.prod(segmentation.spacing_mm) if mm else 1.0
    labels = segmentation.labels.copy()
    counts = _counts(segmentation, classes, voxel)
    yield Progress(0, len(counts) + 1, "cleaning up")
    least = math.ceil(smallest_mm3 / voxel - _ROUNDING)
    for done, (index, box) in enumerate(list(boxes(labels)), 1):
        if index in counts and (largest or least > 1):
            _drop(labels[box], counts[index], largest=largest, least=least)
            yield Progress(min(done, len(counts)), len(counts) + 1, "cleaning up")
    if holes_mm3 > 0:
        most = math.floor(min(holes_mm3 / voxel, labels.size) + _ROUNDING)
        flat = PLANES.index(segmentation.plane) if in_slices else None
        _fill(labels, counts, most, flat=flat, spacing_mm=segmentation.spacing_mm)
    left = {i: np.count_nonzero(labels[box] == i) for i, box in boxes(labels)}
    report = {
        "unit": "mm3" if mm else "voxels",
        "largest": largest,
        "smallest": float(smallest_mm3),
        "holes": float(holes_mm3),
        "in_slices": in_slices,
        "classes": [one.row(int(left.get(i, 0))) for i, one in counts.items()],
    }
    return replace(
        segmentation,
        labels=labels,
        probabilities=None,
        made_by={**segmentation.made_by, "cleaned": report},
    )


@dataclass
class _Count:
    """What happened to one class, in voxels; `voxel` is the size of one."""

    index: int
    name: str
    voxel: float
    pieces: int = 0
    removed: int = 0
    holes: int = 0
    filled: int = 0

    def row(self, left: int) -> dict[str, Any]:
        """Write one line of the report."""
        return {
            "id": self.index,
            "name": self.name,
            "pieces": self.pieces,
            "removed": self.removed * self.voxel,
            "holes": self.holes,
            "filled": self.filled * self.voxel,
            "left": left * self.voxel,
        }


def _known(segmentation: Segmentation) -> bool:
    return segmentation.grid is None or segmentation.grid.format != "image"


def _counts(
    segmentation: Segmentation, classes: Collection[int], voxel: float
) -> dict[int, _Count]:
    """Begin to count for each class that is to be cleaned."""
    there = [index for index, _ in boxes(segmentation.labels)]
    unknown = sorted(set(classes) - {*there, *segmentation.names})
    if unknown:
        raise UnknownLabelId(
            f"The mask has no label {unknown[0]}.",
            f"Choose from {', '.join(map(str, there[:20])) or 'none: it is empty'}.",
        )
    names = segmentation.names
    return {
        index: _Count(index, str(names.get(index, f"label {index}")), voxel)
        for index in there
        if not classes or index in classes
    }


def _drop(labels: NDArray[Any], count: _Count, *, largest: bool, least: int) -> None:
    """Turn stray pieces of a class into background, in place."""
    pieces, sizes = pieces_of(labels == count.index)
    stray = sizes < least
    if largest:
        stray |= np.arange(len(sizes)) != sizes.argmax()
    stray[0] = False
    if stray.any():
        labels[stray[pieces]] = 0
        count.pieces = int(np.count_nonzero(stray))
        count.removed = int(sizes[stray].sum())


def _fill(
    labels: NDArray[Any],
    counts: dict[int, _Count],
    most: int,
    *,
    flat: int | None,
    spacing_mm: tuple[float, float, float],
) -> None:
    """Fill holes of up to `most` voxels, in place."""
    found = ndimage.find_objects((labels > 0).view(np.uint8))
    if not found or found[0] is None:
        return
    axes = [a for a in range(3) if a != flat and labels.shape[a] > 1]
    region = labels[found[0]]
    holes, number = ndimage.label(region == 0, _faces(axes))
    sizes = np.bincount(holes.ravel(), minlength=number + 1)
    closed = sizes <= most
    closed[0] = False
    for axis in axes:  # outside the box all is background: what touches it is open
        ends = holes.take([0, -1], axis)
        closed[np.unique(ends)] = False
    owner = np.zeros(number + 1, labels.dtype)
    if closed.any():
        for hole, index in _enclosed(holes, closed, region, axes, spacing_mm):
            if index in counts:
                owner[hole] = index
                counts[index].holes += 1
                counts[index].filled += int(sizes[hole])
        region[:] = np.where(holes > 0, owner[holes], region)


def _faces(axes: Sequence[int]) -> NDArray[np.bool_]:
    """Say which neighbours belong together: those along the axes."""
    joined = np.zeros((3, 3, 3), bool)
    joined[1, 1, 1] = True
    for axis in axes:
        np.moveaxis(joined, axis, 0)[:, 1, 1] = True
    return joined


def _enclosed(
    holes: NDArray[Any],
    closed: NDArray[np.bool_],
    labels: NDArray[Any],
    axes: Sequence[int],
    spacing_mm: tuple[float, float, float],
) -> list[tuple[int, int]]:
    """Find the class that has most of the surface of each closed hole."""
    pairs, areas = [np.empty((0, 2), np.int64)], [np.empty(0)]
    for axis in axes:
        area = math.prod(spacing_mm) / spacing_mm[axis]
        one, other = np.moveaxis(holes, axis, 0), np.moveaxis(labels, axis, 0)
        for here, there in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
            touch = closed[one[here]] & (other[there] > 0)
            pair = np.stack([one[here][touch], other[there][touch]], 1)
            pairs.append(pair.astype(np.int64))
            areas.append(np.full(len(pair), area))
    keys, inverse = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    surface = np.bincount(inverse.ravel(), np.concatenate(areas))
    order = np.lexsort((keys[:, 1], -surface, keys[:, 0]))  # of equals the lowest id
    _, first = np.unique(keys[order, 0], return_index=True)
    return [(int(hole), int(index)) for hole, index in keys[order][first]]
