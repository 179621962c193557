"""Instance norm that keeps the memory format convolutions like.

PyTorch's own copies a channels_last map into its usual format and back. Batch norm does
not, and over a batch of one image it is instance norm; its gradient is a few sums and
products of whole maps. Together they take less than half of the time on CPUs, and give
the same numbers up to rounding. Group norm with one channel a group loses digits where
a mean is large against its deviation.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class InstanceNorm2d(nn.InstanceNorm2d):
    """As the one of PyTorch, which it is wherever it would not be faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each image, shape (n, c, h, w)."""
        if not _pays(x) or self.weight is None:
            return super().forward(x)
        y: Tensor = _Normalised.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return y


def _pays(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype != torch.float32 or x[0, 0].numel() == 1:
        return False
    return x.is_contiguous(memory_format=torch.channels_last)


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        y = torch.empty_like(x)
        mean, scale = (x.new_empty(x.shape[:2]) for _ in range(2))
        for i in range(len(x)):
            torch.ops.aten.native_batch_norm.out(
                x[i : i + 1], weight, bias, None, None, True, 0.0, eps,
                out=y[i : i + 1], save_mean=mean[i], save_invstd=scale[i],
            )  # fmt: skip
        ctx.save_for_backward(x, weight, mean, scale)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        rows, pulls = _rows(x), _rows(gradient)  # (n, h * w, c)
        size = rows.shape[1]
        d_bias = pulls.sum(1)
        d_weight = ((pulls * rows).sum(1) - mean * d_bias) * scale
        # d_x = share * gradient + slope * x + rest, all by image and channel
        share = weight * scale
        slope = -share * scale * d_weight / size
        rest = -share * d_bias / size - slope * mean
        d_x = torch.addcmul(rest[:, None], rows, slope[:, None])
        d_x.addcmul_(pulls, share[:, None])
        d_x = d_x.view(gradient.movedim(1, -1).shape).movedim(-1, 1)
        return d_x, d_weight.sum(0), d_bias.sum(0), None


def _rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).flatten(1, 2)
