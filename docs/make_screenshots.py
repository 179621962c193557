"""Drive the real window through the main job and save a picture after each step.

Run on a screen, or on a virtual one::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py

With the real scans (``HYDRASEG_DATA``) it segments a hippocampus and teaches the model
a spinal cord; without them it uses the synthetic heart. Those scans' licences allow
pictures; do not use others here.
"""

# ruff: noqa: TID251 - it drives the window, so that it knows napari and Qt

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import napari
import numpy as np
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

from napari_hydraseg import core
from napari_hydraseg.gui import layers, worker
from napari_hydraseg.gui.panel import Panel

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("HYDRASEG_DATA", ROOT.parent / "shared" / "data"))


@dataclass
class Window:
    """The window of napari with the panel, its mouse, and where pictures go."""

    viewer: Any
    panel: Panel
    folder: Path

    def control(self, name: str) -> Any:
        """Find a control by its object name."""
        return self.panel.findChild(QWidget, name)

    def click(self, name: str) -> None:
        """Press a button with the mouse."""
        button = self.control(name)
        if not button.isEnabled():
            raise SystemExit(f"{name} is disabled: {button.toolTip()}")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.settle()

    def settle(self, seconds: float = 0.3) -> None:
        """Let the window do what it has to do."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            # without a running event loop, what napari replaced would stay on screen
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
            time.sleep(0.01)

    def wait(self, until: Callable[[], bool], seconds: float = 600) -> None:
        """Wait for something."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                raise SystemExit("The job did not end in time.")
            self.settle(0.05)
        self.settle()

    def finished(self) -> None:
        """Wait until no job is running."""
        self.wait(lambda: worker.running() is None)

    def picture(self, name: str) -> None:
        """Save what the window shows."""
        self.settle(0.6)
        pixels = self.viewer.screenshot(canvas_only=False, flash=False)
        imageio.imwrite(self.folder / f"{name}.png", pixels[..., :3])
        print(self.folder / f"{name}.png", pixels.shape)


def validation_scan(data_set: str) -> tuple[Path, Path] | None:
    """Find a scan of a validation split, and its labels."""
    folder = DATA / data_set
    if not (folder / "split.json").is_file():
        return None
    split = json.loads((folder / "split.json").read_text())
    for case in sorted(split["val"]):
        images = sorted((folder / "images").glob(f"{case}*.nii.gz"))
        for image in images:
            labels = folder / "labels" / image.name
            if labels.is_file():
                return image, labels
    return None


def load(window: Window, scan: Path | None) -> None:
    """Step 1."""
    window.click("panel.load")
    if scan is None:
        window.click("load.sample")
    else:
        window.control("load.modality").setCurrentText("MR")
        window.panel.steps["load"].open_paths([scan])
        window.finished()


def tick(window: Window, wanted: str) -> None:
    """Tick one head, if the model has it, and no other."""
    heads = window.control("segment.heads")
    items = [heads.item(row) for row in range(heads.count())]
    if wanted in [item.data(Qt.ItemDataRole.UserRole) for item in items]:
        for item in items:
            ours = item.data(Qt.ItemDataRole.UserRole) == wanted
            item.setCheckState(
                Qt.CheckState.Checked if ours else Qt.CheckState.Unchecked
            )


def segment(window: Window, head: str) -> None:
    """Step 2."""
    window.click("panel.segment")
    tick(window, head)
    window.click("segment.run")
    window.finished()


def paint(window: Window, truth: np.ndarray, slices: list[int]) -> None:
    """Step 3, first half: paint the truth on some slices, as a person would."""
    window.click("panel.finetune")
    window.click("finetune.new")
    labels = window.viewer.layers[-1]
    for z in slices:
        for label in np.unique(truth[z])[1:]:
            rows, columns = np.nonzero(truth[z] == label)
            labels.data_setitem((np.full_like(rows, z), rows, columns), int(label))
    window.viewer.dims.set_current_step(0, slices[len(slices) // 2])
    window.settle(0.5)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1280x800", help="of the window, in pixels")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--epochs", type=int, default=0, help="0: a minute")
    chosen = parser.parse_args()
    chosen.to.mkdir(parents=True, exist_ok=True)
    # the user's models and unsaved annotations stay as they are
    own = tempfile.TemporaryDirectory()
    os.environ["HYDRASEG_WEIGHTS"] = own.name
    os.environ["XDG_DATA_HOME"] = own.name
    width, height = (int(part) for part in chosen.size.split("x"))

    viewer = napari.Viewer(show=True)
    viewer.window.resize(width, height)
    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel, name="HydraSeg", area="right")
    window = Window(viewer, panel, chosen.to)
    window.settle(1)
    tell(window, epochs=chosen.epochs)
    viewer.close()
    own.cleanup()


def tell(window: Window, *, epochs: int) -> None:
    """Go through the main job."""
    known, new = validation_scan("hippocampus"), validation_scan("spinal_cord_gm")
    load(window, known[0] if known else None)
    window.picture("load")
    segment(window, "hippocampus" if known else "heart")
    window.picture("segment")
    window.click("panel.shift")
    window.control("shift.head").setCurrentText("hippocampus" if known else "heart")
    window.click("shift.run")
    window.finished()
    window.picture("shift")

    if new:
        window.viewer.layers.clear()
        load(window, new[0])
        truth = core.load_segmentation(new[1]).labels
        head, names = "spinal cord", "white matter, grey matter"
    else:
        truth = core.heart_phantom()[1].labels
        head, names = "my heart", "right ventricle, myocardium, left ventricle, aorta"
    filled = np.flatnonzero(truth.any(axis=(1, 2)))
    slices = [
        int(i) for i in filled[np.linspace(0, len(filled) - 1, 7)[1:-1].astype(int)]
    ]
    paint(window, truth, slices)
    window.control("finetune.head").setEditText(head)
    window.control("finetune.classes").setText(names)
    window.picture("paint")
    window.control("finetune.epochs").setValue(epochs)
    window.click("finetune.run")
    window.wait(lambda: window.control("finetune.curve").best > 0)
    window.picture("finetuning")
    window.finished()
    window.picture("finetune")
    window.click("finetune.keep")

    window.viewer.layers[-1].visible = False
    segment(window, head)
    window.picture("kept")
    if new:
        made = layers.labels_layer(core.load_segmentation(new[1]), name="truth")
        window.viewer.add_labels(made[0], **{**made[1], "visible": False})
    evaluate(window, head)


def evaluate(window: Window, head: str) -> None:
    """Step 5: compare the new head's answer with the truth."""
    window.click("panel.evaluate")
    names = [layer.name for layer in window.viewer.layers]
    reference = next(name for name in names if name.endswith("truth"))
    candidate = next(name for name in reversed(names) if name.startswith(head))
    window.control("evaluate.reference").setCurrentText(reference)
    window.control("evaluate.candidate").setCurrentText(candidate)
    window.click("evaluate.run")
    window.finished()
    window.picture("evaluate")


if __name__ == "__main__":
    main()
