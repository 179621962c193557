"""Long steps of step 5: reading, comparing, finding errors, writing the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari.layers
import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core.types import PLANES, Progress, Segmentation, Steps

from . import origin


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks as they were when they were compared.

    Attributes
    ----------
    reference, candidate : Segmentation
        On the same grid.
    layers : pair of napari.layers.Labels
        What shows them.
    """

    reference: Segmentation
    candidate: Segmentation
    layers: tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Errors:
    """What `errors_steps` found.

    Attributes
    ----------
    mask : Segmentation
        The errors as labels.
    worst : list of (int, int)
        Slice and number of wrong voxels, worst first.
    """

    mask: Segmentation
    worst: list[tuple[int, int]]


def reading_steps(path: Path) -> Steps[Segmentation]:
    """Read a mask in a worker's thread."""
    yield Progress(0, 1, "reading")
    return core.load_segmentation(path)


def evaluate_steps(
    reference: Segmentation, candidate: Segmentation, *, tolerance_mm: float
) -> Steps[list[dict[str, Any]]]:
    """Compare two segmentations in a worker's thread.

    Parameters
    ----------
    reference, candidate : Segmentation
        On the same grid.
    tolerance_mm : float
        Distance up to which surfaces count as the same.

    Returns
    -------
    list of dict
        One per label, as `core.evaluate` gives them.
    """
    yield Progress(0, 1, "measuring")
    found = core.evaluate(reference, candidate, tolerance_mm=tolerance_mm)
    yield Progress(1, 1, "measuring")
    return found


def errors_steps(
    reference: Segmentation, candidate: Segmentation, *, name: str | None
) -> Steps[Errors]:
    """Find the errors of a candidate in a worker's thread.

    Parameters
    ----------
    reference, candidate : Segmentation
        On the same grid.
    name : str or None
        Of which structure; None: all.
    """
    yield Progress(0, 1, "finding errors")
    mask = core.disagreement(reference, candidate, name=name)
    yield Progress(1, 1, "counting")
    return Errors(mask, core.worst_slices(mask))


def report_steps(
    found: list[dict[str, Any]], path: Path, *, pair: Pair, names: list[str], scan: Any
) -> Steps[None]:
    """Write a report in a worker's thread.

    Parameters
    ----------
    found : list of dict
        Rows of one scan or of several.
    path : Path
        Where to; the save dialog has asked about overwriting.
    pair : Pair
        The masks that were compared last; their worst slices are shown.
    names : list of str
        Structures of these masks.
    scan : ndarray, shape (z, y, x), or None
        What they lie on; None: no pictures.
    """
    figures = []
    names = names if scan is not None else []
    for at, name in enumerate(names):
        yield Progress(at, len(names) + 1, "drawing")
        errors: Errors = yield from errors_steps(
            pair.reference, pair.candidate, name=name
        )
        figures.append(picture(errors, scan, name=name))
    yield Progress(len(names), len(names) + 1, "writing")
    report = core.describe(found, figures=[one for one in figures if one is not None])
    core.write_report(report, path, overwrite=True)


def scan_under(viewer: Any, pair: Pair) -> Any:
    """Find the grey scan that two masks lie on.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    pair : Pair
        The masks.

    Returns
    -------
    ndarray, shape (z, y, x), or None
        Voxels of the scan that the masks are known to be of, else of the lowest image
        layer with their shape.
    """
    shape = pair.candidate.labels.shape
    known = [origin.scan_of(labels, viewer.layers) for labels in pair.layers]
    for layer in (*(one for one in known if one is not None), *viewer.layers):
        grey = isinstance(layer, napari.layers.Image) and not layer.rgb
        if grey and not layer.multiscale:
            data = layer.data if layer.ndim == 3 else layer.data[None]
            if tuple(data.shape) == shape:
                return data
    return None


def picture(errors: Errors, scan: Any, *, name: str) -> dict[str, Any] | None:
    """Make a figure for a report: the worst slice with its errors.

    Parameters
    ----------
    errors : Errors
        Of one structure.
    scan : ndarray, shape (z, y, x)
        The grey values below.
    name : str
        Of the structure.

    Returns
    -------
    dict or None
        None: there are no errors.
    """
    if not errors.worst:
        return None
    at, count = errors.worst[0]
    scan = np.asarray(scan)
    axis = PLANES.index(errors.mask.plane)
    spacing = [s for a, s in enumerate(errors.mask.spacing_mm) if a != axis]
    way = slice(None) if axis == 0 else slice(None, None, -1)  # the head is up
    return {
        "kind": "image",
        "title": f"{name}, worst slice ({at}): {count} wrong voxels",
        "image": scan.take(at, axis)[way],
        "labels": errors.mask.labels.take(at, axis)[way],
        "names": dict(errors.mask.names),
        "aspect": spacing[0] / spacing[1],
    }
