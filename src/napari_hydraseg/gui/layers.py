"""Between layers and nouns: every layer of the plugin is made here.

A layer gets a positive diagonal scale (the voxel size) and a translation that keeps
the centre of the scan in place, never a rotated affine, because napari cannot slice
one. The true, possibly oblique affine stays in the noun, in
``layer.metadata["hydraseg"]``; what is painted maps back by index.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core.errors import LabelDtype, UnknownLabelId
from napari_hydraseg.core.types import Segmentation, Volume

from .colours import colours

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
"""Data, attributes and kind of a layer, as napari's readers return it."""

_CT_WINDOW = (-160.0, 240.0)  # usual soft-tissue window in HU
_LABEL_NAME = re.compile(
    r"(^|[-_. ])(d?seg|segmentation|labels?|masks?|manual|truth)$", re.IGNORECASE
)
SUFFIXES = tuple(
    ".nii .nii.gz .hdr .img .mgh .mgz .nrrd .nhdr .mha .mhd .dcm .ima".split()
)
_LABEL_FOLDERS = ("labels", "labelstr", "labelsts", "masks")


def volume_layers(volume: Volume, *, name: str = "") -> list[LayerData]:
    """Make one image layer per channel of a scan.

    Parameters
    ----------
    volume : Volume
        The scan.
    name : str
        Name of the layer; default: that of the file.
    """
    name = name or stem(volume.source)
    several = len(volume.names) > 1
    return [
        (
            volume.data[i],
            {
                "name": f"{name} {channel}" if several else name,
                **display(volume),
                "contrast_limits": _window(volume, i),
                "colormap": "gray",
                "blending": "translucent_no_depth",
                "visible": i == 0,
                "metadata": {
                    "hydraseg": {
                        "volume": volume,
                        "channel": i,
                        "affine": volume.affine,
                    }
                },
            },
            "image",
        )
        for i, channel in enumerate(volume.names)
    ]


def labels_layer(
    segmentation: Segmentation, *, name: str, geometry: Mapping[str, Any] | None = None
) -> LayerData:
    """Make a labels layer with names, stable colours and volumes in ml.

    Parameters
    ----------
    segmentation : Segmentation
        The labels; the layer gets a copy, so that painting leaves the noun as it was.
    name : str
        Name of the layer.
    geometry : mapping, optional
        Where the scan's layer lies (`geometry_of`), so that both stay on top of each
        other even if the user moved it; default: from the affine.
    """
    names = named_ids(segmentation)
    return (
        np.array(segmentation.labels, order="C"),
        {
            "name": name,
            **(geometry or display(segmentation)),
            "opacity": 0.6,
            "colormap": colours(names, segmentation.colours),
            "features": table(segmentation, known_mm=_in_mm(geometry)),
            "metadata": {
                "hydraseg": {
                    "segmentation": segmentation,
                    "affine": segmentation.affine,
                    "done": set(),
                }
            },
        },
        "labels",
    )


def display(noun: Volume | Segmentation) -> dict[str, Any]:
    """Scale, translation, units and axis labels that show a noun where it lies.

    Parameters
    ----------
    noun : Volume or Segmentation
        What is to be shown.

    Returns
    -------
    dict
        Keyword arguments of a layer.
    """
    shape = noun.shape if isinstance(noun, Volume) else noun.labels.shape
    spacing = np.array(noun.spacing_mm)
    middle = (np.array(shape) - 1) / 2
    centre = (noun.affine @ [*middle, 1])[:3]
    known = not isinstance(noun, Volume) or "spacing" in noun.known
    if isinstance(noun, Segmentation) and noun.grid is not None:
        known = noun.grid.format != "image"
    return {
        "scale": tuple(float(s) for s in spacing),
        "translate": tuple(float(t) for t in centre - middle * spacing),
        "units": ("mm" if known else "pixel",) * 3,
        "axis_labels": ("z", "y", "x"),
    }


def named_ids(segmentation: Segmentation) -> dict[int, str]:
    """Give a name to each label id that is named or used."""
    used = np.unique(segmentation.labels)
    names = {int(i): f"label {i}" for i in used if i}
    named = {int(i): n for i, n in segmentation.names.items() if i}
    return dict(sorted({**names, **named}.items()))


