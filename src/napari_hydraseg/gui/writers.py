"""What napari saves a labels layer with: files on the grid of the scan's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_hydraseg import core
from napari_hydraseg.core.types import Segmentation

from . import kept
from .nouns import GEOMETRY, segmentation_of


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
    return segmentation_of(
        Labels(data, **{k: attributes[k] for k in keep if k in attributes})
    )
