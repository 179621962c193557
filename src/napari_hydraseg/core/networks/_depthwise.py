"""Depthwise convolution whose gradients are fast on a CPU.

oneDNN computes the answer of a depthwise convolution quickly, but some of its
gradients up to forty times slower: that of the image where the stride is 2, and that of
a 5 x 5 kernel, most of all in bfloat16. Both can be had from what it does quickly: the
first is a convolution of the spread-out gradient with the turned kernel, the second is
pieced together from four 3 x 3 kernels. The numbers are the same.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Convolve each channel with its own kernel.

    Parameters
    ----------
    x : Tensor, shape (n, c, h, w)
        The image. With ``stride=2`` its padded sides must be spanned exactly.
    weight : Tensor, shape (c, 1, k, k)
        Kernels, k = 3 or 5.
    stride : int
        Step of the kernel.
    padding : int
        Zeros on all four sides.
    """
    if x.device.type != "cpu" or not torch.is_grad_enabled():
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))
    if torch.is_autocast_enabled("cpu"):
        low = torch.get_autocast_dtype("cpu")
        x, weight = x.to(low), weight.to(low)
    y: Tensor = _Depthwise.apply(x, weight, stride, padding)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return y


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = gradients
        x, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        dx = _to_image(dy, x, weight, ctx.stride, ctx.padding) if wants_x else None
        dw = (
            _to_kernel(dy, x, weight, ctx.stride, ctx.padding) if wants_weight else None
        )
        return dx, dw, None, None


def _to_image(dy: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    """Return the gradient of the image: dy with the turned kernel."""
    reach = weight.shape[2] - 1
    if stride > 1:
        n, c, h, w = x.shape
        spread = torch.zeros(
            (n, c, h + 2 * pad - reach, w + 2 * pad - reach),
            dtype=dy.dtype,
        ).to(memory_format=torch.channels_last)
        spread[:, :, ::stride, ::stride] = dy
        dy = spread
    turned = weight.flip(2, 3)
    return F.conv2d(dy, turned, None, 1, reach - pad, 1, len(weight))


def _to_kernel(dy: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    """Return the gradient of the kernel, 3 x 3 taps at a time."""
    if weight.shape[2] == 3:
        return _three(dy, x, weight, stride, pad)
    padded = F.pad(x, (pad,) * 4)
    rows, columns = ((n - 1) * stride + 3 for n in dy.shape[2:])
    dw = torch.empty_like(weight)
    for i in (0, 2):
        for j in (0, 2):
            part = padded[:, :, i : i + rows, j : j + columns]
            part = part.contiguous(memory_format=torch.channels_last)
            taps = (..., slice(i, i + 3), slice(j, j + 3))
            dw[taps] = _three(dy, part, weight[taps], stride, 0)
    return dw


def _three(dy: Tensor, x: Tensor, weight: Tensor, stride: int, pad: int) -> Tensor:
    only_weight = [False, True, False]
    dw: Tensor = torch.ops.aten.convolution_backward(
        dy, x, weight, [0], [stride] * 2, [pad] * 2, [1, 1], False, [0, 0],
        len(weight), only_weight,
    )[1]  # fmt: skip
    return dw
