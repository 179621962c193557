"""What the tests of the window share: a viewer, controls by name, verbs that play."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QWidget

from napari_hydraseg import core
from napari_hydraseg.core import drafts
from napari_hydraseg.core.types import (
    Checkpoint,
    FinetuneResult,
    ModelInfo,
    ModelSpec,
    Progress,
    Segmentation,
    ShiftReport,
    Volume,
)
from napari_hydraseg.gui import worker

HEADS = {"heart": ("background", "wall", "blood"), "cord": ("background", "cord")}
CARD = {
    "name": "toy",
    "title": "Toy model",
    "heads": {"heart": {"modality": ["MR"], "licence": "CC0", "dice": {}}},
    "limits": ["For tests only."],
    "recommended": {"MR": ["heart"]},
}


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    """A widget that outlives its viewer is a fault."""
    monkeypatch.setenv("NAPARI_STRICT_QT", "1")


@pytest.fixture(autouse=True)
def own_drafts(monkeypatch, tmp_path):
    """Keep the user's unsaved annotations out of the tests."""
    monkeypatch.setattr(drafts, "folder", lambda: tmp_path / "drafts")
    return tmp_path / "drafts"


@pytest.fixture(autouse=True)
def alone(qtbot):
    """No job outlives its test."""
    yield
    job = worker.running()
    if job is not None:
        job.cancel()
        qtbot.waitUntil(lambda: worker.running() is None)


@pytest.fixture
def viewer(make_napari_viewer_proxy, models):
    """A viewer whose private parts plugins cannot reach."""
    return make_napari_viewer_proxy()


@pytest.fixture
def dock(viewer):
    """Put a widget into the viewer's window; returns the widget."""

    def add(kind):
        made = kind(viewer)
        viewer.window.add_dock_widget(made, name=kind.__name__)
        return made

    return add


@pytest.fixture
def control():
    """Find a control of a widget by its object name."""

    def find(widget, name):
        found = widget.findChildren(QWidget, name)
        assert len(found) == 1, f"{len(found)} controls are called {name}"
        return found[0]

    return find


@pytest.fixture
def click(qtbot, control):
    """Click on a control with the mouse; it must be enabled."""

    def press(widget, name):
        button = control(widget, name)
        assert button.isEnabled(), f"{name} is disabled: {button.toolTip()}"
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    return press


@pytest.fixture
def finished(qtbot):
    """Wait until no job runs."""

    def wait(seconds=20):
        qtbot.waitUntil(lambda: worker.running() is None, timeout=1000 * seconds)
        qtbot.wait(20)

    return wait


@pytest.fixture
def scan():
    """A thick-slice MR scan, bright in the middle, 12 degrees oblique."""
    z, y, x = np.ogrid[:6, :20, :24]
    data = 50 + 100 * (((y - 10) ** 2 + (x - 12) ** 2 < 25) & (z > 0))
    turn = np.deg2rad(12)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = rotation @ np.diag([5.0, 1.5, 1.0, 1.0])
    affine[:3, 3] = 10, -20, 30
    return Volume(data[None].astype(np.int16), affine, modality="MR", source="s.nii.gz")


@pytest.fixture
def models(monkeypatch, tmp_path):
    """A library of one toy model."""
    spec = ModelSpec("toy", ("image",), HEADS, (16, 16))
    path = tmp_path / "toy.safetensors"
    info = ModelInfo("toy", "toy", HEADS, ("MR",), "CC0", 0.1, path, "bundled", CARD)
    monkeypatch.setattr(core, "list_models", lambda: [info])
    monkeypatch.setattr(core, "get_model", lambda name: Checkpoint(spec, {}, CARD))
    return [info]


def threshold(volume, checkpoint, *, heads=(), device="auto", **_):
    """Play `core.segment`: the bright voxels are the last class."""
    for at in range(4):
        time.sleep(0.01)
        yield Progress(at, 4, "segmenting")
    found = {}
    for head in heads:
        classes = checkpoint.spec.heads[head]
        found[head] = Segmentation(
            (volume.data[0] > 100).astype(np.uint8) * (len(classes) - 1),
            volume.affine,
            names=dict(enumerate(classes[1:], 1)),
            plane=volume.plane,
            grid=volume.grid,
            made_by={"model": "toy", "head": head, "device": "cpu", "seconds": 0.2},
        )
    return found


def learn(checkpoint, cases, *, head, class_names=(), **options):
    """Play `core.finetune`: gains 0.1 a pass until it is stopped or 100 are done."""
    learn.asked = {"cases": cases, "head": head, "class_names": class_names, **options}
    learn.closed = False
    dice, at = 0.3, 0
    try:
        for at in range(1, 101):
            time.sleep(0.01)
            values = {"loss": 1 / at, "dice": dice}
            message = yield Progress(at, 100, "learning", values)
            dice = min(0.9, dice + 0.1)
            if message == "stop":
                break
    finally:
        learn.closed = True
    card = {**checkpoint.card, "parent": "toy"}
    made = Checkpoint(checkpoint.spec, {}, card)
    return FinetuneResult(
        checkpoint=made,
        candidate=made,
        head=head,
        init="random",
        mode="frozen",
        reason="Started from random weights.",
        before={"dice": 0.3, "n": 2, "low": 0.2, "high": 0.4},
        after={"dice": dice, "n": 2, "low": 0.8, "high": 0.95},
        accepted=True,
        epochs=at,
        curve=(),
        frozen={"tensors": 7, "sha256_before": "ab" * 32, "sha256_after": "ab" * 32},
        train={"cases": 1, "slices": 2},
        hold_out={"cases": 1, "slices": 2, "kind": "slab"},
    )


def compare(volumes, checkpoint, *, head=None, device="auto", **_):
    """Play `core.shift`: always different."""
    yield Progress(0, 1, "encoding")
    return ShiftReport(
        verdict="different",
        p=1 / 51,
        p_floor=1 / 51,
        percentile=100.0,
        n_reference=50,
        by_depth=({"depth": 0, "mmd2": 0.31, "percentile": 100.0},),
        per_slice=tuple(
            {"case": 0, "slice": i, "witness": i - 2.5}
            for i in range(volumes[0].shape[0])
        ),
        causes=(
            {
                "name": "slice thickness (mm)",
                "scan": 5.0,
                "reference_low": 0.9,
                "reference_high": 1.1,
            },
        ),
        advice={"init": "heart", "depth": 5, "text": "Correct 3 to 5 slices."},
    )


@pytest.fixture
def verbs(monkeypatch):
    """Let the long verbs play instead of work."""
    for name, verb in (("segment", threshold), ("finetune", learn), ("shift", compare)):
        monkeypatch.setitem(vars(core), name, verb)  # the real one stays unimported
    return learn
