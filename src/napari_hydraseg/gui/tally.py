"""Volumes of labels, counted again after every change, beside whatever is running."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QTableWidget

from . import amend, worker
from .touch import Touch, touch_of

_MILLISECONDS_OF_REST = 300  # after a stroke, before voxels are counted
_one_each: WeakValueDictionary[int, Tally] = WeakValueDictionary()


class Tally(QObject):
    """Keeps the volumes in the features of our labels layers right; see `tally_of`."""

    counted = Signal(object, object)  # the layer, and its features as lists
    _done = Signal(object, object)

    def __init__(self, touch: Touch) -> None:
        super().__init__()
        self._touch = touch
        self._waiting: list[Any] = []
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_MILLISECONDS_OF_REST)
        self._rest.timeout.connect(self._count)
        self._done.connect(self._on_done)
        touch.changed.connect(self._on_change)

    def _on_change(self, layer: Any) -> None:
        if layer not in self._waiting:
            self._waiting.append(layer)
        self._rest.start()

    def _count(self) -> None:
        layers, self._waiting = self._waiting, []
        for layer in layers:
            noun = layer.metadata.get("hydraseg", {}).get("segmentation")
            ours = noun is not None and "volume_ml" in layer.features
            if ours and isinstance(layer.data, np.ndarray):
                future = worker.beside(partial(counts, layer.data), lane="count")
                future.add_done_callback(partial(self._hand_over, layer))

    def _hand_over(self, layer: Any, future: Future[object]) -> None:
        """Hand the outcome to the main thread; this runs in the other one."""
        if isalive(self):
            self._done.emit(layer, future)

    def _on_done(self, layer: Any, future: Future[Any]) -> None:
        if future.exception() is not None:  # values that are no label ids
            return
        made = _table(layer, future.result())
        if made["voxels"] != list(layer.features["voxels"]):
            self._touch.blockSignals(True)  # what we count is no change by the user
            amend.show_volumes(layer, made)
            self._touch.blockSignals(False)
        self.counted.emit(layer, made)


def tally_of(viewer: Any) -> Tally:
    """Give the one `Tally` of a viewer; it lives as long as somebody holds it.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    """
    touch = touch_of(viewer)
    found = _one_each.get(id(touch))  # the tally holds it, so that no other has its id
    if found is None:
        found = _one_each[id(touch)] = Tally(touch)
    return found


def counts(data: NDArray[Any]) -> NDArray[np.intp]:
    """Count the voxels of each label, slice by slice, so that others can work too.

    Parameters
    ----------
    data : ndarray of int, shape (z, y, x) or (y, x)
        The labels.

    Returns
    -------
    ndarray of int, shape (highest label + 1,)
    """
    planes = data if data.ndim == 3 else data[None]
    highest = max((int(plane.max(initial=0)) for plane in planes), default=0)
    total = np.zeros(highest + 1, np.intp)
    for plane in planes:
        # somebody may have painted a higher label meanwhile: that will be counted again
        total += np.bincount(plane.ravel(), minlength=highest + 1)[: highest + 1]
    return total


def fill_in(table: QTableWidget, made: Mapping[str, list[Any]], first: int = 0) -> None:
    """Write volumes in ml into the second column of a table.

    Parameters
    ----------
    table : QTableWidget
        Its first column holds names of structures.
    made : mapping of str to list
        Names and volumes, as `layers.table` gives them.
    first : int
        Row of the first of them.
    """
    for row, (name, ml) in enumerate(
        zip(made["name"], made["volume_ml"], strict=True), first
    ):
        named, cell = table.item(row, 0), table.item(row, 1)
        if named is not None and cell is not None and named.text() == name:
            cell.setText(f"{ml:.2f}" if ml == ml else "unknown")


def _table(layer: Any, found: NDArray[np.intp]) -> dict[str, list[Any]]:
    """Features of a layer with what was counted just now."""
    noun = layer.metadata["hydraseg"]["segmentation"]
    features = layer.features
    known = amend.in_mm(layer)
    voxel_ml = float(np.prod(noun.spacing_mm)) / 1000 if known else np.nan
    ids = [int(label) for label in features["index"]]
    voxels = [int(found[label]) if label < len(found) else 0 for label in ids]
    return {
        "index": ids,
        "name": list(features["name"]),
        "voxels": voxels,
        "volume_ml": [round(n * voxel_ml, 3) for n in voxels],
    }
