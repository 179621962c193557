"""A convolution of a map at double its size, joined with a skip, in half the work.

The doubled map repeats every value four times, so that most products of a 3 x 3 kernel
with it are taken more than once. Doubling and convolving is one transposed convolution
with a 4 x 4 kernel, whose taps are sums of those of the small one: 4 products for each
pixel instead of 9, and neither the doubled map nor the joined one is ever made. A skip
from a frozen encoder is told no gradient. The numbers are the same up to rounding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 16**2  # pixels of a map; below, summing the kernels costs more than it saves


def doubled(x: Tensor, skip: Tensor | None, weight: Tensor) -> Tensor:
    """Double the size of a map, join the skip behind it, and convolve.

    Parameters
    ----------
    x : Tensor, shape (n, c, h, w)
        The map; each value becomes 2 x 2 equal ones.
    skip : Tensor, shape (n, s, 2 * h, 2 * w), or None
        What is joined.
    weight : Tensor, shape (k, c + s, 3, 3)
        Kernels; zeros lie around the picture.

    Returns
    -------
    Tensor, shape (n, k, 2 * h, 2 * w)
    """
    if not _pays(x):
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        # the image stays float32 where the rest is computed in less
        joined = x if skip is None else torch.cat([x, skip.to(x.dtype)], 1)
        return F.conv2d(joined, weight, padding=1)
    count = x.shape[1]
    y = F.conv_transpose2d(x, _spread(weight[:, :count]), stride=2, padding=1)
    return y if skip is None else y.add_(F.conv2d(skip, weight[:, count:], padding=1))


def _pays(x: Tensor) -> bool:
    """Tell whether it is faster: measured on CPUs, in single precision."""
    low = torch.is_autocast_enabled("cpu") or x.dtype != torch.float32
    large = x.shape[2] * x.shape[3] >= SMALLEST
    return x.device.type == "cpu" and large and not low


def _spread(weight: Tensor) -> Tensor:
    """Kernels (k, c, 3, 3) of a convolution to those (c, k, 4, 4) of a transposed one.

    Every tap reaches the four equal values that one value became.
    """
    turned = weight.flip(2, 3).transpose(0, 1)
    wide = F.pad(turned, (0, 1)) + F.pad(turned, (1, 0))
    return F.pad(wide, (0, 0, 0, 1)) + F.pad(wide, (0, 0, 1, 0))
