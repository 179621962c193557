"""Step 1: open a scan, a DICOM series or labels, or the synthetic sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg.core.types import Segmentation, Steps, Volume

from . import layers, view
from .choosers import ModalityBox
from .form import button, named, rows, scrolling, text
from .jobbar import JobBar
from .letters import Letters
from .reading import Found, folder_steps, load_steps

_KINDS = {"auto": "By the file's name", "image": "Scan", "labels": "Labels"}
_PICTURES = "*.png *.jpg *.jpeg *.tif *.tiff *.bmp"
_FILTER = ";;".join(
    (
        f"Scans and labels ({' '.join(f'*{s}' for s in layers.SUFFIXES)} {_PICTURES})",
        "All files (*)",
    )
)


class LoadWidget(QWidget):
    """Opens scans and labels.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer that gets the layers.
    """

    done = Signal()

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.modality = named(
            ModalityBox(),
            "load.modality",
            label="Kind of scan",
            tip="What made the scan. NIfTI files do not say; the model's normalisation "
            "depends on it. You can change it later.",
        )
        self.kind = named(
            QComboBox(),
            "load.kind",
            label="Open as",
            tip="Labels are recognised by names such as _seg, _mask or dseg, or by a "
            "folder called labels",
        )
        for kind, words in _KINDS.items():
            self.kind.addItem(words, kind)
        self._options()
        self.bar = JobBar(
            "load", "Open a scan…", tip="Choose one or more files", control="open"
        )
        self.bar.run.clicked.connect(lambda _=False: self._choose())
        self.letters = Letters(napari_viewer)
        self._lay_out()

    def _options(self) -> None:
        """Make the controls of what files do not say."""
        self.channels = named(
            QCheckBox("Several files are channels of one scan"),
            "load.channels",
            label="Several files are channels of one scan",
            tip="For instance FLAIR and T1 of the same patient on the same grid",
        )
        self.resample = named(
            QCheckBox("Bring them onto the grid of the first"),
            "load.resample",
            label="Bring channels onto the grid of the first",
            tip="Interpolates the further files where they lie on another grid",
        )
        self.resample.setVisible(False)
        self.channels.toggled.connect(self.resample.setVisible)
        self.regularise = named(
            QCheckBox("Interpolate missing, uneven or tilted slices"),
            "load.regularise",
            label="Interpolate missing, uneven or tilted slices",
            tip="Of a DICOM series; without it such a series is refused. The scan's "
            "notes say what was interpolated.",
        )
        self.index = named(
            QSpinBox(),
            "load.index",
            label="Number of the volume or channel",
            tip="Which volume of a file that holds several, or which channel of a "
            "colour picture; counted from 0",
        )
        self.index.setRange(-1, 9999)
        self.index.setSpecialValueText("the only one")
        self.index.setValue(-1)
        self.series = named(
            QComboBox(),
            "load.series",
            label="Series of the folder",
            tip="What the scanner called each series, its kind and its size",
        )

    def _lay_out(self) -> None:
        column = scrolling(self)
        form = rows(column)
        form.addRow("Kind of scan", self.modality)
        form.addRow("Open as", self.kind)
        form.addRow("Volume", self.index)
        column.addWidget(self.channels)
        column.addWidget(self.resample)
        column.addWidget(self.regularise)
        column.addWidget(self.bar)
        column.addWidget(
            button(
                "Open a folder of DICOM slices…",
                "load.folder",
                "Choose the folder of one or more series",
                self._choose_folder,
            )
        )
        self._several = self._chooser()
        column.addWidget(self._several)
        column.addWidget(text("Nothing at hand? Try the program's own example:"))
        column.addWidget(
            button(
                "Open the synthetic heart",
                "load.sample",
                "A heart drawn by a program, with its true labels; no person's scan",
                self.open_sample,
            )
        )
        column.addStretch(1)

    def _chooser(self) -> QWidget:
        """Make the choice between the series of a folder; hidden until there is one."""
        made = QWidget()
        column = QVBoxLayout(made)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(QLabel("This folder holds several series:"))
        column.addWidget(self.series)
        column.addWidget(
            button(
                "Open this series",
                "load.open_series",
                "Read the series that is chosen above",
                lambda: self.open_folder(self._folder, self.series.currentData()),
            )
        )
        made.hide()
        return made

    def open_folder(self, folder: Path, series: str | None = None) -> None:
        """Open a DICOM series, or list those of a folder that holds several.

        Parameters
        ----------
        folder : Path
            The folder.
        series : str, optional
            Series Instance UID.
        """
        self._folder = folder
        reading = self._reading()
        self.bar.start(
            lambda: folder_steps(folder, series, reading),
            self._show_folder,
            title="Opening",
        )

    def open_paths(self, paths: list[Path]) -> None:
        """Open files as the form says.

        Parameters
        ----------
        paths : list of Path
            One scan each, or the channels of one.
        """
        self._paths = paths
        if paths:
            self._run()

    def open_sample(self) -> None:
        """Open the synthetic heart with its hidden true labels."""
        made = view.add(self.viewer, layers.phantom())
        self._arrange(made[0])
        self.bar.say(
            f"{self._describe(made[0].metadata['hydraseg']['volume'])}\n"
            "Its true labels are there as a hidden layer."
        )
        self.done.emit()

    def _choose(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Open a scan", "", _FILTER)
        self.open_paths([Path(path) for path in chosen])

    def _choose_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a folder of DICOM slices")
        if chosen:
            self.open_folder(Path(chosen))

    def _reading(self) -> dict[str, Any]:
        index = self.index.value()
        return {
            "modality": self.modality.modality(),
            "index": None if index < 0 else index,
            "regularise": self.regularise.isChecked(),
        }

    def _gather(self) -> Steps[Found]:
        return load_steps(
            self._paths,
            kind=self.kind.currentData(),
            channels=self.channels.isChecked() and len(self._paths) > 1,
            resample=self.resample.isChecked(),
            reading=self._reading(),
        )

    def _run(self) -> None:
        self._several.hide()
        self.bar.start(self._gather, self._show, title="Opening")

    def _show_folder(self, found: list[Any]) -> None:
        if found and not isinstance(found[0], tuple):
            self.series.clear()
            for one in found:
                words = " · ".join(filter(None, (one.description, one.modality)))
                self.series.addItem(f"{one.number}: {words} · {one.size}", one.uid)
            self._several.show()
            self.bar.say(f"The folder holds {len(found)} series. Choose one.")
            return
        self._show(found)

    def _show(self, found: Found) -> None:
        for name, noun in found:
            made = view.add(self.viewer, layers.layers_of(noun, name=name))
            if isinstance(noun, Volume):
                self._arrange(made[0])
        self.bar.say("\n".join(self._describe(noun) for _, noun in found))
        self.done.emit()

    def _arrange(self, layer: Any) -> None:
        volume = layer.metadata["hydraseg"]["volume"]
        self.modality.show_modality(volume.modality)
        view.face(self.viewer, volume.plane)
        view.show_scale_bar(self.viewer)
        self.viewer.layers.selection.active = layer

    @staticmethod
    def _describe(noun: Volume | Segmentation) -> str:
        if isinstance(noun, Segmentation):
            names = ", ".join(layers.named_ids(noun).values()) or "nothing"
            return f"Labels: {names}."
        size = " x ".join(str(n) for n in reversed(noun.shape))
        if "spacing" in noun.known:
            spacing = " x ".join(f"{s:.3g}" for s in reversed(noun.spacing_mm))
            grid = f"{size} voxels of {spacing} mm, {noun.plane} slices"
        else:
            grid = f"{size} pixels of unknown size"
        kind = noun.modality or "kind of scan not stated"
        return " ".join([f"{noun.source}: {grid}, {kind}.", *noun.notes])
