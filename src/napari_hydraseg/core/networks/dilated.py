"""The dilated network for the grey matter of the spinal cord.

C. S. Perone, E. Calabrese, J. Cohen-Adad, "Spinal cord gray matter segmentation using
deep dilated convolutions", Scientific Reports 2018, :doi:`10.1038/s41598-018-24304-3`.
Nothing is pooled but one branch, which is the mean over the whole slice: the answer
depends on how much of the scan is shown. Widths of 32 and 64 are published. A sigmoid
head is a softmax head whose background logit is zero.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead, with_background

NDIM = 2
STRIDE = 1  # nothing is strided
SOURCE = "Perone 2018, doi 10.1038/s41598-018-24304-3"

BRANCHES = ("branch1x1", "rate6", "rate12", "rate18", "rate24")  # as they are joined
_BRIDGE = 64
_EPS, _MOMENTUM = 1e-3, 0.9  # Keras counts a momentum of 0.1 the other way round


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)


class _Unit(nn.Module):
    """Convolution, ReLU, norm, dropout, in this order."""

    def __init__(
        self, c_in: int, c_out: int, *, size: int = 3, rate: int = 1, dropout: float
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, size, padding="same", dilation=rate)
        self.norm = _norm(c_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.norm(F.relu(self.conv(x))))
        return y


class _Encoder(Encoder):
    """Three maps of full size: after two convolutions, the branches joined, amort."""

    def __init__(self, in_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.channels = (width, 6 * width, _BRIDGE)
        units = {
            "conv1": _Unit(in_channels, width, dropout=dropout),
            "conv2": _Unit(width, width, dropout=dropout),
        }
        for name in ("rate2", *BRANCHES):
            rate = int(name.removeprefix("rate")) if name.startswith("rate") else 1
            second = 3 if rate > 1 else 1  # the first is 3 x 3 throughout
            units[f"{name}_1"] = _Unit(width, width, rate=rate, dropout=dropout)
            units[f"{name}_2"] = _Unit(
                width, width, size=second, rate=rate, dropout=dropout
            )
        units["amort"] = _Unit(6 * width, _BRIDGE, size=1, dropout=dropout)
        self.units = nn.ModuleDict(units)
        self.norm = _norm(6 * width)
        self.dropout = nn.Dropout(dropout)

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        units = list(self.units.values())
        return [units[:2], [*units[2:-1], self.norm], units[-1:]]

    def forward(self, x: Tensor) -> list[Tensor]:
        u = self.units
        first = u["conv2"](u["conv1"](x))
        y = u["rate2_2"](u["rate2_1"](first))
        branches = [u[f"{name}_2"](u[f"{name}_1"](y)) for name in BRANCHES]
        whole = first.mean((2, 3), keepdim=True).expand_as(first)
        joined = torch.cat([*branches[:-1], whole, branches[-1]], 1)
        joined = self.dropout(self.norm(joined))  # (n, 6 * width, h, w)
        return [first, joined, u["amort"](joined)]


class _Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(_BRIDGE, classes - 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        return with_background(self.classify(features[-1]))


def build(
    in_channels: int, heads: dict[str, int], *, width: int = 32, dropout: float = 0.4
) -> MultiHead:
    """Build a dilated network.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head, background included.
    width : int
        Filters of every convolution but the last two.
    dropout : float
        After each norm.

    Returns
    -------
    MultiHead
        Takes (n, in_channels, h, w).
    """
    shared = _Encoder(in_channels, width, dropout)
    decoders: dict[str, nn.Module] = {
        name: _Head(classes) for name, classes in heads.items()
    }
    return MultiHead(shared, decoders, STRIDE)
