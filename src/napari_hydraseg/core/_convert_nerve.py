"""QuickNAT, its multi-task relatives and the ResNet-18 beside them.

github.com/johnpeterflynn/nerve-segmentation-classification and
github.com/ai-med/quickNAT_pytorch. In QuickNAT and QuickFCN the decoders run 4, 1, 2,
3; in SoftQuickFCN 1, 2, 3, both from the coarsest to the finest.
"""

import math
import re
from typing import Any

from ._foreign import Arrays, Kind, Translated, channel_names, class_names, renamed
from .types import ModelSpec

_NERVE, _TYPE = "nerve", "nerve_type"
_TYPES = ("medianus", "radialis", "ulnaris")
_SOURCE = "github.com/johnpeterflynn/nerve-segmentation-classification"
_SQUEEZE = {
    "SELayer.cSE.fc1.": "squeeze.down.",
    "SELayer.cSE.fc2.": "squeeze.up.",
    "SELayer.sSE.conv.": "squeeze.places.",
}
_BLOCK = re.compile(r"(encode|decode|bottleneck)(\d?)(?:_(seg|class))?\.(.+)")
_STITCH = re.compile(r"cross(\d|b)(ss|sc|cc|cs)")


def _tail(name: str) -> str:
    """Name a tensor within a dense block."""
    for theirs, ours in _SQUEEZE.items():
        name = name.replace(theirs, ours)
    return name.replace("batchnorm", "norm")


def _levels(tensors: Arrays) -> int:
    return len({n for n in tensors if re.match(r"encode\d(_seg)?\.conv1\.weight", n)})


def _quick_name(name: str, levels: int, segment: str) -> str | None:
    """Translate a name of QuickNAT or QuickFCN."""
    head, _, rest = name.rpartition(".")
    if head == segment:
        return f"heads.{_NERVE}.classify.{rest}"
    if name.startswith("classifier.") and segment != "classifier.conv":
        return f"heads.{_TYPE}.layers.{name.removeprefix('classifier.')}"
    match = _BLOCK.fullmatch(name)
    if not match:
        return None
    kind, number, _, tail = match.groups()
    if kind == "bottleneck":
        unused = "SELayer" in tail  # made there, never run
        return None if unused else f"encoder.bottleneck.{_tail(tail)}"
    if kind == "encode":
        return f"encoder.blocks.{int(number) - 1}.{_tail(tail)}"
    return f"heads.{_NERVE}.ups.{int(number) % levels}.{_tail(tail)}"


def _quick(tensors: Arrays) -> Translated:
    first, levels = tensors["encode1.conv1.weight"], _levels(tensors)
    hard = "classifier.0.weight" in tensors
    segment = "segmenter.conv" if hard else "classifier.conv"
    weights, ignored = renamed(tensors, lambda n: _quick_name(n, levels, segment))
    options: dict[str, Any] = {
        "width": first.shape[0],
        "levels": levels,
        "squeeze": any("SELayer" in name for name in tensors),
    }
    heads = _heads(tensors, f"{segment}.weight", "classifier" if hard else None)
    if hard:
        options |= {"classify": [_TYPE], "grid": _grid(tensors, "classifier", first)}
    spec = _spec("quicknat", first.shape[1], heads, options)
    return Translated(spec, weights, ignored, _card("quickfcn" if hard else "quicknat"))


def _soft_name(name: str, last: int) -> str | None:
    """Translate a name of SoftQuickFCN; its bottleneck is the unit after `last`."""
    if match := _STITCH.fullmatch(name):
        number, way = match.groups()
        return f"encoder.units.{last if number == 'b' else int(number) - 1}.{way}"
    if name.startswith("classifier_seg.conv."):
        return f"heads.{_NERVE}.classify.{name.rpartition('.')[2]}"
    if name.startswith("classifier_class."):
        return f"heads.{_TYPE}.layers.{name.removeprefix('classifier_class.')}"
    match = _BLOCK.fullmatch(name)
    if not match:
        return None
    kind, number, stream, tail = match.groups()
    if kind == "decode":
        return f"heads.{_NERVE}.ups.{int(number) - 1}.{_tail(tail)}"
    level = last if kind == "bottleneck" else int(number) - 1
    side = "segment" if stream == "seg" else "classify"
    return f"encoder.{side}.{level}.{_tail(tail)}"


