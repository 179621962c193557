"""Between labels layers and drafts: snapshots, and layers made from them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_hydraseg.core import drafts
from napari_hydraseg.core.drafts import Draft
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import PLANES, Segmentation, Volume

from . import kept, layers, nouns, origin, proposals, view


def prepare(layer: Any, image: Any = None) -> Callable[[], Draft | None]:
    """Copy what is painted on a labels layer; call this in the main thread.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer.
    image : napari.layers.Image, optional
        The scan that was painted on; its voxels are not read.

    Returns
    -------
    callable
        Makes the draft, in any thread: all voxels are looked at for it. It gives None
        where nothing is the user's, or where the file that the user saved last holds
        the same.

    Raises
    ------
    HydraSegError
        If the values are no label ids.
    """
    volume = _scan_of(layer, image)
    painted = nouns.segmentation_of(layer, image if volume is not None else None)
    ours = dict(layer.metadata.get("hydraseg", {}))
    still = SimpleNamespace(data=painted.labels, metadata={"hydraseg": ours})
    axis = volume.plane_axis if volume is not None else PLANES.index(painted.plane)
    scan = image.metadata.get("hydraseg", {}) if volume is not None else {}
    return partial(_draft, still, painted, axis, scan)


def snapshot(layer: Any, image: Any = None) -> Draft | None:
    """Make a draft here and now; see `prepare`."""
    return prepare(layer, image)()


def _draft(
    still: SimpleNamespace, painted: Segmentation, axis: int, scan: dict[str, Any]
) -> Draft | None:
    ours = still.metadata["hydraseg"]
    slices = int(nouns.annotated_slices(still, axis).sum())
    # what a program filled is nobody's yet: a draft says so by setting it aside
    aside = {*ours.get("aside", ()), *proposals.standing(still, axis)}
    mine = slices or aside
    if not mine or kept.is_settled(still.metadata, still.data):
        return None
    start = proposals.start_of(still)
    if start is not None and start.shape != painted.labels.shape:
        start = None
    return Draft(
        painted,
        start,
        frozenset(int(at) for at in ours.get("done", ())),
        frozenset(int(at) for at in aside),
        _identity(scan),
        slices,
    )


def _identity(scan: dict[str, Any]) -> str:
    """Name a scan by what its layer knows of it; empty if it is no scan of ours."""
    volume = scan.get("volume")
    if volume is None or volume.sha256:
        return drafts.identity(volume) if volume is not None else ""
    if scan.get("identity", (None, ""))[0] != id(volume.data):
        # of all voxels, that is why it is kept
        scan["identity"] = id(volume.data), drafts.identity(volume)
    return str(scan["identity"][1])


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
        return nouns.volume_of(image, voxels=False)
    except HydraSegError:  # then the draft stands for itself
        return None
