"""The ledger of slices: which are done, which are painted, which are set aside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QToolTip, QWidget

from . import nouns

Mark: TypeAlias = Literal["done", "painted", "aside"]

DONE = QColor("#009E73")
PAINTED = QColor("#E69F00")
QUIET = QColor("#777777")
_WORDS = {
    "done": "done",
    "painted": "painted: counts, though not marked as done",
    "aside": "set aside: not learned from",
    None: "not yet looked at",
}
_ROOM_FOR_A_TICK = 9.0  # pixels; narrower fields are filled to the top instead


def marks(
    labels: Any, axis: int, counted: NDArray[np.bool_] | None = None
) -> dict[int, Mark]:
    """Tell what is known of each slice of a labels layer that is not blank.

    Parameters
    ----------
    labels : napari.layers.Labels or None
        The layer that is painted on.
    axis : int
        Voxel axis along which slices are counted.
    counted : ndarray of bool, shape (slices,), optional
        What `nouns.annotated_slices` says, where that is known already.
    """
    if labels is None or labels.data.ndim not in (2, 3):
        return {}
    ours = labels.metadata.get("hydraseg", {})
    if counted is None:
        counted = nouns.annotated_slices(labels, axis)
    found: dict[int, Mark] = dict.fromkeys(ours.get("aside", ()), "aside")
    for at in counted.nonzero()[0]:
        found[int(at)] = "done" if at in ours.get("done", ()) else "painted"
    return {at: mark for at, mark in sorted(found.items()) if 0 <= at < len(counted)}


def toggle(labels: Any, axis: int, at: int) -> None:
    """Mark a slice as done; once more takes it back, even if it was painted.

    Parameters
    ----------
    labels : napari.layers.Labels
        The layer that is painted on; its metadata keep the ledger.
    axis : int
        Voxel axis along which slices are counted.
    at : int
        The slice.
    """
    ours = labels.metadata.setdefault("hydraseg", {})
    done, aside = set(ours.get("done", ())), set(ours.get("aside", ()))
    if at in done:
        done.discard(at)
        ours["done"] = done
        # what was painted there would count by itself: say that it shall not
        if nouns.annotated_slices(labels, axis)[at]:
            aside.add(at)
    else:
        done.add(at)
        aside.discard(at)
    ours["done"], ours["aside"] = done, aside


def in_words(found: Mapping[int, Mark]) -> str:
    """Count the slices that will be learned from, and name the first of them."""
    counted = [at for at, mark in found.items() if mark != "aside"]
    shown = ", ".join(str(at) for at in counted[:12]) + (", …" if counted[12:] else "")
    words = f"Annotated slices: {len(counted)}" + (f" ({shown})" if counted else "")
    aside = len(found) - len(counted)
    return f"{words}\nSet aside: {aside}" if aside else words


class Ledger(QWidget):
    """One field per slice: a tick where it is done, a low bar where it is painted.

    A click tells which slice was meant.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(22)
        self.setMouseTracking(True)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.count, self.shown = 0, 0
        self.marks: dict[int, Mark] = {}
        self.hide()

    def sizeHint(self) -> QSize:
        """Give the width that ticks can be seen at."""
        return QSize(200, 22)

    def show_marks(self, found: Mapping[int, Mark], *, count: int, shown: int) -> None:
        """Show the marks of a scan.

        Parameters
        ----------
        found : mapping
            From `marks`.
        count : int
            Slices of the scan; 0 hides the ledger.
        shown : int
            The slice that the viewer shows.
        """
        self.marks, self.count, self.shown = dict(found), count, shown
        self.setVisible(count > 1)
        self.update()

    def show_slice(self, shown: int) -> None:
        """Move the frame to the slice that the viewer shows."""
        if shown != self.shown:
            self.shown = shown
            self.update()

    def slice_at(self, x: float) -> int:
        """Tell which slice is drawn at a place, -1 beside them."""
        at = int(x * self.count / max(self.width(), 1))
        return at if 0 <= at < self.count else -1

    def about(self, at: int) -> str:
        """Say in words what is known of a slice."""
        return f"Slice {at}: {_WORDS[self.marks.get(at)]}"

    def paintEvent(self, event: Any) -> None:
        """Draw the fields; the one that is shown has a frame."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        wide = self.width() / max(self.count, 1)
        base = self.height() - 1.0
        painter.setPen(QPen(QUIET, 1))
        painter.drawLine(QPointF(0, base), QPointF(self.width(), base))
        for at, mark in self.marks.items():
            _draw(painter, QRectF(at * wide, 2, max(wide - 1, 1.5), base - 3), mark)
        painter.setPen(QPen(self.palette().windowText().color(), 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(QRectF(self.shown * wide, 1, max(wide, 3), base - 1))

    def mousePressEvent(self, event: Any) -> None:
        """Tell which slice was clicked."""
        at = self.slice_at(event.position().x())
        if at >= 0:
            self.picked.emit(at)

    def event(self, event: Any) -> bool:
        """Name the slice under the mouse."""
        if event.type() == QEvent.Type.ToolTip:
            at = self.slice_at(event.pos().x())
            if at >= 0:
                QToolTip.showText(event.globalPos(), self.about(at), self)
                return True
        return super().event(event)


def _draw(painter: QPainter, field: QRectF, mark: Mark) -> None:
    """Draw one mark; height and form tell it apart without colour."""
    if mark == "aside":
        painter.setPen(QPen(QUIET, 1, Qt.PenStyle.DotLine))
        painter.drawRect(field.adjusted(0.5, field.height() / 2, -0.5, 0))
    elif mark == "painted":
        painter.fillRect(field.adjusted(0, field.height() * 0.55, 0, 0), PAINTED)
    elif field.width() < _ROOM_FOR_A_TICK:
        painter.fillRect(field, DONE)
    else:
        centre, size = field.center(), min(field.width(), field.height()) / 2.4
        tick = [(-1.0, 0.0), (-0.3, 0.8), (1.0, -0.8)]
        painter.fillRect(field.adjusted(0, field.height() - 2, 0, 0), DONE)
        painter.setPen(QPen(DONE, 2.5))
        points = [
            QPointF(centre.x() + size * x, centre.y() + size * y) for x, y in tick
        ]
        painter.drawPolyline(QPolygonF(points))
