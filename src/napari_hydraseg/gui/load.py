"""Step 1: open a scan or labels, or the synthetic sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari.viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QVBoxLayout, QWidget

from napari_hydraseg import core
from napari_hydraseg.core.types import Modality, Progress, Segmentation, Steps, Volume

from . import layers, view
from .choosers import ModalityBox
from .form import button, named, rows, text
from .jobbar import JobBar
from .letters import Letters

_KINDS = {"auto": "By the file's name", "image": "Scan", "labels": "Labels"}
_FILTER = (
    "Scans and labels (*.nii *.nii.gz *.png *.jpg *.jpeg *.tif *.tiff *.bmp);;"
    "All files (*)"
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
        self.channels = named(
            QCheckBox("Several files are channels of one scan"),
            "load.channels",
            label="Several files are channels of one scan",
            tip="For instance FLAIR and T1 of the same patient on the same grid",
        )
        self.bar = JobBar(
            "load", "Open a scan…", tip="Choose one or more files", control="open"
        )
        self.bar.run.clicked.connect(lambda _=False: self._choose())
        self.letters = Letters(napari_viewer)
        self._lay_out()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        form = rows(column)
        form.addRow("Kind of scan", self.modality)
        form.addRow("Open as", self.kind)
        column.addWidget(self.channels)
        column.addWidget(self.bar)
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

    def _gather(self) -> Steps[list[tuple[str, Volume | Segmentation]]]:
        return load_steps(
            self._paths,
            kind=self.kind.currentData(),
            modality=self.modality.modality(),
            channels=self.channels.isChecked() and len(self._paths) > 1,
        )

    def _run(self) -> None:
        self.bar.start(self._gather, self._show, title="Opening")

    def _show(self, found: list[tuple[str, Volume | Segmentation]]) -> None:
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


def load_steps(
    paths: list[Path], *, kind: str, modality: Modality | None, channels: bool
) -> Steps[list[tuple[str, Volume | Segmentation]]]:
    """Read files one after the other.

    Parameters
    ----------
    paths : list of Path
        The files.
    kind : {"auto", "image", "labels"}
        What they hold.
    modality : {"MR", "CT", "US", "XR"} or None
        What made the scans.
    channels : bool
        Whether all files together are one scan.

    Returns
    -------
    list of (str, Volume or Segmentation)
        Name and noun of each.
    """
    yield Progress(0, len(paths), "reading")
    if channels:
        volume = core.load_volume(paths, modality=modality)
        return [(layers.stem(paths[0].name), volume)]
    found = []
    for at, path in enumerate(paths):
        noun = layers.open_file(path, kind=kind, modality=modality)
        found.append((layers.stem(path.name), noun))
        yield Progress(at + 1, len(paths), "reading")
    return found
