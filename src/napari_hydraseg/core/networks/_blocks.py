"""What several networks share: padding, and the forward pass of the contract."""

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "instance"]


def pad_to_multiple(x: Tensor, stride: int) -> Tensor:
    """Pad the far sides of an image with its edge values.

    Parameters
    ----------
    x : Tensor, shape (n, c, *size)
        Two or three spatial dimensions.
    stride : int
        Every side of the answer is a multiple of it.
    """
    sizes = x.shape[2:]
    pads: list[int] = []
    for size in reversed(sizes):
        pads += [0, -size % stride]
    return F.pad(x, pads, mode="replicate") if any(pads) else x


class Encoder(nn.Module):
    """Image -> list of feature maps, finest first; `channels` says how wide each is."""

    channels: tuple[int, ...]

    def levels(self) -> list[list[nn.Module]]:
        """Return what is run to reach each feature map from the one before."""
        raise TypeError(f"{type(self).__name__} does not name its levels")

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps."""
        features: list[Tensor] = super().__call__(x)
        return features


class MultiHead(nn.Module):
    """One encoder, many decoders.

    Parameters
    ----------
    encoder : Encoder
        Shared by all heads.
    heads : dict of str to nn.Module
        Name -> decoder of that list, answering with logits of the image's size, or
        with one row of logits for each image (a head that classifies).
    stride : int
        Sides are padded to a multiple of it, and the answer cropped again.
    reads : mapping of str to int
        Head -> images that it reads at once, each encoded apart; default: one.
    """

    encoder: Encoder
    heads: nn.ModuleDict
    stride: int
    reads: Mapping[str, int]

    def __init__(
        self,
        encoder: Encoder,
        heads: dict[str, nn.Module],
        stride: int,
        reads: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.reads = reads or {}
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)
        self.stride = stride

    def features(self, x: Tensor, head: str | None = None) -> list[Tensor]:
        """Compute what a head reads: the maps of its images, one after the other.

        Parameters
        ----------
        x : Tensor, shape (n, images * c, *size)
            Padded to the stride.
        head : str, optional
            Which; default: one that reads a single image.
        """
        images = self.reads.get(head, 1) if head is not None else 1
        if images == 1:
            return self.encoder(x)
        apart = x.reshape(x.shape[0] * images, -1, *x.shape[2:])
        return [
            maps.reshape(x.shape[0], -1, *maps.shape[2:])
            for maps in self.encoder(apart)
        ]

    def forward(
        self, x: Tensor, heads: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """Compute logits.

        Parameters
        ----------
        x : Tensor, shape (n, c, *size)
            Any size.
        heads : iterable of str, optional
            Which heads; all by default.

        Returns
        -------
        dict of str to Tensor
            Head -> logits of shape (n, class, *size), or (n, class).
        """
        padded = pad_to_multiple(x, self.stride)
        inside = (..., *(slice(size) for size in x.shape[2:]))
        wanted = list(self.heads.keys() if heads is None else heads)
        alike = {self.reads.get(name, 1): name for name in wanted}
        features = {n: self.features(padded, name) for n, name in alike.items()}
        answers = {
            name: self.heads[name](features[self.reads.get(name, 1)]) for name in wanted
        }
        return {
            name: logits[inside] if logits.ndim == x.ndim else logits
            for name, logits in answers.items()
        }


def with_background(foreground: Tensor) -> Tensor:
    """Put a background logit of zero first: softmax is then the sigmoid of one class.

    Parameters
    ----------
    foreground : Tensor, shape (n, class - 1, h, w)
        Logits of the other classes.
    """
    return F.pad(foreground, (0, 0, 0, 0, 1, 0))


def normalisation(norm: Norm, channels: int, *, ndim: int) -> nn.Module:
    """Make a batch or instance normalisation for 2-D or 3-D maps."""
    if norm == "batch":
        return nn.BatchNorm2d(channels) if ndim == 2 else nn.BatchNorm3d(channels)
    kind = nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d
    return kind(channels, affine=True)
