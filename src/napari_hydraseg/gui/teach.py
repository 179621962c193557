"""Which head of which model shall learn, and what its labels are called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
            tip="Of a new head: what label 1, label 2, … are, separated by commas; "
            "where ids are left out, what each painted label is, in increasing order",
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

    def class_names(self) -> Callable[[NDArray[Any]], tuple[str, ...]]:
        """Give a function that names the labels of a new head.

        Returns
        -------
        callable
            Gets the labels, for instance in another thread, and gives names for ids 1,
            2, …; where ids are left out, one for each that is painted; none for a head
            of the model.
        """
        if self.known_classes():
            return lambda _: ()
        typed = [name.strip() for name in self.classes.text().split(",")]
        typed = [name for name in typed if name]
        named_ids = nouns.names_of(self._labels) if self._labels is not None else {}
        painted = {i: n for i, n in named_ids.items() if n != f"label {i}"}
        head = self.head_name()
        return lambda labels: _names(labels, typed, painted, head)

    def problem(self, highest: int, ids: Callable[[], Collection[int]]) -> str:
        """Say why nothing can be taught; empty if something can.

        Parameters
        ----------
        highest : int
            The highest label id that is painted.
        ids : callable
            Gives all that are painted; called only where that matters.
        """
        known = self.known_classes()
        beyond = (
            f"Label {highest} is painted, but head {self.head_name()} knows only 1 to "
            f"{len(known) - 1}. Type a new name under Head."
        )
        strange = bool(known) and highest >= len(known) and not self._called(known, ids)
        return unready(
            [
                (self.model.info() is None, self.model.problem or "No model."),
                (not self.head_name(), "Choose a head or type a new name."),
                (strange, beyond),
            ]
        )

    def _called(
        self, known: tuple[str, ...], ids: Callable[[], Collection[int]]
    ) -> bool:
        """Whether all painted labels have names of a head's classes."""
        names = nouns.names_of(self._labels) if self._labels is not None else {}
        return bool(set(names.values()) & set(known[1:])) and all(
            names.get(i) in known[1:] for i in ids()
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


def _names(
    labels: NDArray[Any], typed: Sequence[str], painted: Mapping[int, str], head: str
) -> tuple[str, ...]:
    """Name the classes of a new head by what was typed, else by the layer's names."""
    ids = [int(i) for i in np.unique(labels) if i]
    if len(typed) >= max(ids, default=0):
        return tuple(typed)  # of some, perhaps, nothing is painted yet
    first = dict(enumerate(typed, 1))
    given = dict(zip(ids, typed, strict=True)) if len(typed) == len(ids) else first
    only = head if len(ids) == 1 else ""
    return tuple(given.get(i, painted.get(i, only or f"class {i}")) for i in ids)
