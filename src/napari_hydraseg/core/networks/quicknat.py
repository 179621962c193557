"""QuickNAT, and the hard-sharing QuickFCN: one encoder, masks and classes from it.

A. Guha Roy et al., "QuickNAT", NeuroImage 2019,
:doi:`10.1016/j.neuroimage.2018.11.042`. QuickFCN
(github.com/johnpeterflynn/nerve-segmentation-classification) adds a classifier to the
bottleneck. Departures: a classifier averages its map to the published size, so that
images need not be 400 x 400; the bottleneck has no squeeze-and-excitation weights (the
published code makes some there and never uses them); the places of the maxima are found
again from the skips, where they come from.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead, Norm
from ._natblocks import Classifier, Decoder, DenseBlock

NDIM = 2
STRIDE = 16  # at the published four levels; build() pads to 2 ** levels
SOURCE = "Guha Roy 2019, doi 10.1016/j.neuroimage.2018.11.042"


class _Encoder(Encoder):
    def __init__(
        self,
        in_channels: int,
        *,
        width: int,
        levels: int,
        norm: Norm,
        dropout: float,
        squeeze: bool,
    ) -> None:
        super().__init__()
        self.channels = (width,) * (levels + 1)
        self.blocks = nn.ModuleList(
            DenseBlock(c_in, width, norm=norm, dropout=dropout, squeeze=squeeze)
            for c_in in (in_channels, *self.channels[1:-1])
        )
        self.bottleneck = DenseBlock(width, width, norm=norm)

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        return [[block] for block in (*self.blocks, self.bottleneck)]

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for block in self.blocks:
            features.append(block(x))
            x = F.max_pool2d(features[-1], 2)
        return [*features, self.bottleneck(x)]


def build(
    in_channels: int,
    heads: dict[str, int],
    *,
    width: int = 64,
    levels: int = 4,
    norm: Norm = "batch",
    dropout: float = 0.2,
    squeeze: bool = False,
    classify: Sequence[str] = (),
    grid: int = 25,
) -> MultiHead:
    """Build a QuickNAT.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head; background included where it segments.
    width, levels : int
        Channels of every block; poolings.
    norm : {"batch", "instance"}
        Before each convolution; the instance norm has no weights.
    dropout : float
        Share of channels that are dropped after a block.
    squeeze : bool
        Whether blocks weigh channels and places (scSE).
    classify : sequence of str
        Heads that answer once for each image.
    grid : int
        Rows and columns of what they see: the bottleneck of a 400-pixel image.

    Returns
    -------
    MultiHead
        Takes (n, in_channels, h, w).
    """
    shared = _Encoder(
        in_channels,
        width=width,
        levels=levels,
        norm=norm,
        dropout=dropout,
        squeeze=squeeze,
    )
    decoders: dict[str, nn.Module] = {
        name: Classifier(width, classes, grid=grid)
        if name in classify
        else Decoder(
            levels, width, classes, norm=norm, dropout=dropout, squeeze=squeeze
        )
        for name, classes in heads.items()
    }
    return MultiHead(shared, decoders, 2**levels)
