"""The decoder of the published HydraNet (github.com/Shirialmog/HydraNet).

Only the coarsest map is used: its code passes no skips, whatever its figure draws.
Departures: the last convolution, which all its heads share, is each head's own here, so
that teaching one head leaves the others alone; transposed convolutions are made only
where they are used.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

_WIDTHS = (256, 128, 64, 32, 16)

Enlarge = Literal["nearest", "transposed"]


def _double(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
        nn.Conv2d(c_out, c_out, 3, padding=1),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, enlarge: Enlarge) -> None:
        super().__init__()
        transposed = enlarge == "transposed"
        self.upconv = nn.ConvTranspose2d(c_in, c_in // 2, 2, 2) if transposed else None
        self.conv = _double(c_in // 2 if transposed else c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        if self.upconv is None:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        else:
            x = self.upconv(x)
        y: Tensor = self.conv(x)
        return y


class PlainDecoder(nn.Module):
    """The coarsest feature map to logits of the image's size.

    Parameters
    ----------
    c_in : int
        Channels of that map, at 1/32 size.
    classes : int
        Background included.
    enlarge : {"nearest", "transposed"}
        How a block doubles the size.
    """

    def __init__(self, c_in: int, classes: int, *, enlarge: Enlarge) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _Block(wide, narrow, enlarge) for wide, narrow in pairwise((c_in, *_WIDTHS))
        )
        self.classify = nn.Conv2d(_WIDTHS[-1], classes, 3, padding=1)
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one
        nn.init.xavier_uniform_(self.classify.weight)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits, shape (n, class, h, w)."""
        x = features[-1]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.classify(x)
        return logits
