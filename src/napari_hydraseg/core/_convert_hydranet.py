"""The published HydraNet (github.com/Shirialmog/HydraNet) as a model of ours.

Three layouts: all (an encoder and a decoder per organ), the transfer model (one
decoder), the encoder alone. What the published code makes and never uses is left out:
transposed convolutions where maps are enlarged to the nearest pixel, the head for three
classes, a classifier.
"""

import re

from ._foreign import Arrays, Kind, Translated, channel_names, renamed
from .types import ModelSpec

_SHARED = "segmentation_head_2_class.conv."
_FIRST = "encoder.features.conv0.weight"
_OLD = re.compile(
    r"(denselayer\d+\.(?:norm|conv))\.(\d)\."
)  # names of early torchvision
_TARGET = "target"  # the organ of a transfer model, which the file does not name
_UNTRAINED = "hippocampus"

_ORGANS = {
    "CT": ("lits", "hepatic_vessel", "spleen", "pancreas"),
    "MR": ("prostate", "brain", "left_atrial"),
}


def _plain(name: str) -> str:
    """Give an encoder tensor the name that the full model has for it."""
    name = _OLD.sub(r"\1\2.", name)
    return f"encoder.{name}" if name.startswith(("features.", "classifier.")) else name


def _recognise(tensors: Arrays) -> bool:
    names = {_plain(name) for name in tensors}
    return {_FIRST, "encoder.features.denseblock4.denselayer16.conv2.weight"} <= names


def _translate(tensors: Arrays) -> Translated:
    full = {_plain(name): value for name, value in tensors.items()}
    found = {re.match(r"decoder(?:_(\w+))?\.", name) for name in full}
    heads = sorted({match.group(1) or _TARGET for match in found if match})
    transposed = any(
        name.endswith("blocks.0.conv.conv.0.weight") and value.shape[1] == 512
        for name, value in full.items()
    )

    def ours(name: str) -> str | None:
        if name.startswith("encoder.features."):
            return name
        match = re.match(r"decoder(?:_(\w+))?\.(blocks\.\d\.)(.+)", name)
        if not match or ("upconv" in name and not transposed):
            return None
        head, block, rest = match.groups()
        return f"heads.{head or _TARGET}.{block}{rest.replace('conv.conv.', 'conv.')}"

    weights, ignored = renamed(full, ours)
    if heads:  # the last convolution, which all heads share
        for part in ("weight", "bias"):
            shared = full.get(f"{_SHARED}{part}")
            if shared is not None:
                weights |= {f"heads.{head}.classify.{part}": shared for head in heads}
    ignored = tuple(name for name in ignored if not name.startswith(_SHARED))
    inputs = full[_FIRST].shape[1]
    spec = _spec(heads, inputs, "transposed" if transposed else "nearest")
    return Translated(spec, weights, ignored, _card(heads))


def _spec(heads: list[str], inputs: int, decoders: str) -> ModelSpec:
    slices = 3 if inputs == 3 else 1
    if not heads:  # to be taught ours, which are a tenth as large and see all maps
        decoders = "light"
    return ModelSpec(
        network="hydranet",
        channels=channel_names(inputs // slices),
        heads={head: ("background", head.replace("_", " ")) for head in heads},
        patch=(384, 384),
        spacing_mm={"MR": {"longest": 384}, "CT": {"longest": 384}},
        intensity={"MR": {"kind": "standard"}, "CT": {"kind": "standard"}},
        options={"encoder": "densenet121", "decoders": decoders, "slices": slices},
    )


def _card(heads: list[str]) -> dict[str, object]:
    limits = [
        "The file does not say how its training slices were turned.",
        "Intensities: z-scores over the scan; training took them over three slices, "
        "and scaled the CT of the spleen to 0..1 from -300..600 HU.",
    ]
    if not heads:
        limits = ["An encoder alone: teach it a head before it can segment."]
    if _UNTRAINED in heads:
        limits.append(f"The published head {_UNTRAINED!r} was never trained.")
    return {
        "name": "hydranet-published" if heads else "hydranet-encoder",
        "title": "HydraNet with a DenseNet-121 encoder, as published",
        "source": "github.com/Shirialmog/HydraNet, or trained with its code",
        "limits": limits,
        "heads": {
            head: {"modality": [modality]}
            for modality, organs in _ORGANS.items()
            for head in organs
            if head in heads
        },
        "recommended": {
            modality: [organ for organ in organs if organ in heads]
            for modality, organs in _ORGANS.items()
        },
    }


KINDS = {"hydranet": Kind(_recognise, _translate)}
