"""Probabilities beside a mask, and a threshold that draws the mask anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QTableWidget, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import (
    PLANES,
    Checkpoint,
    Progress,
    Segmentation,
    Steps,
)

from . import nouns, view, worker
from .amend import Amendment, Change, change_steps, ensure_amendable, in_mm
from .choosers import LayerBox
from .form import named, rows, text

_MILLISECONDS_OF_REST = 200  # of the slider, before the mask is drawn anew
_TIP = (
    "Adds a hidden layer per head with the probability, 0 to 1, that a voxel belongs "
    "to one of its structures, and a slider for the threshold. Takes 4 bytes of memory "
    "per voxel and structure"
)


@dataclass(frozen=True, eq=False)
class _Soft:
    """One head's answer in probabilities."""

    noun: Segmentation
    foreground: NDArray[np.float32]
    threshold: float
    largest: bool


class SoftBox(QWidget):
    """Keeps probabilities if that is wanted, and draws masks anew from them.

    The tick for it, `keep`, belongs above the button that starts the work.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    table : QTableWidget
        Names and volumes of what was found, kept up to date.
    """

    def __init__(self, viewer: Any, table: QTableWidget) -> None:
        super().__init__()
        self._viewer, self._table = viewer, table
        self._made: dict[str, _Soft] = {}
        self._kept: dict[Any, _Soft] = {}
        self._job: worker.Job | None = None
        self.keep = named(
            QCheckBox("Keep probabilities, with a threshold"),
            "segment.probabilities",
            label="Keep probabilities",
            tip=_TIP,
        )
        self.labels = named(
            LayerBox(viewer, "labels"),
            "segment.soft",
            label="Mask to draw anew",
            tip="The mask that the threshold is for",
        )
        self.slider = named(
            QLabeledDoubleSlider(Qt.Orientation.Horizontal),
            "segment.threshold",
            label="Threshold",
            tip="Probability, 0 to 1, above which a voxel belongs to a structure: "
            "lower finds more. The mask is drawn anew, but for annotated slices; "
            "Ctrl+Z takes it back",
        )
        self.slider.setRange(0, 1)
        self.slider.setDecimals(2)
        self.status = text(name="segment.soft_status", label="State of the threshold")
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_MILLISECONDS_OF_REST)
        self._lay_out()
        self._rest.timeout.connect(self._redraw)
        self.slider.valueChanged.connect(self._rest.start)
        self.labels.chosen.connect(self._on_choice)
        viewer.layers.events.removed.connect(self._on_removed)
        self._on_choice()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        self._below = QWidget()
        inner = QVBoxLayout(self._below)
        inner.setContentsMargins(0, 0, 0, 0)
        form = rows(inner)
        form.addRow("Mask", self.labels)
        form.addRow("Threshold", self.slider)
        inner.addWidget(self.status)
        column.addWidget(self._below)
        self._below.hide()

    def watch(
        self, steps: Steps[dict[str, Segmentation]], checkpoint: Checkpoint
    ) -> Steps[dict[str, Segmentation]]:
        """Run a segmentation; keep its probabilities, if there are any.

        Parameters
        ----------
        steps : Steps
            What `core.segment` returned.
        checkpoint : Checkpoint
            The model that segments.
        """
        found = yield from steps
        self._made = {}
        for head, noun in found.items():
            share = noun.probabilities
            if share is None:
                continue
            yield Progress(1, 1, "keeping probabilities")
            said = checkpoint.spec.threshold
            said = said.get(head) if isinstance(said, Mapping) else said
            self._made[head] = _Soft(
                noun,
                share[1] if len(share) == 2 else 1 - share[0],
                0.5 if said is None or len(share) > 2 else float(said),
                head in checkpoint.spec.largest,
            )
        return found

    def offer(self, head: str, layer: Any) -> None:
        """Show the probabilities of a head that has just got its mask.

        Parameters
        ----------
        head : str
            Which.
        layer : napari.layers.Labels
            Its mask.
        """
        soft = self._made.pop(head, None)
        if soft is None:
            return
        attributes = {
            "name": f"probability · {layer.name}",
            **nouns.geometry_of(layer),
            "contrast_limits": (0.0, 1.0),
            "colormap": "magma",
            "blending": "additive",
            "visible": False,  # it would cover the scan
        }
        view.add(self._viewer, [(soft.foreground, attributes, "image")])
        self._kept[layer] = soft
        self.labels.choose(layer)
        self._on_choice()

    def _on_choice(self) -> None:
        """Show the threshold of the chosen mask."""
        soft = self._kept.get(self.labels.layer())
        self.slider.setEnabled(soft is not None)
        self.status.setText("" if soft else "This mask has no probabilities.")
        self._below.setVisible(bool(self._kept))
        if soft is not None:
            self.slider.blockSignals(True)
            self.slider.setValue(soft.threshold)
            self.slider.blockSignals(False)

    def _on_removed(self, event: Any) -> None:
        if isalive(self):
            self._kept.pop(event.value, None)
            self._below.setVisible(bool(self._kept))

    def _redraw(self) -> None:
        layer = self.labels.layer()
        soft = self._kept.get(layer)
        if soft is None or self._job is not None:
            return  # what is running looks at the slider again when it ends
        value = float(self.slider.value())
        try:
            ensure_amendable(layer)
            before, axis = nouns.segmentation_of(layer), PLANES.index(soft.noun.plane)
            mine = nouns.annotated_slices(layer, axis)
            verb = _sparing(
                core.redraw(soft.noun, threshold=value, largest=soft.largest),
                before,
                mine,
                axis,
            )
            self._job = worker.start(
                change_steps(before, verb, known_mm=in_mm(layer)),
                title="Drawing the mask anew",
            )
        except HydraSegError as error:
            self.status.setText(str(error))
            return
        self._kept[layer] = replace(soft, threshold=value)
        spared = int(mine.sum())
        self._job.returned.connect(lambda change: self._show(layer, change, spared))
        self._job.failed.connect(self._on_fault)
        self._job.ended.connect(self._on_end)
        self.destroyed.connect(self._job.cancel)

    def _show(self, layer: Any, change: Change, spared: int) -> None:
        amendment = Amendment(layer, change, axis=PLANES.index(change.found.plane))
        amendment.ended.connect(lambda _: self._tell(change, spared))
        amendment.start()

    def _tell(self, change: Change, spared: int) -> None:
        """Bring the table of volumes up to date."""
        if not isalive(self):
            return
        made = change.table
        found = dict(zip(made["name"], made["volume_ml"], strict=True))
        for row in range(self._table.rowCount()):
            name, volume = (self._table.item(row, column) for column in (0, 1))
            ml = found.get(name.text()) if name is not None else None
            if volume is not None and ml is not None:
                volume.setText(f"{ml:.2f}" if ml == ml else "unknown")
        threshold = change.found.made_by["threshold"]
        plural = "slice" if spared == 1 else "slices"
        but = f", but for {spared} annotated {plural}" if spared else ""
        self.status.setText(f"Drawn at {threshold:.2f}{but}. Ctrl+Z takes it back.")

    def _on_fault(self, error: HydraSegError) -> None:
        if isalive(self):
            self.status.setText(str(error))

    def _on_end(self) -> None:
        self._job = None
        if not isalive(self):
            return
        soft = self._kept.get(self.labels.layer())
        if soft is not None and abs(soft.threshold - self.slider.value()) > 1e-6:
            self._rest.start()


def _sparing(
    verb: Steps[Segmentation],
    before: Segmentation,
    mine: NDArray[np.bool_],
    axis: int,
) -> Steps[Segmentation]:
    """Let the user's slices of a mask stay what they were.

    Parameters
    ----------
    verb : Steps
        Makes the new mask.
    before : Segmentation
        The old one.
    mine : ndarray of bool, shape (slices,)
        Which slices are the user's.
    axis : int
        Voxel axis along which they are counted.
    """
    found = yield from verb
    if not mine.any():
        return found
    yield Progress(1, 1, "sparing your slices")
    here = (slice(None),) * axis + (mine,)
    kind = np.promote_types(found.labels.dtype, before.labels.dtype)
    labels = found.labels.astype(kind)
    labels[here] = before.labels[here]
    return replace(found, labels=labels)
