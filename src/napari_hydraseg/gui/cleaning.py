"""Clean labels up, and fill the slices between annotated ones; undo takes it back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg import core
from napari_hydraseg.core.types import PLANES, Segmentation, Steps

from . import nouns, proposals
from .amend import Amendment, Change, change_steps, ensure_amendable, in_mm
from .annotate import AnnotateBox
from .fold import Fold
from .form import button, named, rows, text, unready
from .jobbar import JobBar

_USUAL = 10.0  # mm3: specks that no reader would draw, small beside any organ
_MOST = 1e7  # mm3: ten litres
_NO_LABELS = "Choose labels first, or make some."
_FEW = "Annotate two slices that are some slices apart."


class CleanBox(Fold):
    """Cleans the chosen labels up, or fills them between annotated slices.

    Parameters
    ----------
    annotation : AnnotateBox
        Which labels, and which of their slices are annotated.
    """

    amended = Signal()

    def __init__(self, annotation: AnnotateBox) -> None:
        super().__init__("Clean up, fill between slices")
        self._annotation = annotation
        self._layer: Any = None  # what the running job works on, and along which axis
        self._axis = 0
        self._filling = False
        self._make_controls()
        self._make_buttons()
        self._lay_out()
        annotation.changed.connect(self._check)
        self.bar.run.clicked.connect(lambda _=False: self._clean())
        self.bar.finished.connect(self._check)
        self._check()

    def _make_controls(self) -> None:
        self.largest = _tick(
            "Largest part only",
            "clean.largest",
            "Keep of each label only its largest connected part: for organs that are "
            "there once",
        )
        self.smallest = _size(
            "clean.smallest",
            "Drop parts below",
            "Parts smaller than this, in mm³, become background; voxels where the "
            "voxel size is not known. 0: none",
        )
        self.holes = _size(
            "clean.holes",
            "Fill holes up to",
            "Enclosed background up to this size, in mm³, gets the label around it; "
            "voxels where the voxel size is not known. 0: none",
        )
        self.in_slices = _tick(
            "Holes slice by slice",
            "clean.in_slices",
            "Fill also what is enclosed within one slice but open above or below",
        )
        self.only = _tick(
            "Only the label that is selected",
            "clean.only",
            "Leave all labels as they are but the one that the brush has",
        )

    def _make_buttons(self) -> None:
        self.bar = JobBar(
            "clean", "Clean up", tip="Clean the whole mask; Ctrl+Z takes it back"
        )
        self.between = button("Fill between slices", "between.run", "", self._fill)
        self.accept = button("", "between.accept", "", self._accept)
        self.undo = button(
            "Undo",
            "clean.undo",
            "Take back the last change of these labels, as Ctrl+Z on the canvas",
            self._undo,
        )
        self.proposed = text(name="between.status", label="Slices nobody vouches for")

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        line = QHBoxLayout()
        line.addWidget(self.between, 2)
        line.addWidget(self.undo, 1)
        column.addLayout(line)
        column.addWidget(self.proposed)
        column.addWidget(self.accept)
        form = rows(column)
        form.addRow("Drop parts below", self.smallest)
        form.addRow("Fill holes up to", self.holes)
        for tick in (self.largest, self.in_slices, self.only):
            column.addWidget(tick)
        column.addWidget(self.bar)
        self.addWidget(inside)

    def _check(self) -> None:
        labels = self._annotation.labels.layer()
        drawn = self._annotation.annotated()
        apart = any(b - a > 1 for a, b in pairwise(drawn))
        busy = self.bar.busy
        self.bar.set_ready(_NO_LABELS if labels is None else "")
        why = unready([(labels is None, _NO_LABELS), (not apart, _FEW)])
        self.between.setEnabled(not why and not busy)
        self.between.setToolTip(
            why
            or "Draw the slices between annotated ones, by shapes that change evenly. "
            "They count as yours only once you accept them, or paint there"
        )
        self.undo.setEnabled(labels is not None and not busy)
        unit = " mm³" if labels is None or in_mm(labels) else " voxels"
        for size in (self.smallest, self.holes):
            size.setSuffix(unit)
        self._show_proposed(labels)

    def _show_proposed(self, labels: Any) -> None:
        found = (
            []
            if labels is None
            else proposals.standing(labels, self._annotation.axis())
        )
        shown = ", ".join(map(str, found[:8])) + (", …" if found[8:] else "")
        self.proposed.setText(f"Not yet yours: slices {shown}. Look at each.")
        self.accept.setText(f"Accept these {len(found)} slices")
        self.accept.setToolTip("Mark them all as done: fine-tuning learns from them")
        self.proposed.setVisible(bool(found))
        self.accept.setVisible(bool(found))

    def _clean(self) -> None:
        self.bar.start(self._gather_clean, self._show, title="Cleaning up")
        self._check()

    def _fill(self) -> None:
        self.bar.start(self._gather_between, self._show, title="Filling slices")
        self._check()

    def _gather_clean(self) -> Steps[Change]:
        noun = self._snapshot()
        only = [self._layer.selected_label] if self.only.isChecked() else []
        verb = core.clean(
            noun,
            largest=self.largest.isChecked(),
            smallest_mm3=self.smallest.value(),
            holes_mm3=self.holes.value(),
            in_slices=self.in_slices.isChecked(),
            classes=only,
            known_mm=in_mm(self._layer),
        )
        self._filling = False
        return change_steps(noun, verb, known_mm=in_mm(self._layer))

    def _gather_between(self) -> Steps[Change]:
        noun = self._snapshot()
        self._filling = True
        verb = core.fill_between(noun)
        return change_steps(noun, verb, known_mm=in_mm(self._layer))

    def _snapshot(self) -> Segmentation:
        self._layer = self._annotation.labels.layer()
        ensure_amendable(self._layer)
        self._axis = self._annotation.axis()
        drawn = nouns.annotated_slices(self._layer, self._axis)
        noun = nouns.segmentation_of(self._layer)
        return replace(noun, annotated=drawn, plane=PLANES[self._axis])

    def _show(self, change: Change) -> None:
        amendment = Amendment(self._layer, change, axis=self._axis)
        words = in_words(change, filling=self._filling)
        amendment.ended.connect(lambda count: self._end(change, words, count))
        amendment.start()

    def _end(self, change: Change, words: str, count: int) -> None:
        painted = change.old.size - count
        if painted:
            words += f" {painted} voxels that you painted meanwhile stay."
        self.bar.say(words)
        self._annotation.ticked.emit(self._layer)
        self._annotation.changed.emit()
        self.amended.emit()

    def _accept(self) -> None:
        labels = self._annotation.labels.layer()
        if labels is not None:
            proposals.accept(labels, self._annotation.axis())
            self._annotation.ticked.emit(labels)
            self._annotation.changed.emit()

    def _undo(self) -> None:
        labels = self._annotation.labels.layer()
        if labels is not None:
            labels.undo()
            self.bar.say("")
            self._annotation.changed.emit()


def in_words(change: Change, *, filling: bool) -> str:
    """Tell what a change did.

    Parameters
    ----------
    change : Change
        From cleaning up, or from filling slices.
    filling : bool
        Which of the two.
    """
    if not change.old.size:
        return "Nothing had to be changed."
    back = "Ctrl+Z takes it back."
    if filling:
        return f"Filled {len(change.found.made_by['interpolated'])} slices. {back}"
    report = change.found.made_by["cleaned"]
    total = {
        key: sum(row[key] for row in report["classes"])
        for key in ("pieces", "removed", "holes", "filled")
    }
    unit = "mm³" if report["unit"] == "mm3" else "voxels"
    gone = [row["name"] for row in report["classes"] if not row["left"]]
    words = [
        f"Dropped {total['pieces']} parts ({total['removed']:.4g} {unit}), "
        f"filled {total['holes']} holes ({total['filled']:.4g} {unit})."
    ]
    if gone:
        words.append(f"Nothing is left of {', '.join(gone)}.")
    return " ".join([*words, back])


def _tick(words: str, name: str, tip: str) -> QCheckBox:
    return named(QCheckBox(words), name, label=words, tip=tip)


def _size(name: str, label: str, tip: str) -> QDoubleSpinBox:
    made = named(QDoubleSpinBox(), name, label=label, tip=tip)
    made.setRange(0, _MOST)
    made.setDecimals(1)
    made.setSingleStep(5)
    made.setValue(_USUAL)
    made.setGroupSeparatorShown(True)
    made.setSpecialValueText("none")
    return made
