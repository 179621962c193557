"""The library of models: look, add, export, remove."""

from __future__ import annotations

from pathlib import Path

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError

from .choosers import ModelBox
from .form import button, named, text
from .library import card_text, library

_FILTER = "Models (*.safetensors)"


class ModelsWidget(QWidget):
    """Shows the models that are there, and their cards.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that the dock belongs to.
    """

    done = Signal()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.model = named(
            ModelBox(), "models.model", label="Model", tip="Bundled and your own models"
        )
        self.card = text(name="models.card", label="Model card")
        self.status = text(name="models.status", label="Status")
        self.add = button(
            "Add a file…", "models.add", "Add a .safetensors model", self._add
        )
        self.export = button(
            "Export…", "models.export", "Copy the model to a file", self._export
        )
        self.remove = button(
            "Remove", "models.remove", "Delete the model from your folder", self._remove
        )
        column = QVBoxLayout(self)
        column.addWidget(self.model)
        column.addWidget(self.card)
        grid = QGridLayout()
        for at, part in enumerate((self.add, self.export, self.remove)):
            grid.addWidget(part, 0, at)
        column.addLayout(grid)
        column.addWidget(self.status)
        column.addStretch(1)
        self.model.chosen.connect(self._show)
        self._show()

    def _show(self) -> None:
        model = self.model.info()
        self.card.setText(card_text(model) if model else self.model.problem)
        self.export.setEnabled(model is not None)
        own = model is not None and model.source == "user"
        self.remove.setEnabled(own)
        tip = "Delete the model from your folder" if own else "Bundled models stay"
        self.remove.setToolTip(tip)

    def _add(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Add a model", "", _FILTER)
        if path:
            self.add_file(Path(path))

    def add_file(self, path: Path) -> None:
        """Add a model file to the user's folder of models.

        Parameters
        ----------
        path : Path
            A ``.safetensors`` file; it is checked before it is added.
        """
        try:
            added = core.add_model(path)
        except HydraSegError as error:
            self.status.setText(str(error))
            return
        self.status.setText(f"Added {added.name}.")
        library.changed.emit(added.name)

    def _export(self) -> None:
        name = self.model.currentText()
        path, _ = QFileDialog.getSaveFileName(
            self, "Export a model", f"{name}.safetensors", _FILTER
        )
        if path:
            try:
                core.export_model(name, path, overwrite=True)
            except HydraSegError as error:
                self.status.setText(str(error))
            else:
                self.status.setText(f"Exported as {Path(path).name}.")

    def _remove(self) -> None:
        name = self.model.currentText()
        answer = QMessageBox.question(
            self, "Remove a model", f"Delete {name} from your models?"
        )
        if answer == QMessageBox.StandardButton.Yes:
            try:
                core.remove_model(name)
            except HydraSegError as error:
                self.status.setText(str(error))
                return
            self.status.setText(f"Removed {name}.")
            library.changed.emit("")
