"""Letters at the edges of the canvas that say which side of the patient is where.

They follow the order of the axes and the direction in which the camera draws them, and
are gone wherever they could lie: in 3-D, for a picture, for a scan whose file does not
state its orientation, and for a layer that was turned by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from napari_hydraseg.core.types import Segmentation, Volume

from . import view

Sides: TypeAlias = tuple[str, str]
"""Letters at low and at high index of an axis."""

EDGES = ("left", "right", "top", "bottom")
_PLACES = {
    "left": "middle_left",
    "right": "middle_right",
    "top": "top_center",
    "bottom": "bottom_center",
}
_TOWARDS = ("SI", "PA", "LR")  # letters for + and - along the axes of our frame
# an axis tilted by less than 15 degrees is called by one letter, as people do; beyond,
# by two or three, nearest first (DICOM PS3.3, C.7.6.1.1.1)
_TILT = float(np.sin(np.deg2rad(15)))
_COLOUR, _BEHIND = "#ffd54f", "black"  # readable on any scan, in any theme
_UNKNOWN = "sides not known: the file does not state them"


def sides(affine: NDArray[np.float64]) -> tuple[Sides, Sides, Sides]:
    """Name the sides of the patient at both ends of each voxel axis.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Index (z, y, x) to mm in (S, P, L).

    Returns
    -------
    tuple of three (str, str)
        For z, y and x: letters at low and at high index, such as ("I", "S"), or
        ("IA", "SP") where the axis is oblique.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    z, y, x = ((_letters(-d), _letters(d)) for d in directions.T)
    return z, y, x


def _letters(direction: NDArray[np.float64]) -> str:
    nearest = np.argsort(-np.abs(direction), kind="stable")
    parts = [
        _TOWARDS[axis][int(direction[axis] < 0)]
        for axis in nearest
        if abs(direction[axis]) >= _TILT
    ]
    return "".join(parts)


class Letters:
    """Keeps the letters on the canvas of a viewer right, as long as the viewer lives.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        # napari forgets methods with their object and keeps functions: these hold this
        # object, so that no closed form leaves letters behind that nobody corrects
        viewer.dims.events.order.connect(lambda _=None: self._turn())
        viewer.dims.events.ndisplay.connect(lambda _=None: self._turn())
        view.camera(viewer).events.orientation.connect(lambda _=None: self.update())
        viewer.layers.events.inserted.connect(lambda event: self._follow(event.value))
        viewer.layers.events.removed.connect(lambda _=None: self.update())
        for layer in viewer.layers:
            self._follow(layer)

    def update(self, event: Any = None) -> None:
        """Write what is true now."""
        found, note = self._now()
        if hasattr(self._viewer, "canvas"):
            self._write_letters(found)
            self._write_words(note)
        else:  # before napari 0.9 a canvas holds one text
            self._write_words(note or _in_words(found))

    def _follow(self, layer: Any) -> None:
        for change in ("visible", "affine", "scale", "rotate", "shear"):
            getattr(layer.events, change).connect(self.update)
        self.update()

    def _turn(self) -> None:
        if self._nouns() and self._viewer.dims.ndisplay == 2:
            view.head_up(self._viewer)
        self.update()

    def _nouns(self) -> list[tuple[Any, Volume | Segmentation]]:
        """List the layers that are shown and have a scan or labels of ours."""
        found: list[tuple[Any, Volume | Segmentation]] = []
        for layer in self._viewer.layers:
            ours = layer.metadata.get("hydraseg", {})
            noun = ours.get("volume") or ours.get("segmentation")
            if noun is not None and layer.visible and layer.ndim == 3:
                found.append((layer, noun))
        # labels lie on a scan; alone, they say where the patient's sides are
        scans = [pair for pair in found if isinstance(pair[1], Volume)]
        return scans or found

    def _now(self) -> tuple[dict[str, str], str]:
        """Letters by edge (none where they are not known), and a note."""
        shown, dims = self._nouns(), self._viewer.dims
        axes = [axis - (dims.ndim - 3) for axis in dims.order[-2:]]
        if not shown or dims.ndisplay != 2 or min(axes) < 0:
            return {}, ""
        if any(not _known(noun) for _, noun in shown):
            return {}, _UNKNOWN
        if any(_turned(layer) for layer, _ in shown):
            return {}, "sides not known: a layer was turned"
        (top, bottom), (left, right) = (
            _common([sides(noun.affine)[axis] for _, noun in shown]) for axis in axes
        )
        vertical, horizontal = (str(way) for way in _ways(self._viewer))
        if vertical == "up":
            top, bottom = bottom, top
        if horizontal == "left":
            left, right = right, left
        return dict(zip(EDGES, (left, right, top, bottom), strict=True)), ""

    def _write_letters(self, letters: dict[str, str]) -> None:
        from napari.components.overlays import TextOverlay

        overlays = self._viewer.canvas.overlays
        for edge in EDGES:
            key = f"hydraseg_{edge}"
            if key not in overlays:
                if not letters:
                    continue
                overlays[key] = TextOverlay(
                    position=_PLACES[edge],
                    font_size=16,
                    color=_COLOUR,
                    box_color=_BEHIND,
                )
            overlays[key].text = letters.get(edge, "")
            overlays[key].visible = bool(letters)

    def _write_words(self, words: str) -> None:
        overlay = view.text_overlay(self._viewer)
        overlay.text = words
        overlay.visible = bool(words)
        overlay.position = "top_left"


def _known(noun: Volume | Segmentation) -> bool:
    if isinstance(noun, Volume):
        return "orientation" in noun.known
    grid = noun.grid
    if grid is None or grid.format == "image":
        return False
    codes = [grid.header.get(f"{form}form_code", 1) for form in "qs"]
    return any(codes)


def _turned(layer: Any) -> bool:
    """Whether a layer is drawn otherwise than along its axes, in their direction."""
    start = np.asarray(layer.data_to_world((0, 0, 0)))
    steps = [np.asarray(layer.data_to_world(at)) - start for at in np.eye(3)]
    matrix = np.stack(steps)
    straight = np.diag(matrix.diagonal())
    return bool((matrix.diagonal() <= 0).any()) or not np.allclose(matrix, straight)


def _common(found: Sequence[Sides]) -> Sides:
    """Join the names that several layers give to an axis: what they agree on."""
    if len(set(found)) == 1:
        return found[0]
    low, high = found[0]
    return low[0], high[0]  # our voxel order makes the nearest side the same for all


def _ways(viewer: Any) -> tuple[str, str]:
    vertical, horizontal = view.camera(viewer).orientation2d
    return vertical, horizontal


def _in_words(letters: dict[str, str]) -> str:
    if not letters:
        return ""
    return f"picture left = patient {letters['left']} · top = patient {letters['top']}"
