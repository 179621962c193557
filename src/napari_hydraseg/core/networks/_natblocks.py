"""The blocks of QuickNAT, which its multi-task relatives share.

A. Guha Roy et al., "QuickNAT", NeuroImage 2019,
:doi:`10.1016/j.neuroimage.2018.11.042`; squeeze and excitation: A. Guha Roy et al.,
MICCAI 2018, :doi:`10.1007/978-3-030-00928-1_48`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._blocks import Norm

_CONVOLUTIONS = 3


class _Squeeze(nn.Module):
    """Weigh channels and places (scSE), and take the larger answer of the two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Linear(channels, channels // 2)
        self.up = nn.Linear(channels // 2, channels)
        self.places = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))  # (n, c)
        return torch.maximum(
            x * weights[..., None, None], x * torch.sigmoid(self.places(x))
        )


class DenseBlock(nn.Module):
    """Three convolutions, each of which sees all that came before.

    Parameters
    ----------
    c_in, width : int
        Channels of the image and of each answer.
    norm : {"batch", "instance"}
        Before each convolution; the instance norm has no weights.
    dropout : float
        Share of channels that are dropped at the end.
    squeeze : bool
        Whether channels and places are weighed before that.
    """

    def __init__(
        self,
        c_in: int,
        width: int,
        *,
        norm: Norm = "batch",
        dropout: float = 0.0,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        kind: Callable[[int], nn.Module] = (
            nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d
        )
        for i in range(_CONVOLUTIONS):
            seen = c_in + i * width
            size = 1 if i == _CONVOLUTIONS - 1 else 5
            self.add_module(f"norm{i + 1}", kind(seen))
            self.add_module(
                f"conv{i + 1}", nn.Conv2d(seen, width, size, padding=size // 2)
            )
        self.prelu = nn.PReLU()  # one slope for the whole block
        self.squeeze = _Squeeze(width) if squeeze else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for i in range(1, _CONVOLUTIONS + 1):
            norm, conv = self.get_submodule(f"norm{i}"), self.get_submodule(f"conv{i}")
            seen.append(conv(self.prelu(norm(torch.cat(seen, 1)))))
        answer: Tensor = self.dropout(self.squeeze(seen[-1]))
        return answer


class Decoder(nn.Module):
    """Unpool to where each maximum came from, join the skip, a dense block.

    Parameters
    ----------
    levels, width, classes : int
        Poolings to undo; channels; background included.
    norm, dropout, squeeze
        See `DenseBlock`.
    """

    def __init__(
        self,
        levels: int,
        width: int,
        classes: int,
        *,
        norm: Norm,
        dropout: float,
        squeeze: bool = False,
    ) -> None:
        super().__init__()
        self.ups = nn.ModuleList(
            DenseBlock(2 * width, width, norm=norm, dropout=dropout, squeeze=squeeze)
            for _ in range(levels)
        )  # coarsest first
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits, shape (n, class, h, w)."""
        x = features[-1]
        for up, skip in zip(self.ups, reversed(features[:-1]), strict=True):
            _, places = F.max_pool2d(skip, 2, return_indices=True)
            x = F.max_unpool2d(x, places, [2, 2], output_size=skip.shape[2:])
            x = up(torch.cat([skip, x], 1))
        logits: Tensor = self.classify(x)
        return logits


class Classifier(nn.Module):
    """One row of logits for each image, from the coarsest map.

    Parameters
    ----------
    width, classes : int
        Channels of the map; classes.
    grid : int
        The map is averaged to this many rows and columns, so that any image will do;
        a map of this very size stays as it is.
    """

    def __init__(self, width: int, classes: int, *, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.layers = nn.Sequential(
            nn.Linear(width * grid**2, 25), nn.PReLU(), nn.Linear(25, classes)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits, shape (n, class)."""
        pooled = F.adaptive_avg_pool2d(features[-1], self.grid)
        logits: Tensor = self.layers(pooled.flatten(1))
        return logits
