"""Step 2: segment the open scan with one or more heads of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import ref

import napari.viewer
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_hydraseg import core
from napari_hydraseg.core.types import Steps

from . import kept, layers, nouns, origin, view
from .badge import Badge, pace_of, probe_of
from .choosers import LayerBox, ModalityBox, ModelBox
from .colours import napari_colour
from .form import button, fill, named, rows, scrolling, table, text, unready
from .heads import HeadList
from .jobbar import JobBar, device, open_steps
from .library import card_text, concerns, library
from .results import Found, layer_steps
from .scans import volume_steps
from .soft import SoftBox
from .tally import fill_in, tally_of
from .touch import bare
from .words import how_made


class SegmentWidget(QWidget):
    """Segments the chosen scan; one labels layer per head.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that holds the scan and gets the labels.
    """

    done = Signal()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.image = named(
            LayerBox(napari_viewer, "image"),
            "segment.image",
            label="Scan",
            tip="The image layer to segment",
        )
        self.modality = named(
            ModalityBox(),
            "segment.modality",
            label="Kind of scan",
            tip="What made this scan; grey values are normalised accordingly",
        )
        self.model = named(
            ModelBox(), "segment.model", label="Model", tip="The model to use"
        )
        self.heads = named(
            HeadList(),
            "segment.heads",
            label="What to look for",
            tip="Each ticked head adds a little time; the encoder runs once for all",
        )
        self.card = text(name="segment.card", label="About the model")
        self.badge = Badge("segment.badge")
        self.bar = JobBar("segment", "Segment", tip="Segment the whole scan")
        self.table = table(
            "segment.table",
            label="What was found",
            tip="Volume of each structure in millilitres",
            heads=("Structure", "Volume (ml)"),
        )
        self.soft = SoftBox(napari_viewer, self.table)
        self._tally = tally_of(napari_viewer)
        self._rows: list[tuple[ref[Any], int]] = []  # masks, first rows in the table
        self.save = button(
            "Save segmentation…",
            "segment.save",
            "Write the chosen labels layer on the scan's own grid",
            self._save,
        )
        self._lay_out()
        self._connect()

    def _lay_out(self) -> None:
        column = scrolling(self)
        form = rows(column)
        form.addRow("Scan", self.image)
        form.addRow("Kind", self.modality)
        form.addRow("Model", self.model)
        column.addWidget(text("Look for"))
        column.addWidget(self.heads)
        column.addWidget(self.card)
        column.addWidget(self.soft.keep)
        column.addWidget(self.badge)
        column.addWidget(self.bar)
        column.addWidget(self.table)
        column.addWidget(self.soft)
        column.addWidget(self.save)
        column.addStretch(1)

    def _connect(self) -> None:
        self.image.chosen.connect(self._on_image)
        self.modality.currentIndexChanged.connect(lambda _: self._on_modality())
        self.model.chosen.connect(self._on_model)
        self.heads.itemChanged.connect(lambda _: self._check())
        self.bar.run.clicked.connect(lambda _=False: self._run())
        library.changed.connect(self._on_library)
        self._tally.counted.connect(self._on_counted)
        self._on_model()
        self._on_image()

    def chosen_heads(self) -> tuple[str, ...]:
        """Names of the ticked heads."""
        return self.heads.ticked()

    def _on_library(self, name: str, window: Any) -> None:
        """Tick the heads that only the model which has just come has."""
        if not isalive(self) or not concerns(self, window):
            return
        model = self.model.info()
        if not name or model is None or model.name != name:
            return
        others = [m.heads for m in core.list_models() if m.name != name]
        new = [h for h in model.heads if not any(h in heads for heads in others)]
        if new:
            self._tick(new)

    def _on_image(self) -> None:
        layer = self.image.layer()
        before = self.modality.modality()
        ours = layer.metadata.get("hydraseg", {}) if layer is not None else {}
        volume = ours.get("volume")
        modality = volume.modality if volume is not None else ours.get("modality")
        self.modality.show_modality(modality)
        if modality != before:
            self._tick_recommended()
        self._check()

    def _on_modality(self) -> None:
        layer = self.image.layer()
        if layer is not None:
            nouns.set_modality(self.viewer.layers, layer, self.modality.modality())
        self._tick_recommended()

    def _on_model(self) -> None:
        model = self.model.info()
        ticked = [h for h in self.chosen_heads() if model and h in model.heads]
        self.heads.show_model(model)
        about = card_text(model) if model is not None else self.model.problem
        self.model.setToolTip(about)
        self.card.setToolTip(about)
        if ticked:
            self._tick(ticked)
        else:
            self._tick_recommended()

    def _tick_recommended(self) -> None:
        """Tick what the model's card recommends for this kind of scan."""
        model = self.model.info()
        if model is None:
            self._check()
            return
        wanted = model.card.get("recommended", {}).get(self.modality.modality(), ())
        if len(model.heads) == 1:
            wanted = tuple(model.heads)
        self._tick(wanted)

    def _tick(self, wanted: Sequence[str]) -> None:
        self.heads.tick(wanted)
        self._check()

    def _show_limits(self) -> None:
        """Show what the card says against the ticked heads."""
        model = self.model.info()
        limits = [str(x) for x in model.card.get("limits", ())] if model else []
        known = set(model.heads) if model else set()
        about = [set(limit.partition(":")[0].split(", ")) & known for limit in limits]
        heads = set(self.chosen_heads())
        ours = [x for x, names in zip(limits, about, strict=True) if names & heads]
        ours = ours or [x for x, names in zip(limits, about, strict=True) if not names]
        self.card.setText("\n".join(ours))
        self.card.setVisible(bool(ours))

    def _check(self) -> None:
        self._show_limits()
        problem = self.model.problem or "No model is installed: add one under Models."
        nothing = "Tick what to look for."
        if self.modality.modality() is None:
            nothing = "Say what kind of scan this is, or tick what to look for."
        self.bar.set_ready(
            unready(
                [
                    (self.image.layer() is None, "Open a scan first (step 1)."),
                    (self.model.info() is None, problem),
                    (not self.chosen_heads(), nothing),
                ]
            )
        )
        self._ask_pace()

    def _ask_pace(self) -> None:
        """Let the badge say device and time for what is chosen."""
        layer, model, heads = self.image.layer(), self.model.info(), self.chosen_heads()
        if layer is None or model is None or not heads:
            self.badge.ask(None, None)
            return
        path, where = str(model.path), device()
        key = (id(layer), path, heads, where, self.modality.modality())
        self.badge.ask(key, probe_of(layer, path, heads=heads, device=where))

    def _gather(self) -> Steps[dict[str, Found]]:
        self._asked = self.image.layer()
        geometry = nouns.geometry_of(self._asked)
        self._timed = self.badge.key
        heads, where = self.chosen_heads(), device()
        share = self.soft.keep.isChecked()
        steps = open_steps(
            self.model.path(),
            volume_steps(self._asked),
            lambda checkpoint, volume: self.soft.watch(
                core.segment(
                    volume, checkpoint, heads=heads, device=where, probabilities=share
                ),
                checkpoint,
            ),
        )
        return layer_steps(steps, geometry)

    def _run(self) -> None:
        self.bar.start(self._gather, self._show, title="Segmenting")

    def _show(self, results: Mapping[str, Found]) -> None:
        lines: list[tuple[str, str]] = []
        squares: list[str] = []
        self._rows = []
        for head, (_, made) in results.items():
            layer = self._put(head, made)
            self._rows.append((ref(bare(layer)), len(lines)))
            self.soft.offer(head, layer)
            features, colour = made[1]["features"], layer.colormap.color_dict
            for label, name, volume in zip(
                features["index"],
                features["name"],
                features["volume_ml"],
                strict=True,
            ):
                lines.append((name, f"{volume:.2f}" if volume == volume else "unknown"))
                squares.append(napari_colour(colour[label]))
        found = {head: segmentation for head, (segmentation, _) in results.items()}
        fill(self.table, lines, colours=squares)
        pace = pace_of(found)
        if pace is not None:
            self.badge.took(self._timed, pace)
        self.bar.say(f"Done. Check every slice before you use it.\n{how_made(found)}")
        self.done.emit()

    def _on_counted(self, layer: Any, features: Mapping[str, list[Any]]) -> None:
        """Keep the table right when a mask is changed, or changed back."""
        for shown, first in self._rows:
            if shown() is layer:
                fill_in(self.table, features, first)

    def _put(self, head: str, made: layers.LayerData) -> Any:
        """Add one labels layer; an earlier result of head and scan is hidden."""
        for layer in self.viewer.layers:
            ours = layer.metadata.get("hydraseg", {})
            if ours.get("result") == head and ours["scan"]() is bare(self._asked):
                layer.visible = False
        made[1]["name"] = view.free_name(self.viewer, f"{head} · {self._asked.name}")
        origin.remember(made[1]["metadata"], self._asked)
        made[1]["metadata"]["hydraseg"]["result"] = head
        return view.add(self.viewer, [made])[0]

    def _save(self) -> None:
        layer = self.viewer.layers.selection.active
        if layer is None or not hasattr(layer, "selected_label"):
            self.bar.say("Select the labels layer to save in the layer list first.")
            return
        name = "_".join(reversed(layer.name.split(" · "))).replace(" ", "_")
        path, _ = QFileDialog.getSaveFileName(
            self, "Save segmentation", f"{name}.nii.gz", "NIfTI (*.nii.gz *.nii)"
        )
        if path:
            self._write(layer, Path(path))

    def _write(self, layer: Any, path: Path) -> None:
        try:
            core.save_segmentation(nouns.segmentation_of(layer), path, overwrite=True)
        except core.HydraSegError as error:
            self.bar.complain(error)
        else:
            kept.settle(layer.metadata, layer.data)
            self.bar.say(f"Saved as {path.name}, on the scan's own grid.")
