"""Empty labels to paint on: from the menu *File > New Layer*, and from step 3."""

from __future__ import annotations

from typing import Any

import napari.layers
import napari.viewer
import numpy as np
from napari.utils.notifications import show_info

from napari_hydraseg.core.types import Segmentation

from . import layers, nouns, origin, view


def empty_on(image: Any) -> Segmentation:
    """Make labels without anything on them, on the grid of a scan.

    Parameters
    ----------
    image : napari.layers.Image
        The scan.
    """
    volume = nouns.volume_of(image, voxels=False)
    return Segmentation(
        np.zeros(volume.shape, np.uint8),
        volume.affine,
        names={1: "label 1"},
        plane=volume.plane,
        grid=volume.grid,
    )


def take_brush(viewer: Any, layer: Any) -> None:
    """Select a labels layer, with a brush that suits its size.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    layer : napari.layers.Labels
        What is to be painted on.
    """
    layer.selected_label = 1
    # about a thirtieth of the picture: fine enough for a first outline
    layer.brush_size = max(3, round(min(layer.data.shape[-2:]) / 30))
    layer.mode = "paint"
    viewer.layers.selection.active = layer


def new_labels(viewer: napari.viewer.Viewer) -> None:
    """Put empty labels on the selected scan, or on the lowest one, and paint.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer.
    """
    scans = [
        layer
        for layer in viewer.layers
        if isinstance(layer, napari.layers.Image) and not layer.rgb
    ]
    chosen = [layer for layer in scans if layer in viewer.layers.selection] or scans
    if not chosen:
        show_info("Open a scan first: new labels lie on its grid.")
        return
    image = chosen[0]
    made = layers.labels_layer(
        empty_on(image),
        name=f"my labels · {image.name}",
        geometry=nouns.geometry_of(image),
    )
    origin.remember(made[1]["metadata"], image)
    take_brush(viewer, view.add(viewer, [made])[0])
