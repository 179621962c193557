"""Probabilities beside a mask, and the slider that draws the mask anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_hydraseg import core
from napari_hydraseg.gui import layers, nouns, view
from napari_hydraseg.gui.finetune import FinetuneWidget
from napari_hydraseg.gui.segment import SegmentWidget


def graded(verb):
    """Let the playing verb give probabilities: they fall from the middle outwards."""

    def segment(volume, checkpoint, *, heads, probabilities, **options):
        found = yield from verb(volume, checkpoint, heads=heads, **options)
        if not probabilities:
            return found
        y, x = np.ogrid[:20, :24]
        inside = 1 - np.hypot(y - 10, x - 12) / 20
        inside = np.broadcast_to(inside, volume.shape).clip(0, 1).astype(np.float32)
        shares = {
            head: np.stack([1 - inside, *[inside / len(noun.names)] * len(noun.names)])
            for head, noun in found.items()
        }
        return {h: replace(n, probabilities=shares[h]) for h, n in found.items()}

    return segment


@pytest.fixture
def form(dock, verbs, monkeypatch):
    monkeypatch.setitem(vars(core), "segment", graded(core.segment))
    return dock(SegmentWidget)


@pytest.fixture
def opened(form, viewer, scan):
    return view.add(viewer, layers.volume_layers(scan))[0]


@pytest.fixture
def found(form, opened, viewer, click, finished):
    """The mask of a head of two classes, with its probabilities."""
    form.heads.item(0).setCheckState(Qt.CheckState.Unchecked)
    form.heads.item(1).setCheckState(Qt.CheckState.Checked)
    form.soft.keep.setChecked(True)
    click(form, "segment.run")
    finished()
    return viewer.layers["cord · s"]


def test_unless_it_is_wanted_there_is_no_threshold(
    form, opened, viewer, click, finished, control
):
    click(form, "segment.run")
    finished()
    assert [layer.name for layer in viewer.layers] == ["s", "heart · s"]
    assert not control(form, "segment.threshold").isVisibleTo(form)


def test_probabilities_lie_on_the_scan_and_do_not_cover_it(
    form, found, viewer, opened, control
):
    share = viewer.layers["probability · cord · s"]
    assert not share.visible
    assert share.data.shape == opened.data.shape
    np.testing.assert_allclose(share.scale, opened.scale)
    assert share.units == opened.units
    assert tuple(share.contrast_limits) == (0, 1)
    assert form.image.layer() == opened
    assert control(form, "segment.threshold").isVisibleTo(form)
    assert control(form, "segment.threshold").value() == 0.5


def test_the_slider_draws_the_mask_anew_and_undo_brings_it_back(
    form, found, viewer, qtbot, finished, control
):
    before = found.data.copy()
    volume = control(form, "segment.table").item(0, 1).text()
    share = viewer.layers["probability · cord · s"].data
    control(form, "segment.threshold").setValue(0.25)
    status = control(form, "segment.soft_status")
    qtbot.waitUntil(lambda: "Drawn at 0.25" in status.text())
    finished()
    np.testing.assert_array_equal(found.data > 0, share > 0.25)
    ml = np.count_nonzero(found.data) * 7.5e-3
    assert float(control(form, "segment.table").item(0, 1).text()) == pytest.approx(
        ml, abs=0.006
    )
    assert not nouns.annotated_slices(found, 0).any()
    found.undo()
    np.testing.assert_array_equal(found.data, before)
    table = control(form, "segment.table")
    qtbot.waitUntil(lambda: table.item(0, 1).text() == volume)
    assert float(volume) == pytest.approx(found.features["volume_ml"][0], abs=0.005)


def test_slices_that_the_user_vouches_for_stay_when_the_threshold_moves(
    form, found, viewer, qtbot, finished, control, dock
):
    teach = dock(FinetuneWidget)
    teach.annotation.labels.choose(found)
    found.paint((3, 1, 1), 1)
    viewer.dims.set_current_step(0, 5)
    teach.annotation.toggle_done()
    before = found.data.copy()
    share = viewer.layers["probability · cord · s"].data
    control(form, "segment.threshold").setValue(0.25)
    status = control(form, "segment.soft_status")
    qtbot.waitUntil(lambda: "but for 2 annotated slices." in status.text())
    finished()
    np.testing.assert_array_equal(found.data[[3, 5]], before[[3, 5]])
    rest = [0, 1, 2, 4]
    np.testing.assert_array_equal(found.data[rest] > 0, share[rest] > 0.25)
    assert np.flatnonzero(nouns.annotated_slices(found, 0)).tolist() == [3, 5]
    voxels = np.count_nonzero(found.data)
    qtbot.waitUntil(lambda: found.features["voxels"][0] == voxels)


def test_a_slider_that_moves_on_is_followed_to_its_end(
    form, found, viewer, qtbot, finished, control
):
    share = viewer.layers["probability · cord · s"].data
    for value in (0.7, 0.6, 0.4):
        control(form, "segment.threshold").setValue(value)
        form.soft._redraw()
    status = control(form, "segment.soft_status")
    qtbot.waitUntil(lambda: "Drawn at 0.40" in status.text())
    finished()
    np.testing.assert_array_equal(found.data > 0, share > 0.4)


def test_the_slider_starts_at_the_threshold_of_the_head(
    form, opened, click, finished, control, monkeypatch
):
    model = core.get_model("toy")
    ours = replace(model, spec=replace(model.spec, threshold={"cord": 0.3}))
    monkeypatch.setattr(core, "get_model", lambda name: ours)
    form.heads.item(1).setCheckState(Qt.CheckState.Checked)
    form.heads.item(0).setCheckState(Qt.CheckState.Unchecked)
    form.soft.keep.setChecked(True)
    click(form, "segment.run")
    finished()
    assert control(form, "segment.threshold").value() == pytest.approx(0.3)


def test_a_mask_that_is_removed_takes_its_probabilities_along(
    form, found, viewer, control
):
    viewer.layers.remove(found)
    assert not form.soft._kept
    assert not control(form, "segment.threshold").isVisibleTo(form)


def test_other_masks_have_no_threshold(form, found, viewer, control):
    viewer.add_labels(np.ones((6, 20, 24), np.uint8))
    assert not control(form, "segment.threshold").isEnabled()
    assert "no probabilities" in control(form, "segment.soft_status").text()
