"""Frames to a stack: sorted along the normal, even, or refused with numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    DicomSeriesError,
    GeometryError,
    MixedSeries,
    UnsupportedShape,
)
from ._dicom_frames import ORIENTATION, POSITION, SPACING, Frame
from ._dicom_gaps import Points, evenness

Same: TypeAlias = Callable[[Frame, Frame], bool]

DIRECTION = 1e-4  # difference of direction cosines: 0.02 mm over 200 mm
SAME_PLACE_MM = 1e-3  # along the normal; slices are never that thin


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in the order of the normal.

    Attributes
    ----------
    frames : tuple of Frame
        Along the normal, which is rows times columns.
    affine_lps : ndarray, shape (4, 4)
        Index (column, row, slice) to mm in LPS, if the stack is even.
    positions : ndarray, shape (slice, 3)
        As they were given, mm in LPS.
    fault : DicomSeriesError or None
        Why the stack is not even.
    thick : bool
        Whether the distance of slices is known.
    notes : tuple of str
        What was unusual.
    """

    frames: tuple[Frame, ...]
    affine_lps: NDArray[np.float64]
    positions: Points
    fault: DicomSeriesError | None = None
    thick: bool = True
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows, slices."""
        header = self.frames[0].header
        return header.number("Columns"), header.number("Rows"), len(self.frames)


def stack(
    frames: Sequence[Frame], name: str, *, same: Same, index: int | None = None
) -> Stack:
    """Sort frames into a stack.

    Parameters
    ----------
    frames : sequence of Frame
        All with position, orientation and spacing; see `check_geometry`.
    name : str
        Name for messages.
    same : callable
        Whether two frames have equal voxels.
    index : int, optional
        Which frame to take where all positions have several.

    Raises
    ------
    MixedSeries
        If sizes, directions or pixel spacings differ.
    UnsupportedShape
        If there are several volumes and none was chosen.
    DicomSeriesError
        If different slices lie at the same place.
    """
    check_alike(frames, name)
    axes, spacing = frames[0].orientation, frames[0].spacing_mm
    if axes is None or spacing is None:  # `check_geometry` has seen to it
        raise GeometryError(f"{name} lacks {ORIENTATION}.")
    normal = np.cross(axes[0], axes[1])
    places = _places(frames, normal)
    chosen, notes = _one_each(places, name, same=same, index=index)
    positions = np.array([frame.position for frame in chosen])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = axes[0] * spacing[1], axes[1] * spacing[0]
    affine[:3, 3] = positions[0]
    if len(chosen) == 1:
        thickness, more = _thickness(chosen[0])
        affine[:3, 2] = normal * (thickness or 1.0)
        notes = [*notes, *more]
        return Stack(
            chosen, affine, positions, thick=thickness is not None, notes=tuple(notes)
        )
    # at a right angle to the slices: what rounding adds sideways is not real
    affine[:3, 2] = normal * ((positions[-1] - positions[0]) @ normal)
    affine[:3, 2] /= len(chosen) - 1
    fault, more = evenness(positions, normal, name)
    return Stack(chosen, affine, positions, fault, notes=(*notes, *more))


def check_geometry(frames: Sequence[Frame], name: str) -> bool:
    """Whether the frames say where they lie; pictures do not, and need not.

    Raises
    ------
    GeometryError
        If some do and some do not, or one that must does not: names the element.
    """
    lacking = {
        POSITION: sum(frame.position is None for frame in frames),
        ORIENTATION: sum(frame.orientation is None for frame in frames),
        SPACING: sum(frame.spacing_mm is None for frame in frames),
    }
    if not any(lacking.values()):
        return True
    header = frames[0].header
    # a single frame says nothing of the others in a file of several
    many = header.frames > 1 and "PerFrameFunctionalGroupsSequence" not in (
        header.values
    )
    placeless = lacking[POSITION] == lacking[ORIENTATION] == len(frames)
    if placeless and (many or header.text("Modality") not in ("MR", "CT", "PT")):
        return False
    tag, count = next(item for item in lacking.items() if item[1])
    raise GeometryError(
        f"{count} of {len(frames)} slices of {name} lack {tag}.",
        "Export the series from the scanner's archive again.",
    )


def check_alike(frames: Sequence[Frame], name: str) -> None:
    """Refuse frames that cannot be slices of one volume.

    Raises
    ------
    MixedSeries
        If sizes, kinds of pixels, directions or spacings differ.
    """
    _one_of(
        name,
        "sizes",
        [f"{f.header.number('Columns')} x {f.header.number('Rows')}" for f in frames],
    )
    _one_of(
        name,
        "kinds of pixels",
        [f.header.text("PhotometricInterpretation") for f in frames],
    )
    for word, of, tolerance in (
        ("directions", [f.orientation for f in frames], DIRECTION),
        ("pixel spacings", [f.spacing_mm for f in frames], DIRECTION),
    ):
        values = np.array([value.ravel() for value in of if value is not None])
        if len(values) and np.ptp(values, axis=0).max() > tolerance:
            kinds = len(np.unique(values.round(3), axis=0))
            raise MixedSeries(
                f"{name} holds {len(values)} slices of {kinds} different {word}.",
                "Put those of one kind into a folder of their own.",
            )


def _one_of(name: str, word: str, values: list[str]) -> None:
    kinds = sorted(set(values))
    if len(kinds) > 1:
        listed = ", ".join(f"{values.count(kind)} of {kind}" for kind in kinds[:3])
        raise MixedSeries(
            f"{name} holds slices of {len(kinds)} {word}: {listed}.",
            "Put those of one kind into a folder of their own.",
        )


def _places(frames: Sequence[Frame], normal: Points) -> list[list[Frame]]:
    """Gather frames at the same place along the normal, each place in its own order."""
    heights = np.array([frame.position @ normal for frame in frames])  # type: ignore[operator]  # checked before
    order = np.argsort(heights, kind="stable")
    places: list[list[Frame]] = []
    last = -np.inf
    for item in order:
        if heights[item] - last > SAME_PLACE_MM:
            places.append([])
            last = heights[item]
        places[-1].append(frames[item])
    return [sorted(place, key=lambda frame: frame.key) for place in places]


def _one_each(
    places: list[list[Frame]], name: str, *, same: Same, index: int | None
) -> tuple[tuple[Frame, ...], list[str]]:
    """Take one frame at each place."""
    counts = {len(place) for place in places}
    if counts == {1}:
        return tuple(place[0] for place in places), []
    volumes = counts.pop() if len(counts) == 1 else 0
    if volumes and index is not None:
        if not 0 <= index < volumes:
            raise UnsupportedShape(
                f"{name} holds the volumes 0 to {volumes - 1}, not {index}.",
                "Choose one of them (index).",
            )
        note = f"Volume {index} of 0 to {volumes - 1} was taken."
        return tuple(place[index] for place in places), [note]
    double = [place for place in places if not all(same(place[0], f) for f in place)]
    if not double:
        dropped = sum(len(place) - 1 for place in places)
        note = f"{dropped} slices that were there twice were left out."
        return tuple(place[0] for place in places), [note]
    if volumes:
        raise UnsupportedShape(
            f"{name} holds {volumes} volumes of {len(places)} slices.",
            "Choose one of them (index).",
        )
    raise DicomSeriesError(
        f"{name}: {len(double)} of {len(places)} positions hold different slices; "
        f"one of them is {_point(double[0][0].position)} mm.",
        "Put the slices of one volume into a folder of their own.",
    )


def _point(position: Points | None) -> str:
    return "?" if position is None else ", ".join(f"{x:.1f}" for x in position)


def _thickness(frame: Frame) -> tuple[float | None, list[str]]:
    """Take what the header says of one slice, where no second tells the distance."""
    # the distance of slices is written as the gap between them by some scanners
    for word in ("SliceThickness", "SpacingBetweenSlices"):
        try:
            value = float(frame.header.values.get(word) or 0)
        except (TypeError, ValueError):
            continue
        if 0 < value < np.inf:
            return value, []
    return None, ["One slice whose thickness is not known."]
