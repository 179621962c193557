"""Step 4: compare the scan with those that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QWidget

from napari_hydraseg import core
from napari_hydraseg.core.types import PLANES, ShiftReport, Steps

from . import nouns, view
from .choosers import LayerBox, ModelBox
from .drawing import Strip
from .form import button, fill, named, rows, scrolling, table, text, unready
from .jobbar import JobBar, device, open_steps
from .scans import volume_steps
from .shift_points import Points
from .words import COLOURS, number, verdict_text

NEAREST = "the nearest (takes longer)"


class _Asked(NamedTuple):
    """What is compared: a scan, a model's name, a head; and the axis of slices."""

    layer: Any
    model: str
    head: str
    axis: int


class ShiftWidget(QWidget):
    """Compares the chosen scan with what a head of a model was trained on.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that holds the scan.
    """

    done = Signal()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.report: ShiftReport | None = None
        self._judged: _Asked | None = None  # what the report is about
        self._suited: tuple[Any, ...] = ()
        self.open_finetune: Callable[[], Any] = self._dock_finetune
        self._make_controls()
        self._make_results()
        self._lay_out()
        self._connect()

    def _make_controls(self) -> None:
        self.image = named(
            LayerBox(self.viewer, "image"),
            "shift.image",
            label="Scan",
            tip="The scan to compare",
        )
        self.model = named(
            ModelBox(),
            "shift.model",
            label="Model",
            tip="The model whose training scans are the reference",
        )
        self.head = named(
            QComboBox(),
            "shift.head",
            label="Head",
            tip="Which head's training scans are the reference; the nearest is looked "
            "for among those that the model recommends for the scan",
        )
        self.bar = JobBar(
            "shift", "Compare", tip="Compare the scan with the training scans"
        )

    def _make_results(self) -> None:
        self.verdict = text(name="shift.verdict", label="Verdict")
        self.depths = table(
            "shift.depths",
            label="Difference by depth of the encoder",
            tip="Of the encoder's features: MMD², distance (Mahalanobis; 1 is usual), "
            "and the share of training scans, in percent, that lie closer to the rest",
            heads=("Depth", "MMD²", "Distance", "Percentile"),
        )
        self.strip = named(
            Strip(),
            "shift.strip",
            label="Difference by slice",
            tip="One field per slice: up and orange is unlike the training scans. "
            "Click to go there",
        )
        self.points = named(
            Points(), "shift.points", label="All scans as points", tip=""
        )
        self.causes = table(
            "shift.causes",
            label="What differs",
            tip="Measured on this scan, and where 90 % of the training scans lie",
            heads=("What differs", "Here", "Training"),
        )
        self.advice = text(name="shift.advice", label="Advice")
        self.teach = button(
            "Set up fine-tuning",
            "shift.teach",
            "Open Fine-tune with this scan, the head to start from and what is frozen",
            self._teach,
        )
        self.save = button(
            "Save report…", "shift.save", "Write one HTML page", self._save
        )

    def _lay_out(self) -> None:
        column = scrolling(self)
        form = rows(column)
        form.addRow("Scan", self.image)
        form.addRow("Model", self.model)
        form.addRow("Head", self.head)
        column.addWidget(self.bar)
        for part in (
            self.verdict,
            self.strip,
            self.depths,
            self.points,
            self.causes,
            self.advice,
            self.teach,
            self.save,
        ):
            column.addWidget(part)
        column.addStretch(1)
        self.save.setEnabled(False)
        self.teach.setEnabled(False)

    def _connect(self) -> None:
        self.image.chosen.connect(self._on_image)
        self.model.chosen.connect(self._on_model)
        self.head.currentTextChanged.connect(lambda _: self._tell())
        self.bar.run.clicked.connect(lambda _=False: self._run())
        self.strip.picked.connect(self._go_to)
        self._on_model()

    def _on_model(self) -> None:
        model = self.model.info()
        before = self.head.currentText()
        heads = list(model.heads) if model is not None else []
        self.head.clear()
        for name in heads:
            self.head.addItem(name, name)
        if len(heads) > 1:
            self.head.addItem(NEAREST, None)
        if before in (*heads, NEAREST):
            self.head.setCurrentText(before)
        else:
            self._take_recommended()
        self._on_image()

    def _on_image(self) -> None:
        self._take_recommended()
        self._tell()
        problem = self.model.problem or "No model is installed: add one under Models."
        self.bar.set_ready(
            unready(
                [
                    (self.image.layer() is None, "Open a scan first (step 1)."),
                    (self.model.info() is None, problem),
                ]
            )
        )

    def _take_recommended(self) -> None:
        """Choose the head that the model's card recommends for this kind of scan.

        Only once for each scan and model: what the user chooses then, stays.
        """
        model, layer = self.model.info(), self.image.layer()
        if model is None or layer is None:
            return
        ours = layer.metadata.get("hydraseg", {})
        volume = ours.get("volume")
        modality = ours.get("modality") if volume is None else volume.modality
        asked = (id(layer), modality, model.path)
        if asked == self._suited:
            return
        self._suited = asked
        wanted = model.card.get("recommended", {}).get(modality, ())
        if wanted and self.head.currentText() not in (*wanted, NEAREST):
            self.head.setCurrentText(wanted[0])

    def _gather(self) -> Steps[ShiftReport]:
        layer = self.image.layer()
        axis = nouns.volume_of(layer, voxels=False).plane_axis
        self._asked = _Asked(*self._chosen(), axis)
        head, where = self.head.currentData(), device()
        return open_steps(
            self.model.path(),
            volume_steps(layer),
            lambda checkpoint, volume: core.shift(
                [volume], checkpoint, head=head, device=where
            ),
        )

    def _run(self) -> None:
        self.bar.start(self._gather, self._show, title="Comparing")

    def _show(self, report: ShiftReport) -> None:
        self.report = report
        self._judged = self._asked
        self.save.setEnabled(True)
        colour = COLOURS[report.verdict]
        self._tell()
        self.verdict.setStyleSheet(
            f"QLabel {{ border-left: 6px solid {colour}; padding-left: 8px; }}"
        )
        fill(
            self.depths,
            [
                (
                    "grey values" if line is report.grey else line["depth"],
                    number(line["mmd2"]),
                    number(
                        line.get("novelty"), 2 if line.get("novelty", 0) < 10 else 0
                    ),
                    number(line["percentile"], 0),
                )
                for line in report.by_level
            ],
        )
        # a model of volumes has one row for the whole scan
        slices = report.per_slice if len(report.per_slice) > 1 else ()
        self.strip.show_values([(int(s["slice"]), float(s["witness"])) for s in slices])
        self.points.show_picture(report.picture)
        fill(self.causes, [_cause(cause) for cause in report.causes])
        self.advice.setText(str(report.advice.get("text", "")))
        self.done.emit()

    def _chosen(self) -> tuple[Any, str, str]:
        """Scan, model and head as they are chosen now."""
        model = self.model.info()
        name = "" if model is None else model.name
        return self.image.layer(), name, self.head.currentText()

    def _tell(self) -> None:
        """Write the verdict, and on what: something else may have been chosen since."""
        if self.report is None or self._judged is None:
            return
        of = self._judged
        head = self.report.basis.get("head", of.head)
        about = f"{of.layer.name} · {of.model} · {head}"
        if self._chosen() != of[:3]:
            about = f"Not of what is chosen above, but of {about}"
        self.verdict.setText(f"{about}\n{verdict_text(self.report)}")
        self.teach.setEnabled("init" in self.report.advice and self._there())

    def _there(self) -> bool:
        """Whether the scan that was compared is still open."""
        return self._judged is not None and self._judged.layer in self.viewer.layers

    def _go_to(self, index: int) -> None:
        if self._judged is not None and self._there():
            plane = PLANES[self._judged.axis]
            if not view.shows(self.viewer, plane):
                view.face(self.viewer, plane)
            view.go_to_slice(self.viewer, self._judged.axis, index, self._judged.layer)

    def _teach(self) -> None:
        """Open Fine-tune as the report advises; nothing is trained yet."""
        if self.report is not None and self._judged is not None and self._there():
            self.open_finetune().follow(
                self.report.advice,
                image=self._judged.layer,
                model=self.report.basis.get("model", ""),
            )

    def _dock_finetune(self) -> Any:
        return self.viewer.window.add_plugin_dock_widget(
            "napari-hydraseg", "Fine-tune"
        )[1]

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save report", "shift.html", "Report (*.html *.json *.csv)"
        )
        if path and self.report is not None:
            try:
                core.write_report(core.describe(self.report), path, overwrite=True)
            except core.HydraSegError as error:
                self.bar.complain(error)
            else:
                self.bar.say(f"Saved as {Path(path).name}.")


def _cause(cause: Mapping[str, Any]) -> tuple[str, str, str]:
    """What differs with its unit, here, and where the training scans lie."""
    unit = f" ({cause['unit']})" if cause.get("unit") else ""
    ends = [number(cause[end]) for end in ("reference_low", "reference_high")]
    return (
        f"{cause['name']}{unit}",
        number(cause["scan"]),
        " to ".join(dict.fromkeys(ends)),
    )
