"""A synthetic heart: the sample that opens with the first click, with its truth.

The picture imitates a short-axis cine stack of the heart (balanced SSFP: blood and fat
bright, muscle grey, lung dark) from the base to below the apex. It is drawn from
ellipses, so that every voxel's tissue is known; no scan of a person went into it.
Contrasts and sizes follow textbook short-axis anatomy: left ventricle about 55 mm
across at the base with a 10 mm wall, the right ventricle a crescent on its septal side.
As in many research copies of such scans, the rows run towards the front of the chest;
the volume therefore claims to know its spacing but not its orientation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .types import Segmentation, Volume

NAMES = {1: "right ventricle", 2: "myocardium", 3: "left ventricle", 4: "aorta"}
SHAPE = (12, 216, 256)
SPACING_MM = (10.0, 1.5, 1.5)

Field: TypeAlias = NDArray[Any]
"""A value per voxel, shape (z, y, x), or per slice, shape (z, 1, 1)."""

APEX = 10.4  # slice index where the outer wall closes; the last slice lies below it
EDGE = 0.7  # width of a tissue border in voxels
NOISE = 4.0  # sd per receiver channel, in grey values; blood is about 200


def heart_phantom(seed: int = 0) -> tuple[Volume, Segmentation]:
    """Draw a synthetic short-axis heart scan and its true labels.

    Parameters
    ----------
    seed : int
        Another seed gives another heart: sizes, positions, contrast and noise differ.

    Returns
    -------
    volume : Volume
        One MR channel "SSFP", int16, 12 slices of 216 x 256 at 1.5 x 1.5 x 10 mm.
    truth : Segmentation
        Right ventricle 1, myocardium 2, left ventricle 3, descending aorta 4.
        Papillary muscles count as left ventricle, as clinical contours have it.

    Notes
    -----
    The noise is Rician: the magnitude of a complex Gaussian [1]_.

    References
    ----------
    .. [1] H. Gudbjartsson and S. Patz, "The Rician distribution of noisy MRI data",
       Magnetic Resonance in Medicine 34(6), 1995. :doi:`10.1002/mrm.1910340618`

    Examples
    --------
    >>> volume, truth = heart_phantom()
    >>> volume.source, volume.data.shape, truth.names[4]
    ('heart phantom (synthetic)', (1, 12, 216, 256), 'aorta')
    """
    rng = np.random.default_rng(seed)
    scene = _empty_scene(rng)
    _draw_chest(scene, rng)
    _draw_abdomen(scene, rng)
    aorta = _draw_vessels(scene, rng)
    right, wall, left = _draw_heart(scene, rng)
    labels = np.zeros(SHAPE, np.uint8)
    for label, inside in ((4, aorta), (1, right), (2, wall), (3, left)):
        labels[inside] = label
    affine = np.diag([*SPACING_MM, 1.0])
    volume = Volume(
        data=_acquire(scene, rng)[None],
        affine=affine,
        names=("SSFP",),
        modality="MR",
        known=frozenset({"spacing"}),
        source="heart phantom (synthetic)",
        notes=("Synthetic: drawn by a program, not scanned from a person.",),
    )
    made_by = {"truth": "of the synthetic heart phantom", "seed": seed}
    return volume, Segmentation(labels, affine, names=dict(NAMES), made_by=made_by)


@dataclass
class _Scene:
    """A picture being painted, and the (gently warped) coordinates to paint by."""

    image: Field
    z: Field
    y: Field
    x: Field

    def ellipse(
        self,
        centre: tuple[Field | float, Field | float],
        radii: tuple[Field | float, Field | float],
        turn: float = 0.0,
    ) -> Field:
        """Signed distance to an ellipse, roughly in voxels; below 0 inside."""
        dy, dx = self.y - centre[0], self.x - centre[1]
        across, along = np.cos(turn), np.sin(turn)
        u = (dy * across + dx * along) / radii[0]
        v = (dx * across - dy * along) / radii[1]
        scale = np.minimum(radii[0], radii[1])
        return np.asarray((np.hypot(u, v) - 1) * scale, np.float32)

    def paint(self, distance: Field, value: Field | float) -> None:
        """Fill the inside with a grey value, over a soft border."""
        cover = np.clip(0.5 - distance / (2 * EDGE), 0, 1)
        self.image += cover * (value - self.image)


def _empty_scene(rng: np.random.Generator) -> _Scene:
    """Air everywhere; coordinates bent by slow waves, as no body is an ellipse."""
    z, y, x = np.indices(SHAPE, np.float32)
    bent_y, bent_x = y.copy(), x.copy()
    for length in (150, 90, 60):  # voxels per wave
        for bent, across in ((bent_y, x), (bent_x, y)):
            phase = rng.uniform(0, 2 * np.pi) + 0.25 * z[:, :1, :1]
            bent += length / 75 * np.sin(2 * np.pi * across / length + phase)
    air = np.full(SHAPE, 2, np.float32)
    return _Scene(air, z[:, :1, :1], bent_y.astype("f4"), bent_x.astype("f4"))


def _texture(rng: np.random.Generator, size: float, strength: float) -> Field:
    """Mottle of unit mean: smooth noise with grains of the given size in voxels."""
    grain = ndimage.gaussian_filter(
        rng.standard_normal(SHAPE, np.float32), (0.5, size, size)
    )
    return np.asarray(1 + strength * grain / grain.std(), np.float32)


def _draw_chest(scene: _Scene, rng: np.random.Generator) -> None:
    """Fat rim, chest wall with ribs, and the lung with its vessels."""
    at, turn = (106.0, 132.0), rng.uniform(-0.12, 0.02)
    fat = rng.uniform(9, 13)
    scene.paint(scene.ellipse(at, (93, 124), turn), 185 * _texture(rng, 3, 0.05))
    wall = scene.ellipse(at, (93 - fat, 124 - fat), turn)
    muscle = 46 * _texture(rng, 2, 0.18)
    scene.paint(wall, muscle)
    angles = np.linspace(0, 2 * np.pi, 23)[:-1] + 0.15 * scene.z.ravel()[:, None]
    for angle in angles.T[:, :, None, None]:  # ribs, by their marrow
        place = (
            at[0] + (88 - fat) * np.sin(angle),
            at[1] + (119 - fat) * np.cos(angle),
        )
        scene.paint(scene.ellipse(place, (2.2, 4.5), 0.3), 85)
    lung = np.maximum(
        scene.ellipse((106.0, 84.0), (75.0, 68.0), turn),
        scene.ellipse(at, (82 - fat, 113 - fat), turn),
    )
    scene.paint(lung, 15 * _texture(rng, 1.5, 0.25))
    specks = (rng.random(SHAPE, np.float32) < 0.0016) * rng.uniform(0.2, 1, SHAPE)
    vessels = ndimage.gaussian_filter(specks.astype("f4"), (0.3, 1.0, 1.0)) * 500
    scene.image += np.where(lung < -4, np.minimum(vessels, 120), 0)


def _draw_abdomen(scene: _Scene, rng: np.random.Generator) -> None:
    """Liver (larger towards the feet), stomach or spleen, spine and back muscles."""
    z = scene.z
    scene.paint(
        scene.ellipse((112.0, 212 - 2.2 * z), (58 + 0.5 * z, 36 + 2.4 * z), 0.2),
        62 * _texture(rng, 1.6, 0.13),
    )
    specks = (rng.random(SHAPE, np.float32) < 0.0007) * rng.uniform(0.3, 1, SHAPE)
    veins = ndimage.gaussian_filter(specks.astype("f4"), (0.4, 1.4, 1.4)) * 900
    inside = scene.ellipse((112.0, 212 - 2.2 * z), (54.0, 32 + 2.4 * z), 0.2) < -3
    scene.image += np.where(inside, np.minimum(veins, 110), 0)
    spleen = scene.ellipse((52.0, 108.0), (5 + 2.6 * z, 3 + 2.3 * z), -0.4)
    scene.paint(spleen, 88 * _texture(rng, 1.5, 0.1))
    for y, x in ((34.0, 140.0), (44.0, 206.0)):
        scene.paint(scene.ellipse((y, x), (12, 22), 0.2), 42 * _texture(rng, 1, 0.3))
    scene.paint(scene.ellipse((54.0, 176.0), (16, 19), 0.2), 34)  # cortex of vertebra
    body = scene.ellipse((54.0, 176.0), (14.5, 17.5), 0.2)
    scene.paint(body, 78 * _texture(rng, 1.2, 0.15))
    scene.paint(scene.ellipse((33.0, 181.0), (5.5, 8.5), 0.2), 205)  # spinal canal
    scene.paint(scene.ellipse((33.0, 181.0), (2.5, 4.0), 0.2), 90)  # cord


def _draw_vessels(scene: _Scene, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Descending aorta beside the spine and vena cava; returns the aorta's voxels."""
    place = (74 - 0.3 * scene.z, 150 + 0.9 * scene.z)
    radius = rng.uniform(7.5, 9)
    scene.paint(
        scene.ellipse((81.0, 156.0), (17, 24), -0.4), 105 * _texture(rng, 2, 0.3)
    )
    aorta = scene.ellipse(place, (radius, radius + 0.8), 0.3)
    scene.paint(aorta - 1.3, 50)  # its wall
    scene.paint(aorta, 205 * _texture(rng, 2, 0.04))
    cava = scene.ellipse((96 - 0.6 * scene.z, 188.0), (6.0, 9.0), 0.5)
    scene.paint(cava, 165 * _texture(rng, 2, 0.06))
    return aorta < 0


