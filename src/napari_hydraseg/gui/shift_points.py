"""A drawing of all scans as points, with the one that was judged marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QWidget

from .drawing import readable

KNOWN = QColor("#999999")
HERE = QColor("#D55E00")
_MARGIN = 8.0
_HINTS = {
    "PCA": "Near means alike, as far as two axes can show it.",
    "t-SNE": "Neighbours are alike; the gaps between groups mean nothing.",
}


class Points(QWidget):
    """Training scans as grey dots, the scan that was judged as a cross in a ring."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(170)
        self._known: list[tuple[float, float]] = []
        self._here: list[tuple[float, float]] = []
        self._method = ""
        self.hide()

    def sizeHint(self) -> QSize:
        """Give the size at which groups can be told apart."""
        return QSize(240, 170)

    def show_picture(self, picture: Mapping[str, Any]) -> None:
        """Show ``ShiftReport.picture``; an empty one hides the drawing."""
        self._known = _pairs(picture.get("reference", ()))
        self._here = _pairs(picture.get("scans", ()))
        self._method = str(picture.get("method", ""))
        self.setToolTip(_HINTS.get(self._method, ""))
        self.setAccessibleDescription(
            f"{len(self._known)} training scans and this one by {self._method}"
        )
        self.setVisible(bool(self._known and self._here))
        self.update()

    def places(self) -> list[QPointF]:
        """Give the points in the widget's pixels: training scans, then this one."""
        every = [*self._known, *self._here]
        if not every:
            return []
        line = self.fontMetrics().height()
        box = QRectF(self.rect()).adjusted(
            _MARGIN, line + _MARGIN, -_MARGIN, -_MARGIN - 2
        )
        (left, wide), (low, high) = (_span([p[axis] for p in every]) for axis in (0, 1))
        return [
            QPointF(
                box.left() + box.width() * (x - left) / wide,
                box.bottom() - box.height() * (y - low) / high,
            )
            for x, y in every
        ]

    def paintEvent(self, event: Any) -> None:
        """Draw the points under a line that says what they are."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = painter.fontMetrics().height()
        known, marked = readable(KNOWN, self), readable(HERE, self)
        painter.setPen(known)
        painter.drawText(
            QPointF(_MARGIN, line - 2), f"● training scans, {self._method}"
        )
        painter.setPen(marked)
        here = "⊕ this scan"
        width = painter.fontMetrics().horizontalAdvance(here)
        painter.drawText(QPointF(self.width() - width - _MARGIN, line - 2), here)
        places = self.places()
        painter.setPen(QPen(known, 1))
        painter.setBrush(known)
        for place in places[: len(self._known)]:
            painter.drawEllipse(place, 2.5, 2.5)
        painter.setPen(QPen(marked, 2))
        painter.setBrush(QColor(0, 0, 0, 0))
        for place in places[len(self._known) :]:
            painter.drawEllipse(place, 6, 6)
            painter.drawLine(place - QPointF(6, 0), place + QPointF(6, 0))
            painter.drawLine(place - QPointF(0, 6), place + QPointF(0, 6))


def _pairs(points: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in points]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Low end and width, never 0: all scans may coincide."""
    low = min(values)
    return low, (max(values) - low) or 1.0
