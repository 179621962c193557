"""Small models that know nothing, and small scans of a bright ball."""

import numpy as np

from napari_hydraseg.core import (
    Checkpoint,
    ModelSpec,
    Segmentation,
    Volume,
    build,
    finish,
)
from napari_hydraseg.core._begin import job_steps
from napari_hydraseg.core.networks import module_of, weights_of

RULE = {"kind": "zscore", "low": 0.5, "high": 99.5}


def model(network="hydranet", **options):
    ndim = module_of(network).NDIM
    spec = ModelSpec(
        network=network,
        channels=("image",),
        heads={"blob": ("background", "blob")},
        patch=(16,) * ndim,
        intensity={"MR": RULE},
        options=options,
    )
    return Checkpoint(spec, weights_of(build(spec, seed=0)), {"name": network})


def ball(seed=0, shape=(8, 16, 16), classes=1, channels=1):
    """Give noise with a bright ball; its front is class 1, its back class 2."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-1, 1, 3)
    z, y, x = np.indices(shape)
    far = ((z - centre[0]) / 4) ** 2 + ((y - centre[1]) / 5) ** 2
    inside = far + ((x - centre[2]) / 5) ** 2 < 1
    labels = np.where(inside, 1, 0).astype(np.uint8)
    if classes == 2:
        labels[inside & (y > centre[1])] = 2
    data = rng.normal(100, 10, (channels, *shape)) + 100 * inside
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    names = ("T1", "T2")[:channels] if channels > 1 else ("image",)
    volume = Volume(data.astype(np.float32), affine, names, modality="MR")
    return volume, Segmentation(labels, affine, names={1: "ball"})


def make_job(*args, **options):
    """Prepare a run; see `core._begin.job_steps`."""
    return finish(job_steps(*args, **options))
