"""Where a candidate is wrong: a layer of errors, and the way to the worst slices."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QVBoxLayout, QWidget

from napari_hydraseg.core.types import PLANES, Steps

from . import layers, nouns, view
from .form import button, named, rows, text
from .jobbar import JobBar
from .judging import Errors, Pair, errors_steps

_ALL = "All structures"


class ErrorBox(QWidget):
    """Shows the errors of a pair that was compared, and goes to the worst slices.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer of errors.
    bar : JobBar
        Runs the work and tells what was found.
    """

    shown = Signal()

    def __init__(self, viewer: Any, bar: JobBar) -> None:
        super().__init__()
        self._viewer, self._bar = viewer, bar
        self._pair: Any = None  # the box is hidden until there is one
        self._errors: Any = None
        self._next = 0
        self.structure = named(
            QComboBox(),
            "evaluate.structure",
            label="Errors of",
            tip="Of which structure the errors are shown",
        )
        self.reveal = button(
            "Show errors",
            "evaluate.errors",
            "Add a layer with what the candidate missed (false negative) and what is "
            "too much in it (false positive); the two masks are hidden meanwhile",
            lambda: self._look(self._tell),
        )
        self.worst = button(
            "Worst slice",
            "evaluate.worst",
            "Go to the slice with most wrong voxels; once more: to the next worst",
            lambda: self._look(self._go),
        )
        self.status = text(name="evaluate.where", label="Errors of the slice")
        self._lay_out()
        self.structure.currentIndexChanged.connect(lambda _: self._forget())
        self.hide()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        rows(column).addRow("Errors of", self.structure)
        grid = QGridLayout()
        grid.addWidget(self.reveal, 0, 0)
        grid.addWidget(self.worst, 0, 1)
        column.addLayout(grid)
        column.addWidget(self.status)
        self.status.hide()

    def offer(self, pair: Pair, names: list[str]) -> None:
        """Take a pair that has just been compared.

        Parameters
        ----------
        pair : Pair
            The masks.
        names : list of str
            Their structures, as in the table.
        """
        self._pair = pair
        self.structure.blockSignals(True)
        before = self.structure.currentText()
        self.structure.clear()
        self.structure.addItems([_ALL, *names] if len(names) > 1 else names)
        self.structure.setCurrentText(before)
        self.structure.blockSignals(False)
        self._forget()
        self.setVisible(bool(names))

    def choose(self, name: str) -> None:
        """Choose a structure, if there is one of that name."""
        self.structure.setCurrentText(name)

    def _forget(self) -> None:
        self._errors, self._next = None, 0
        self.status.hide()

    def _chosen(self) -> str | None:
        several = self.structure.count() > 1
        every = several and self.structure.currentIndex() == 0
        return None if every else self.structure.currentText()

    def _look(self, act: Any) -> None:
        """Look for the errors if that was not done yet, then act."""
        if self._errors is not None and self._layer() is not None:
            act()
            return
        self._bar.start(
            self._gather, lambda found: self._put(found, act), title="Finding errors"
        )

    def _gather(self) -> Steps[Errors]:
        pair = self._pair
        return errors_steps(pair.reference, pair.candidate, name=self._chosen())

    def _put(self, found: Errors, act: Any) -> None:
        """Show the errors in their layer; an older one of this candidate goes."""
        old = self._layer()
        if old is not None:
            self._viewer.layers.remove(old)
        self._errors, self._next = found, 0
        made = layers.labels_layer(
            found.mask,
            name=self._name(),
            geometry=nouns.geometry_of(self._pair.layers[1]),
        )
        made[1]["metadata"]["hydraseg"]["role"] = "errors"
        for layer in self._pair.layers:
            layer.visible = False  # colours over colours could not be told apart
        view.add(self._viewer, [made])
        act()
        self.shown.emit()

    def _name(self) -> str:
        return f"errors · {self._pair.layers[1].name}"

    def _layer(self) -> Any:
        """Find the layer of errors of this candidate, if it is there."""
        return next(
            (
                layer
                for layer in self._viewer.layers
                if layer.name == self._name()
                and layer.metadata.get("hydraseg", {}).get("role") == "errors"
            ),
            None,
        )

    def _go(self) -> None:
        """Go to the next of the worst slices; from the last one to the first."""
        found = self._errors
        if not found.worst:
            self._tell()
            return
        at, count = found.worst[self._next % len(found.worst)]
        plane, layer = found.mask.plane, self._layer()
        if not view.shows(self._viewer, plane):
            view.face(self._viewer, plane)
        view.go_to_slice(self._viewer, PLANES.index(plane), at, layer)
        rank = self._next % len(found.worst) + 1
        self._next += 1
        self._say(f"Slice {at}: {count} wrong voxels; {rank} of {len(found.worst)}.")

    def _tell(self) -> None:
        total = sum(count for _, count in self._errors.worst)
        slices = len(self._errors.worst)
        self._say(
            f"{total} wrong voxels on {slices} slices."
            if total
            else "No voxel is wrong."
        )

    def _say(self, words: str) -> None:
        self.status.setText(words)
        self.status.show()
