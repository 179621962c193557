"""Drive the real window through the main job and save a picture after each step.

Run on a screen, or on a virtual one::

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/make_screenshots.py

With the real scans (``HYDRASEG_DATA``) it segments a hippocampus and teaches the model
a spinal cord; without them it uses the synthetic heart. Those scans' licences allow
pictures; do not use others here.

``--walk docs/images/walk.gif`` makes the walk-through on the way. ``--sizes`` and
``--themes`` save each step in each size and theme instead, on the synthetic heart, for
somebody to look at::

    xvfb-run -a -s "-screen 0 2000x1200x24" python docs/make_screenshots.py \
        --sizes 1280x800 1920x1080 --themes dark light --to /tmp/pictures
"""

# ruff: noqa: TID251 - it drives the window, so that it knows napari and Qt

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from window import Window, opened

from napari_hydraseg import core
from napari_hydraseg.gui import layers
from napari_hydraseg.gui.models import ModelsWidget

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("HYDRASEG_DATA", ROOT.parent / "shared" / "data"))


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
    window.frame(f"2  Segment: what to look for ({head}), and how long it will take")
    window.click("segment.run")
    window.finished()


def paint(window: Window, truth: np.ndarray, slices: list[int]) -> None:
    """Step 3, first half: paint the truth on some slices, as a person would."""
    window.click("panel.finetune")
    window.click("finetune.new")
    window.frame("3  Correct & fine-tune: empty labels, with the brush in hand")
    labels = window.viewer.layers[-1]
    for z in slices:
        for label in np.unique(truth[z])[1:]:
            rows, columns = np.nonzero(truth[z] == label)
            labels.data_setitem((np.full_like(rows, z), rows, columns), int(label))
        window.viewer.dims.set_current_step(0, z)
        if z in slices[:2]:
            window.frame("Paint a few slices, far apart. The strip keeps count", 5)
    window.viewer.dims.set_current_step(0, slices[len(slices) // 2])
    window.settle(0.5)


def spread(truth: np.ndarray, count: int) -> list[int]:
    """Choose slices across the whole extent of what is labelled."""
    filled = np.flatnonzero(truth.any(axis=(1, 2)))
    places = np.linspace(0, len(filled) - 1, count + 2)[1:-1].astype(int)
    return [int(i) for i in filled[places]]


def teach(window: Window, head: str, names: str, *, epochs: int) -> None:
    """Step 3, second half."""
    window.control("finetune.head").setEditText(head)
    window.control("finetune.classes").setText(names)
    window.picture("paint")
    window.frame("A name for the new head, and for what was painted", 4)
    window.control("finetune.epochs").setValue(epochs)
    window.click("finetune.run")
    window.wait(lambda: window.control("finetune.curve").best > 0)
    window.picture("finetuning")
    window.frame("Fine-tune: the Dice on slices kept aside, while it learns")
    window.finished()
    window.picture("finetune")
    window.frame("Before and after on the same slices. Keep, or discard", 7)


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
    window.frame("5  Evaluate: against an expert's labels, structure by structure")
    window.click("evaluate.worst")
    window.finished()
    window.picture("evaluate")
    window.frame("Where it is wrong: missed in blue, too much in orange", 9)


def tell(window: Window, *, epochs: int) -> None:
    """Go through the main job."""
    known, new = validation_scan("hippocampus"), validation_scan("spinal_cord_gm")
    window.frame("HydraSeg: five steps, one open at a time")
    load(window, known[0] if known else None)
    window.picture("load")
    window.frame("1  Load: a scan, and what made it. Letters say which side is where")
    first = "hippocampus" if known else "heart"
    segment(window, first)
    window.picture("segment")
    window.frame("The mask with its volumes in ml. Check every slice", 7)
    window.click("panel.shift")
    window.control("shift.head").setCurrentText(first)
    window.click("shift.run")
    window.finished()
    window.picture("shift")
    window.frame("4  Shift: is this scan like the training scans? What differs?", 7)
    if new:
        window.viewer.layers.clear()
        load(window, new[0])
        window.frame("A structure that no head of the model knows: the spinal cord")
        truth = core.load_segmentation(new[1]).labels
        head, names = "spinal cord", "white matter, grey matter"
    else:
        truth = core.heart_phantom()[1].labels
        head, names = "my heart", "right ventricle, myocardium, left ventricle, aorta"
    paint(window, truth, spread(truth, 5))
    teach(window, head, names, epochs=epochs)
    window.click("finetune.keep")
    window.frame("Kept: the model has one head more. The old ones are as they were", 4)
    window.viewer.layers[-1].visible = False
    segment(window, head)
    window.picture("kept")
    window.frame("The new head finds it on all slices", 6)
    if new:
        made = layers.labels_layer(core.load_segmentation(new[1]), name="truth")
        window.viewer.add_labels(made[0], **{**made[1], "visible": False})
    evaluate(window, head)
    window.frame("Research software, not a medical device", 4)


def prepare(window: Window, *, epochs: int) -> None:
    """Bring every step into a state that shows all its parts, on the sample."""
    load(window, None)
    segment(window, "heart")
    window.click("panel.shift")
    window.click("shift.run")
    window.finished()
    window.click("panel.evaluate")
    names = [layer.name for layer in window.viewer.layers]
    window.control("evaluate.reference").setCurrentText(names[1])
    window.control("evaluate.candidate").setCurrentText(names[-1])
    window.click("evaluate.run")
    window.finished()
    window.click("evaluate.worst")
    window.finished()
    truth = core.heart_phantom()[1].labels
    paint(window, truth, spread(truth, 4))
    window.panel.steps["finetune"].clean.expand()
    window.panel.steps["finetune"].history.expand()
    if epochs:
        window.control("finetune.head").setEditText("my heart")
        window.control("finetune.classes").setText("a, b, c, d")
        window.control("finetune.epochs").setValue(epochs)
        window.click("finetune.run")
        window.finished()


def gallery(window: Window, sizes: list[str], themes: list[str]) -> None:
    """Save every step in every size and theme, its upper and its lower end."""
    for theme in themes:
        window.viewer.theme = theme
        for size in sizes:
            window.viewer.window.resize(*(int(part) for part in size.split("x")))
            window.settle(1)
            for room, area in window.areas():
                window.click(f"panel.{room}")
                bar = area.verticalScrollBar()
                bar.setValue(0)
                window.picture(f"{size}-{theme}-{room}")
                if bar.maximum():
                    bar.setValue(bar.maximum())
                    window.picture(f"{size}-{theme}-{room}-end")
    models = ModelsWidget(window.viewer)
    window.viewer.window.remove_dock_widget(window.panel)
    window.viewer.window.add_dock_widget(models, name="Models")
    window.viewer.window.resize(*(int(part) for part in sizes[0].split("x")))
    window.settle(1)
    for theme in themes:
        window.viewer.theme = theme
        window.picture(f"{sizes[0]}-{theme}-models")


def main() -> None:
    """Make the pictures that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1280x800", help="of the window, in pixels")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--epochs", type=int, default=0, help="0: a minute")
    parser.add_argument("--walk", type=Path, help="the walk-through, a .gif")
    parser.add_argument("--sizes", nargs="+", help="every step in each of these")
    parser.add_argument("--themes", nargs="+", default=["dark"])
    chosen = parser.parse_args()
    chosen.to.mkdir(parents=True, exist_ok=True)
    # the user's models and unsaved annotations stay as they are
    own = tempfile.TemporaryDirectory()
    os.environ["HYDRASEG_WEIGHTS"] = own.name
    os.environ["XDG_DATA_HOME"] = own.name
    window = opened(chosen.to)
    window.walking = chosen.walk is not None
    width, height = (int(part) for part in chosen.size.split("x"))
    window.viewer.window.resize(width, height)
    if chosen.sizes:
        prepare(window, epochs=chosen.epochs)
        gallery(window, chosen.sizes, chosen.themes)
    else:
        tell(window, epochs=chosen.epochs)
    if window.walking:
        window.save_walk(chosen.walk)
    window.viewer.close()
    own.cleanup()


if __name__ == "__main__":
    main()
