"""From layers back to nouns: snapshots of scans and of what is painted on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_hydraseg.core.errors import (
    GeometryMismatchError,
    LabelDtype,
    LabelShape,
    UnknownLabelId,
    WrongInput,
)
from napari_hydraseg.core.types import PLANES, Modality, Segmentation, Volume

from . import proposals
from .colours import colours_of

GEOMETRY = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def geometry_of(layer: Any) -> dict[str, Any]:
    """Where a layer lies, to give to a 3-D layer on the same grid.

    Parameters
    ----------
    layer : napari layer
        With 2 or 3 dimensions; of a picture only scale and translation are taken.

    Returns
    -------
    dict
        Keyword arguments of a layer.
    """
    if layer.ndim == 2:
        return {
            "scale": (1.0, *layer.scale),
            "translate": (0.0, *layer.translate),
            "units": (layer.units[0], *layer.units),
            "axis_labels": ("z", "y", "x"),
        }
    found = {key: getattr(layer, key) for key in GEOMETRY}
    found["affine"] = np.array(layer.affine.affine_matrix)
    return found


def volume_of(layer: Any, *, voxels: bool = True) -> Volume:
    """Find the scan that an image layer shows.

    Parameters
    ----------
    layer : napari.layers.Image
        Opened by this plugin or by any other.
    voxels : bool
        False where the grid is enough: then voxels that are not in memory are zeros.

    Returns
    -------
    Volume
        All channels of the scan if the layer is one channel of several. If the voxels
        were changed since, those of the layer.

    Raises
    ------
    WrongInput
        If the layer is neither a grey picture nor a grey volume.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    if voxels or isinstance(data, np.ndarray):
        data = np.asarray(data)
    else:
        data = np.broadcast_to(np.zeros((), data.dtype), data.shape)
    if getattr(layer, "rgb", False) or data.ndim not in (2, 3):
        raise WrongInput(
            f"{layer.name} has {data.ndim} dimensions; a grey picture or volume with "
            "2 or 3 is needed.",
            "Choose another layer or split this one.",
        )
    ours = layer.metadata.get("hydraseg", {})
    volume = ours.get("volume")
    if volume is not None and volume.shape == data.shape:
        channel = volume.data[ours["channel"]]
        if np.shares_memory(channel, data) or np.array_equal(channel, data):
            return volume
        note = "The voxels were changed in the viewer after loading."
        name = volume.names[ours["channel"]]
        return replace(
            volume,
            data=data[None],
            names=(name,),
            sha256="",
            notes=(*volume.notes, note),
        )
    return _plain_volume(layer, data, ours.get("modality"))


def set_modality(layers: Sequence[Any], layer: Any, modality: Modality | None) -> None:
    """Remember what kind of scan a layer shows, for all channels of the scan.

    Parameters
    ----------
    layers : sequence of napari layers
        Those of the viewer.
    layer : napari.layers.Image
        The layer that the user chose.
    modality : {"MR", "CT", "US", "XR"} or None
        None: not stated.
    """
    ours = layer.metadata.setdefault("hydraseg", {})
    volume = ours.get("volume")
    if volume is None:
        ours["modality"] = modality
        return
    stated = replace(volume, modality=modality)
    for other in layers:
        found = other.metadata.get("hydraseg", {})
        if found.get("volume") is volume:
            found["volume"] = stated


def segmentation_of(labels: Any, image: Any = None) -> Segmentation:
    """Take a snapshot of what is painted on a labels layer.

    Parameters
    ----------
    labels : napari.layers.Labels
        The layer; call this in the main thread.
    image : napari.layers.Image, optional
        The scan that was painted on; it lends its grid.

    Raises
    ------
    LabelShape, GeometryMismatchError
        If labels and scan lie on different grids.
    LabelDtype, UnknownLabelId
        If the values are no label ids.
    WrongInput
        If the labels have more than 3 dimensions.
    """
    data = np.asarray(labels.data[0] if labels.multiscale else labels.data)
    if data.ndim not in (2, 3):
        raise WrongInput(
            f"{labels.name} has {data.ndim} dimensions; 2 or 3 are needed.",
            "Split the layer, or choose another.",
        )
    data = _whole(data if data.ndim == 3 else data[None])
    noun = labels.metadata.get("hydraseg", {}).get("segmentation")
    if image is not None:
        volume = volume_of(image, voxels=False)
        check_grids(labels, image)
        base = Segmentation(
            data, volume.affine, plane=volume.plane, grid=volume.grid, names={}
        )
    elif noun is not None and noun.labels.shape == data.shape:
        base = noun
    else:
        base = Segmentation(data, _affine_of(labels))
    made_by = noun.made_by if noun is not None else {}
    names = names_of(labels)
    return replace(
        base,
        labels=data,
        names=names,
        colours=colours_of(labels, names),
        probabilities=None,
        annotated=None,
        made_by=made_by,
    )


