"""Two small drawings: a learning curve, and a strip with one field per slice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

LOSS = QColor("#E69F00")
DICE = QColor("#56B4E9")
LIKE = QColor("#56B4E9")
UNLIKE = QColor("#D55E00")
_MARGIN = 6.0


def readable(colour: QColor, widget: QWidget) -> QColor:
    """Darken a colour where the theme is light; its words must still be read.

    Parameters
    ----------
    colour : QColor
        As it is on a dark ground.
    widget : QWidget
        What it is drawn on.
    """
    words = widget.palette().windowText().color()
    return colour.darker(170) if words.lightness() < 128 else colour


class Curve(QWidget):
    """Loss and held-out Dice while a model learns; the dashed line is the start."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(90)
        self._loss: list[float] = []
        self._dice: list[tuple[int, float]] = []
        self.hide()

    def sizeHint(self) -> QSize:
        """Give the height that a curve can be read at."""
        return QSize(200, 100)

    def clear(self) -> None:
        """Forget all points."""
        self._loss, self._dice = [], []
        self.hide()

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one `Progress`: "loss", and "dice" once it is known."""
        loss, dice = values.get("loss", math.nan), values.get("dice", math.nan)
        if math.isfinite(loss):
            self._loss.append(loss)
        if math.isfinite(dice) and (not self._dice or self._dice[-1][1] != dice):
            self._dice.append((len(self._loss), dice))
        self.setVisible(bool(self._loss or self._dice))
        self.update()

    @property
    def start(self) -> float:
        """The first held-out Dice; ``nan`` before it is known."""
        return self._dice[0][1] if self._dice else math.nan

    @property
    def best(self) -> float:
        """The best held-out Dice so far; ``nan`` before it is known."""
        return max((dice for _, dice in self._dice), default=math.nan)

    def paintEvent(self, event: Any) -> None:
        """Draw the curves."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        line = painter.fontMetrics().height()
        box = QRectF(self.rect()).adjusted(_MARGIN, line + 2, -_MARGIN, -_MARGIN)
        self._legend(painter, line)
        steps = max(len(self._loss), self._dice[-1][0] if self._dice else 0, 2) - 1
        top = max(self._loss, default=1.0) or 1.0
        # no more points than there are pixels: a long run must not slow the window
        thin = max(1, len(self._loss) // max(1, self.width()))
        losses = [(at, self._loss[at] / top) for at in range(0, len(self._loss), thin)]
        self._line(painter, box, losses, steps, readable(LOSS, self))
        dices = [(max(at - 1, 0), value) for at, value in self._dice]
        # Dice stays where it is until it is measured again
        if dices:
            dices.append((steps, dices[-1][1]))
        self._line(painter, box, dices, steps, readable(DICE, self))
        if self._dice:
            painter.setPen(QPen(readable(DICE, self), 1, Qt.PenStyle.DashLine))
            y = box.bottom() - box.height() * self.start
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))

    def _legend(self, painter: QPainter, line: int) -> None:
        loss = f"loss {self._loss[-1]:.3f}" if self._loss else "loss"
        dice = f"Dice {self._dice[-1][1]:.3f}" if self._dice else "Dice —"
        painter.setPen(readable(LOSS, self))
        painter.drawText(QPointF(_MARGIN, line - 2), loss)
        painter.setPen(readable(DICE, self))
        width = painter.fontMetrics().horizontalAdvance(dice)
        painter.drawText(QPointF(self.width() - width - _MARGIN, line - 2), dice)

    @staticmethod
    def _line(
        painter: QPainter,
        box: QRectF,
        points: Sequence[tuple[int, float]],
        steps: int,
        colour: QColor,
    ) -> None:
        """Draw points with heights from 0 to 1."""
        painter.setPen(QPen(colour, 1.6))
        painter.drawPolyline(
            QPolygonF(
                [
                    QPointF(
                        box.left() + box.width() * at / steps,
                        box.bottom() - box.height() * min(max(height, 0.0), 1.0),
                    )
                    for at, height in points
                ]
            )
        )


class Strip(QWidget):
    """One field per slice, the higher and redder the less like the reference.

    A click tells which slice was meant.
    """

    picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(34)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self._values: list[tuple[int, float]] = []
        self.hide()

    def show_values(self, values: Sequence[tuple[int, float]]) -> None:
        """Show (slice, how unlike) pairs; above 0 is unlike the reference."""
        self._values = sorted(values)
        self.setVisible(bool(self._values))
        self.update()

    def paintEvent(self, event: Any) -> None:
        """Draw the bars."""
        if not self._values:
            return
        painter = QPainter(self)
        width = self.width() / len(self._values)
        most = max(abs(value) for _, value in self._values) or 1.0
        middle = self.height() / 2
        for at, (_, value) in enumerate(self._values):
            height = max(1.0, abs(value) / most * middle)
            top = middle - height if value > 0 else middle
            field = QRectF(at * width, top, max(width - 0.5, 1.0), height)
            painter.fillRect(field, UNLIKE if value > 0 else LIKE)

    def mousePressEvent(self, event: Any) -> None:
        """Tell which slice was clicked."""
        at = int(event.position().x() * len(self._values) / max(self.width(), 1))
        if 0 <= at < len(self._values):
            self.picked.emit(self._values[at][0])
