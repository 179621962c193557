"""The guided dock: the whole job in five steps, one open at a time."""

from __future__ import annotations

from typing import Any

import napari.viewer
from qtpy.compat import isalive
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from .evaluate import EvaluateWidget
from .finetune import FinetuneWidget
from .form import named, text
from .load import LoadWidget
from .segment import SegmentWidget
from .shift import ShiftWidget

STEPS = (
    ("load", "Load", LoadWidget),
    ("segment", "Segment", SegmentWidget),
    ("finetune", "Correct && fine-tune", FinetuneWidget),
    ("shift", "Shift", ShiftWidget),
    ("evaluate", "Evaluate", EvaluateWidget),
)
FOOTER = "Research software, not a medical device."


class Panel(QWidget):
    """Five steps under each other; a tick shows which have been done.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.headers: dict[str, QPushButton] = {}
        self.steps: dict[str, Any] = {}
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(2)
        group = QButtonGroup(self)
        for number, (room, title, kind) in enumerate(STEPS, 1):
            step = kind(napari_viewer)
            header = self._step(room, f"{number}  {title}", step)
            group.addButton(header)
            column.addWidget(header)
            column.addWidget(step, 1)
        recovery = self.steps["finetune"].recovery  # offered at once, on every step
        recovery.restored.connect(lambda: self.open_step("finetune"))
        column.insertWidget(0, recovery)
        self.steps["shift"].open_finetune = self._open_finetune
        footer = text(FOOTER, name="panel.footer", label="Notice")
        footer.setAlignment(Qt.AlignmentFlag.AlignCenter)
        column.addWidget(footer)
        self.open_step("load")

    def _step(self, room: str, title: str, step: Any) -> QPushButton:
        plain = title.replace("&&", "and")
        header = named(
            QPushButton(title),
            f"panel.{room}",
            label=f"Step {plain}",
            tip=f"Open step {plain}",
        )
        header.setCheckable(True)
        header.setStyleSheet("text-align: left; padding: 4px 8px; font-weight: bold;")
        step.hide()
        header.toggled.connect(step.setVisible)
        step.done.connect(lambda: self._on_done(room, title))
        self.headers[room], self.steps[room] = header, step
        return header

    def _on_done(self, room: str, title: str) -> None:
        """Tick a step off, and scroll to what it found."""
        self.headers[room].setText(f"{title}  ✓")
        # once the layout knows how high the result is
        QTimer.singleShot(50, lambda: isalive(self) and self._reveal(room))

    def _reveal(self, room: str) -> bool:
        found = getattr(self.steps[room], "verdict", None)
        if found is not None:
            self.steps[room].findChild(QScrollArea).ensureWidgetVisible(found)
        return found is not None

    def _open_finetune(self) -> FinetuneWidget:
        self.open_step("finetune")
        step: FinetuneWidget = self.steps["finetune"]
        return step

    def open_step(self, room: str) -> None:
        """Open a step and close the others.

        Parameters
        ----------
        room : {"load", "segment", "finetune", "shift", "evaluate"}
            Which.
        """
        self.headers[room].setChecked(True)

    def sizeHint(self) -> QSize:
        """Ask for the width that all texts fit in."""
        return QSize(360, 700)
