"""How the viewer looks at a scan: plane, scale bar, slice.

The camera, the canvas and their overlays moved in napari 0.9; the old places still work
there but warn, so that each is looked up in the new place first.
"""

from __future__ import annotations

import itertools
from typing import Any

from napari_hydraseg.core.types import PLANES, Plane


def add(viewer: Any, made: list[tuple[Any, dict[str, Any], str]]) -> list[Any]:
    """Add layers that `gui.layers` made; returns them."""
    kinds = {"image": viewer.add_image, "labels": viewer.add_labels}
    return [kinds[kind](data, **attributes) for data, attributes, kind in made]


def free_name(viewer: Any, name: str) -> str:
    """Number a name that a layer has already: "heart · T2 (2)".

    Napari itself would add "[1]", which may as well end the name of a second scan.
    """
    taken = {layer.name for layer in viewer.layers}
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def face(viewer: Any, plane: Plane) -> None:
    """Show the slices of a plane, the middle one first, the patient's head up.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer; left alone if it shows flat pictures only.
    plane : {"axial", "coronal", "sagittal"}
        The plane.
    """
    first = _first_axis(viewer)
    if first < 0:
        return
    axis = first + PLANES.index(plane)
    order = (*(a for a in range(first)), axis, *_across(viewer, plane))
    viewer.dims.ndisplay = 2
    if viewer.dims.order != order:
        viewer.dims.order = order
    head_up(viewer)
    viewer.reset_view()
    viewer.dims.set_current_step(axis, int(viewer.dims.nsteps[axis]) // 2)


def shows(viewer: Any, plane: Plane) -> bool:
    """Whether the viewer shows slices of a plane."""
    dims = viewer.dims
    if _first_axis(viewer) < 0:
        return True
    return dims.ndisplay == 2 and sorted(dims.order[-2:]) == _across(viewer, plane)


def head_up(viewer: Any) -> None:
    """Draw rows upwards where they run towards the head, downwards elsewhere."""
    rows = viewer.dims.order[-2] - _first_axis(viewer)
    camera(viewer).orientation2d = ("up" if rows == 0 else "down", "right")


def _first_axis(viewer: Any) -> int:
    """Which axis of the viewer is the first of a scan; those before are time, say."""
    return int(viewer.dims.ndim) - 3


def _across(viewer: Any, plane: Plane) -> list[int]:
    """Axes of the viewer that lie in a plane."""
    first = _first_axis(viewer)
    return [first + a for a in range(3) if a != PLANES.index(plane)]


def camera(viewer: Any) -> Any:
    """Where the viewer looks from."""
    return getattr(viewer, "scene", viewer).camera


def text_overlay(viewer: Any) -> Any:
    """Find the text on the canvas."""
    new = hasattr(viewer, "canvas")
    return viewer.canvas.overlays.text if new else viewer.text_overlay


def show_scale_bar(viewer: Any) -> None:
    """Show a bar in millimetres."""
    new = hasattr(viewer, "canvas")
    overlay = viewer.canvas.overlays.scale_bar if new else viewer.scale_bar
    overlay.visible = True


def slice_shown(viewer: Any, axis: int, layer: Any = None) -> int:
    """Index of the slice that the viewer shows along an axis.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    axis : int
        Which axis of a scan.
    layer : napari layer, optional
        Whose slices count: other layers may reach farther, or lie elsewhere.
    """
    first = _first_axis(viewer)
    if first < 0:
        return 0
    if layer is None or layer.ndim != 3:
        return int(viewer.dims.current_step[first + axis])
    at = round(float(layer.world_to_data(viewer.dims.point)[axis]))
    return min(max(at, 0), int(layer.data.shape[axis]) - 1)


def sees(viewer: Any, plane: Plane, layer: Any) -> bool:
    """Whether the viewer shows a slice of a layer in a plane, and not empty space."""
    if not shows(viewer, plane):
        return False
    if _first_axis(viewer) < 0 or layer.ndim != 3:
        return True
    axis = PLANES.index(plane)
    at = round(float(layer.world_to_data(viewer.dims.point)[axis]))
    return 0 <= at < int(layer.data.shape[axis])


def go_to_slice(viewer: Any, axis: int, index: int, layer: Any = None) -> None:
    """Show a slice; of a layer, if it is given, wherever that lies."""
    first = _first_axis(viewer)
    if first < 0:
        return
    if layer is None or layer.ndim != 3:
        viewer.dims.set_current_step(first + axis, index)
        return
    place = [(n - 1) / 2 for n in layer.data.shape]
    place[axis] = index
    viewer.dims.set_point(first + axis, float(layer.data_to_world(place)[axis]))
