"""The main job in a real window, by mouse and keys, from a scan to a saved mask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QApplication, QLabel

from hand import Hand
from napari_hydraseg import core
from napari_hydraseg.core.types import Checkpoint, ModelSpec
from napari_hydraseg.gui import worker
from napari_hydraseg.gui.panel import STEPS, Panel

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HYDRASEG_DATA", ROOT.parent / "shared" / "data"))
PATIENCE = 900_000  # ms: how long a step may take where the machine has other work
HEADS = {
    "heart": ("background", "right", "wall", "left"),
    "hippocampus": ("background", "anterior", "posterior"),
}


def tiny_model(folder):
    """An untrained network of two heads, for a tree without trained weights."""
    from napari_hydraseg.core.networks import build, weights_of

    spec = ModelSpec(
        "dilated",
        ("image",),
        HEADS,
        (32, 32),
        spacing_mm={"MR": 2.0},
        intensity={"MR": {"kind": "zscore", "low": 0.5, "high": 99.5}},
        options={"width": 4},
    )
    model = Checkpoint(spec, weights_of(build(spec, seed=0)), {"name": "tiny"})
    core.save_checkpoint(model, folder / "tiny.safetensors")


@pytest.fixture
def library(own_models):
    """Name the bundled model, or an untrained one where there is none."""
    if any(model.name == "hydranet" for model in core.list_models()):
        return "hydranet"
    tiny_model(own_models)
    return "tiny"


@pytest.fixture(params=["a real scan", "a drawn heart"])
def case(request, tmp_path):
    """Scan, true labels, head: real ones, or a drawn heart where there are none."""
    folder = DATA / "hippocampus"
    if request.param == "a real scan":
        if not folder.is_dir():
            pytest.skip(f"no real scans at {DATA}: set HYDRASEG_DATA to their folder")
        name = sorted(json.loads((folder / "split.json").read_text())["val"])[0]
        path = next((folder / "images").glob(f"{name}*.nii.gz"))
        return path, folder / "labels" / path.name, "hippocampus"
    if folder.is_dir():
        pytest.skip("the real scan tells the same story")
    volume, truth = core.heart_phantom()
    files = tmp_path / "heart.nii.gz", tmp_path / "heart_seg.nii.gz"
    for path, data in zip(files, (volume.data[0], truth.labels), strict=True):
        image = nibabel.Nifti1Image(data.T, np.diag([1.5, 1.5, 10, 1]))
        image.header.set_sform(image.affine, code=1)
        nibabel.save(image, path)
    return *files, "heart"


@pytest.fixture
def viewer(make_napari_viewer_proxy, library):
    """A window with the guided panel, on a screen with Qt's own dialogs."""
    own = Qt.ApplicationAttribute.AA_DontUseNativeDialogs
    before = QApplication.testAttribute(own)
    QApplication.setAttribute(own)
    made = make_napari_viewer_proxy(show=True)
    made.window.resize(1280, 900)
    made.window.add_dock_widget(Panel(made), name="HydraSeg", area="right")
    yield made
    QApplication.setAttribute(own, before)


class User(Hand):
    """A hand that waits for the work it has started."""

    def __init__(self, viewer, qtbot):
        super().__init__(viewer)
        self.qtbot = qtbot

    def wait(self, until):
        self.qtbot.waitUntil(until, timeout=PATIENCE)

    def run(self, name):
        """Press a button that starts a job, wait for its end; returns what is said."""
        self.click(name)
        self.rest()
        return self.window.findChild(QLabel, f"{name.split('.')[0]}.status").text()

    def rest(self):
        """Wait until nothing runs and the form can be used again."""
        self.wait(lambda: worker.running() is None)
        QApplication.processEvents()

    def go_to(self, at):
        """Click on a slice in the ledger."""
        strip = self.reach("finetune.ledger")
        place = QPoint(int((at + 0.5) * strip.width() / strip.count), 10)
        self.click("finetune.ledger", at=place)

    def correct(self, layer, truth, at):
        """Paint the inside of every structure of a slice, row by row."""
        for label in (1, 2):
            rows = np.flatnonzero((truth[at] == label).any(1))
            for y in rows[1::3]:
                for start, end in runs(np.flatnonzero(truth[at, y] == label)):
                    self.stroke(layer, [(at, y, start), (at, y, end)])
                    assert (layer.data[at, y, start : end + 1] == label).all()
            self.press(Qt.Key.Key_Equal)  # the next label
        for _ in (1, 2):
            self.press(Qt.Key.Key_Minus)


def runs(inside):
    """First and last of each run of neighbours."""
    cuts = np.flatnonzero(np.diff(inside) > 1)
    starts, ends = [0, *(cuts + 1)], [*cuts, len(inside) - 1]
    return [(int(inside[a]), int(inside[b])) for a, b in zip(starts, ends, strict=True)]


