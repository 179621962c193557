"""The library of models: look, add, export, remove."""

from __future__ import annotations

from pathlib import Path

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg import core
from napari_hydraseg.core._published import KINDS
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import Progress, Steps

from .choosers import ModelBox
from .fold import Fold
from .form import button, named, rows, scrolling, text
from .jobbar import JobBar
from .library import adopt, card_text, library

SUFFIX = ".safetensors"
_OURS = f"Models (*{SUFFIX})"
_FILES = (
    f"Models and published weights (*{SUFFIX} *.pt *.pth *.h5 *.hdf5);;All files (*)"
)


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
        self.bar = JobBar(
            "models",
            "Add a file…",
            control="add",
            tip="Add a .safetensors model, or published weights of others (.pt, .h5), "
            "which are converted; nothing in the file can run code",
        )
        self.kind = named(
            QComboBox(),
            "models.kind",
            label="Kind of published weights",
            tip="What a file of others is; of a .safetensors model it is known",
        )
        self.kind.addItem("Found out from the file", "auto")
        for kind in KINDS:
            self.kind.addItem(kind, kind)
        self.export = button(
            "Export…",
            "models.export",
            "Write the model to a file, to be given to others",
            self._export,
        )
        self.remove = button(
            "Remove…",
            "models.remove",
            "Delete the model from your folder",
            self._remove,
        )
        self._lay_out()
        self.model.chosen.connect(self._show)
        self.bar.run.clicked.connect(lambda _=False: self._add())
        self._show()

    def _lay_out(self) -> None:
        column = scrolling(self)
        rows(column).addRow("Model", self.model)
        line = QHBoxLayout()
        line.addWidget(self.export)
        line.addWidget(self.remove)
        column.addLayout(line)
        column.addWidget(self.bar)
        more = Fold("Published weights of others")
        inside = QWidget()
        rows(QVBoxLayout(inside)).addRow("Kind", self.kind)
        more.addWidget(inside)
        column.addWidget(more)
        column.addWidget(self.card)
        column.addStretch(1)

    def _show(self) -> None:
        model = self.model.info()
        self.card.setText(card_text(model) if model else self.model.problem)
        self.export.setEnabled(model is not None)
        own = model is not None and model.source == "user"
        self.remove.setEnabled(own)
        tip = "Delete the model from your folder" if own else "Bundled models stay"
        self.remove.setToolTip(tip)

    def _add(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Add a model", "", _FILES)
        if path:
            self.add_file(Path(path))

    def add_file(self, path: Path) -> None:
        """Add a model file to the user's folder of models.

        Parameters
        ----------
        path : Path
            A ``.safetensors`` model, or weights that `core.convert` knows; it is
            checked before it is added.
        """
        kind = str(self.kind.currentData())
        self.bar.start(
            lambda: adding_steps(path, kind=kind), self._on_added, title="Adding"
        )

    def _on_added(self, name: str) -> None:
        library.tell(name, self)
        self.bar.say(f"Added as {name}.")

    def _export(self) -> None:
        name = self.model.currentText()
        path, _ = QFileDialog.getSaveFileName(
            self, "Export a model", f"{name}{SUFFIX}", _OURS
        )
        if path:
            self.bar.start(
                lambda: exporting_steps(name, Path(path)),
                lambda _: self.bar.say(f"Exported as {Path(path).name}."),
                title="Exporting",
            )

    def _remove(self) -> None:
        name = self.model.currentText()
        answer = QMessageBox.question(
            self,
            "Remove a model",
            f"Delete {name} from your models? This cannot be undone: export it first "
            "if it may be needed again.",
        )
        if answer != QMessageBox.StandardButton.Yes:
            return
        try:
            core.remove_model(name)
        except HydraSegError as error:
            self.bar.complain(error)
            return
        library.tell("", self)
        self.bar.say(f"Removed {name}.")


def adding_steps(path: Path, *, kind: str) -> Steps[str]:
    """Check a file and add it to the user's models, in a worker's thread.

    Parameters
    ----------
    path : Path
        The file.
    kind : str
        Of published weights, as of `core.convert`.

    Returns
    -------
    str
        Its name in the library.
    """
    yield Progress(0, 2, "checking the file")
    ours = path.suffix.lower() == SUFFIX
    checkpoint = core.load_checkpoint(path) if ours else core.convert(path, kind=kind)
    yield Progress(1, 2, "adding")
    return adopt(checkpoint)


def exporting_steps(name: str, path: Path) -> Steps[None]:
    """Write a model to a file, in a worker's thread."""
    yield Progress(0, 1, "exporting")
    core.export_model(name, path, overwrite=True)