def _draw_heart(
    scene: _Scene, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Both ventricles; returns the voxels of right cavity, left wall, left cavity."""
    z = scene.z
    down = np.clip(z / APEX, 0, 1)  # 0 at the base, 1 at the apex
    taper = np.sqrt(1 - down**2.6)
    y = 126 + rng.uniform(-3, 3) + 5 * down
    x = 124 + rng.uniform(-3, 3) - 10 * down
    cavity, thick = rng.uniform(17, 19.5), rng.uniform(6, 7.5)
    outer = np.where(z < APEX, (cavity + thick) * taper, 0.01)
    inner = np.where(z < APEX - 0.9, np.maximum(outer - thick, 0.01), 0.01)
    epi = scene.ellipse((y, x), (outer, outer * 0.97))
    endo = scene.ellipse((y, x), (inner, inner * 0.97))
    # The crescent: a disc on the septal side (down and right in the picture), minus
    # the left ventricle; it ends two slices above the apex.
    along = np.clip(1 - (z / 8.6) ** 2.2, 0, 1) ** 0.5
    angle = rng.uniform(0.55, 0.85)
    reach = outer * 0.86
    disc = scene.ellipse(
        (y + reach * np.sin(angle), x + reach * np.cos(angle)),
        (np.maximum(19 * along + 3, 0.01), np.maximum(27 * along + 3, 0.01)),
        np.pi / 2 - angle,  # its long axis lies across that direction
    )
    disc = np.where(z < 8.6, disc, 99)
    right = np.maximum(disc, 0.8 - epi)
    heart = _Heart(z, (y, x), outer, inner, epi, endo, disc, right)
    _paint_heart(scene, heart, 1 - 0.12 * down, rng)
    return right < 0, epi < 0, endo < 0


@dataclass
class _Heart:
    """Where the heart is: per-slice centre and radii, and distances to its borders."""

    z: Field
    centre: tuple[Field, Field]
    outer: Field
    inner: Field
    epi: Field
    endo: Field
    disc: Field
    right: Field


def _paint_heart(
    scene: _Scene, heart: _Heart, blood: Field, rng: np.random.Generator
) -> None:
    """From outside in: fat, right wall and cavity, left wall, cavity, papillaries."""
    y, x = heart.centre
    groove = scene.ellipse(
        (y + 0.8 * heart.outer, x + 0.5 * heart.outer),
        (0.95 * heart.outer, 1.2 * heart.outer),
    )
    scene.paint(groove, 120 * _texture(rng, 3, 0.3))  # fat towards the chest wall
    scene.paint(heart.disc - 2.2, 58 * _texture(rng, 1.5, 0.1))
    scene.paint(heart.right, 158 * blood * _texture(rng, 2.2, 0.08))
    scene.paint(heart.epi, 68 * _texture(rng, 1.6, 0.1))
    scene.paint(heart.endo, 205 * blood * _texture(rng, 2.5, 0.05))
    reach = 0.62 * heart.inner
    size = np.where((heart.z > 2) & (heart.z < 8), 0.17 * heart.inner, 0.01)
    for turn in (2.2, 4.3):  # the two papillary muscles
        at = (y + reach * np.sin(turn), x + reach * np.cos(turn))
        scene.paint(scene.ellipse(at, (size, 1.2 * size)), 100)


def _acquire(scene: _Scene, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner makes of it: coil shading, blur, Rician noise, whole numbers."""
    _, y, x = np.indices((1, *SHAPE[1:]), np.float32)
    near_front = np.exp(-((y - 190) ** 2 + (x - 120) ** 2) / (2 * 110.0**2))
    near_back = np.exp(-((y - 20) ** 2 + (x - 170) ** 2) / (2 * 110.0**2))
    shading = 0.72 + 0.36 * near_front + 0.2 * near_back
    image = ndimage.gaussian_filter(scene.image * shading, (0, 0.6, 0.6))
    real, imaginary = rng.normal(0, NOISE, (2, *SHAPE))
    magnitude: Field = np.rint(np.hypot(image + real, imaginary))
    return magnitude.astype(np.int16)
