"""Step 5: compare a segmentation with a reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFileDialog, QVBoxLayout, QWidget

from napari_hydraseg import core
from napari_hydraseg.core.errors import LabelShape
from napari_hydraseg.core.types import Progress, Segmentation, Steps

from . import nouns
from .choosers import LayerBox
from .form import button, fill, named, rows, table, unready
from .jobbar import JobBar

_COLUMNS = {
    "dice": "Dice",
    "hd95_mm": "HD95 mm",
    "surface_dice": "Surface",
    "volume_difference_ml": "Δ ml",
}
_DIGITS = {"hd95_mm": 1, "volume_difference_ml": 1}


class EvaluateWidget(QWidget):
    """Overlap and surface distances of two labels layers.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that holds the layers.
    """

    done = Signal()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.reference = named(
            LayerBox(napari_viewer, "labels"),
            "evaluate.reference",
            label="Reference",
            tip="The labels taken as true, for instance drawn by an expert",
        )
        self.candidate = named(
            LayerBox(napari_viewer, "labels"),
            "evaluate.candidate",
            label="Candidate",
            tip="The labels to be judged",
        )
        self.tolerance = named(
            QDoubleSpinBox(),
            "evaluate.tolerance",
            label="Tolerance in mm",
            tip="Distance, in mm, up to which two surfaces count as the same",
        )
        self.tolerance.setRange(0.1, 50)
        self.tolerance.setValue(1)
        self.tolerance.setSuffix(" mm")
        self.bar = JobBar("evaluate", "Compare", tip="Compare label by label")
        self.table = table(
            "evaluate.table",
            label="Agreement per structure",
            tip="Dice and surface Dice from 0 to 1; 95th percentile of the surface "
            "distance in mm; volume of the candidate less the reference in ml",
            heads=("Structure", *_COLUMNS.values()),
        )
        self.save = button(
            "Save report…", "evaluate.save", "Write HTML, CSV or JSON", self._save
        )
        self.save.setEnabled(False)
        column = QVBoxLayout(self)
        form = rows(column)
        form.addRow("Reference", self.reference)
        form.addRow("Candidate", self.candidate)
        form.addRow("Tolerance", self.tolerance)
        for part in (self.bar, self.table, self.save):
            column.addWidget(part)
        column.addStretch(1)
        self.reference.chosen.connect(self._check)
        self.candidate.chosen.connect(self._check)
        self.bar.run.clicked.connect(lambda _=False: self._run())
        self._check()

    def _check(self) -> None:
        reference, candidate = self.reference.layer(), self.candidate.layer()
        missing = reference is None or candidate is None
        self.bar.set_ready(
            unready(
                [
                    (missing, "Two labels layers are needed."),
                    (reference == candidate, "Choose two different labels layers."),
                ]
            )
        )

    def _gather(self) -> Steps[list[dict[str, Any]]]:
        first, second = self.reference.layer(), self.candidate.layer()
        candidate = nouns.segmentation_of(second)
        reference = nouns.segmentation_of(first)
        # a file of labels often has no names; then those of the candidate are shown
        told = {i: n for i, n in reference.names.items() if n != f"label {i}"}
        reference = replace(reference, names={**candidate.names, **told})
        if reference.labels.shape != candidate.labels.shape:
            raise LabelShape(
                f"{first.name} has {reference.labels.shape} voxels, {second.name} "
                f"{candidate.labels.shape}.",
                "Choose two layers of the same scan.",
            )
        return evaluate_steps(reference, candidate, tolerance_mm=self.tolerance.value())

    def _run(self) -> None:
        self.bar.start(self._gather, self._show, title="Evaluating")

    def _show(self, found: list[dict[str, Any]]) -> None:
        self.rows = found
        self.save.setEnabled(bool(found))
        fill(
            self.table,
            [
                (
                    row["name"],
                    *(_number(row.get(key), _DIGITS.get(key, 3)) for key in _COLUMNS),
                )
                for row in found
            ],
        )
        missing = any(_number(row.get(key)) == "—" for row in found for key in _COLUMNS)
        dash = "A dash: the structure is missing in one of the two." if missing else ""
        self.bar.say(dash if found else "Neither layer has a label.")
        self.done.emit()

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save report", "evaluation.html", "Report (*.html *.csv *.json)"
        )
        if path:
            try:
                core.write_report(core.describe(self.rows), path, overwrite=True)
            except core.HydraSegError as error:
                self.bar.complain(error)
            else:
                self.bar.say(f"Saved as {Path(path).name}.")


def evaluate_steps(
    reference: Segmentation, candidate: Segmentation, *, tolerance_mm: float
) -> Steps[list[dict[str, Any]]]:
    """Compare two segmentations in a worker's thread.

    Parameters
    ----------
    reference, candidate : Segmentation
        On the same grid.
    tolerance_mm : float
        Distance up to which surfaces count as the same.

    Returns
    -------
    list of dict
        One per label, as `core.evaluate` gives them.
    """
    yield Progress(0, 1, "measuring")
    found = core.evaluate(reference, candidate, tolerance_mm=tolerance_mm)
    yield Progress(1, 1, "measuring")
    return found


def _number(value: float | None, digits: int = 3) -> str:
    return (
        "—" if value is None or not abs(value) < float("inf") else f"{value:.{digits}f}"
    )
