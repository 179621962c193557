"""Step 3: correct some slices, and let a head of the model learn from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import napari.viewer
import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg import core
from napari_hydraseg.core.types import PLANES, FinetuneResult, Progress, Steps

from . import keys, nouns, worker
from .annotate import AnnotateBox
from .autosave import Autosave, Recovery
from .cleaning import CleanBox
from .drawing import Curve
from .fold import Fold
from .form import named, rows, scrolling, text
from .history import History
from .jobbar import JobBar, device, open_steps
from .libraries import load_torch
from .library import keep
from .offer import UNDECIDED, Offer
from .scans import volume_steps
from .suggest import NextSlice
from .teach import HeadBox
from .words import story

PRESETS = {"Quick (1 min)": 1.0, "Better (5 min)": 5.0, "Overnight (60 min)": 60.0}


class FinetuneWidget(QWidget):
    """Learns one head from painted slices; the encoder stays as it is.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that holds scan and labels.
    """

    done = Signal()

    @property
    def result(self) -> FinetuneResult | None:
        """The new model that is on offer."""
        return self.offer.result

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.advised: dict[str, Any] = {}
        self._prepared = False
        self.annotation = AnnotateBox(napari_viewer)
        self.clean = CleanBox(self.annotation)
        self.choice = HeadBox()
        self.next = NextSlice(self.annotation, self.choice)
        self.history = History(self.choice.model)
        self.autosave = Autosave(self.annotation)
        self.recovery = Recovery(self.annotation, self.autosave)
        self.kept = text(name="finetune.autosave", label="Kept aside")
        self.kept.hide()
        self._make_controls()
        self.bar = JobBar(
            "finetune",
            "Fine-tune",
            tip="Learn from the annotated slices; old heads stay bit for bit the same",
            stop=True,
        )
        self.plan = text(name="finetune.plan", label="As advised")
        self.plan.hide()
        self.curve = Curve()
        self.curve.setObjectName("finetune.curve")
        self.curve.setAccessibleName("Loss and held-out Dice")
        self.verdict = text(name="finetune.verdict", label="Before and after")
        self.verdict.hide()
        self.offer = Offer(self.bar)
        self._lay_out()
        self._connect()

    def _make_controls(self) -> None:
        self.preset = named(
            QComboBox(),
            "finetune.preset",
            label="How long",
            tip="Training time in minutes; the state that the slices kept aside like "
            "best is what you get",
        )
        for words, minutes in PRESETS.items():
            self.preset.addItem(words, minutes)
        self.epochs = named(
            QSpinBox(),
            "finetune.epochs",
            label="Passes over the slices",
            tip="0: as long as the time above; else exactly so many passes",
        )
        self.epochs.setRange(0, 10_000)
        self.epochs.setSpecialValueText("by time")
        self.augment = named(
            QCheckBox("Vary the slices while learning"),
            "finetune.augment",
            label="Vary the slices while learning",
            tip="Small random turns, sizes and contrasts; better with few slices",
        )
        self.augment.setChecked(True)

    def _lay_out(self) -> None:
        column = scrolling(self)
        column.addWidget(self.recovery)
        column.addWidget(self.annotation)
        column.addWidget(self.kept)
        column.addWidget(self.clean)
        column.addWidget(self.choice)
        column.addWidget(self.plan)
        column.addWidget(self.next)
        form = rows(column)
        form.addRow("How long", self.preset)
        more = Fold("More choices")
        inside = QWidget()
        inner = QVBoxLayout(inside)
        rows(inner).addRow("Passes", self.epochs)
        inner.addWidget(self.augment)
        more.addWidget(inside)
        column.addWidget(more)
        column.addWidget(self.bar)
        column.addWidget(self.offer)
        column.addWidget(self.curve)
        column.addWidget(self.verdict)
        column.addWidget(self.history)
        column.addStretch(1)

    def _connect(self) -> None:
        self.annotation.changed.connect(self._check)
        self.choice.changed.connect(self._check)
        self.choice.model.chosen.connect(self._forget_advice)
        self.bar.run.clicked.connect(lambda _=False: self._run())
        self.offer.answered.connect(self._on_answer)
        self.autosave.told.connect(self._on_kept)
        keys.bind(self.viewer, "D", self, self.annotation.toggle_done)
        keys.bind(self.viewer, "N", self, self.next.go)
        self._check()

    def _on_kept(self, words: str) -> None:
        self.kept.setText(words)
        self.kept.show()

    def follow(self, advice: Mapping[str, Any], *, image: Any, model: str) -> None:
        """Set up what a shift report advises; it is said, and another model undoes it.

        Parameters
        ----------
        advice : mapping
            ``ShiftReport.advice``: ``init``, the head to go on with, ``donor``, where
            a new one starts, and ``depth``, how many encoder levels stay frozen.
        image : napari layer
            The scan.
        model : str
            Name of the model.
        """
        self.annotation.image.choose(image)
        self.choice.model.refresh(choose=model)
        donor, depth = str(advice.get("donor", "auto")), advice.get("depth")
        self.choice.head.setEditText(str(advice["init"]))
        self.advised = {"init": donor, "depth": depth}
        frozen = (
            f"the first {depth} encoder levels stay" if depth else "the encoder stays"
        )
        start = "the one that fits best" if donor == "auto" else donor
        self.plan.setText(
            f"As the shift report advises: the head {advice['init']} goes on learning, "
            f"or a new one (type its name) starts from {start}; {frozen} frozen."
        )
        self.plan.show()

    def _forget_advice(self) -> None:
        self.advised = {}
        self.plan.hide()

    def _check(self) -> None:
        labels = self.annotation.labels.layer()
        if labels is not None and self.isVisible() and not self._prepared:
            self._prepared = True
            worker.beside(_prepare, lane="probe")  # while the user paints
        self.choice.watch(labels)
        self.bar.set_ready(
            (UNDECIDED if self.result is not None else "")
            or self.annotation.problem()
            or self.choice.problem(
                self.annotation.highest_id(), self.annotation.painted_ids
            )
        )

    def _gather(self) -> Steps[FinetuneResult]:
        image, labels = self.annotation.image.layer(), self.annotation.labels.layer()
        annotation = nouns.segmentation_of(labels, image)
        annotation = replace(
            annotation,
            annotated=nouns.annotated_slices(labels, PLANES.index(annotation.plane)),
        )
        self._snapshot, self._labels = annotation.labels, labels
        epochs, names = self.epochs.value(), self.choice.class_names()
        options = {
            "head": self.choice.head_name(),
            "augment": self.augment.isChecked(),
            "minutes": None if epochs else self.preset.currentData(),
            "epochs": epochs or None,
            "device": device(),
            **self.advised,
        }
        return open_steps(
            self.choice.model.path(),
            volume_steps(image),
            lambda checkpoint, volume: core.finetune(
                checkpoint,
                [(volume, annotation)],
                class_names=names(annotation.labels),
                **options,
            ),
        )

    def _run(self) -> None:
        self.curve.clear()
        self.bar.start(
            self._gather,
            self._show,
            title="Fine-tuning",
            watch=self._watch,
            rescue=lambda result: keep(result) if result.accepted else None,
        )

    def _watch(self, progress: Progress) -> None:
        self.curve.add(progress.values)
        if math.isfinite(self.curve.best):
            self.bar.tell(
                f"{self.bar.status.text()}\nHeld-out Dice {self.curve.start:.2f} at "
                f"the start, {self.curve.best:.2f} at best so far."
            )

    def _show(self, result: FinetuneResult) -> None:
        for point in result.curve if self.curve.isHidden() else ():
            self.curve.add(point)
        self.offer.make(result)
        self._check()
        words = [story(result)]
        before, now = self._snapshot, np.asarray(self._labels.data)
        changed = np.count_nonzero(now != before) if now.shape == before.shape else 0
        if changed:
            words.append(f"Since the start, {changed} voxels were painted anew.")
        self.verdict.setText("\n".join(words))
        self.verdict.show()
        self.bar.say(
            "Better than before: keep it?"
            if result.accepted
            else "Not clearly better than before: keep it only if you know why."
        )
        self.done.emit()

    def _on_answer(self, kept: bool) -> None:
        self.verdict.hide()
        if not kept:
            self.curve.clear()
        self._check()


def _prepare() -> None:
    """Load what learning needs; torch must not come before the first window."""
    load_torch()
    from napari_hydraseg.core.optimisation import prepare

    prepare()