def from_the_terminal(scan, model, head, folder):
    """What `hydraseg segment` gives for the same scan and model."""
    words = ["segment", str(scan), "--modality", "MR", "--model", model]
    words += ["--head", head, "-o", str(folder), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "napari_hydraseg.cli", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["cases"]
    return nibabel.load(found["output"])


@pytest.mark.timeout(1800)  # a machine that is busy with other work; alone, a minute
def test_the_main_job_by_hand_from_a_scan_to_a_saved_mask(
    library, case, viewer, qtbot, tmp_path
):
    scan, labels, head = case
    truth = core.load_segmentation(labels).labels
    user = User(viewer, qtbot)

    # open
    user.choose("load.modality", "MR")
    user.open_file("load.open", str(scan))
    user.wait(lambda: len(viewer.layers) == 1)
    user.rest()
    assert "MR" in user.find("load.status").text()
    assert str(viewer.layers[0].units[0]) == "millimeter"

    # segment
    user.click("panel.segment")
    user.choose("segment.model", library)
    user.tick("segment.heads", lambda item: item.text().split(":")[0] == head)
    said = user.run("segment.run")
    assert said.startswith("Done."), said
    found = viewer.layers[-1]

    # copy to correct; paint two slices; mark them as done
    user.click("panel.finetune")
    user.click("finetune.copy")
    mine = viewer.layers[-1]
    assert mine is not found
    filled = np.flatnonzero((truth == 1).any((1, 2)) & (truth == 2).any((1, 2)))
    for at in (int(filled[len(filled) // 3]), int(filled[-len(filled) // 3])):
        user.go_to(at)
        user.correct(mine, truth, at)
        user.press(Qt.Key.Key_D)
        strip = user.find("finetune.ledger")
        user.wait(lambda at=at, strip=strip: strip.about(at) == f"Slice {at}: done")
        assert (mine.data[at] != found.data[at]).any()
    slices = user.find("finetune.slices")
    user.wait(lambda: "Annotated slices: 2 " in slices.text())

    # a stroke on a third one was a slip
    at = int(filled[0])
    user.go_to(at)
    middle = [n / 2 for n in truth.shape[1:]]
    user.press(Qt.Key.Key_Equal)
    user.press(Qt.Key.Key_Equal)
    user.stroke(mine, [(at, *middle)])
    user.wait(lambda: "Annotated slices: 3 " in slices.text())
    user.press(Qt.Key.Key_Z, ctrl=True)
    user.wait(lambda: "Annotated slices: 2 " in slices.text())

    # teach for the shortest time, and accept
    user.choose("finetune.model", library)
    user.unfold("More choices")
    user.wait(lambda: user.find("finetune.epochs").height() > 10)
    user.write("finetune.epochs", "1")
    said = user.run("finetune.run")
    verdict = user.find("finetune.verdict").text()
    assert "identical before and after" in verdict, f"{said} {verdict}"
    assert "→" in verdict
    user.click("finetune.keep")
    status = user.find("finetune.status").text()
    assert status.startswith("Kept as "), status

    # use what was taught
    user.click("panel.segment")
    model = user.find("segment.model").currentText()
    assert f"Kept as {model} in" in status
    user.tick("segment.heads", lambda item: item.text().split(":")[0] == head)
    said = user.run("segment.run")
    assert said.startswith("Done."), said
    taught = viewer.layers[-1]
    assert taught not in (found, mine)

    # shift
    user.click("panel.shift")
    user.choose("shift.head", head)
    said = user.run("shift.run")
    assert "training scans" in user.find("shift.verdict").text(), said

    # evaluate
    user.click("panel.evaluate")
    user.choose("evaluate.reference", mine.name)
    user.choose("evaluate.candidate", taught.name)
    said = user.run("evaluate.run")
    table = user.find("evaluate.table")
    assert table.rowCount() >= 2, said

    # save, and open what was saved
    user.click("panel.segment")
    saved = tmp_path / "saved_mask.nii.gz"
    user.open_file("segment.save", str(saved))
    user.wait(lambda: "Saved as" in user.find("segment.status").text())
    user.click("panel.load")
    count = len(viewer.layers)
    user.open_file("load.open", str(saved))
    user.wait(lambda: len(viewer.layers) == count + 1)
    user.rest()
    np.testing.assert_array_equal(viewer.layers[-1].data, taught.data)

    # the same without a window
    alone = from_the_terminal(scan, model, head, tmp_path / "alone")
    ours = nibabel.load(saved)
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(alone.dataobj))
    np.testing.assert_array_equal(ours.affine, alone.affine)
    ticks = {room: "✓" in user.find(f"panel.{room}").text() for room, *_ in STEPS}
    assert all(ticks.values()), ticks
