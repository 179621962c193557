"""Networks, one file each, found by looking in this folder.

A file ``NAME.py`` offers ``NDIM`` (2 or 3), ``STRIDE`` (the side of an input is padded
to a multiple of it inside the network), ``SOURCE`` (paper, DOI, departures from it) and
``build(in_channels, heads, **options) -> nn.Module``. The module has ``.encoder``
(image -> list of feature maps, finest first; its ``levels()`` lists the modules that
are run to reach each map from the one before), ``.heads`` (``nn.ModuleDict``: name ->
decoder of that list) and ``forward(x, heads=None) -> {head: logits}``. Heads that the
option ``classify`` names, or all where the file says ``CLASSIFIES``, answer once for
each image.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import CorruptWeights, IncompatibleWeights, UnknownModel, WrongInput
from ..types import Checkpoint, ModelSpec
from ._blocks import MultiHead as MultiHead
from ._blocks import pad_to_multiple

NETWORKS = tuple(
    sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))
)


def module_of(name: str) -> ModuleType:
    """Return the file of a network.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.

    Raises
    ------
    UnknownModel
        If there is no such network.
    """
    if name not in NETWORKS:
        raise UnknownModel(
            f"The model wants the network {name!r}; known are {', '.join(NETWORKS)}.",
            "Upgrade napari-hydraseg.",
        )
    return import_module(f"{__name__}.{name}")


def build(spec: ModelSpec, *, seed: int = 0) -> MultiHead:
    """Build a network with fresh weights.

    Parameters
    ----------
    spec : ModelSpec
        Network, channels, heads and options.
    seed : int
        Of the initial weights. The global random state is left as it was.

    Returns
    -------
    MultiHead
        In training mode; ``forward(x, heads=None) -> {head: logits}``.

    Raises
    ------
    UnknownModel
        If there is no such network.
    WrongInput
        If a head has a name that no module can have.
    """
    file = module_of(spec.network)
    for head in spec.heads:
        if not head or "." in head or hasattr(nn.ModuleDict, head):
            raise WrongInput(
                f"A head cannot be called {head!r}.", "Choose another name."
            )
    options: dict[str, Any] = dict(spec.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = {name: len(classes) for name, classes in spec.heads.items()}
        made: MultiHead = file.build(len(spec.channels), heads, **options)
    return made


def network(checkpoint: Checkpoint) -> MultiHead:
    """Rebuild the network of a checkpoint with its weights, in eval mode.

    Parameters
    ----------
    checkpoint : Checkpoint
        From `get_model` or `load_checkpoint`.

    Returns
    -------
    MultiHead
        float32, on the CPU.

    Raises
    ------
    IncompatibleWeights
        If names or shapes differ; nothing is then loaded.
    CorruptWeights
        If a weight is not a finite number, or the encoder or a head is all zeros.
    """
    made = build(checkpoint.spec)
    wanted = {k: tuple(v.shape) for k, v in made.state_dict().items()}
    came = {k: tuple(v.shape) for k, v in checkpoint.weights.items()}
    if wanted != came:
        hint = "Choose another file."
        if all(k.startswith("heads.") for k in _differing(wanted, came)):
            hint = "Its encoder fits: keep that and teach a new head."
        raise IncompatibleWeights(_differences(wanted, came), hint)
    _check_values(checkpoint.weights)
    made.load_state_dict(
        {
            name: torch.from_numpy(
                value.astype(np.float32) if value.dtype.kind == "f" else value.copy()
            )
            for name, value in checkpoint.weights.items()
        }
    )
    return made.eval()


def _check_values(weights: Mapping[str, NDArray[Any]]) -> None:
    """Name the first tensor that cannot have come from training."""
    silent: dict[str, str] = {}
    for name, value in weights.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise CorruptWeights(
                f"The weights {name} hold values that are no numbers.",
                "Get the model file again.",
            )
    for name, value in weights.items():
        if value.ndim > 1:  # offsets may be zero, kernels not all of one part
            part = ".".join(name.split(".")[: 2 if name.startswith("heads.") else 1])
            silent.setdefault(part, name)
            if value.any():
                silent[part] = ""
    for name in filter(None, silent.values()):
        raise CorruptWeights(
            f"The weights {name}, and all beside them, are zero.",
            "Get the model file again.",
        )


def classifiers(spec: ModelSpec) -> frozenset[str]:
    """Return the heads that answer once for each image instead of for each voxel."""
    every = getattr(module_of(spec.network), "CLASSIFIES", False)
    return frozenset(spec.heads if every else spec.options.get("classify", ()))


def padded(x: torch.Tensor, module: MultiHead) -> torch.Tensor:
    """Pad an image as the network itself does before its encoder."""
    return pad_to_multiple(x, module.stride)


def weights_of(module: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """Copy the tensors of a network into arrays, by name."""
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in module.state_dict().items()
    }


def _differing(wanted: dict[str, Any], came: dict[str, Any]) -> list[str]:
    return sorted(
        name
        for name in wanted.keys() | came.keys()
        if wanted.get(name) != came.get(name)
    )


def _differences(wanted: dict[str, Any], came: dict[str, Any]) -> str:
    differing = _differing(wanted, came)
    shown = ", ".join(
        f"{name} {came.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}"
        for name in differing[:3]
    )
    return f"{len(differing)} tensors do not fit the network: {shown}."
