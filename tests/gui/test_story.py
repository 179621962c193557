"""The main job in a real window: load, segment, paint, fine-tune, check for shift."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core.types import Checkpoint, ModelSpec
from napari_hydraseg.gui.panel import Panel

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("HYDRASEG_DATA", ROOT.parent / "shared" / "data"))
SLICES = (3, 4, 5, 6, 7)  # of the synthetic heart


def tiny_model(folder):
    """An untrained network of two heads, for a tree without trained weights."""
    from napari_hydraseg.core.networks import build, weights_of

    spec = ModelSpec(
        "hydranet",
        ("image",),
        {
            "heart": ("background", "right", "wall", "left"),
            "other": ("background", "x"),
        },
        (128, 128),
        spacing_mm={"MR": 3.0},
        intensity={"MR": {"kind": "zscore", "low": 0.5, "high": 99.5}},
    )
    card = {"name": "hydranet", "recommended": {"MR": ["heart"]}}
    model = Checkpoint(spec, weights_of(build(spec)), card)
    core.save_checkpoint(model, folder / "hydranet.safetensors")


@pytest.fixture
def library(own_models):
    """The bundled model, else an untrained one."""
    if not any(model.source == "bundled" for model in core.list_models()):
        tiny_model(own_models)
    return core.list_models()[0]


@pytest.fixture
def case(tmp_path):
    """A file with a scan, its true labels, and slices to paint."""
    folder = DATA / "hippocampus"
    if folder.is_dir():
        name = sorted(json.loads((folder / "split.json").read_text())["val"])[0]
        path = next((folder / "images").glob(f"{name}*.nii.gz"))
        truth = core.load_segmentation(folder / "labels" / path.name).labels
        filled = np.flatnonzero(truth.any(axis=(1, 2)))
        return path, truth, [int(i) for i in filled[3:-3:4]]
    import nibabel

    volume, found = core.heart_phantom()
    path = tmp_path / "heart.nii.gz"
    image = nibabel.Nifti1Image(volume.data[0].T, np.diag([1.5, 1.5, 10, 1]))
    image.header.set_sform(image.affine, code=1)
    nibabel.save(image, path)
    return path, core.load_volume(path).data[0] * 0 + found.labels, list(SLICES)


@pytest.fixture
def window(make_napari_viewer_proxy, library):
    """A real window with the guided panel, as a user has it."""
    viewer = make_napari_viewer_proxy(show=True)
    viewer.window.resize(1280, 800)
    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel, name="HydraSeg", area="right")
    return viewer, panel


def paint(labels, truth, slices):
    """Paint the truth of some slices stroke by stroke, undoable as a user's strokes."""
    for z in slices:
        for label in np.unique(truth[z])[1:]:
            rows, columns = np.nonzero(truth[z] == label)
            labels.data_setitem((np.full_like(rows, z), rows, columns), int(label))


def test_the_main_job_from_a_file_to_a_kept_model(
    window, case, click, control, finished, qtbot, monkeypatch
):
    viewer, panel = window
    path, truth, slices = case

    # 1 load
    monkeypatch.setattr(
        "napari_hydraseg.gui.load.QFileDialog.getOpenFileNames",
        lambda *_: ([str(path)], ""),
    )
    control(panel, "load.modality").setCurrentText("MR")
    click(panel, "load.open")
    finished()
    (scan,) = viewer.layers
    assert str(scan.units[0]) == "millimeter"

    # 2 segment: the same bytes as without a window
    click(panel, "panel.segment")
    click(panel, "segment.run")
    finished(120)
    result = viewer.layers[-1]
    heads = panel.steps["segment"].chosen_heads()
    assert result.name.startswith(heads[-1])
    np.testing.assert_allclose(result.scale, scan.scale)
    volume = core.load_volume(path, modality="MR")
    model = core.get_model(control(panel, "segment.model").currentText())
    alone = core.finish(core.segment(volume, model, heads=heads))
    np.testing.assert_array_equal(result.data, alone[heads[-1]].labels)

    # 3 paint and fine-tune
    click(panel, "panel.finetune")
    click(panel, "finetune.new")
    paint(viewer.layers[-1], truth, slices)
    ledger = control(panel, "finetune.slices")
    qtbot.waitUntil(lambda: f"slices: {len(slices)} " in ledger.text())
    control(panel, "finetune.head").setEditText("mine")
    control(panel, "finetune.epochs").setValue(2)
    click(panel, "finetune.run")
    finished(280)
    verdict = control(panel, "finetune.verdict").text()
    assert "identical before and after" in verdict, verdict
    assert "→" in verdict
    click(panel, "finetune.keep")

    # the new head is there, and the old one gives the same bytes as before
    kept = control(panel, "segment.model").currentText()
    assert "mine" in kept
    tuned = core.get_model(kept)
    assert set(tuned.spec.heads) == {*model.spec.heads, "mine"}
    again = core.finish(core.segment(volume, tuned, heads=heads))
    np.testing.assert_array_equal(again[heads[-1]].labels, result.data)

    # the kept model is chosen, its new head ticked: one click uses it
    click(panel, "panel.segment")
    assert panel.steps["segment"].chosen_heads() == ("mine",)
    click(panel, "segment.run")
    finished(120)
    assert viewer.layers[-1].name.startswith("mine · ")

    # 4 shift
    click(panel, "panel.shift")
    control(panel, "shift.model").setCurrentText(model.name)
    control(panel, "shift.head").setCurrentText(heads[-1])
    click(panel, "shift.run")
    finished(120)
    # an untrained model has too few training scans, and says so
    assert "training scans" in control(panel, "shift.verdict").text()
    done = [panel.headers[room].text() for room in panel.headers if room != "evaluate"]
    assert all("✓" in words for words in done)
