"""Between labels layers and drafts: snapshots, and layers made from them again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg.core import drafts
from napari_hydraseg.core.drafts import Draft
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import PLANES, Volume

from . import kept, layers, nouns, origin, proposals, view


def snapshot(layer: Any, image: Any = None) -> Draft | None:
    """Take what is painted on a labels layer; call this in the main thread.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer.
    image : napari.layers.Image, optional
        The scan that was painted on.

    Returns
    -------
    Draft or None
        None where nothing is the user's, or where the file that the user saved last
        holds the same.

    Raises
    ------
    HydraSegError
        If the values are no label ids.
    """
    ours = layer.metadata.get("hydraseg", {})
    volume = _scan_of(layer, image)
    painted = nouns.segmentation_of(layer, image if volume is not None else None)
    axis = volume.plane_axis if volume is not None else PLANES.index(painted.plane)
    slices = int(nouns.annotated_slices(layer, axis).sum())
    # what a program filled is nobody's yet: a draft says so by setting it aside
    aside = {*ours.get("aside", ()), *proposals.standing(layer, axis)}
    mine = slices or aside
    if not mine or kept.is_settled(layer.metadata, layer.data):
        return None
    start = proposals.start_of(layer)
    if start is not None and start.shape != painted.labels.shape:
        start = None
    return Draft(
        painted,
        start,
        frozenset(int(at) for at in ours.get("done", ())),
        frozenset(int(at) for at in aside),
        drafts.identity(volume) if volume is not None else "",
        slices,
    )


def restore(viewer: Any, draft: Draft, path: Path) -> Any:
    """Put a draft back into a viewer, on its scan if that is open.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    draft : Draft
        From `drafts.open_draft`.
    path : Path
        Its file; what is painted on goes there from now on.

    Returns
    -------
    napari.layers.Labels
        The layer.
    """
    image = _find(viewer, draft.scan)
    name = f"restored · {image.name}" if image is not None else "restored labels"
    geometry = nouns.geometry_of(image) if image is not None else None
    made = layers.labels_layer(draft.painted, name=name, geometry=geometry)
    start = draft.start
    if start is None:
        start = np.zeros_like(draft.painted.labels)
    # before the layer is added: forms read this as soon as it is there
    made[1]["metadata"]["hydraseg"] |= {
        "segmentation": replace(draft.painted, labels=start),
        "copied": draft.start is not None,
        "done": set(draft.done),
        "aside": set(draft.aside),
        "draft": path.name,
    }
    if image is not None:
        origin.remember(made[1]["metadata"], image)
    return view.add(viewer, [made])[0]


def _find(viewer: Any, scan: str) -> Any:
    for layer in viewer.layers:
        volume = layer.metadata.get("hydraseg", {}).get("volume")
        if scan and volume is not None and drafts.identity(volume) == scan:
            return layer
    return None


def _scan_of(layer: Any, image: Any) -> Volume | None:
    """Give the scan under a labels layer; None if they do not lie on one another."""
    if image is None:
        return None
    try:
        nouns.check_grids(layer, image)
        return nouns.volume_of(image)
    except HydraSegError:  # then the draft stands for itself
        return None