def table(segmentation: Segmentation, *, known_mm: bool = True) -> dict[str, list[Any]]:
    """Features of a labels layer: id, name, voxels and volume of each label.

    Parameters
    ----------
    segmentation : Segmentation
        The labels.
    known_mm : bool
        Whether the voxel size is known; if not, the volume is ``nan``.
    """
    names = named_ids(segmentation)
    counts = np.bincount(
        segmentation.labels.ravel(), minlength=max(names, default=0) + 1
    )
    voxel_ml = math.prod(segmentation.spacing_mm) / 1000 if known_mm else math.nan
    return {
        "index": list(names),
        "name": list(names.values()),
        "voxels": [int(counts[i]) for i in names],
        "volume_ml": [round(int(counts[i]) * voxel_ml, 3) for i in names],
    }


def looks_like_labels(path: Path) -> bool:
    """Whether a file's name says that it holds labels, not grey values."""
    named = bool(_LABEL_NAME.search(stem(path.name)))
    return named or path.parent.name.lower() in _LABEL_FOLDERS


def stem(name: str) -> str:
    """Take a file's name without its ending, ``.nii.gz`` included."""
    return re.sub(r"(\.nii)?(\.gz)?$|\.[A-Za-z]{2,4}$", "", Path(name).name)


def open_file(
    path: Path, *, kind: str = "auto", **reading: Any
) -> Volume | Segmentation:
    """Read a file; as labels where its name says so and its values allow it.

    Parameters
    ----------
    path : Path
        A scan file, or a folder of DICOM slices.
    kind : {"auto", "image", "labels"}
        What it holds.
    **reading
        Options of `core.load_volume`.
    """
    named = kind == "auto" and looks_like_labels(path) and not path.is_dir()
    if kind == "labels" or named:
        try:
            return core.load_segmentation(path)
        except (LabelDtype, UnknownLabelId):
            if kind == "labels":
                raise
    return core.load_volume(path, **reading)


def layers_of(noun: Volume | Segmentation, *, name: str) -> list[LayerData]:
    """Make the layers that show what `open_file` read."""
    if isinstance(noun, Segmentation):
        return [labels_layer(noun, name=name)]
    return volume_layers(noun, name=name)


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerData]] | None:
    """Offer the reader for scans: by name alone for files, by a look into folders."""
    paths = [path] if isinstance(path, str) else list(path)
    if not paths or not all(_may_read(Path(p)) for p in paths):
        return None
    return _read


def _may_read(path: Path) -> bool:
    if path.is_dir():
        return holds_dicom(path)
    return path.name.lower().endswith(SUFFIXES)


def holds_dicom(folder: Path) -> bool:
    """Whether a folder's first files are DICOM; napari asks at any folder."""
    from napari_hydraseg.core.io.dicom import is_dicom

    try:
        with os.scandir(folder) as entries:
            first = list(itertools.islice((e for e in entries if e.is_file()), 12))
    except OSError:
        return False
    return any(e.name == "DICOMDIR" or is_dicom(Path(e.path)) for e in first)


def _read(path: str | list[str]) -> list[LayerData]:
    if not isinstance(path, str):  # opened as a stack: channels of one scan
        return volume_layers(core.load_volume(path))
    return layers_of(open_file(Path(path)), name=stem(path))


def phantom() -> list[LayerData]:
    """Make the sample: a synthetic heart, and its truth as a hidden layer."""
    volume, truth = core.heart_phantom()
    name = "Heart phantom (synthetic)"
    shown = labels_layer(truth, name=f"{name} truth", geometry=display(volume))
    shown[1]["visible"] = False
    return [*volume_layers(volume, name=name), shown]


def _window(volume: Volume, channel: int) -> tuple[float, float]:
    """Grey values to show as black and white."""
    data = volume.data[channel]
    step = max(1, round((data.size / 2e6) ** (1 / 3)))  # 2 million voxels tell enough
    some = data[::step, ::step, ::step]
    low, high = (float(v) for v in np.percentile(some, (0.5, 99.8)))
    if volume.modality == "CT" and low < _CT_WINDOW[0] < _CT_WINDOW[1] < high + 1:
        return _CT_WINDOW
    if high <= low:
        low, high = float(some.min()), float(some.max())
    return (low, high) if high > low else (low, low + 1)


def _in_mm(geometry: Mapping[str, Any] | None) -> bool:
    return geometry is None or "pixel" not in {str(u) for u in geometry["units"]}
