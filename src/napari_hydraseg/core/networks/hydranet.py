"""HydraNet: one shared 2-D encoder, one light decoder for each organ.

The family of the published HydraNet (github.com/Shirialmog/HydraNet): a DenseNet-121
encoder and a decoder per organ. Departures: the default encoder is EfficientNet-Lite0,
an eighth of the operations; skip connections are on; decoders have about 0.5 M
parameters instead of 5.8 M, so that a head is cheap to train and to add.
``encoder="densenet121", decoders="nearest"`` is the published form,
``decoders="transposed"`` that of its transfer model; see `_plaindecoder`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead
from ._densenet import DenseNet121
from ._doubled import doubled
from ._efficientnet import EfficientNetLite0
from ._instance import InstanceNorm2d
from ._plaindecoder import PlainDecoder

NDIM = 2
STRIDE = 32
SOURCE = "HydraNet (github.com/Shirialmog/HydraNet); doi 10.48550/arXiv.1905.11946"

Norm = Literal["instance", "batch"]
_NORMS: dict[str, type[nn.Module]] = {
    "instance": InstanceNorm2d,
    "batch": nn.BatchNorm2d,
}
_ENCODERS = {"efficientnet_lite0": EfficientNetLite0, "densenet121": DenseNet121}
_WIDTHS = (16, 24, 40, 64, 96, 112)  # of a decoder at full, 1/2, ... 1/32 size
_FINE = 2  # levels with one convolution: at full and 1/2 size each costs the most


class _Up(nn.Module):
    """Double the size, join the skip, convolve once or twice."""

    def __init__(
        self, c_in: int, c_out: int, convolutions: int, norm: type[nn.Module]
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(c_out if i else c_in, c_out, 3, padding=1, bias=False)
            for i in range(convolutions)
        )
        self.norms = nn.ModuleList(
            norm(c_out, affine=True) for _ in range(convolutions)
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x) if i else doubled(x, skip, conv.get_parameter("weight"))
            x = norm(x)  # may lose the memory format that convolutions like
            x = F.relu_(x.contiguous(memory_format=torch.channels_last))
        return x


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolve with 1 x 1 kernels as a matrix product, whose gradient is cheaper."""
    rows = F.linear(x.movedim(1, -1), conv.weight.flatten(1), conv.bias)
    return rows.movedim(-1, 1)


class Decoder(nn.Module):
    """Feature maps, finest first, to logits of the image's size.

    Parameters
    ----------
    channels : tuple of int
        Channels of the feature maps, the image first.
    classes : int
        Background included.
    skips : bool
        Whether all maps are used, or only the coarsest.
    norm : {"instance", "batch"}
        See `build`.
    """

    def __init__(
        self, channels: tuple[int, ...], classes: int, *, skips: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.skips = skips
        kind = _NORMS[norm]
        self.reduce = nn.Conv2d(channels[-1], _WIDTHS[-1], 1, bias=False)
        self.norm = kind(_WIDTHS[-1], affine=True)
        self.ups = nn.ModuleList(
            _Up(
                wide + (channels[level] if skips else 0),
                narrow,
                1 if level < _FINE else 2,
                kind,
            )
            for level, (narrow, wide) in reversed(
                list(enumerate(pairwise(_WIDTHS)))
            )  # coarsest first
        )
        self.classify = nn.Conv2d(_WIDTHS[0], classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits, shape (n, class, h, w)."""
        coarsest = self.reduce(features[-1])  # (n, 112, h/32, w/32)
        x = F.relu(coarsest if self._single(coarsest) else self.norm(coarsest))
        for up, skip in zip(self.ups, reversed(features[:-1]), strict=True):
            x = up(x, skip if self.skips else None)
        return _pointwise(self.classify, x)

    def _single(self, x: Tensor) -> bool:
        """Tell whether there is but one value, which has no spread to normalise by."""
        if isinstance(self.norm, nn.InstanceNorm2d):
            return x[0, 0].numel() == 1
        return self.training and x[:, 0].numel() == 1


def build(
    in_channels: int,
    heads: dict[str, int],
    *,
    encoder: Literal["efficientnet_lite0", "densenet121"] = "efficientnet_lite0",
    decoders: Literal["light", "nearest", "transposed"] = "light",
    skips: bool = True,
    norms: Mapping[str, Norm] | None = None,
    slices: int = 1,
    reads: Mapping[str, Sequence[str]] | None = None,
) -> MultiHead:
    """Build a HydraNet.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head, background included.
    encoder : {"efficientnet_lite0", "densenet121"}
        Shared by all heads.
    decoders : {"light", "nearest", "transposed"}
        Our own, or those of the published HydraNet by how they double the size.
    skips : bool
        Whether light decoders see all feature maps; the published ones never do.
    norms : mapping of str to {"instance", "batch"}, optional
        Of the light decoder of each head; instance norm where none is named. It suits
        grey values that mean something else in each scan, and knows no statistics that
        could drift, but what it answers depends on how much of the body is in the
        picture: learned on pieces, it draws too much on whole slices. Batch norm does
        not, and is faster.
    slices : {1, 3}
        3: each image channel comes with its two neighbouring slices (2.5-D).
    reads : mapping of str to sequence of str, optional
        Head -> names of the scans that it reads at once, each encoded apart.

    Returns
    -------
    MultiHead
        Takes (n, in_channels * slices, h, w).
    """
    shared: Encoder = _ENCODERS[encoder](in_channels * slices)
    images = {name: len(names) for name, names in (reads or {}).items()}
    widths = {
        name: tuple(n * images.get(name, 1) for n in shared.channels) for name in heads
    }
    norms = norms or {}
    made: dict[str, nn.Module] = {
        name: Decoder(
            widths[name], classes, skips=skips, norm=norms.get(name, "instance")
        )
        if decoders == "light"
        else PlainDecoder(widths[name][-1], classes, enlarge=decoders)
        for name, classes in heads.items()
    }
    return MultiHead(shared, made, STRIDE, images)
