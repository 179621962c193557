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
    MissingSlices,
    MixedSeries,
    UnsupportedShape,
)
from ._dicom_frames import ORIENTATION, POSITION, SPACING, Frame

Points: TypeAlias = NDArray[np.float64]
Same: TypeAlias = Callable[[Frame, Frame], bool]

# Positions are rounded when they are written, some to 0.1 mm: a slice may lie off the
# even grid by 1 % of the spacing, or 0.01 mm where that is more.
OFF_GRID = 0.01
OFF_GRID_MM = 0.01
TILT_MM = 0.1  # sideways drift of a whole stack that rounding explains
DIRECTION = 1e-4  # difference of direction cosines: 0.02 mm over 200 mm
REGULARISE = "Export the series again, or interpolate (--regularise)."


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
    fault, more = _evenness(positions, normal, name)
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
        if heights[item] - last > OFF_GRID_MM / 10:
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
                f"{name} holds the volumes 0 to {volumes - 1}, not {index}."
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
    for word in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = float(frame.header.values.get(word) or 0)
        except (TypeError, ValueError):
            continue
        if 0 < value < np.inf:
            return value, []
    return None, ["One slice whose thickness is not known."]


def _evenness(
    positions: Points, normal: Points, name: str
) -> tuple[DicomSeriesError | None, list[str]]:
    """Compare positions with an even grid.

    The grid that is used goes through the first and the last slice. Whether the slices
    are even is told from the one that fits all best, so that a rounded end counts once.
    """
    count = len(positions)
    places = np.arange(count) - (count - 1) / 2
    step = places @ positions / (places @ places)
    off = positions - positions.mean(axis=0) - places[:, None] * step
    spacing = float(step @ normal)
    tolerance = max(OFF_GRID * spacing, OFF_GRID_MM)
    if np.abs(off @ normal).max() > tolerance:
        return _gap_fault(positions @ normal, name), []
    worst = float(np.sqrt((off**2).sum(axis=1)).max())
    sideways = step - spacing * normal
    drift = float(np.sqrt((sideways**2).sum())) * (count - 1)
    if worst > max(tolerance, TILT_MM):
        return DicomSeriesError(
            f"{name}: slices lie up to {worst:.2f} mm beside a straight line.",
            REGULARISE,
        ), []
    if drift > max(tolerance, TILT_MM):
        angle = np.degrees(np.arctan2(drift, spacing * (count - 1)))
        return DicomSeriesError(
            f"{name} was taken with a tilted gantry: {angle:.1f}°, {drift:.1f} mm from "
            "the first to the last slice.",
            "Straighten it (--regularise).",
        ), []
    if worst > OFF_GRID_MM:
        return None, [f"Positions of slices are rounded, by up to {worst:.2f} mm."]
    return None, []


def _gap_fault(heights: Points, name: str) -> DicomSeriesError:
    gaps = np.diff(heights)
    spacing = float(np.min(gaps))
    times = gaps / spacing
    if np.abs(times - times.round()).max() > 2 * OFF_GRID or times.max() < 1.5:
        return DicomSeriesError(
            f"The slices of {name} are {gaps.min():.3f} to {gaps.max():.3f} mm apart "
            f"(median {np.median(gaps):.3f}).",
            REGULARISE,
        )
    lost = [
        height + spacing * (extra + 1)
        for height, more in zip(heights, times.round().astype(int) - 1, strict=False)
        for extra in range(min(int(more), 1000))
    ]
    listed = ", ".join(f"{height:.1f}" for height in lost[:4])
    rest = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
    return MissingSlices(
        f"{name} lacks {len(lost)} of {len(heights) + len(lost)} slices, which are "
        f"{spacing:.2f} mm apart: at {listed} mm{rest}.",
        REGULARISE,
    )
