"""The list of a model's heads, each with a tick."""

from __future__ import annotations

from collections.abc import Collection

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_hydraseg.core.types import ModelInfo

_ROWS = 6  # before the list scrolls


class HeadList(QListWidget):
    """Lists the heads of a model, each with its classes; as high as its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)

    def show_model(self, model: ModelInfo | None) -> None:
        """List the heads of a model, none of them ticked, without telling anybody."""
        self.blockSignals(True)
        self.clear()
        for head, classes in (model.heads if model is not None else {}).items():
            what = ", ".join(classes[1:])
            item = QListWidgetItem(head if what == head else f"{head}: {what}")
            item.setData(Qt.ItemDataRole.UserRole, head)
            item.setToolTip(f"{head}: {what}")
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(Qt.CheckState.Unchecked)
            self.addItem(item)
        self.blockSignals(False)
        height = max(self.sizeHintForRow(0), 18) * min(self.count(), _ROWS)
        self.setFixedHeight(height + 8)

    def ticked(self) -> tuple[str, ...]:
        """Names of the ticked heads."""
        items = [self.item(row) for row in range(self.count())]
        return tuple(
            item.data(Qt.ItemDataRole.UserRole)
            for item in items
            if item.checkState() == Qt.CheckState.Checked
        )

    def tick(self, wanted: Collection[str]) -> None:
        """Tick these heads and no others, without telling anybody; show the first."""
        self.blockSignals(True)
        for row in reversed(range(self.count())):
            item = self.item(row)
            ticked = item.data(Qt.ItemDataRole.UserRole) in wanted
            state = Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked
            item.setCheckState(state)
            if ticked:
                self.scrollToItem(item)
        self.blockSignals(False)
