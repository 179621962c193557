"""Clean-up and filling between slices in the window: what is changed, and undo."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import QTimer

from napari_hydraseg import core
from napari_hydraseg.core.types import Progress, Segmentation, finish
from napari_hydraseg.gui import amend, drafting, layers, nouns, proposals, view, worker
from napari_hydraseg.gui.finetune import FinetuneWidget


@pytest.fixture
def form(dock, verbs):
    return dock(FinetuneWidget)


@pytest.fixture
def opened(form, viewer, scan):
    return view.add(viewer, layers.volume_layers(scan))[0]


@pytest.fixture
def painted(form, opened, click):
    """Own labels: slices 1 and 5 painted, with a speck and a hole in slice 1."""
    click(form, "finetune.new")
    layer = form.annotation.labels.layer()
    layer.data[1, 4:12, 4:12] = layer.data[5, 4:12, 4:12] = 1
    layer.data[1, 17, 20] = 1
    layer.data[1, 7, 7] = 0
    form.annotation.changed.emit()
    return layer


@pytest.fixture
def predicted(form, opened, viewer, scan):
    """What a model found, with a speck in slice 4."""
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:4, 4:12, 4:12] = 1
    labels[4, 17, 20] = 1
    noun = Segmentation(
        labels, scan.affine, names={1: "cord"}, made_by={"model": "toy"}
    )
    made = layers.labels_layer(
        noun, name="cord · s", geometry=nouns.geometry_of(opened)
    )
    return view.add(viewer, [made])[0]


def test_without_labels_nothing_can_be_pressed(form, control):
    for name in ("clean.run", "between.run", "clean.undo"):
        assert not control(form, name).isEnabled()
    assert "Choose labels first" in control(form, "clean.run").toolTip()


def test_filling_needs_two_slices_that_are_apart(form, opened, click, control):
    click(form, "finetune.new")
    assert "some slices apart" in control(form, "between.run").toolTip()


def test_clean_up_is_that_of_core_and_undo_brings_back_every_bit(
    form, painted, click, finished, control
):
    before = painted.data.copy()
    form.clean.in_slices.setChecked(True)
    click(form, "clean.run")
    finished()
    noun = nouns.segmentation_of(painted)
    start = Segmentation(before, noun.affine)
    wanted = finish(core.clean(start, smallest_mm3=10, holes_mm3=10, in_slices=True))
    np.testing.assert_array_equal(painted.data, wanted.labels)
    assert painted.data[1, 17, 20] == 0
    assert painted.data[1, 7, 7] == 1
    words = control(form, "clean.status").text()
    assert "Dropped 1 parts (7.5 mm³), filled 1 holes (7.5 mm³)." in words
    click(form, "clean.undo")
    np.testing.assert_array_equal(painted.data, before)
    painted.redo()
    np.testing.assert_array_equal(painted.data, wanted.labels)


def test_volumes_follow_a_clean_up(form, painted, click, finished):
    click(form, "clean.run")
    finished()
    voxels = int(np.count_nonzero(painted.data))
    assert list(painted.features["voxels"]) == [voxels]
    assert painted.features["volume_ml"][0] == pytest.approx(voxels * 7.5e-3, abs=5e-4)


def test_only_the_selected_label_is_cleaned(form, painted, click, finished):
    painted.data[3, 0, 0] = 2
    form.clean.only.setChecked(True)
    click(form, "clean.run")
    finished()
    assert painted.data[3, 0, 0] == 2
    assert painted.data[1, 17, 20] == 0


def test_a_cleaned_slice_of_a_model_does_not_count_as_yours(
    form, predicted, click, finished
):
    assert form.annotation.annotated() == []
    click(form, "clean.run")
    finished()
    assert not predicted.data[4].any()
    assert form.annotation.annotated() == []
    predicted.data[2, 0, 0] = 1
    predicted.refresh()
    assert form.annotation.annotated() == [2]


def test_filled_slices_are_not_yours_until_you_accept_them(
    form, painted, click, finished, control
):
    click(form, "between.run")
    finished()
    for at in (2, 3, 4):
        np.testing.assert_array_equal(painted.data[at] > 0, painted.data[5] > 0)
    assert form.annotation.annotated() == [1, 5]
    assert "slices 2, 3, 4." in control(form, "between.status").text()
    click(form, "between.accept")
    assert form.annotation.annotated() == [1, 2, 3, 4, 5]
    assert control(form, "between.accept").isHidden()


def test_what_was_filled_is_nobodys_in_a_copy_and_in_a_draft_too(
    form, painted, viewer, click, finished
):
    click(form, "between.run")
    finished()
    assert drafting.snapshot(painted).aside == {2, 3, 4}
    click(form, "finetune.copy")
    assert form.annotation.labels.layer() != painted
    assert form.annotation.annotated() == [1, 5]


def test_painting_on_a_filled_slice_makes_it_yours(form, painted, click, finished):
    click(form, "between.run")
    finished()
    painted.data_setitem((np.array([3]), np.array([0]), np.array([0])), 1)
    assert form.annotation.annotated() == [1, 3, 5]


def test_undo_of_cleaning_what_was_filled_leaves_a_proposal(
    form, painted, click, finished
):
    before = painted.data.copy()
    click(form, "between.run")
    finished()
    form.clean.smallest.setValue(0)
    form.clean.holes.setValue(10)
    painted.data_setitem((np.array([3]), np.array([8]), np.array([8])), 0)
    proposals.propose(painted, 0, painted.data, [3])
    click(form, "clean.run")
    finished()
    assert painted.data[3, 8, 8] == 1
    click(form, "clean.undo")
    assert form.annotation.annotated() == [1, 5]
    for _ in range(2):
        click(form, "clean.undo")
    np.testing.assert_array_equal(painted.data, before)


def test_what_is_painted_meanwhile_stays(
    form, painted, click, finished, control, monkeypatch
):
    def slow(noun, **options):
        while painted.data[1, 17, 20] == 1:
            time.sleep(0.01)
            yield Progress(0, 1, "cleaning up")
        return (yield from clean(noun, **options))

    clean = core.clean
    monkeypatch.setitem(vars(core), "clean", slow)
    click(form, "clean.run")
    painted.data_setitem((np.array([1]), np.array([17]), np.array([20])), 5)
    finished()
    assert painted.data[1, 17, 20] == 5
    assert "1 voxels that you painted" in control(form, "clean.status").text()


def test_a_layer_that_is_removed_meanwhile_does_no_harm(
    form, painted, viewer, click, finished
):
    click(form, "clean.run")
    viewer.layers.remove(painted)
    finished()
    assert worker.running() is None


def test_a_picture_without_millimetres_is_cleaned_in_voxels(
    form, viewer, click, finished, control
):
    picture = viewer.add_labels(np.eye(9, dtype=np.uint8))
    assert form.clean.holes.suffix() == " voxels"
    form.clean.smallest.setValue(2)
    click(form, "clean.run")
    finished()
    assert not picture.data.any()
    assert "9 parts (9 voxels)" in control(form, "clean.status").text()
    assert "Nothing is left of label 1" in control(form, "clean.status").text()


def test_a_large_change_is_one_undo_and_lets_the_window_breathe(
    form, painted, qtbot, monkeypatch
):
    monkeypatch.setattr(amend, "_BLOCK", 100)
    before, noun = painted.data.copy(), nouns.segmentation_of(painted)

    def inverted():
        yield Progress(0, 1)
        return Segmentation(np.where(before == 1, 0, 2).astype(np.uint8), noun.affine)

    change = finish(amend.change_steps(noun, inverted(), known_mm=True))
    beats = []
    beat = QTimer()
    beat.timeout.connect(lambda: beats.append(1))
    beat.start(0)
    amendment = amend.Amendment(painted, change, axis=0)
    with qtbot.waitSignal(amendment.ended):
        amendment.start()
        assert not painted.editable
    beat.stop()
    assert len(beats) > 5
    assert painted.mode == "paint"
    np.testing.assert_array_equal(painted.data, change.found.labels)
    painted.undo()
    np.testing.assert_array_equal(painted.data, before)


def test_once_open_it_grows_with_what_is_inside(form, painted, click, finished, qtbot):
    form.clean.toggleButton().click()
    content = form.clean.content()
    qtbot.waitUntil(lambda: content.maximumHeight() > 5000)
    click(form, "between.run")
    finished()
    assert content.maximumHeight() > 5000
    assert form.clean.accept.isVisibleTo(form)
    form.clean.toggleButton().click()
    qtbot.waitUntil(lambda: content.maximumHeight() == 0)


def test_every_control_says_what_it_does(form, painted):
    from qtpy.QtWidgets import QAbstractButton, QDoubleSpinBox

    kinds = QAbstractButton, QDoubleSpinBox
    parts = [part for kind in kinds for part in form.clean.findChildren(kind)]
    ours = [part for part in parts if part.objectName().startswith(("clean", "betw"))]
    assert len(ours) >= 8
    for part in ours:
        assert part.toolTip() or part.isHidden(), part.objectName()
        assert part.accessibleName() or part.isHidden(), part.objectName()