def _soft(tensors: Arrays) -> Translated:
    first, levels = tensors["encode1_seg.conv1.weight"], _levels(tensors)
    weights, ignored = renamed(tensors, lambda name: _soft_name(name, levels))
    options = {
        "width": first.shape[0],
        "levels": levels,
        "norm": "batch" if any("norm" in name for name in tensors) else "instance",
        "classify": [_TYPE],
        "grid": _grid(tensors, "classifier_class", first),
    }
    heads = _heads(tensors, "classifier_seg.conv.weight", "classifier_class")
    spec = _spec("crossstitch", first.shape[1], heads, options)
    return Translated(spec, weights, ignored, _card("softquickfcn"))


def _resnet_name(name: str) -> str | None:
    if match := re.fullmatch(r"layer(\d)\.(.+)", name):
        return f"encoder.layers.{int(match.group(1)) - 1}.{match.group(2)}"
    if name.startswith("fc."):
        return f"heads.{_TYPE}.{name}"
    return f"encoder.{name}" if name.startswith(("conv1.", "bn1.")) else None


def _resnet(tensors: Arrays) -> Translated:
    weights, ignored = renamed(tensors, _resnet_name)
    heads = {_TYPE: _type_names(len(tensors["fc.weight"]))}
    spec = _spec("resnet", tensors["conv1.weight"].shape[1], heads, {})
    return Translated(spec, weights, ignored, _card("resultnet"))


def _heads(
    tensors: Arrays, segment: str, classify: str | None
) -> dict[str, tuple[str, ...]]:
    heads = {}
    if segment in tensors:
        heads[_NERVE] = class_names(len(tensors[segment]), ("background", "nerve"))
    if classify is not None and f"{classify}.2.weight" in tensors:
        heads[_TYPE] = _type_names(len(tensors[f"{classify}.2.weight"]))
    return heads


def _type_names(count: int) -> tuple[str, ...]:
    return _TYPES if count == len(_TYPES) else tuple(f"type {i}" for i in range(count))


def _grid(tensors: Arrays, name: str, first: Any) -> int:
    """Rows and columns of the map that was laid out flat before the classifier."""
    return math.isqrt(tensors[f"{name}.0.weight"].shape[1] // first.shape[0])


def _spec(
    network: str, channels: int, heads: dict[str, Any], options: dict[str, Any]
) -> ModelSpec:
    return ModelSpec(
        network=network,
        channels=channel_names(channels),
        heads=heads,
        patch=(400, 400),
        spacing_mm={"US": {"longest": 400}},
        intensity={"US": {"kind": "percentile", "low": 0, "high": 100, "onto": [0, 1]}},
        options=options,
    )


def _card(kind: str) -> dict[str, Any]:
    return {
        "name": kind,
        "title": f"{kind}, as published for nerves in optoacoustic pictures",
        "source": f"{_SOURCE}, or trained with its code",
        "limits": [
            "Intensities: each channel to 0..1; training scaled column by column."
        ],
        "recommended": {"US": [_NERVE]} if kind != "resultnet" else {},
    }


def _is_quick(tensors: Arrays, segment: str) -> bool:
    return "encode1.conv1.weight" in tensors and segment in tensors


KINDS = {
    "quicknat": Kind(lambda t: _is_quick(t, "classifier.conv.weight"), _quick),
    "quickfcn": Kind(lambda t: _is_quick(t, "classifier.0.weight"), _quick),
    "softquickfcn": Kind(lambda t: "encode1_seg.conv1.weight" in t, _soft),
    "resultnet": Kind(
        lambda t: {"conv1.weight", "layer4.1.bn2.weight", "fc.weight"} <= t.keys(),
        _resnet,
    ),
}
