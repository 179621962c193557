"""Soft sharing: a stream for each of two tasks, joined by cross-stitch units.

I. Misra et al., "Cross-stitch networks for multi-task learning", CVPR 2016,
:doi:`10.1109/CVPR.2016.433`, in the form of SoftQuickFCN
(github.com/johnpeterflynn/nerve-segmentation-classification): three levels of QuickNAT
blocks; units after each pooling and after the bottleneck; skips are not stitched. Heads
that segment see the first stream, heads that classify the second. Departures: the units
are weights of the network, saved with it; a classifier averages its map to the
published size, so that images need not be 400 x 400.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead, Norm
from ._natblocks import Classifier, Decoder, DenseBlock

NDIM = 2
STRIDE = 8  # at the published three levels; build() pads to 2 ** levels
SOURCE = "Misra 2016, doi 10.1109/CVPR.2016.433"

_SEGMENT, _CLASSIFY = 0, 1  # the streams


class CrossStitch(nn.Module):
    """Give each of two streams a share of the other, channel by channel.

    It starts as a weighted mean with one random weight for each stream.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        own, other = torch.empty(2).uniform_(0.05, 0.95).tolist()
        self.ss, self.sc, self.cc, self.cs = (
            nn.Parameter(torch.full((1, channels, 1, 1), share))
            for share in (own, 1 - own, other, 1 - other)
        )

    def forward(self, s: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Mix two maps of equal shape."""
        return self.ss * s + self.sc * c, self.cs * s + self.cc * c


class _Encoder(Encoder):
    """Feature maps of both streams, side by side in the channels."""

    def __init__(
        self, in_channels: int, *, width: int, levels: int, norm: Norm, dropout: float
    ) -> None:
        super().__init__()
        self.channels = (2 * width,) * (levels + 1)
        starts = (in_channels, *[width] * (levels - 1))
        self.segment, self.classify = (
            nn.ModuleList(
                [
                    *(DenseBlock(n, width, norm=norm, dropout=dropout) for n in starts),
                    DenseBlock(width, width, norm=norm),
                ]
            )
            for _ in range(2)
        )
        self.units = nn.ModuleList(CrossStitch(width) for _ in range(levels + 1))

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        pairs = list(zip(self.segment, self.classify, strict=True))
        # the unit of a level lies behind its map, but the last before it
        units = [[], *([unit] for unit in self.units[:-1])]
        levels = [[*unit, *pair] for unit, pair in zip(units, pairs, strict=True)]
        levels[-1].append(self.units[-1])
        return levels

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        s = c = x
        last = len(self.units) - 1
        for level, (segment, classify, unit) in enumerate(
            zip(self.segment, self.classify, self.units, strict=True)
        ):
            s, c = segment(s), classify(c)
            if level < last:
                features.append(torch.cat([s, c], 1))
                s, c = F.max_pool2d(s, 2), F.max_pool2d(c, 2)
            s, c = unit(s, c)
        return [*features, torch.cat([s, c], 1)]


class _Segment(Decoder):
    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward([maps.chunk(2, 1)[_SEGMENT] for maps in features])


class _Classify(Classifier):
    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward([features[-1].chunk(2, 1)[_CLASSIFY]])


def build(
    in_channels: int,
    heads: dict[str, int],
    *,
    width: int = 32,
    levels: int = 3,
    norm: Norm = "instance",
    dropout: float = 0.05,
    classify: Sequence[str] = (),
    grid: int = 50,
) -> MultiHead:
    """Build a soft-sharing network.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head; background included where it segments.
    width, levels : int
        Channels of every block of a stream; poolings.
    norm : {"batch", "instance"}
        Before each convolution; the instance norm has no weights.
    dropout : float
        Share of channels that are dropped after a block.
    classify : sequence of str
        Heads that answer once for each image, from the second stream.
    grid : int
        Rows and columns of what they see: the bottleneck of a 400-pixel image.

    Returns
    -------
    MultiHead
        Takes (n, in_channels, h, w).
    """
    shared = _Encoder(
        in_channels, width=width, levels=levels, norm=norm, dropout=dropout
    )
    decoders: dict[str, nn.Module] = {
        name: _Classify(width, classes, grid=grid)
        if name in classify
        else _Segment(levels, width, classes, norm=norm, dropout=dropout)
        for name, classes in heads.items()
    }
    return MultiHead(shared, decoders, 2**levels)
