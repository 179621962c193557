"""Published checkpoints of others as models of ours."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import _convert_hydranet, _convert_keras, _convert_nerve, networks
from ._foreign import Arrays, Kind, Translated, read_foreign
from .errors import IncompatibleWeights
from .types import Checkpoint

_KINDS: Mapping[str, Kind] = {
    **_convert_hydranet.KINDS,
    **_convert_keras.KINDS,
    **_convert_nerve.KINDS,
}
KINDS = tuple(_KINDS)
_BATCHES = (
    "num_batches_tracked"  # not in Keras, nor in old files of PyTorch; never used
)


def convert(
    path: str | Path, *, kind: str = "auto", name: str | None = None
) -> Checkpoint:
    """Turn a published weights file into a model; nothing in it can run code.

    Parameters
    ----------
    path : path
        A state dict of PyTorch (``.pt``, ``.pth``) or Keras 2 weights (``.h5``,
        ``.hdf5``).
    kind : {"auto", "hydranet", "sct-gm", "keras-unet", "quicknat", "quickfcn", \
"softquickfcn", "resultnet"}
        What it is; by default names and shapes of its tensors decide.
    name : str, optional
        The model's name; default: from its kind.

    Returns
    -------
    Checkpoint
        float32. Its card says where it came from and, under "converted", which tensors
        the network has no use for.

    Raises
    ------
    UnsafeWeights
        If the file holds more than tensors.
    CorruptWeights
        If it is damaged, or a weight is no finite number.
    IncompatibleWeights
        If it is of no known kind, or tensors are missing or have another shape.
    """
    file = Path(path)
    tensors = read_foreign(file)
    kind = _kind(tensors, file, kind)
    try:
        found = _KINDS[kind].translate(tensors)
    except (KeyError, IndexError, ValueError) as error:
        raise IncompatibleWeights(
            f"{file.name} lacks tensors that every file of the kind {kind} has.",
            "Choose another file.",
        ) from error
    made = _checkpoint(found, _completed(found), kind, file)
    networks.network(made)  # names, shapes and numbers: all of it fits, or none
    return replace(made, card={**made.card, "name": name}) if name else made


def _kind(tensors: Arrays, file: Path, wanted: str) -> str:
    """Settle of which kind a file is."""
    fitting = [kind for kind, how in _KINDS.items() if how.recognise(tensors)]
    if wanted == "auto" and len(fitting) == 1:
        return fitting[0]
    if wanted != "auto" and wanted not in _KINDS:
        raise IncompatibleWeights(
            f"There is no kind {wanted!r}.", f"Choose one of {', '.join(KINDS)}."
        )
    if wanted in fitting:
        return wanted
    looks = f"; it looks like {', '.join(fitting)}" if fitting else ""
    shown = ", ".join(sorted(tensors)[:2])
    raise IncompatibleWeights(
        f"{file.name} is no {'known' if wanted == 'auto' else wanted} model{looks}. "
        f"{len(tensors)} tensors: {shown[:60]} ...",
        "Choose another file or kind.",
    )


def _completed(found: Translated) -> Arrays:
    """Floats as float32; counts of batches, where they were not saved, as zero."""
    weights = {
        name: np.ascontiguousarray(value, np.float32)
        if value.dtype.kind == "f"
        else value
        for name, value in found.weights.items()
    }
    for name in networks.build(found.spec).state_dict():
        if name.endswith(_BATCHES):
            weights.setdefault(name, np.array(0, np.int64))
    return weights


def _checkpoint(
    found: Translated, weights: Arrays, kind: str, file: Path
) -> Checkpoint:
    numbers = (value.size for key, value in weights.items() if _BATCHES not in key)
    card: dict[str, Any] = {
        "licence": "not stated",
        "parent": None,
        **found.card,
        "converted": {
            "kind": kind,
            "sha256_of_file": hashlib.sha256(file.read_bytes()).hexdigest(),
            "tensors": len(weights),
            "parameters": int(sum(numbers)),
            "ignored": sorted(found.ignored),
        },
    }
    described = card.get("heads", {})
    card["heads"] = {
        head: {
            "modality": list(found.spec.intensity),
            "licence": "not stated",
            **described.get(head, {}),
        }
        for head in found.spec.heads
    }
    return Checkpoint(found.spec, weights, card)
