"""ResNet-18: every head classifies.

K. He et al., "Deep residual learning for image recognition", CVPR 2016,
:doi:`10.1109/CVPR.2016.90`. Departure: the mean over the whole last map instead of a
7 x 7 window, which is the same at 224 x 224 and lets any image do.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder, MultiHead

NDIM = 2
STRIDE = 1  # strided convolutions take any size
SOURCE = "He 2016, doi 10.1109/CVPR.2016.90"
CLASSIFIES = True

_WIDTHS = (64, 128, 256, 512)


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = nn.Sequential()
        if stride > 1:
            self.downsample.append(nn.Conv2d(c_in, c_out, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class _Encoder(Encoder):
    """Feature maps at 1/2, 1/4, 1/8, 1/16 and 1/32 size."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.channels = (_WIDTHS[0], *_WIDTHS)
        self.conv1 = nn.Conv2d(in_channels, _WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layers = nn.ModuleList(
            nn.Sequential(_Block(c_in, c_out, 1 + (i > 0)), _Block(c_out, c_out, 1))
            for i, (c_in, c_out) in enumerate(
                zip(self.channels[:-1], _WIDTHS, strict=True)
            )
        )

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        return [[self.conv1, self.bn1], *([layer] for layer in self.layers)]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [F.relu(self.bn1(self.conv1(x)))]
        y = F.max_pool2d(features[0], 3, 2, 1)
        for layer in self.layers:
            y = layer(y)
            features.append(y)
        return features


class _Classifier(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(_WIDTHS[-1], classes)

    def forward(self, features: list[Tensor]) -> Tensor:
        logits: Tensor = self.fc(features[-1].mean((2, 3)))  # (n, class)
        return logits


def build(in_channels: int, heads: dict[str, int]) -> MultiHead:
    """Build a ResNet-18.

    Parameters
    ----------
    in_channels : int
        Image channels.
    heads : dict of str to int
        Number of classes of each head.

    Returns
    -------
    MultiHead
        Takes (n, in_channels, h, w); each head gives (n, class).
    """
    decoders: dict[str, nn.Module] = {
        name: _Classifier(classes) for name, classes in heads.items()
    }
    return MultiHead(_Encoder(in_channels), decoders, STRIDE)
