"""DenseNet-121 as an encoder, with the tensor names of the published HydraNet.

G. Huang et al., "Densely connected convolutional networks", CVPR 2017,
:doi:`10.1109/CVPR.2017.243`. Departures: no classifier; taps after the ReLU of each
transition and after ``norm5`` (without ReLU), as in the published HydraNet; the image
itself is the first feature map.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder

_GROWTH, _NARROW = 32, 128
_LAYERS = (6, 12, 24, 16)


class _DenseLayer(nn.Module):
    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, _NARROW, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(_NARROW)
        self.conv2 = nn.Conv2d(_NARROW, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return torch.cat([x, y], 1)  # (n, c + 32, h, w)


class _Transition(nn.Module):
    """Answers with the tap (before the convolution) and the halved map."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.conv = nn.Conv2d(c_in, c_in // 2, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tap = F.relu(self.norm(x))
        return tap, F.avg_pool2d(self.conv(tap), 2)


class DenseNet121(Encoder):
    """Feature maps at full, 1/2, 1/4, 1/8, 1/16 and 1/32 size.

    Parameters
    ----------
    in_channels : int
        Channels of the image; its sides must be multiples of 32.
    """

    STRIDE = 32

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(64),
        )
        channels, width = [in_channels, 64], 64
        for i, count in enumerate(_LAYERS, 1):
            names = OrderedDict(
                (f"denselayer{n + 1}", _DenseLayer(width + n * _GROWTH))
                for n in range(count)
            )
            layers[f"denseblock{i}"] = nn.Sequential(names)  # type: ignore[arg-type]  # OrderedDict is invariant
            width += count * _GROWTH
            channels.append(width)
            if i < len(_LAYERS):
                layers[f"transition{i}"] = _Transition(width)
                width //= 2
        layers["norm5"] = nn.BatchNorm2d(width)
        self.features = nn.ModuleDict(layers)
        self.channels = tuple(channels)

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        f, last = self.features, len(_LAYERS)
        levels: list[list[nn.Module]] = [[], [f["conv0"], f["norm0"]]]
        for i in range(1, last + 1):
            # the convolution of a transition lies behind its tap
            before = [f[f"transition{i - 1}"].get_submodule("conv")] if i > 1 else []
            norm = f.get_submodule(f"transition{i}.norm" if i < last else "norm5")
            levels.append([*before, f[f"denseblock{i}"], norm])
        return levels

    def forward(self, x: Tensor) -> list[Tensor]:
        f = self.features
        y = F.relu(f["norm0"](f["conv0"](x)))  # (n, 64, h/2, w/2)
        features = [x, y]
        y = F.max_pool2d(y, 3, 2, 1)
        for i in range(1, len(_LAYERS)):
            tap, y = f[f"transition{i}"](f[f"denseblock{i}"](y))
            features.append(tap)
        y = f["norm5"](f[f"denseblock{len(_LAYERS)}"](y))
        return [*features, y]
