"""Keys of the forms: on the canvas, and where a form itself has the focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakMethod, ref

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget


def bind(viewer: Any, key: str, form: QWidget, act: Callable[[], object]) -> None:
    """Let a key act on the canvas of a viewer and in a form.

    Parameters
    ----------
    viewer : napari.Viewer
        Its canvas. Of several open forms the newest answers; when that is closed, the
        one before.
    key : str
        A letter that napari itself leaves free.
    form : QWidget
        Where the key works too; typing in a field is not disturbed.
    act : callable
        A method of a part of the form: once that is gone, the key does nothing.
    """
    owner = ref(form)  # a closed form and its arrays must not be kept alive
    method = WeakMethod(act)
    earlier = {str(k): found for k, found in viewer.keymap.items()}.get(key)

    def on_canvas(_: Any) -> None:
        living, ours = method(), owner()
        if living is not None and ours is not None and isalive(ours):
            living()
        elif callable(earlier):
            earlier(viewer)

    viewer.bind_key(key, on_canvas, overwrite=True)
    shortcut = QShortcut(QKeySequence(key), form)
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    shortcut.activated.connect(act)
