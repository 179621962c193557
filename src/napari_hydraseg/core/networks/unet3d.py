"""The 3-D U-Net.

Ö. Çiçek et al., "3D U-Net: Learning dense volumetric segmentation from sparse
annotation", MICCAI 2016, :doi:`10.1007/978-3-319-46723-8_49`. With width 32, depth 4,
three channels and three classes its convolutions have the paper's 19,069,955
parameters (the affine ones of the batch norms are not in that number). Departures:
convolutions are padded, so that the answer has the size of the image; width, depth and
normalisation are options; one decoder for each head.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead, Norm, normalisation

NDIM = 3
STRIDE = 8  # at the paper's depth of 4; build() pads to 2 ** (depth - 1)
SOURCE = "Çiçek 2016, doi 10.1007/978-3-319-46723-8_49"


class _DoubleConv(nn.Module):
    def __init__(self, c_in: int, c_middle: int, c_out: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(c_in, c_middle, 3, padding=1)
        self.norm1 = normalisation(norm, c_middle, ndim=3)
        self.conv2 = nn.Conv3d(c_middle, c_out, 3, padding=1)
        self.norm2 = normalisation(norm, c_out, ndim=3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)))


class _Encoder(Encoder):
    def __init__(self, in_channels: int, width: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.channels = tuple(width * 2 ** (level + 1) for level in range(depth))
        starts = (in_channels, *self.channels)
        self.blocks = nn.ModuleList(
            _DoubleConv(starts[level], width * 2**level, self.channels[level], norm)
            for level in range(depth)
        )

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        return [[block] for block in self.blocks]

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for level in self.blocks:
            x = level(F.max_pool3d(x, 2) if features else x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    def __init__(self, channels: tuple[int, ...], classes: int, norm: Norm) -> None:
        super().__init__()
        self.ups = nn.ModuleList(
            nn.ConvTranspose3d(wide, wide, 2, 2, bias=False)
            for wide in reversed(channels[1:])
        )
        self.convs = nn.ModuleList(
            _DoubleConv(wide + narrow, narrow, narrow, norm)
            for narrow, wide in reversed(list(pairwise(channels)))
        )
        self.classify = nn.Conv3d(channels[0], classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, conv, skip in zip(
            self.ups, self.convs, reversed(features[:-1]), strict=True
        ):
            x = conv(torch.cat([skip, up(x)], 1))
        logits: Tensor = self.classify(x)
        return logits


def build(
    in_channels: int,
    heads: dict[str, int],
    *,
    width: int = 32,
    depth: int = 4,
    norm: Norm = "batch",
) -> MultiHead:
    """Build a 3-D U-Net.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head, background included.
    width : int
        Channels of the very first convolution; each level doubles.
    depth : int
        Levels, the finest included.
    norm : {"batch", "instance"}
        After each convolution but the last.

    Returns
    -------
    MultiHead
        Takes (n, in_channels, z, y, x).
    """
    shared = _Encoder(in_channels, width, depth, norm)
    decoders: dict[str, nn.Module] = {
        name: _Decoder(shared.channels, classes, norm)
        for name, classes in heads.items()
    }
    return MultiHead(shared, decoders, 2 ** (depth - 1))
