"""Random changes of training slices: geometry and intensity, drawn apart from applied.

A slice is cut out, turned, scaled, shifted and bent in one interpolation; then its
grey values are changed. Everything random comes from the generator that is passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from .losses import IGNORE


@dataclass(frozen=True)
class Recipe:
    """How strongly slices are changed.

    Attributes
    ----------
    rotation_deg : float
        Largest rotation either way.
    scaling : float
        Largest relative scaling either way (0.2: 0.83 to 1.2).
    stretch : float
        The same, of one axis against the other.
    shift : float
        Largest shift, as a fraction of the side.
    flip : float
        Probability of a left-right flip. 0 where labels know sides.
    bend_px : float
        Standard deviation of a smooth deformation.
    gamma : float
        Largest exponent or its inverse.
    contrast, brightness : float
        Largest relative and absolute change (the image spans about -1..1).
    invert, blur, low_resolution, noise : float
        Probabilities of contrast inversion, Gaussian blur, loss of resolution, noise.
    floor : float, optional
        Normalised grey value below which a quarter of the slices is cut off, as CT that
        was clipped at 0 HU is.
    bias : float
        Largest strength, as a logarithm, of a smooth gain over the image such as the
        coils of an MR scanner have; half of the slices get one.
    """

    rotation_deg: float = 0.0
    scaling: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    flip: float = 0.0
    bend_px: float = 0.0
    gamma: float = 1.0
    contrast: float = 0.0
    brightness: float = 0.0
    invert: float = 0.0
    blur: float = 0.0
    low_resolution: float = 0.0
    noise: float = 0.0
    floor: float | None = None
    bias: float = 0.0


NONE = Recipe()
LIGHT = Recipe(
    rotation_deg=15,
    scaling=0.15,
    shift=0.05,
    gamma=1.3,
    contrast=0.2,
    brightness=0.1,
    noise=0.2,
)
STRONG = Recipe(
    rotation_deg=25,
    scaling=0.3,
    stretch=0.1,
    shift=0.1,
    bend_px=3.0,
    gamma=1.7,
    contrast=0.3,
    brightness=0.2,
    invert=0.1,
    blur=0.2,
    low_resolution=0.15,
    noise=0.3,
)


def change(
    image: Tensor,
    labels: Tensor,
    *,
    size: tuple[int, ...],
    centre: tuple[float, ...],
    recipe: Recipe,
    rng: Generator,
    voxel_mm: tuple[float, ...] = (),
) -> tuple[Tensor, Tensor]:
    """Cut a changed piece out of one slice, or out of a block.

    Parameters
    ----------
    image : Tensor of float32, shape (channel, h, w) or (channel, z, y, x)
        Normalised grey values.
    labels : Tensor of uint8, shape (h, w) or (z, y, x)
        Class indices.
    size : tuple of int
        Size of the piece; it may be larger than the image.
    centre : tuple of float
        The place of the image that comes to the middle.
    recipe : Recipe
        What may change.
    rng : numpy.random.Generator
        Source of all chance.
    voxel_mm : tuple of float
        Size of a voxel along each axis, so that turns and bends are those of the body
        where voxels are not cubes; empty: as if they were.

    Returns
    -------
    image : Tensor, shape (channel, *size)
        Continued by its edge values outside of the slice.
    labels : Tensor of int64, shape size
        `IGNORE` outside of the slice.
    """
    turned = _places if labels.ndim == 2 else _places_3d
    sides = _sides(voxel_mm, len(size))
    places = turned(image.shape[1:], size, centre, recipe, rng, sides)
    piece = F.grid_sample(
        image[None], places, padding_mode="border", align_corners=False
    )[0]
    # 0 is what grid_sample puts outside: shift the labels by one and back
    moved = F.grid_sample(
        labels[None, None].float() + 1, places, mode="nearest", align_corners=False
    )[0, 0]
    known = moved > 0
    if recipe.bias and rng.random() < 0.5:
        piece = _gain(piece, recipe.bias * rng.uniform(), rng)
    # blur and resolution change within the slices of a block
    grey = _grey(piece.flatten(0, -3), recipe, rng).view_as(piece)
    return grey, torch.where(known, moved - 1, IGNORE).long()


def _places(
    shape: Sequence[int],
    size: tuple[int, ...],
    centre: tuple[float, ...],
    recipe: Recipe,
    rng: Generator,
    sides: tuple[float, ...],
) -> Tensor:
    """Where in the slice each pixel of the piece comes from, in [-1, 1] (x, y)."""
    angle = np.deg2rad(_either(rng, recipe.rotation_deg))
    zoom = (1 + recipe.scaling) ** rng.uniform(-1, 1)
    stretch = (1 + recipe.stretch) ** rng.uniform(-1, 1)
    rows = torch.arange(size[0], dtype=torch.float32) - (size[0] - 1) / 2
    columns = torch.arange(size[1], dtype=torch.float32) - (size[1] - 1) / 2
    if rng.random() < recipe.flip:
        columns = -columns
    rows, columns = rows / (zoom * stretch), columns * stretch / zoom
    y, x = torch.meshgrid(rows * sides[0], columns * sides[1], indexing="ij")
    if recipe.bend_px:
        bend = _bend(size, recipe.bend_px * rng.uniform(), rng)
        y, x = y + bend[0], x + bend[1]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    row = (cos * y + sin * x) / sides[0]
    column = (cos * x - sin * y) / sides[1]
    row = row + centre[0] + _either(rng, recipe.shift) * size[0]
    column = column + centre[1] + _either(rng, recipe.shift) * size[1]
    return torch.stack(
        [(2 * column + 1) / shape[1] - 1, (2 * row + 1) / shape[0] - 1], -1
    )[None]


def _places_3d(
    shape: Sequence[int],
    size: tuple[int, ...],
    centre: tuple[float, ...],
    recipe: Recipe,
    rng: Generator,
    sides: tuple[float, ...],
) -> Tensor:
    """Where in the block each voxel of the piece comes from, in [-1, 1] (x, y, z)."""
    angles = np.deg2rad([_either(rng, recipe.rotation_deg) for _ in range(3)])
    zoom = (1 + recipe.scaling) ** rng.uniform(-1, 1)
    stretch = (1 + recipe.stretch) ** rng.uniform(-1, 1, 3)
    matrix = np.eye(3)
    for axes, angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[np.ix_(axes, axes)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        matrix = matrix @ turn
    matrix = matrix / (zoom * stretch)
    if rng.random() < recipe.flip:
        matrix[:, 2] *= -1  # x: left and right
    matrix = matrix * np.array(sides) / np.array(sides)[:, None]
    ticks = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in size]
    places = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1)
    if recipe.bend_px:
        bend = _bend_3d(size, recipe.bend_px * rng.uniform(), rng)
        places = places + bend / torch.tensor(sides, dtype=torch.float32)
    shift = [
        c + _either(rng, recipe.shift) * n for c, n in zip(centre, size, strict=True)
    ]
    places = places @ torch.from_numpy(matrix.T.astype(np.float32)) + torch.tensor(
        shift
    )
    scaled = (2 * places + 1) / torch.tensor(list(shape), dtype=torch.float32) - 1
    return scaled.flip(-1)[None]


def _bend_3d(size: tuple[int, ...], sd_px: float, rng: Generator) -> Tensor:
    """Smooth displacements, one node every 16 voxels: shape (*size, 3)."""
    nodes = [max(2, n // 16 + 1) for n in size]
    coarse = torch.from_numpy(rng.normal(0, sd_px, (1, 3, *nodes)).astype(np.float32))
    fine = F.interpolate(coarse, size=size, mode="trilinear", align_corners=True)
    return fine[0].movedim(0, -1)


def _bend(size: tuple[int, ...], sd_px: float, rng: Generator) -> Tensor:
    """Smooth displacements from a coarse random grid, one node every 32 pixels."""
    nodes = [max(2, n // 32 + 1) for n in size]
    coarse = torch.from_numpy(rng.normal(0, sd_px, (1, 2, *nodes)).astype(np.float32))
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)[0]


def _sides(voxel_mm: tuple[float, ...], axes: int) -> tuple[float, ...]:
    """Sides of a voxel by its shortest; those that differ by rounding are equal."""
    if not voxel_mm or max(voxel_mm) < 1.05 * min(voxel_mm):
        return (1.0,) * axes
    return tuple(side / min(voxel_mm) for side in voxel_mm)


def _gain(image: Tensor, sd: float, rng: Generator) -> Tensor:
    """Multiply what lies above the darkest value by a smooth field around 1."""
    axes = image.ndim - 1
    nodes = rng.normal(0, sd, (1, 1, *[4] * axes)).astype(np.float32)
    mode = "bicubic" if axes == 2 else "trilinear"
    size = tuple(image.shape[1:])
    field = F.interpolate(
        torch.from_numpy(nodes), size=size, mode=mode, align_corners=True
    )
    low = image.amin()
    return (image - low) * field[0].exp() + low


def _grey(image: Tensor, recipe: Recipe, rng: Generator) -> Tensor:
    """Change grey values; each step is drawn whether or not the last one happened."""
    if recipe.floor is not None and rng.random() < 0.25:
        image = image.clamp_min(recipe.floor)
    if recipe.gamma > 1:
        image = _gamma(image, recipe.gamma ** rng.uniform(-1, 1))
    if recipe.contrast or recipe.brightness:
        factor = 1 + _either(rng, recipe.contrast)
        image = image * factor + _either(rng, recipe.brightness)
    if rng.random() < recipe.invert:
        image = -image
    if rng.random() < recipe.blur:
        image = _blur(image, rng.uniform(0.5, 1.5))
    if rng.random() < recipe.low_resolution:
        image = _coarsen(image, rng.uniform(1.5, 3))
    if rng.random() < recipe.noise:
        sd = rng.uniform(0, 0.15)
        noise = rng.normal(0, sd, tuple(image.shape)).astype(np.float32)
        image = image + torch.from_numpy(noise)
    return image


def _gamma(image: Tensor, exponent: float) -> Tensor:
    low, high = image.amin(), image.amax()
    span = (high - low).clamp_min(1e-6)
    return ((image - low) / span) ** exponent * span + low


def _blur(image: Tensor, sigma: float) -> Tensor:
    reach = int(np.ceil(2 * sigma))
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(image)
    padded = F.pad(image[:, None], [reach] * 4, mode="replicate")
    smooth = F.conv2d(padded, kernel[None, None, :, None])
    return F.conv2d(smooth, kernel[None, None, None, :])[:, 0]


def _coarsen(image: Tensor, factor: float) -> Tensor:
    size = image.shape[1:]
    small = [max(1, round(n / factor)) for n in size]
    coarse = F.interpolate(image[None], size=small, mode="area")
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0]


def _either(rng: Generator, most: float) -> float:
    return float(rng.uniform(-most, most))
