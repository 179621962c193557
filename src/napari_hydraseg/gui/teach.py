"""Which head of which model shall learn, and what its labels are called."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLineEdit, QVBoxLayout, QWidget

from . import nouns
from .choosers import ModelBox
from .form import named, rows, unready


class HeadBox(QWidget):
    """Chooses a model, a head of it or a new one, and the names of its labels."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._labels: Any = None
        self.model = named(
            ModelBox(), "finetune.model", label="Model", tip="The model to start from"
        )
        self.head = named(
            QComboBox(),
            "finetune.head",
            label="Head to teach",
            tip="Improve a head of the model, or type a new name for a new structure",
        )
        self.head.setEditable(True)
        self.head.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.head.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        if (line := self.head.lineEdit()) is not None:
            line.setPlaceholderText("choose, or type a new name")
        self.classes = named(
            QLineEdit(),
            "finetune.classes",
            label="Names of the labels",
            tip="Of a new head: what label 1, label 2, … are, separated by commas",
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        form = rows(column)
        form.addRow("Model", self.model)
        form.addRow("Head", self.head)
        form.addRow("Labels are", self.classes)
        self.model.chosen.connect(self._on_model)
        self.head.currentTextChanged.connect(lambda _: self._on_head())
        self.classes.textChanged.connect(lambda _: self.changed.emit())
        self._on_model()

    def head_name(self) -> str:
        """Give the name of the head to teach, as typed or chosen."""
        return self.head.currentText().strip()

    def known_classes(self) -> tuple[str, ...]:
        """Give the classes of a head that the model has, background first."""
        model = self.model.info()
        return tuple(model.heads.get(self.head_name(), ())) if model else ()

    def class_names(self, highest: int) -> tuple[str, ...]:
        """Name labels 1, 2, … of a new head; empty for a head of the model.

        Parameters
        ----------
        highest : int
            The highest label id that is painted.
        """
        if self.known_classes():
            return ()
        typed = [name.strip() for name in self.classes.text().split(",")]
        typed = [name for name in typed if name]
        named_ids = nouns.names_of(self._labels) if self._labels is not None else {}
        painted = {i: n for i, n in named_ids.items() if n != f"label {i}"}
        highest = max(highest, len(typed))
        only = self.head_name() if highest == 1 else ""
        return tuple(
            typed[i - 1] if i <= len(typed) else painted.get(i, only or f"class {i}")
            for i in range(1, highest + 1)
        )

    def problem(self, highest: int) -> str:
        """Say why nothing can be taught; empty if something can."""
        known = self.known_classes()
        beyond = (
            f"Label {highest} is painted, but head {self.head_name()} knows only 1 to "
            f"{len(known) - 1}. Type a new name under Head."
        )
        return unready(
            [
                (self.model.info() is None, self.model.problem or "No model."),
                (not self.head_name(), "Choose a head or type a new name."),
                (bool(known) and highest >= len(known), beyond),
            ]
        )

    def watch(self, labels: Any) -> None:
        """Take other labels; propose the head that made them, if one did."""
        model = self.model.info()
        if labels is None or labels == self._labels or model is None:
            return
        self._labels = labels
        noun = labels.metadata.get("hydraseg", {}).get("segmentation")
        head = str(noun.made_by.get("head", "")) if noun is not None else ""
        if head in model.heads:
            self.head.setEditText(head)

    def _on_model(self) -> None:
        model = self.model.info()
        typed = self.head_name()
        self.head.blockSignals(True)
        self.head.clear()
        self.head.addItems(list(model.heads) if model is not None else [])
        self.head.setCurrentIndex(-1)  # a head must be chosen, not taken by accident
        self.head.setEditText(typed)
        self.head.blockSignals(False)
        self._on_head()

    def _on_head(self) -> None:
        known = self.known_classes()
        self.classes.setEnabled(not known)
        if known:
            words = ", ".join(f"{i} {name}" for i, name in enumerate(known) if i)
        else:
            words = "names, with commas"
        self.classes.setPlaceholderText(words)
        self.changed.emit()