def check_grids(labels: Any, image: Any) -> None:
    """Refuse labels that do not lie voxel on voxel with a scan.

    Parameters
    ----------
    labels : napari.layers.Labels
        What was painted.
    image : napari.layers.Image
        The scan.

    Raises
    ------
    LabelShape
        If the numbers of voxels differ.
    GeometryMismatchError
        If a corner lies more than half a voxel apart.
    """
    painted, scanned = _shape(labels), _shape(image)
    if painted != scanned:
        raise LabelShape(
            f"{labels.name} has {_times(painted)} voxels, {image.name} "
            f"{_times(scanned)}.",
            "Use the labels that belong to this scan, or make new ones on it.",
        )
    if labels.ndim != image.ndim:
        return  # a flat picture and its one-slice labels
    apart = [
        np.abs(np.subtract(labels.data_to_world(at), image.data_to_world(at))).max()
        for at in ([0] * image.ndim, [n - 1 for n in scanned[-image.ndim :]])
    ]
    if max(apart) > 0.5 * float(np.min(np.abs(image.scale))):
        raise GeometryMismatchError(
            f"{labels.name} lies up to {max(apart):.1f} mm away from {image.name}.",
            "Use the labels that belong to this scan, or make new ones on it.",
        )


def _shape(layer: Any) -> tuple[int, ...]:
    data = layer.data[0] if layer.multiscale else layer.data
    return (1,) * (3 - data.ndim) + tuple(int(n) for n in data.shape)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in reversed(shape))


def annotated_slices(labels: Any, axis: int) -> NDArray[np.bool_]:
    """Which slices a person vouches for.

    A slice counts if it differs from what the layer started with (nothing, what a model
    found, or what was copied), or if it was marked as done; not if it was set aside.

    Parameters
    ----------
    labels : napari.layers.Labels
        The layer that was painted on.
    axis : int
        Voxel axis along which slices are counted.

    Returns
    -------
    ndarray of bool, shape (slices,)
    """
    data = np.asarray(labels.data)
    data = data if data.ndim == 3 else data[None]
    ours = labels.metadata.get("hydraseg", {})
    start = proposals.start_of(labels)
    across = tuple(a for a in range(3) if a != axis)
    if start is not None and start.shape == data.shape:
        touched = np.asarray((data != start).any(axis=across))
    else:
        touched = np.asarray((data != 0).any(axis=across))
    for at in proposals.standing(labels, axis):
        touched[at] = False  # nobody has looked at it yet
    for key, counts in (("done", True), ("aside", False)):
        for at in ours.get(key, ()):
            if 0 <= at < len(touched):
                touched[at] = counts
    return touched


def names_of(labels: Any) -> dict[int, str]:
    """Label names from a layer's features table: columns "index" and "name"."""
    features = labels.features
    if not {"index", "name"} <= set(features.columns):
        return {}
    pairs = zip(features["index"], features["name"], strict=True)
    return {int(i): str(name) for i, name in pairs if int(i) > 0}


def _plain_volume(layer: Any, data: NDArray[Any], modality: Any) -> Volume:
    """Make a scan of a plain layer: its units say if it has mm."""
    affine = _affine_of(layer)
    spacing = np.diag(affine)[:3]
    uneven = data.ndim == 3 and max(spacing) > 1.05 * min(spacing)
    return Volume(
        data=data[None] if data.ndim == 3 else data[None, None],
        affine=affine,
        modality=modality,
        known=frozenset({"spacing"} if _in_lengths(layer) else ()),
        plane=PLANES[int(np.argmax(spacing))] if uneven else "axial",
        source=str(layer.name),
        notes=("The orientation is not known: taken from a plain layer.",),
    )


def _in_lengths(layer: Any) -> bool:
    return all(unit.is_compatible_with("mm") for unit in layer.units)


def _affine_of(layer: Any) -> NDArray[np.float64]:
    """Index to mm (pixels where the units are no lengths) of a plain layer."""
    known = _in_lengths(layer)
    factors = [float((1 * u).to("mm").magnitude) if known else 1.0 for u in layer.units]
    affine = np.eye(4)
    ours = slice(3 - layer.ndim, 3)
    affine[ours, ours] = np.diag(np.abs(np.asarray(layer.scale) * factors))
    affine[ours, 3] = np.asarray(layer.translate) * factors
    return affine


def _whole(data: NDArray[Any]) -> NDArray[Any]:
    """Copy as uint8 or uint16."""
    if data.dtype == np.uint8:
        return data.copy()  # it need not be looked through
    if data.dtype.kind == "f" and not (np.floor(data) == data).all():
        raise LabelDtype("The labels hold fractions.", "Choose a layer of label ids.")
    low, high = int(data.min(initial=0)), int(data.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise UnknownLabelId(
            f"The labels hold ids from {low} to {high}; 0 to 65535 are used.",
            "Renumber the labels.",
        )
    return data.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
