"""Keras 2 networks: the spinal-cord network and two 2-D U-Nets.

Keras keeps kernels as (row, column, in, out) and numbers layers in the order in which
they were made, from any start; so they are ranked. Tensors come from `read_foreign` as
"layer/kernel".
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from ._foreign import Arrays, Kind, Translated, channel_names, class_names
from .types import ModelSpec

_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_CONV = {"kernel": "weight", "bias": "bias"}
_BRANCHES = ("rate2", "branch1x1", "rate6", "rate12", "rate18", "rate24")
_GREY = "grey_matter"


def _ranked(tensors: Arrays, kind: str) -> list[str]:
    """Layers of an automatically numbered kind, in the order of their making."""
    found = {}
    for layer in {name.partition("/")[0] for name in tensors}:
        if match := re.fullmatch(rf"{kind}(?:_v1)?(?:_(\d+))?", layer):
            found[int(match.group(1) or 0)] = layer
    return [found[number] for number in sorted(found)]


class _Moving:
    """Takes tensors out of a file, layer by layer, under new names."""

    def __init__(self, tensors: Arrays) -> None:
        self.left = dict(tensors)
        self.weights: Arrays = {}

    def move(self, layer: str, ours: str, parts: dict[str, str]) -> None:
        for theirs, name in parts.items():
            value = self.left.pop(f"{layer}/{theirs}", None)
            if value is not None:
                turned = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
                self.weights[f"{ours}.{name}"] = turned  # (out, in, row, column)


def _is_grey_matter(tensors: Arrays) -> bool:
    return {"amort/kernel", "predictions/kernel", "rate24_2/kernel"} <= tensors.keys()


def _grey_matter(tensors: Arrays) -> Translated:
    """C. S. Perone et al., Scientific Reports 2018, doi 10.1038/s41598-018-24304-3."""
    moving = _Moving(tensors)
    units = ["conv1", "conv2", *(f"{b}_{i}" for b in _BRANCHES for i in (1, 2))]
    convs = [*_ranked(tensors, "conv2d"), *units[2:]]
    places = [f"encoder.units.{unit}" for unit in units]
    for layer, place in zip(convs, places, strict=False):
        moving.move(layer, f"{place}.conv", _CONV)
    moving.move("amort", "encoder.units.amort.conv", _CONV)
    moving.move("predictions", f"heads.{_GREY}.classify", _CONV)
    norms = [*(f"{p}.norm" for p in places), "encoder.norm", "encoder.units.amort.norm"]
    ranked = _ranked(tensors, "batch_normalization")
    for layer, place in zip(ranked, norms, strict=False):
        moving.move(layer, place, _NORM)
    width = int(tensors["rate24_2/kernel"].shape[3])
    spec = ModelSpec(
        network="dilated",
        channels=("image",),
        heads={_GREY: ("background", "grey matter")},
        patch=(200, 200),
        spacing_mm={"MR": {"mm": 0.25, "align": "first", "crop": 200}},
        intensity={"MR": {"kind": "standard"}},
        orientation="L,A",
        threshold={_GREY: 0.999},
        options={"width": width},
    )
    card = {
        "name": f"sct-gm-{width}",
        "title": f"Grey matter of the spinal cord, {width} filters (Perone 2018)",
        "citation": "Perone et al., Sci Rep 2018;8:5966",
        "source": "Keras weights in the layout of the Spinal Cord Toolbox, which "
        "publishes its own under the MIT licence",
        "limits": [
            "Axial T2*-weighted MR; the cord lies in the middle 50 mm of the slices.",
        ],
    }
    return Translated(spec, moving.weights, tuple(moving.left), card)


def _is_unet(tensors: Arrays) -> bool:
    convs = len(_ranked(tensors, "conv2d"))
    return convs > 10 and convs % 5 in (3, 4) and not _is_grey_matter(tensors)


def _unet_places(depth: int, *, narrow: bool) -> Iterator[tuple[str, str | None]]:
    """Our convolutions in the order in which Keras made them, each with its norm."""
    head = "heads.HEAD"
    for level in range(depth):
        for i in (1, 2):
            block = f"encoder.blocks.{level}"
            yield f"{block}.conv{i}", f"{block}.norm{i}"
    for step in range(depth - 1):
        yield f"{head}.ups.{step}", None
        for i in (1, 2):
            block = f"{head}.convs.{step}"
            yield f"{block}.conv{i}", f"{block}.norm{i}"
    if narrow:
        yield f"{head}.classify.conv1", f"{head}.classify.norm1"
        yield f"{head}.classify.conv2", None
    else:
        yield f"{head}.classify", None


def _unet(tensors: Arrays) -> Translated:
    convs, norms = _ranked(tensors, "conv2d"), _ranked(tensors, "batch_normalization")
    narrow = len(convs) % 5 == 4  # two convolutions at the end instead of one
    depth = (len(convs) + (1 if narrow else 2)) // 5
    *_, inputs, width = tensors[f"{convs[0]}/kernel"].shape
    answers = int(tensors[f"{convs[-1]}/kernel"].shape[3])
    brain = (int(inputs), answers) == (2, 4)
    head = "tumour" if brain else "structure"
    moving, next_norm = _Moving(tensors), count()
    for layer, (conv, norm) in zip(
        convs, _unet_places(depth, narrow=narrow), strict=True
    ):
        moving.move(layer, conv.replace("HEAD", head), _CONV)
        if norm is not None and norms:
            rank = next(next_norm)
            if rank < len(norms):
                moving.move(norms[rank], norm.replace("HEAD", head), _NORM)
    options = {
        "width": int(width),
        "dropout": [*[0.0] * (depth - 2), *((0.5, 0.5) if norms else (0.0, 0.2))],
        "norm": bool(norms),
        "narrow": narrow,
        "sigmoid": answers == 1,
    }
    spec = _unet_spec(head, int(inputs), max(answers, 2), options, brain=brain)
    return Translated(spec, moving.weights, tuple(moving.left), _unet_card(brain=brain))


def _unet_spec(
    head: str, inputs: int, classes: int, options: dict[str, Any], *, brain: bool
) -> ModelSpec:
    tumour = ("background", "necrotic core", "oedema", "enhancing tumour")
    colours = ("red", "green", "blue")
    side = 128 if brain else 256
    modality = "MR" if brain else "XR"
    return ModelSpec(
        network="unet2d",
        channels=channel_names(inputs, ("FLAIR", "T1CE") if brain else colours),
        heads={head: class_names(classes, tumour)},
        patch=(side, side),
        spacing_mm={modality: {"longest": side}},
        intensity={
            modality: {"kind": "percentile", "low": 0, "high": 100, "onto": [0, 1]}
        },
        orientation="L,P" if brain else "P,L",
        options=options,
    )


def _unet_card(*, brain: bool) -> dict[str, Any]:
    limits = ["Intensities: each channel to 0..1; training scaled whole batches."]
    if brain:
        limits.append("A transfer model has the same layout with the channels T2, T1.")
    return {
        "name": "keras-unet-brain" if brain else "keras-unet",
        "title": "2-D U-Net" + (" for brain tumours" if brain else ""),
        "source": "Keras weights of a 2-D U-Net",
        "limits": limits,
    }


KINDS = {
    "sct-gm": Kind(_is_grey_matter, _grey_matter),
    "keras-unet": Kind(_is_unet, _unet),
}
