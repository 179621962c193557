"""The Segment form."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_hydraseg import core
from napari_hydraseg.core.types import Progress
from napari_hydraseg.gui import layers, view
from napari_hydraseg.gui.segment import SegmentWidget


@pytest.fixture
def form(dock, verbs):
    return dock(SegmentWidget)


@pytest.fixture
def opened(form, viewer, scan):
    return view.add(viewer, layers.volume_layers(scan))[0]


def test_without_a_scan_run_is_disabled_and_says_why(form, control):
    run = control(form, "segment.run")
    assert not run.isEnabled()
    assert run.toolTip() == "Open a scan first (step 1)."
    assert control(form, "segment.status").text() == run.toolTip()


def test_the_head_that_the_card_recommends_is_ticked(form, opened):
    assert form.modality.modality() == "MR"
    assert form.chosen_heads() == ("heart",)
    assert form.bar.run.isEnabled()


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        (["liver, heart: thick slices.", "cord: few.", "All: few."], [0]),
        (["liver, cord: thick slices.", "All: few.", "Few scanners."], [1, 2]),
    ],
)
def test_the_limits_of_the_heads_that_are_ticked_are_shown(
    form, opened, models, monkeypatch, limits, shown
):
    monkeypatch.setitem(models[0].card, "limits", limits)
    form.heads.tick(["heart"])
    form._check()
    assert form.card.text().splitlines() == [limits[i] for i in shown]


def test_an_unstated_kind_of_scan_ticks_nothing_and_asks(form, opened, control):
    form.modality.setCurrentText("Not stated")
    assert form.chosen_heads() == ()
    assert "kind of scan" in control(form, "segment.status").text()
    assert opened.metadata["hydraseg"]["volume"].modality is None
    form.modality.setCurrentText("MR")
    assert form.chosen_heads() == ("heart",)
    assert control(form, "segment.status").text() == ""


def test_each_head_gives_a_layer_on_the_scan(
    form, opened, viewer, click, finished, control
):
    form.heads.item(1).setCheckState(Qt.CheckState.Checked)
    click(form, "segment.run")
    finished()
    names = [layer.name for layer in viewer.layers]
    assert names == ["s", "heart · s", "cord · s"]
    heart = viewer.layers["heart · s"]
    np.testing.assert_allclose(heart.scale, opened.scale)
    np.testing.assert_allclose(heart.translate, opened.translate)
    assert heart.units == opened.units
    assert list(heart.features["name"]) == ["wall", "blood"]
    table = control(form, "segment.table")
    assert [table.item(row, 0).text() for row in range(3)] == ["wall", "blood", "cord"]
    assert "heart, cord: 0.2 s on cpu" in control(form, "segment.status").text()


def test_a_second_result_hides_the_first(form, opened, viewer, click, finished):
    for _ in range(2):
        click(form, "segment.run")
        finished()
    assert [layer.visible for layer in viewer.layers] == [True, False, True]


def test_results_of_scans_of_one_name_are_told_apart(
    form, viewer, scan, click, finished
):
    made = [layers.volume_layers(replace(scan), name="T2") for _ in range(2)]
    scans = [view.add(viewer, one)[0] for one in made]
    found = []
    for at in (1, 0, 0, 1):
        form.image.choose(scans[at])
        click(form, "segment.run")
        finished()
        found.append(viewer.layers[-1])
        assert found[0].visible == (len(found) < 4)  # of the other patient
    assert [layer.visible for layer in found] == [False, False, True, True]
    assert [layer.name for layer in found] == [
        "heart · T2 [1]",
        "heart · T2",
        "heart · T2 (2)",
        "heart · T2 [1] (2)",
    ]


def test_cancel_leaves_the_layers_and_frees_the_button(
    form, opened, viewer, click, finished, control, monkeypatch, qtbot
):
    def endless(*args, **options):
        at = 0
        while True:
            at += 1
            yield Progress(at % 10, 10, "segmenting")
            threading.Event().wait(0.02)

    monkeypatch.setattr(core, "segment", endless)
    click(form, "segment.run")
    assert not control(form, "segment.run").isEnabled()
    bar = control(form, "segment.progress")
    qtbot.waitUntil(lambda: bar.value() > 2)
    click(form, "segment.cancel")
    assert control(form, "segment.cancel").text() == "Cancelling…"
    finished(1)
    assert len(viewer.layers) == 1
    assert control(form, "segment.run").isEnabled()
    assert control(form, "segment.status").text() == "Cancelled. Nothing was changed."


def test_a_fault_of_torch_is_told_and_frees_the_button(
    form, opened, click, finished, control, monkeypatch
):
    def faulty(*args, **options):
        yield Progress(0, 1)
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(core, "segment", faulty)
    click(form, "segment.run")
    finished()
    assert "memory" in control(form, "segment.status").text()
    assert control(form, "segment.run").isEnabled()
    assert not control(form, "segment.details").isHidden()


def test_a_scan_that_is_removed_meanwhile_still_gets_its_result(
    form, opened, viewer, click, finished
):
    click(form, "segment.run")
    viewer.layers.remove(opened)
    finished()
    assert [layer.name for layer in viewer.layers] == ["heart · s"]
    np.testing.assert_allclose(viewer.layers[0].scale, (5, 1.5, 1))


def test_a_scan_that_is_renamed_meanwhile_names_its_result(
    form, opened, viewer, click, finished
):
    click(form, "segment.run")
    opened.name = "patient"
    finished()
    assert viewer.layers[-1].name == "heart · patient"


def test_closing_the_dock_cancels_the_work(form, opened, viewer, click, finished):
    click(form, "segment.run")
    viewer.window.remove_dock_widget(form)
    form.deleteLater()
    finished()


def test_a_result_can_be_saved_on_the_grid_of_the_scan(
    form, opened, viewer, click, finished, tmp_path, monkeypatch, control
):
    click(form, "segment.run")
    finished()
    path = tmp_path / "out.nii.gz"
    monkeypatch.setattr(
        "napari_hydraseg.gui.segment.QFileDialog.getSaveFileName",
        lambda *_: (str(path), ""),
    )
    viewer.layers.selection.active = viewer.layers[-1]
    click(form, "segment.save")
    found = core.load_segmentation(path)
    assert found.labels.shape == (6, 20, 24)
    assert found.names[2] == "blood"
    assert "Saved as out.nii.gz" in control(form, "segment.status").text()


def test_a_plain_picture_of_napari_can_be_segmented(
    form, viewer, click, finished, control
):
    picture = viewer.add_image(np.eye(30) * 200)
    form.heads.item(0).setCheckState(Qt.CheckState.Checked)
    click(form, "segment.run")
    finished()
    found = viewer.layers[-1]
    assert found.data.shape == (1, 30, 30)
    assert {str(unit) for unit in found.units} == {str(u) for u in picture.units}
    assert control(form, "segment.table").item(0, 1).text() == "unknown"


def test_colour_pictures_are_not_offered(form, viewer):
    viewer.add_image(np.zeros((8, 8, 3)), rgb=True)
    assert form.image.count() == 0


def test_opening_the_dock_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from napari_hydraseg import core\n"
        "from napari_hydraseg.gui import panel, models\n"
        "core.list_models()\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "False", done.stderr
