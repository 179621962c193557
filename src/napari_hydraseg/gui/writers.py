"""What napari saves layers with: files on the grid of the scan's own file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_hydraseg import core
from napari_hydraseg.core.types import Segmentation

from . import kept
from .nouns import GEOMETRY, segmentation_of, volume_of


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write labels on the grid of the file that the scan came from.

    Parameters
    ----------
    path : str
        Ends in ``.nii.gz`` or ``.nii``. The save dialog has asked about overwriting.
    data : ndarray of int, shape (z, y, x)
        The labels.
    attributes : dict
        Attributes of the layer.

    Returns
    -------
    list of str
        The path.
    """
    from napari_hydraseg.core.io.atomic import sweep_temporaries

    core.save_segmentation(_noun(data, attributes), path, overwrite=True)
    kept.settle(attributes.get("metadata", {}), data)
    sweep_temporaries(Path(path).parent)  # of a save that was killed long ago
    return [path]


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a scan, or a map on its grid, on the grid of the scan's own file.

    Parameters
    ----------
    path : str
        Ends in ``.nii.gz`` or ``.nii``. The save dialog has asked about overwriting.
    data : ndarray, shape (z, y, x)
        Grey values.
    attributes : dict
        Attributes of the layer.

    Returns
    -------
    list of str
        The path.
    """
    from napari.layers import Image

    layer = Image(data, **_kept(attributes, *GEOMETRY, "metadata", "name", "rgb"))
    volume = volume_of(layer)
    if volume.data.shape[0] > 1:  # of several channels, the one that is shown
        channel = layer.metadata["hydraseg"]["channel"]
        volume = replace(volume, data=volume.data[channel][None])
    core.save_volume(volume, path, overwrite=True)
    return [path]


def write_seg_nrrd(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write labels as a segmentation of 3D Slicer, with names and colours.

    Parameters
    ----------
    path : str
        Ends in ``.seg.nrrd``.
    data : ndarray of int, shape (z, y, x)
        The labels.
    attributes : dict
        Attributes of the layer.

    Returns
    -------
    list of str
        The path.
    """
    core.save_seg_nrrd(_noun(data, attributes), path, overwrite=True)
    kept.settle(attributes.get("metadata", {}), data)
    return [path]


def _noun(data: Any, attributes: dict[str, Any]) -> Segmentation:
    from napari.layers import Labels

    keep = (*GEOMETRY, "features", "metadata", "name", "colormap")
    return segmentation_of(Labels(data, **_kept(attributes, *keep)))


def _kept(attributes: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: attributes[key] for key in keys if key in attributes}
