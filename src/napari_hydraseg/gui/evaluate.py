"""Step 5: compare a segmentation with a reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QWidget,
)

from napari_hydraseg.core.errors import LabelShape
from napari_hydraseg.core.types import Segmentation, Steps

from . import layers, nouns, view
from .choosers import LayerBox
from .form import button, fill, named, rows, scrolling, table, unready
from .jobbar import JobBar
from .judging import Pair, evaluate_steps, reading_steps, report_steps, scan_under
from .mistakes import ErrorBox
from .series import Cases

_COLUMNS = {
    "dice": "Dice",
    "hd95_mm": "HD95 mm",
    "surface_dice": "Surface",
    "volume_difference_ml": "Δ ml",
}
_DIGITS = {"hd95_mm": 1, "volume_difference_ml": 1}
_FILES = "Masks (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd *.mgz *.dcm);;All files (*)"


class EvaluateWidget(QWidget):
    """Overlap, surface distances and errors of two labels layers.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that holds the layers.
    """

    done = Signal()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.rows: list[dict[str, Any]] = []
        self.cases = Cases()
        self._pair: Any = None
        self._make_controls()
        self.bar = JobBar("evaluate", "Compare", tip="Compare label by label")
        self._make_results()
        self._lay_out()
        self._connect()

    def _make_controls(self) -> None:
        self.reference = named(
            LayerBox(self.viewer, "labels", follows=False),
            "evaluate.reference",
            label="Reference",
            tip="The labels taken as true, for instance drawn by an expert",
        )
        self.open = button(
            "File…", "evaluate.open", "Open a file as the reference", self._open
        )
        self.candidate = named(
            LayerBox(self.viewer, "labels"),
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
        self.several = named(
            QCheckBox("One of several scans"),
            "evaluate.several",
            label="One of several scans",
            tip="Keep the results of all scans compared from now on: from the second "
            "one on with mean and 95 % bootstrap interval. Untick to start anew",
        )

    def _make_results(self) -> None:
        self.table = table(
            "evaluate.table",
            label="Agreement per structure",
            tip="Dice and surface Dice from 0 to 1; 95th percentile of the surface "
            "distance in mm; volume of the candidate less the reference in ml. Click "
            "a row to choose the structure whose errors are shown",
            heads=("Structure", *_COLUMNS.values()),
        )
        self.errors = ErrorBox(self.viewer, self.bar)
        self.summary = table(
            "evaluate.summary",
            label="Mean over the scans",
            tip="Mean Dice over the scans compared so far, from 0 to 1, with its 95 % "
            "bootstrap interval and the number of scans",
            heads=("All scans", "Dice", "95 % interval", "n"),
        )
        self.save = button(
            "Save report…",
            "evaluate.save",
            "Write one HTML page with the worst slice of each structure, or CSV or "
            "JSON with all metrics",
            self._save,
        )
        self.save.setEnabled(False)

    def _lay_out(self) -> None:
        column = scrolling(self)
        form = rows(column)
        line = QHBoxLayout()
        line.addWidget(self.reference, 1)
        line.addWidget(self.open)
        form.addRow("Reference", line)
        form.addRow("Candidate", self.candidate)
        form.addRow("Tolerance", self.tolerance)
        parts = (
            self.several,
            self.bar,
            self.table,
            self.errors,
            self.summary,
            self.save,
        )
        for part in parts:
            column.addWidget(part)
        column.addStretch(1)

    def _connect(self) -> None:
        self.reference.chosen.connect(self._check)
        self.candidate.chosen.connect(self._check)
        self.several.toggled.connect(self._on_several)
        self.table.currentCellChanged.connect(lambda row, *_: self._on_row(row))
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

    def _on_row(self, row: int) -> None:
        if 0 <= row < len(self.rows):
            self.errors.choose(self.rows[row]["name"])

    def _on_several(self, wanted: bool) -> None:
        self.cases.clear()
        if wanted and self.rows:
            self.cases.add(self._pair.reference, self.rows)
        self._sum_up()

    def _open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a reference", "", _FILES)
        if path:
            self.open_file(Path(path))

    def open_file(self, path: Path) -> None:
        """Open a file of labels and choose it as the reference.

        Parameters
        ----------
        path : Path
            A mask on the grid of the candidate.
        """
        self.bar.start(
            lambda: reading_steps(path),
            lambda noun: self._take(noun, layers.stem(path.name)),
            title="Reading",
        )

    def _take(self, noun: Segmentation, name: str) -> None:
        made = layers.labels_layer(noun, name=name)
        made[1]["visible"] = False  # it would cover the candidate
        (layer,) = view.add(self.viewer, [made])
        self.reference.choose(layer)

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
        self._asked = Pair(reference, candidate, (first, second))
        return evaluate_steps(reference, candidate, tolerance_mm=self.tolerance.value())

    def _run(self) -> None:
        self.bar.start(self._gather, self._show, title="Evaluating")

    def _show(self, found: list[dict[str, Any]]) -> None:
        self.rows, self._pair = found, self._asked
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
        self.errors.offer(self._pair, [row["name"] for row in found])
        if self.several.isChecked() and found:
            self.cases.add(self._pair.reference, found)
        self._sum_up()
        missing = any(_number(row.get(key)) == "—" for row in found for key in _COLUMNS)
        dash = "A dash: the structure is missing in one of the two." if missing else ""
        self.bar.say(dash if found else "Neither layer has a label.")
        self.done.emit()

    def _sum_up(self) -> None:
        fill(self.summary, self.cases.lines() if len(self.cases) > 1 else [])

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save report", "evaluation.html", "Report (*.html *.csv *.json)"
        )
        if path:
            self.bar.start(
                lambda: report_steps(
                    self.cases.rows() or self.rows,
                    Path(path),
                    pair=self._pair,
                    names=[row["name"] for row in self.rows],
                    scan=scan_under(self.viewer, self._pair),
                ),
                lambda _: self.bar.say(f"Saved as {Path(path).name}."),
                title="Writing the report",
            )


def _number(value: float | None, digits: int = 3) -> str:
    return (
        "—" if value is None or not abs(value) < float("inf") else f"{value:.{digits}f}"
    )
