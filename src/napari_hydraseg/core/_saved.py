"""The state of a fine-tuning run on disk, so that a killed one goes on to the bit."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__
from . import _holdout
from ._job import Job
from .checkpoint import digest
from .errors import CorruptWeights, IncompatibleWeights
from .io.atomic import atomic_write
from .types import Volume


def fields(job: Job, options: Mapping[str, Any]) -> dict[str, str]:
    """Describe a run by what its bits hang on.

    Parameters
    ----------
    job : Job
        The run.
    options : mapping
        What else was asked for.
    """
    sha = hashlib.sha256()
    for truth in job.truths:
        sha.update(str(truth.shape).encode() + truth.tobytes())
    scans = [about(volume) for volume, _ in job.pairs]
    return {
        "version": __version__,
        "model": digest(job.checkpoint.weights),
        "scans": " ".join(_holdout.identity(volume) for volume, _ in job.pairs),
        **{name: " ".join(scan[name] for scan in scans) for name in scans[0]},
        "labels": sha.hexdigest(),
        "head": job.head,
        "classes": json.dumps(job.spec.heads[job.head]),
        "mode": job.mode,
        "device": job.device,
        "threads": str(torch.get_num_threads()),
        **{name: json.dumps(value) for name, value in options.items()},
    }


def about(volume: Volume) -> dict[str, str]:
    """Hash what of a scan, beside its voxels, a run hangs on; its grid to 1 um.

    Nothing of it can be read from a state: channels may bear names of files.
    """
    said = {
        "modality": volume.modality,
        "channels": list(volume.names),
        "plane": volume.plane,
        "grid": (np.round(volume.affine, 3) + 0.0).tolist(),  # no zero is negative
        "known": sorted(volume.known),
    }
    return {
        name: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:32]
        for name, value in said.items()
    }


def write(path: Path, known: Mapping[str, str], content: Mapping[str, Any]) -> None:
    """Write a state in one go.

    Raises
    ------
    SaveError
        If the disk takes none.
    """
    data = io.BytesIO()  # torch hides what a disk says behind errors of its own
    torch.save({"fields": dict(known), **content}, data)
    atomic_write(path, lambda stream: stream.write(data.getbuffer()), overwrite=True)


def read(path: Path, known: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read a state, and make sure that it is of the same run.

    Raises
    ------
    CorruptWeights
        If the file is none.
    IncompatibleWeights
        If data or options are others, with the field's name.
    """
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        found = dict(content["fields"])
    except OSError:
        raise
    except Exception as error:  # torch throws anything at a damaged file
        raise CorruptWeights(
            f"{path.name} is no state of a run.", "Delete it and start anew."
        ) from error
    if known is not None and found != dict(known):
        differing = [name for name in known if found.get(name) != known[name]]
        raise IncompatibleWeights(
            f"{path.name} is of a run with other {', '.join(differing) or 'options'}.",
            "Give the same again, or delete it and start anew.",
        )
    return content
