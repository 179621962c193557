"""Unsaved annotations: kept aside while one paints, offered at the next start."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core import drafts
from napari_hydraseg.core.types import Segmentation
from napari_hydraseg.gui import autosave, drafting, layers, view, writers
from napari_hydraseg.gui.finetune import FinetuneWidget
from napari_hydraseg.gui.panel import Panel


@pytest.fixture
def form(dock, verbs):
    return dock(FinetuneWidget)


@pytest.fixture
def labels(form, viewer, scan, click, qtbot):
    """Labels with a stroke on slice 2 and a tick on slice 5."""
    view.add(viewer, layers.volume_layers(scan))
    click(form, "finetune.new")
    layer = viewer.layers[-1]
    layer.paint((2, 10, 12), 1)
    viewer.dims.set_current_step(0, 5)
    click(form, "finetune.done")
    form.choice.head.setEditText("cord")
    return layer


@pytest.fixture
def written(own_drafts, qtbot):
    """Wait for the only draft and read it."""

    def read():
        qtbot.waitUntil(lambda: bool(list(own_drafts.glob("*.npz"))))
        (path,) = own_drafts.glob("*.npz")
        return drafts.open_draft(path)

    return read


@pytest.fixture
def left(own_drafts, scan, monkeypatch):
    """What a session that has ended left: a correction of slices 2 and 3."""
    start = (scan.data[0] > 100).astype(np.uint8)
    painted = start.copy()
    painted[2:4, 1, 1] = 1
    noun = Segmentation(
        painted, scan.affine, {1: "wall"}, made_by={"model": "toy", "head": "heart"}
    )
    path = drafts.new_path()
    draft = drafts.Draft(
        noun, start, frozenset({2}), frozenset(), drafts.identity(scan), 2
    )
    drafts.save_draft(draft, path)
    monkeypatch.setattr(drafts, "_lives", lambda about: False)
    return path


def test_what_is_painted_is_kept_aside_when_the_minute_is_over(
    form, labels, written, control, qtbot, scan
):
    assert form.autosave._timer.interval() == 60_000
    form.autosave._timer.timeout.emit()
    draft = written()
    np.testing.assert_array_equal(draft.painted.labels, labels.data)
    assert draft.done == {5}
    assert draft.slices == 2
    assert draft.scan == drafts.identity(scan)
    words = control(form, "finetune.autosave")
    qtbot.waitUntil(lambda: "Kept aside against a crash" in words.text())


def test_it_is_kept_aside_before_each_job(form, labels, written, click, finished):
    click(form, "finetune.run")
    np.testing.assert_array_equal(written().painted.labels, labels.data)
    finished()


def test_nothing_is_written_while_nothing_is_painted(form, viewer, scan, own_drafts):
    view.add(viewer, layers.volume_layers(scan))
    found = Segmentation(np.ones(scan.shape, np.uint8), scan.affine)
    view.add(viewer, [layers.labels_layer(found, name="a file's labels")])
    assert form.autosave.keeper.dirty == {}
    form.autosave.save()
    assert not own_drafts.exists()


def test_a_second_minute_without_a_stroke_writes_nothing(
    form, labels, written, own_drafts
):
    form.autosave.save()
    written()
    assert form.autosave.keeper.dirty == {}


def test_labels_that_were_saved_as_a_file_need_no_draft(
    form, labels, written, own_drafts, tmp_path
):
    form.autosave.save()
    written()
    data, attributes, _ = labels.as_layer_data_tuple()
    writers.write_labels(str(tmp_path / "mine.nii.gz"), data, attributes)
    assert list(own_drafts.iterdir()) == []
    labels.events.labels_update(data=labels.data, offset=(0, 0, 0))
    form.autosave.save()
    autosave.worker.beside(lambda: None).result()
    assert list(own_drafts.iterdir()) == []
    labels.paint((3, 10, 12), 1)
    form.autosave.save()
    written()


def test_all_voxels_are_looked_at_in_another_thread(
    form, labels, written, monkeypatch, scan
):
    threads = []

    def follow(module, name):
        real = getattr(module, name)

        def call(*given):
            threads.append(threading.current_thread())
            return real(*given)

        monkeypatch.setattr(module, name, call)

    follow(drafting.nouns, "annotated_slices")
    follow(drafting.kept, "is_settled")
    follow(drafts, "identity")
    form.autosave.save()
    assert written().scan == drafts.identity(scan)
    assert len(threads) == 4
    assert threading.main_thread() not in threads[:3]


def test_a_lazy_scan_is_not_read_for_a_draft(form, viewer, scan, click, written):
    import dask
    import dask.array

    readers = []

    def read(block):
        readers.append(block)
        return block

    data = dask.array.from_array(scan.data[0], chunks=(1, -1, -1)).map_blocks(
        read, dtype=scan.data.dtype, meta=scan.data[0, :0]
    )
    with dask.config.set(scheduler="synchronous"):
        viewer.add_image(data, name="lazy", contrast_limits=(0, 200))
        click(form, "finetune.new")
        viewer.layers[-1].paint((2, 10, 12), 1)
        readers.clear()
        form.autosave.save()
        assert written().slices == 1
    assert not readers


def test_a_full_disk_is_told_in_the_form_and_nothing_breaks(
    form, labels, control, qtbot, monkeypatch
):
    def full(draft, path):
        raise core.HydraSegError("The disk is full.", "Free some space.")

    monkeypatch.setattr(drafts, "save_draft", full)
    form.autosave.save()
    words = control(form, "finetune.autosave")
    qtbot.waitUntil(lambda: "Not kept aside: The disk is full." in words.text())
    assert control(form, "finetune.run").isEnabled()


def test_a_draft_that_could_not_be_written_is_tried_again(
    form, labels, written, control, qtbot, monkeypatch
):
    def full(draft, path):
        raise core.HydraSegError("The disk is full.", "Free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(drafts, "save_draft", full)
        form.autosave.save()
        words = control(form, "finetune.autosave")
        qtbot.waitUntil(lambda: "The disk is full." in words.text())
    form.autosave.save()
    np.testing.assert_array_equal(written().painted.labels, labels.data)


def test_labels_that_cannot_be_kept_do_not_cost_those_that_can(
    form, labels, written, viewer, control, qtbot
):
    odd = viewer.add_labels(np.full(labels.data.shape, -1, np.int16))
    odd.paint((2, 10, 12), 1)
    odd.metadata["hydraseg"] = {"done": {1}}
    form.autosave.keeper.dirty = dict(reversed(form.autosave.keeper.dirty.items()))
    form.autosave.save()
    np.testing.assert_array_equal(written().painted.labels, labels.data)
    assert "Not kept aside" in control(form, "finetune.autosave").text()


def test_what_undo_has_taken_back_is_not_offered_again(
    form, labels, written, click, own_drafts, qtbot
):
    form.autosave.save()
    written()
    click(form, "finetune.done")
    labels.undo()
    form.autosave.save()
    qtbot.waitUntil(lambda: not list(own_drafts.glob("*.npz")))


def test_a_form_that_is_closed_keeps_the_last_strokes(form, labels, viewer, written):
    viewer.window.remove_dock_widget(form)
    form.deleteLater()
    np.testing.assert_array_equal(written().painted.labels, labels.data)


def test_without_drafts_nothing_is_offered(dock, verbs):
    assert dock(Panel).steps["finetune"].recovery.isHidden()


def test_the_next_start_offers_them_and_restores_them_on_their_scan(
    left, dock, verbs, viewer, scan, click, control
):
    panel = dock(Panel)
    said = control(panel, "finetune.recovery").text()
    assert "2 slices of a scan of 24 x 20 x 6 voxels" in said
    opened = view.add(viewer, layers.volume_layers(scan))[0]
    click(panel, "finetune.restore")
    layer = viewer.layers[-1]
    assert layer.name == "restored · s"
    np.testing.assert_allclose(layer.scale, opened.scale)
    np.testing.assert_array_equal(layer.data[2:4, 1, 1], 1)
    form = panel.steps["finetune"]
    assert form.annotation.annotated() == [2, 3]
    assert form.annotation.strip.marks == {2: "done", 3: "painted"}
    assert form.choice.head_name() == "heart"
    assert form.recovery.isHidden()
    assert not panel.steps["finetune"].isHidden()
    assert left.exists(), "it stays until the labels are saved"


def test_without_the_scan_they_come_back_where_they_lay(
    left, dock, verbs, viewer, scan, click
):
    form = dock(FinetuneWidget)
    click(form, "finetune.restore")
    assert viewer.layers[-1].name == "restored labels"
    opened = view.add(viewer, layers.volume_layers(scan))[0]
    np.testing.assert_allclose(viewer.layers[0].translate, opened.translate)
    assert form.annotation.problem() == ""


def test_discard_asks_once_more(left, dock, verbs, click, control):
    form = dock(FinetuneWidget)
    click(form, "finetune.discard_draft")
    assert left.exists()
    assert control(form, "finetune.discard_draft").text() == "Discard for good?"
    click(form, "finetune.discard_draft")
    assert not left.exists()
    assert form.recovery.isHidden()


def test_what_one_form_restored_another_does_not_discard(
    left, dock, verbs, viewer, scan, click
):
    panel = dock(Panel)
    panel.open_step("finetune")
    other = dock(FinetuneWidget)
    view.add(viewer, layers.volume_layers(scan))
    click(panel, "finetune.restore")
    click(other, "finetune.discard_draft")
    click(other, "finetune.discard_draft")
    assert left.exists()
    assert other.recovery.isHidden()
    count = len(viewer.layers)
    other.recovery._restore()
    assert len(viewer.layers) == count


def test_a_draft_that_cannot_be_read_stays_and_is_told(
    left, dock, verbs, click, control, monkeypatch
):
    form = dock(FinetuneWidget)
    broken = drafts.open_draft(left)
    with open(left, "wb") as file:
        np.savez(file, labels=broken.painted.labels, about=np.zeros(3, np.uint8))
    click(form, "finetune.restore")
    assert "cannot be read" in control(form, "finetune.autosave").text()
    assert left.exists()


def test_two_layers_never_share_a_draft(form, labels, viewer, click, own_drafts, qtbot):
    click(form, "finetune.copy")
    viewer.layers[-1].paint((4, 10, 12), 1)
    form.autosave.save()
    qtbot.waitUntil(lambda: len(list(own_drafts.glob("*.npz"))) == 2)


def test_a_draft_holds_what_was_painted_at_the_moment_of_saving(
    form, labels, written, own_drafts
):
    before = labels.data.copy()
    form.autosave.save()
    labels.data[...] = 0
    np.testing.assert_array_equal(written().painted.labels, before)


def test_times_and_sizes_are_told_in_words():
    info = drafts.DraftInfo(None, 0.0, 1, (6, 20, 24), "")
    assert autosave.in_words(info).startswith("1 slice of a scan of 24 x 20 x 6 voxels")
    assert "2 slices" in autosave.in_words(replace(info, slices=2))
