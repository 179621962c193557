"""Every change of a labels layer, whoever made it and however: strokes, fills, undo.

Napari tells of strokes, and of undo only that the layer is drawn anew. It draws a layer
anew also when another slice is shown: what is drawn anew in the same place has changed.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from napari.layers import Labels
from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

_EVENTS = ("paint", "labels_update", "data", "features")
_one_each: WeakValueDictionary[int, Touch] = WeakValueDictionary()


class Touch(QObject):
    """Tells which labels layer of a viewer was changed; see `touch_of`.

    `painted` is sure. `changed` is sent then too, and where a layer was drawn anew in
    the same place: after undo, but also when it is shown again.
    """

    painted = Signal(object)
    changed = Signal(object)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._dims = bare(viewer.dims)
        self._drawn: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        viewer.layers.events.inserted.connect(self._on_inserted)
        for layer in viewer.layers:
            self._follow(layer)

    def _on_inserted(self, event: Any) -> None:
        self._follow(event.value)

    def _follow(self, layer: Any) -> None:
        layer = bare(layer)
        if not isinstance(layer, Labels) or layer in self._drawn:
            return
        self._drawn[layer] = self._place()
        for name in _EVENTS:
            getattr(layer.events, name).connect(self._on_change)
        layer.events.set_data.connect(self._on_drawn)

    def _on_change(self, event: Any) -> None:
        if isalive(self):
            self.painted.emit(event.source)
            self.changed.emit(event.source)

    def _on_drawn(self, event: Any) -> None:
        if not isalive(self):
            return
        layer, place = event.source, self._place()
        if self._drawn.get(layer) == place:
            self.changed.emit(layer)
        self._drawn[layer] = place

    def _place(self) -> tuple[Any, ...]:
        """What of the layers is shown."""
        dims = self._dims
        return tuple(dims.point), tuple(dims.order), dims.ndisplay


def touch_of(viewer: Any) -> Touch:
    """Give the one `Touch` of a viewer; it lives as long as somebody holds it.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    """
    key = id(bare(viewer.layers))
    found = _one_each.get(key)
    if found is None:
        found = _one_each[key] = Touch(viewer)
    return found


def bare(thing: Any) -> Any:
    """Take off the wrapper that napari puts around its objects anew each time.

    Parameters
    ----------
    thing : object
        As a form got it, to be kept weakly or to be known again.
    """
    return getattr(thing, "__wrapped__", thing)
