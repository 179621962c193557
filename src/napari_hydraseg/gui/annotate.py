"""What is painted, and which slices a person vouches for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from qtpy.compat import isalive
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import PLANES

from . import layers, ledger, nouns, origin, proposals, view
from .choosers import LayerBox
from .form import button, named, rows, text
from .new_layer import empty_on, take_brush
from .tally import counts, tally_of
from .touch import bare, touch_of

_MILLISECONDS_OF_REST = 150  # after a stroke, before the slices are counted


class AnnotateBox(QWidget):
    """Chooses scan and labels, makes labels to paint on, counts annotated slices.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    """

    changed = Signal()
    ticked = Signal(object)  # the layer whose ledger the user changed

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.viewer = viewer
        self.image = named(
            LayerBox(viewer, "image"),
            "finetune.image",
            label="Scan",
            tip="The scan that the labels belong to",
        )
        self.labels = named(
            LayerBox(viewer, "labels"),
            "finetune.labels",
            label="Your labels",
            tip="Slices that differ from what the layer started with count as yours",
        )
        self.ledger = text(name="finetune.slices", label="Annotated slices")
        self.hint = text(name="finetune.hint", label="Before a slice is marked")
        self.hint.hide()
        self.strip = named(
            ledger.Ledger(),
            "finetune.ledger",
            label="Slices of the scan",
            tip="A tick: done. A low bar: painted. Click to go to a slice",
        )
        self._touch = touch_of(viewer)
        self._tally = tally_of(viewer)  # volumes in the layers' features
        self._drawn: NDArray[np.bool_] | None = None
        self._highest: int | None = None
        self._ids: list[int] | None = None
        self._paired: Callable[[], Any] = lambda: None  # labels that have their scan
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_MILLISECONDS_OF_REST)
        self._rest.timeout.connect(self.changed)
        self._lay_out()
        self.changed.connect(self._count)  # first: the others read what it has counted
        self.labels.chosen.connect(self._on_labels)
        self.image.chosen.connect(self.changed)
        self.labels.chosen.connect(self.changed)
        self.strip.picked.connect(self.go_to)
        viewer.dims.events.current_step.connect(self._on_step)
        self._touch.changed.connect(self._on_touch)
        self._count()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        form = rows(column)
        form.addRow("Scan", self.image)
        form.addRow("Your labels", self.labels)
        line = QHBoxLayout()
        line.addWidget(
            button(
                "New empty labels",
                "finetune.new",
                "Make a labels layer on the scan's grid and pick up the brush",
                self.new_labels,
            )
        )
        line.addWidget(
            button(
                "Copy to correct",
                "finetune.copy",
                "Copy the chosen labels; the original stays. Only slices that you "
                "change, or mark as finished, will be learned from",
                self.copy_labels,
            )
        )
        column.addLayout(line)
        column.addWidget(
            button(
                "This slice is done (D)",
                "finetune.done",
                "Vouch for the slice that is shown, even if nothing had to be painted "
                "there; key D. Once more: it is not learned from",
                self.toggle_done,
            )
        )
        column.addWidget(self.hint)
        column.addWidget(self.strip)
        column.addWidget(self.ledger)

    def new_labels(self) -> None:
        """Make an empty labels layer on the scan and start painting."""
        image = self.image.layer()
        if image is None:
            return
        made = layers.labels_layer(
            empty_on(image),
            name=f"my labels · {image.name}",
            geometry=nouns.geometry_of(image),
        )
        origin.remember(made[1]["metadata"], image)
        self._add(made)

    def copy_labels(self) -> None:
        """Make an editable copy of the chosen labels; the original is hidden."""
        source = self.labels.layer()
        if source is None:
            return
        noun = nouns.segmentation_of(source)
        made = layers.labels_layer(
            noun,
            name=f"corrected · {source.name}",
            geometry=nouns.geometry_of(source),
        )
        began = source.metadata.get("hydraseg", {}).get("segmentation")
        # what was drawn on empty labels counts in a copy too; all else is no work yet
        copied = began is None or bool(began.labels.any())
        made[1]["metadata"]["hydraseg"]["copied"] = copied
        origin.carry(source, made[1]["metadata"])
        self._add(made)
        proposals.carry(source, self.labels.layer())
        source.visible = False
        self.changed.emit()  # what is carried over is not the user's

    def toggle_done(self) -> None:
        """Vouch for the slice that is shown, or take that back."""
        labels = self.labels.layer()
        if labels is None:
            return
        plane = PLANES[self.axis()]
        seen = view.sees(self.viewer, plane, labels)
        self.hint.setText(f"Look at the {plane} slice, then press D again.")
        self.hint.setVisible(not seen)
        if not seen:  # nobody can vouch for a slice that is not to be seen
            self.go_to(self.shown())
            return
        ledger.toggle(labels, self.axis(), self.shown())
        self.ticked.emit(labels)
        self.changed.emit()

    def shown(self) -> int:
        """Index of the slice that the viewer shows."""
        return view.slice_shown(self.viewer, self.axis(), self.labels.layer())

    def go_to(self, index: int) -> None:
        """Show a slice, in the scan's own plane."""
        layer = self.labels.layer() or self.image.layer()
        plane = PLANES[self.axis()]
        if not view.shows(self.viewer, plane):
            view.face(self.viewer, plane)
        view.go_to_slice(self.viewer, self.axis(), index, layer)

    def axis(self) -> int:
        """Voxel axis across the slices of the scan."""
        image = self.image.layer()
        if image is None:
            return 0
        volume = image.metadata.get("hydraseg", {}).get("volume")
        try:
            return (volume or nouns.volume_of(image, voxels=False)).plane_axis
        except HydraSegError:  # a colour picture; `problem` says it
            return 0

    def annotated(self) -> list[int]:
        """List the slices that the user vouches for."""
        counted = self._counted()
        return [] if counted is None else [int(i) for i in np.flatnonzero(counted)]

    def highest_id(self) -> int:
        """Tell the highest label id that is painted; 0 if nothing is."""
        labels = self.labels.layer()
        if self._highest is None and labels is not None:
            self._highest = int(np.asarray(labels.data).max(initial=0))
        return self._highest or 0

    def painted_ids(self) -> list[int]:
        """List the label ids that are painted; all voxels are counted for it."""
        labels = self.labels.layer()
        if self._ids is None and labels is not None:
            found = counts(np.asarray(labels.data))
            self._ids = [int(i) for i in np.flatnonzero(found) if i]
        return self._ids or []

    def _counted(self) -> NDArray[np.bool_] | None:
        """Which slices are annotated; counted once per change, as all voxels are."""
        labels = self.labels.layer()
        if labels is None or labels.data.ndim not in (2, 3):
            return None
        if self._drawn is None:
            self._drawn = nouns.annotated_slices(labels, self.axis())
        return self._drawn

    def _forget(self) -> None:
        self._drawn, self._highest, self._ids = None, None, None

    def problem(self) -> str:
        """Say why these labels cannot be learned from; empty if they can."""
        image, labels = self.image.layer(), self.labels.layer()
        if image is None:
            return "Open a scan first (step 1)."
        if labels is None:
            return "Make labels first: press New empty labels and paint some slices."
        strange = origin.stranger(labels, image, self.viewer.layers)
        if strange:
            return strange
        if not self.annotated():
            return "Paint at least one slice, or mark one as finished."
        if self.highest_id() == 0:
            return "Nothing is painted yet: the labels are all background."
        try:
            nouns.check_grids(labels, image)
        except HydraSegError as error:
            return str(error)
        return ""

    def scan_under(self, labels: Any) -> Any:
        """Give the scan that labels belong to, as far as is known; None: not here."""
        return origin.scan_under(labels, self.image.layer(), self.viewer.layers)

    def _on_labels(self) -> None:
        """Choose the scan that newly chosen labels were made on, if it is known."""
        labels = self.labels.layer()
        if labels is None or bare(labels) is self._paired():
            return
        self._paired = ref(bare(labels))
        scan = self.scan_under(labels)
        if scan is not None:
            self.image.choose(scan)

    def _add(self, made: layers.LayerData) -> None:
        layer = view.add(self.viewer, [made])[0]
        take_brush(self.viewer, layer)
        self.labels.choose(layer)
        plane = made[1]["metadata"]["hydraseg"]["segmentation"].plane
        if not view.shows(self.viewer, plane):
            view.face(self.viewer, plane)

    def _on_touch(self, layer: Any) -> None:
        """Count again when the chosen layer was changed."""
        if layer == self.labels.layer():
            self._forget()
            self._rest.start()

    def _count(self) -> None:
        self._forget()
        labels = self.labels.layer()
        found = ledger.marks(labels, self.axis(), self._counted())
        solid = labels is not None and labels.ndim == 3
        count = labels.data.shape[self.axis()] if solid else 0
        self.strip.show_marks(found, count=count, shown=self.shown() if solid else 0)
        self.ledger.setText(ledger.in_words(found))

    def _on_step(self, event: Any = None) -> None:
        if isalive(self) and self.strip.count:
            self.strip.show_slice(self.shown())
