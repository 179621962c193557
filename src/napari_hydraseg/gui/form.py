"""The parts that forms are made of: named controls, paragraphs, tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFormLayout,
    QFrame,
    QHeaderView,
    QLabel,
    QPushButton,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

W = TypeVar("W", bound=QWidget)


def named(widget: W, name: str, *, label: str, tip: str) -> W:
    """Give a control its object name, its name for screen readers and its tooltip."""
    widget.setObjectName(name)
    widget.setAccessibleName(label)
    widget.setToolTip(tip)
    return widget


def text(words: str = "", *, name: str = "", label: str = "") -> QLabel:
    """Make a paragraph that wraps and can be selected with the mouse."""
    paragraph = QLabel(words)
    paragraph.setWordWrap(True)
    paragraph.setTextFormat(Qt.TextFormat.PlainText)
    paragraph.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    paragraph.setMinimumWidth(120)
    if name:
        paragraph.setObjectName(name)
        paragraph.setAccessibleName(label)
    return paragraph


def button(words: str, name: str, tip: str, act: Callable[[], object]) -> QPushButton:
    """Make a push button that calls `act`."""
    made = named(QPushButton(words), name, label=words, tip=tip)
    made.clicked.connect(lambda _=False: act())
    return made


class _Tall(QScrollArea):
    """Scrolls up and down; is always as wide as what is in it needs."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def minimumSizeHint(self) -> QSize:
        """Ask for the width of the widest row, with the bar beside it."""
        inside = self.widget()
        width = inside.minimumSizeHint().width() if inside is not None else 0
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(width + bar, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        """Wish for that width too."""
        return super().sizeHint().expandedTo(self.minimumSizeHint())

    def eventFilter(self, a0: Any, a1: Any) -> bool:
        """Ask anew when what is in it changes."""
        if a1.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(a0, a1))


def scrolling(form: QWidget) -> QVBoxLayout:
    """Give a form its column, which scrolls where the window is too low for it.

    Parameters
    ----------
    form : QWidget
        In the guided panel, or a dock of its own.
    """
    area = _Tall()
    inside = QWidget()
    column = QVBoxLayout(inside)
    area.setWidget(inside)
    outer = QVBoxLayout(form)
    outer.setContentsMargins(0, 0, 0, 0)
    outer.addWidget(area)
    return column


def rows(layout: QVBoxLayout) -> QFormLayout:
    """Add a form whose fields grow, and whose labels go above where it is narrow."""
    form = QFormLayout()
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
    layout.addLayout(form)
    return form


def unready(checks: Sequence[tuple[bool, str]]) -> str:
    """Find the first reason why Run cannot be pressed; empty if there is none."""
    return next((reason for wrong, reason in checks if wrong), "")


def table(name: str, *, label: str, tip: str, heads: Sequence[str]) -> QTableWidget:
    """Make a table to be read, as high as its rows.

    Parameters
    ----------
    name, label, tip : str
        Object name, name for screen readers, tooltip.
    heads : sequence of str
        Titles of the columns, with their units.
    """
    made = named(QTableWidget(0, len(heads)), name, label=label, tip=tip)
    made.setHorizontalHeaderLabels(list(heads))
    made.verticalHeader().hide()
    made.verticalHeader().setDefaultSectionSize(24)
    made.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    made.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    header = made.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    made.hide()
    return made


def fill(
    made: QTableWidget,
    lines: Sequence[Sequence[Any]],
    *,
    colours: Sequence[str] = (),
    most: int = 8,
) -> None:
    """Put lines into a table of `table`; an empty one is hidden.

    Parameters
    ----------
    made : QTableWidget
        The table.
    lines : sequence of sequences
        One per row; numbers stand to the right.
    colours : sequence of str
        A colour per row, shown as a square in its first cell.
    most : int
        Rows to show before the table scrolls.
    """
    made.setRowCount(len(lines))
    for row, line in enumerate(lines):
        for column, value in enumerate(line):
            cell = QTableWidgetItem(str(value))
            if column:
                cell.setTextAlignment(
                    Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                )
            elif row < len(colours):
                cell.setData(Qt.ItemDataRole.DecorationRole, QColor(colours[row]))
            cell.setToolTip(str(value))
            made.setItem(row, column, cell)
    height = made.horizontalHeader().sizeHint().height() + 4
    height += sum(made.rowHeight(row) for row in range(min(len(lines), most)))
    made.setFixedHeight(height)
    made.setVisible(bool(lines))
