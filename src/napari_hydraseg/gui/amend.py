"""Changes of a labels layer by a program: one step of its undo, never a long stop."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_hydraseg.core.errors import WrongInput
from napari_hydraseg.core.types import Progress, Segmentation, Steps

from . import layers, nouns, proposals

# Voxels at once: about 20 ms, so that the window answers in between
_BLOCK = 200_000

_at_work: set[Amendment] = set()  # nobody else holds one until it has ended


@dataclass(frozen=True, eq=False)
class Change:
    """What differs between two masks.

    Attributes
    ----------
    found : Segmentation
        The new mask.
    places : tuple of ndarray of int, each of shape (n,)
        Where it differs from the old one, along z, y, x.
    old, new : ndarray, shape (n,)
        The labels there.
    table : mapping of str to list
        Features of the new mask: ids, names, volumes.
    """

    found: Segmentation
    places: tuple[NDArray[np.intp], ...]
    old: NDArray[Any]
    new: NDArray[Any]
    table: Mapping[str, list[Any]]

    def slices(self, axis: int) -> list[int]:
        """List the slices across an axis in which something differs."""
        return [int(at) for at in np.unique(self.places[axis])]


def change_steps(
    before: Segmentation, verb: Steps[Segmentation], *, known_mm: bool
) -> Steps[Change]:
    """Run a verb that changes a mask, and find what it changed.

    Parameters
    ----------
    before : Segmentation
        What the verb got.
    verb : Steps
        What `core.clean`, say, returned.
    known_mm : bool
        Whether the voxel size is known.
    """
    found = yield from verb
    yield Progress(1, 1, "comparing")
    places = np.nonzero(found.labels != before.labels)
    yield Progress(1, 1, "measuring")
    table = layers.table(found, known_mm=known_mm)
    return Change(found, places, before.labels[places], found.labels[places], table)


def in_mm(layer: Any) -> bool:
    """Whether the voxel size of a layer is known."""
    return "pixel" not in {str(unit) for unit in layer.units}


def show_volumes(layer: Any, table: Mapping[str, list[Any]]) -> None:
    """Bring the volumes in a layer's features up to date.

    Parameters
    ----------
    layer : napari.layers.Labels
        The layer; columns of others stay.
    table : mapping of str to list
        From `layers.table`.
    """
    features = layer.features.copy()
    if list(features.get("index", ())) == table["index"]:
        features["voxels"], features["volume_ml"] = table["voxels"], table["volume_ml"]
        layer.features = features
    else:
        layer.features = dict(table)


def ensure_amendable(layer: Any) -> None:
    """Refuse a layer that cannot be painted on.

    Raises
    ------
    WrongInput
        If its voxels are not in memory.
    """
    if layer.multiscale or not isinstance(layer.data, np.ndarray):
        raise WrongInput(
            f"{layer.name} is read from the disk piece by piece and cannot be changed.",
            "Press Copy to correct and work on the copy.",
        )


class Amendment(QObject):
    """Puts a change into a labels layer; Ctrl+Z takes all of it back.

    Voxels that were painted since the snapshot was taken stay as they were painted.

    Parameters
    ----------
    layer : napari.layers.Labels
        With the voxels in memory; not to be painted on until `ended` is sent.
    change : Change
        What to do.
    axis : int
        Voxel axis along which slices are counted. Those that are changed and were not
        annotated before are not annotated afterwards either.
    """

    ended = Signal(int)  # voxels that were changed

    def __init__(self, layer: Any, change: Change, *, axis: int) -> None:
        super().__init__()
        self._layer, self._change, self._axis = layer, change, axis
        self._start = self._count = 0
        self._stack = ExitStack()

    def start(self) -> None:
        """Begin; a small change is there at once."""
        drawn = nouns.annotated_slices(self._layer, self._axis)
        slices = [at for at in self._change.slices(self._axis) if at < len(drawn)]
        self._unsure = [at for at in slices if not drawn[at]]
        _at_work.add(self)
        self._stack.callback(_at_work.discard, self)
        if self._change.old.size > _BLOCK:
            self._stack.callback(self._unlock, self._layer.mode)
            self._layer.editable = False  # strokes would go into the same undo
        self._stack.enter_context(self._layer.block_history())
        self._next()

    def _next(self) -> None:
        block = slice(self._start, self._start + _BLOCK)
        self._start = block.stop
        if self._change.places[0].max(initial=-1) < self._length():
            self._put(block)
        if self._start < self._change.old.size:
            QTimer.singleShot(0, self._next)
            return
        self._stack.close()
        layer, change = self._layer, self._change
        layer.refresh()
        proposals.propose(layer, self._axis, change.found.labels, self._unsure)
        show_volumes(layer, change.table)
        self.ended.emit(self._count)

    def _length(self) -> int:
        """Slices of the layer now; somebody may have replaced its data."""
        layer = self._layer
        return int(layer.data.shape[0]) if layer.ndim == 3 else 1

    def _put(self, block: slice) -> None:
        layer, change = self._layer, self._change
        where = change.places if layer.ndim == 3 else change.places[1:]
        here = tuple(axis[block] for axis in where)
        same = layer.data[here] == change.old[block]
        here = tuple(axis[same] for axis in here)
        self._count += len(here[0])
        layer.data_setitem(here, change.new[block][same], refresh=False)

    def _unlock(self, mode: Any) -> None:
        self._layer.editable = True
        self._layer.mode = mode
