"""The 2-D U-Net, in two forms that were published as Keras models.

O. Ronneberger et al., "U-Net", MICCAI 2015, :doi:`10.1007/978-3-319-24574-4_28`. By
default the form of a brain-tumour model (width 32, no norm, softmax). ``width=64,
norm=True, narrow=True, sigmoid=True`` is github.com/Huangyuren/unet_SCM: batch norm
after each ReLU, and a head that narrows to two channels first. As in both, convolutions
are padded, maps are enlarged to the nearest pixel and convolved 2 x 2 (padded below and
on the right, as TensorFlow does), and skips come first where maps are joined. A sigmoid
head is a softmax head whose background logit is zero.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead, with_background

NDIM = 2
STRIDE = 16  # at a depth of 5; build() pads to 2 ** (depth - 1)
SOURCE = "Ronneberger 2015, doi 10.1007/978-3-319-24574-4_28"


def _norm(channels: int, wanted: bool) -> nn.Module:
    # as in Keras, which counts a momentum of 0.99 the other way round
    return nn.BatchNorm2d(channels, 1e-3, 0.01) if wanted else nn.Identity()


class _DoubleConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm1 = _norm(c_out, norm)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.norm2 = _norm(c_out, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(F.relu(self.conv1(x)))
        y: Tensor = self.norm2(F.relu(self.conv2(x)))
        return y


class _Encoder(Encoder):
    def __init__(
        self, in_channels: int, width: int, dropout: Sequence[float], norm: bool
    ) -> None:
        super().__init__()
        self.channels = tuple(width * 2**level for level in range(len(dropout)))
        self.blocks = nn.ModuleList(
            _DoubleConv(c_in, c_out, norm)
            for c_in, c_out in pairwise((in_channels, *self.channels))
        )
        self.dropouts = nn.ModuleList(nn.Dropout(share) for share in dropout)

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        return [[block] for block in self.blocks]

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for block, dropout in zip(self.blocks, self.dropouts, strict=True):
            x = dropout(block(F.max_pool2d(x, 2) if features else x))
            features.append(x)
        return features


class _Narrow(nn.Module):
    """To two channels, then to the classes."""

    def __init__(self, c_in: int, classes: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, 2, 3, padding=1)
        self.norm1 = _norm(2, norm)
        self.conv2 = nn.Conv2d(2, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv2(self.norm1(F.relu(self.conv1(x))))
        return logits


class _Decoder(nn.Module):
    def __init__(
        self,
        channels: tuple[int, ...],
        classes: int,
        *,
        norm: bool,
        narrow: bool,
        sigmoid: bool,
    ) -> None:
        super().__init__()
        steps = list(reversed(list(pairwise(channels))))
        self.ups = nn.ModuleList(nn.Conv2d(wide, fine, 2) for fine, wide in steps)
        self.convs = nn.ModuleList(
            _DoubleConv(2 * fine, fine, norm) for fine, _ in steps
        )
        self.sigmoid = sigmoid
        answers = classes - sigmoid
        self.classify: nn.Module = (
            _Narrow(channels[0], answers, norm)
            if narrow
            else nn.Conv2d(channels[0], answers, 1)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for up, conv, skip in zip(
            self.ups, self.convs, reversed(features[:-1]), strict=True
        ):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = F.relu(up(F.pad(x, (0, 1, 0, 1))))
            x = conv(torch.cat([skip, x], 1))
        logits: Tensor = self.classify(x)
        return with_background(logits) if self.sigmoid else logits


def build(
    in_channels: int,
    heads: dict[str, int],
    *,
    width: int = 32,
    dropout: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.2),
    norm: bool = False,
    narrow: bool = False,
    sigmoid: bool = False,
) -> MultiHead:
    """Build a 2-D U-Net.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head, background included.
    width : int
        Channels of the finest level; each level doubles.
    dropout : sequence of float
        At the end of each level, the finest first: as many as there are levels.
    norm : bool
        Whether a batch norm follows each ReLU.
    narrow : bool
        Whether a head narrows to two channels before it classifies.
    sigmoid : bool
        Whether the background's logit is zero instead of learned.

    Returns
    -------
    MultiHead
        Takes (n, in_channels, h, w).
    """
    shared = _Encoder(in_channels, width, dropout, norm)
    decoders: dict[str, nn.Module] = {
        name: _Decoder(
            shared.channels, classes, norm=norm, narrow=narrow, sigmoid=sigmoid
        )
        for name, classes in heads.items()
    }
    made = MultiHead(shared, decoders, 2 ** (len(dropout) - 1))
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
    return made
