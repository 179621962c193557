"""Model files of others as named arrays. Nothing in them can run code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptWeights, IncompatibleWeights, UnknownModel, UnsafeWeights
from .types import ModelSpec

Arrays = dict[str, NDArray[Any]]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NESTS = ("state_dict", "model_state_dict", "model")  # where trainers put the weights
_PREFIX = "module."  # of torch's DataParallel


@dataclass(frozen=True, eq=False)
class Translated:
    """What a foreign file says, in our words.

    Attributes
    ----------
    spec : ModelSpec
        The network that the weights belong to.
    weights : dict of str to ndarray
        By our names.
    ignored : tuple of str
        Tensors, by their own names, that the network has no use for.
    card : mapping
        What is known of where it came from.
    """

    spec: ModelSpec
    weights: Arrays
    ignored: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """How one sort of file is recognised and translated."""

    recognise: Callable[[Arrays], bool]
    translate: Callable[[Arrays], Translated]


def read_foreign(path: Path) -> Arrays:
    """Read the tensors of a PyTorch or Keras file.

    Parameters
    ----------
    path : Path
        A state dict of PyTorch (either format) or an HDF5 file of Keras 2.

    Returns
    -------
    dict of str to ndarray
        By the file's own names, without the prefix of a parallel model. Keras:
        "layer/kernel".

    Raises
    ------
    UnknownModel
        If there is no such file.
    UnsafeWeights
        If the file holds more than tensors.
    CorruptWeights
        If it is damaged, or of neither sort.
    IncompatibleWeights
        If it holds no tensors.
    """
    if not path.is_file():
        raise UnknownModel(f"{path.name} is no file.", "Choose a weights file.")
    with path.open("rb") as stream:
        keras = stream.read(len(_HDF5)) == _HDF5
    found = _read_keras(path) if keras else _read_torch(path)
    if not found:
        raise IncompatibleWeights(
            f"{path.name} holds no weights.", "Choose a file of weights."
        )
    return found


def _read_torch(path: Path) -> Arrays:
    import torch

    try:
        with path.open("rb") as stream:  # a path's suffix would choose another reader
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # torch throws whatever its readers throw
        if type(error).__name__ == "UnpicklingError":
            raise UnsafeWeights(
                f"{path.name} holds more than tensors; it could run code when opened.",
                "Save its state dict alone, where you trust it.",
            ) from error
        raise _damaged(path) from error
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping):
        content = {}
    return {
        str(name).removeprefix(_PREFIX): _array(value)
        for name, value in content.items()
        if isinstance(value, torch.Tensor)
    }


def _array(value: Any) -> NDArray[Any]:
    value = value.detach()
    plain: NDArray[Any] = (
        value.float() if value.is_floating_point() else value
    ).numpy()
    return plain


def _read_keras(path: Path) -> Arrays:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise CorruptWeights(
            f"{path.name} is an HDF5 file, which needs h5py.",
            'pip install "napari-hydraseg[convert]"',
        ) from error

    found: Arrays = {}

    def keep(name: str, item: Any) -> None:  # only what lies in the file itself
        if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
            return
        if item.dtype.kind in "fiu":
            found[_layer(name)] = np.asarray(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _damaged(path) from error
    return found


def _layer(name: str) -> str:
    """Shorten model_weights/conv2d/conv2d/kernel:0 to conv2d/kernel."""
    if name.startswith("optimizer_weights/"):
        return name
    return "/".join(name.split("/")[-2:]).partition(":")[0]


def _damaged(path: Path) -> CorruptWeights:
    return CorruptWeights(
        f"{path.name} is damaged, or no file of PyTorch or Keras 2.",
        "Get the file again.",
    )


def renamed(
    tensors: Arrays, name_of: Callable[[str], str | None]
) -> tuple[Arrays, tuple[str, ...]]:
    """Give tensors our names; those that have none are listed."""
    names = {name: name_of(name) for name in tensors}
    weights = {ours: tensors[name] for name, ours in names.items() if ours}
    return weights, tuple(name for name, ours in names.items() if not ours)


def class_names(count: int, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Name the classes of a head that segments, background first."""
    if len(known) == count:
        return known
    return ("background", *(f"class {i}" for i in range(1, count)))


def channel_names(count: int, known: tuple[str, ...] = ("image",)) -> tuple[str, ...]:
    """Name the channels of a network."""
    return known if len(known) == count else tuple(f"c{i + 1}" for i in range(count))
