"""The Fine-tune form: what counts as annotated, stop, cancel, keep, discard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_hydraseg import core
from napari_hydraseg.core import drafts
from napari_hydraseg.core.types import ModelInfo, Segmentation
from napari_hydraseg.gui import (
    drafting,
    finetune,
    layers,
    nouns,
    offer,
    view,
    worker,
)
from napari_hydraseg.gui.finetune import FinetuneWidget
from napari_hydraseg.gui.library import library
from napari_hydraseg.gui.segment import SegmentWidget
from napari_hydraseg.gui.words import story


@pytest.fixture
def form(dock, verbs):
    return dock(FinetuneWidget)


@pytest.fixture
def opened(form, viewer, scan):
    return view.add(viewer, layers.volume_layers(scan))[0]


@pytest.fixture
def painted(form, opened, viewer, click, qtbot):
    """Labels with a stroke on slices 2 and 4."""
    click(form, "finetune.new")
    layer = viewer.layers[-1]
    for z in (2, 4):
        layer.paint((z, 10, 12), 1)
    qtbot.waitUntil(lambda: "2 (2, 4)" in form.annotation.ledger.text())
    form.choice.head.setEditText("cord")
    return layer


def test_new_labels_lie_on_the_scan_with_the_brush_in_hand(
    form, opened, viewer, click, control
):
    click(form, "finetune.new")
    layer = viewer.layers[-1]
    np.testing.assert_allclose(layer.scale, opened.scale)
    np.testing.assert_allclose(layer.translate, opened.translate)
    assert layer.units == opened.units
    assert layer.mode == "paint"
    assert layer.data.dtype == np.uint8
    assert viewer.layers.selection.active == layer
    assert control(form, "finetune.labels").currentText() == layer.name


def test_run_says_what_is_missing_at_each_stage(form, viewer, scan, click, control):
    status = control(form, "finetune.status")
    assert status.text() == "Open a scan first (step 1)."
    view.add(viewer, layers.volume_layers(scan))
    assert "New empty labels" in status.text()
    click(form, "finetune.new")
    assert "Paint at least one slice" in status.text()
    assert not control(form, "finetune.run").isEnabled()


def test_painted_slices_are_counted_as_one_paints(form, painted, control):
    assert control(form, "finetune.run").isEnabled()
    assert control(form, "finetune.slices").text() == "Annotated slices: 2 (2, 4)"


def test_undo_takes_a_slice_off_the_ledger_and_its_volume_back(form, painted, qtbot):
    words = form.annotation.ledger

    def volume():
        return float(painted.features["volume_ml"][0])

    qtbot.waitUntil(lambda: volume() > 0)
    before = volume()
    painted.undo()
    qtbot.waitUntil(lambda: words.text() == "Annotated slices: 1 (2)")
    qtbot.waitUntil(lambda: volume() == pytest.approx(before / 2, abs=0.001))
    painted.redo()
    qtbot.waitUntil(lambda: words.text() == "Annotated slices: 2 (2, 4)")
    qtbot.waitUntil(lambda: volume() == before)


def test_a_head_is_never_taken_by_accident(form, painted, control):
    form.choice.head.setEditText("")
    run = control(form, "finetune.run")
    assert not run.isEnabled()
    assert run.toolTip() == "Choose a head or type a new name."


def test_an_empty_slice_counts_once_it_is_ticked(form, painted, viewer, click, control):
    viewer.dims.set_current_step(0, 0)
    click(form, "finetune.done")
    assert "3 (0, 2, 4)" in control(form, "finetune.slices").text()
    click(form, "finetune.done")
    assert "2 (2, 4)" in control(form, "finetune.slices").text()


def test_of_a_corrected_prediction_only_the_changed_slices_are_learned(
    form, opened, viewer, scan, click, qtbot
):
    found = replace(
        layers.core.Segmentation((scan.data[0] > 100).astype(np.uint8), scan.affine),
        made_by={"model": "toy", "head": "heart"},
    )
    prediction = view.add(viewer, [layers.labels_layer(found, name="found")])[0]
    assert "0" in form.annotation.ledger.text()
    click(form, "finetune.copy")
    copy = viewer.layers[-1]
    assert not prediction.visible
    assert form.choice.head_name() == "heart"
    copy.paint((3, 2, 2), 1)
    qtbot.waitUntil(lambda: "1 (3)" in form.annotation.ledger.text())
    assert prediction.data[3, 2, 2] == 0


def test_of_a_copied_file_only_the_changed_slices_are_learned_even_from_a_draft(
    form, opened, viewer, scan, click, qtbot, own_drafts
):
    found = Segmentation((scan.data[0] > 100).astype(np.uint8), scan.affine)
    view.add(viewer, [layers.labels_layer(found, name="a file's labels")])
    click(form, "finetune.copy")
    assert form.annotation.annotated() == []
    viewer.layers[-1].paint((3, 2, 2), 1)
    qtbot.waitUntil(lambda: "1 (3)" in form.annotation.ledger.text())
    form.autosave.save()
    qtbot.waitUntil(lambda: bool(list(own_drafts.glob("*.npz"))))
    (path,) = own_drafts.glob("*.npz")
    again = drafting.restore(viewer, drafts.open_draft(path), path)
    assert np.flatnonzero(nouns.annotated_slices(again, 0)).tolist() == [3]


def test_the_verb_gets_a_snapshot_and_the_annotated_slices(
    form, painted, scan, click, finished, verbs
):
    form.choice.head.setEditText("aorta")
    form.epochs.setValue(3)
    click(form, "finetune.run")
    painted.data[:] = 0
    finished()
    ((volume, annotation),) = verbs.asked["cases"]
    assert volume is scan
    assert np.flatnonzero(annotation.annotated).tolist() == [2, 4]
    assert annotation.labels.any()
    np.testing.assert_array_equal(annotation.affine, scan.affine)
    assert verbs.asked["class_names"] == ("aorta",)
    assert (verbs.asked["epochs"], verbs.asked["minutes"]) == (3, None)
    assert "painted anew" in form.verdict.text()


def test_the_presets_are_minutes(form, painted, click, finished, verbs):
    form.preset.setCurrentText("Better (5 min)")
    click(form, "finetune.run")
    finished()
    assert (verbs.asked["epochs"], verbs.asked["minutes"]) == (None, 5.0)


def test_names_of_a_new_head_can_be_typed(form, painted, click, finished, verbs):
    form.choice.head.setEditText("vessels")
    form.choice.classes.setText("artery, vein")
    click(form, "finetune.run")
    finished()
    assert verbs.asked["class_names"] == ("artery", "vein")


@pytest.mark.parametrize(
    ("ids", "typed", "names"),
    [
        ((5, 200), "", ("class 5", "class 200")),
        ((5, 300), "left, right", ("left", "right")),
        ((5,), "", ("ears",)),
        ((1, 2), "left", ("left", "class 2")),
        ((1, 3), "left, right, nose", ("left", "right", "nose")),
    ],
)
def test_ids_that_are_left_out_make_no_classes(
    form, opened, viewer, click, finished, verbs, qtbot, control, ids, typed, names
):
    data = np.zeros(opened.data.shape, np.uint16)
    for at, label in enumerate(ids, 1):
        data[at, 5:8, 5:8] = label
    viewer.add_labels(data, scale=opened.scale, translate=opened.translate)
    form.choice.head.setEditText("ears")
    form.choice.classes.setText(typed)
    qtbot.waitUntil(control(form, "finetune.run").isEnabled)
    click(form, "finetune.run")
    finished()
    assert verbs.asked["class_names"] == names


def test_what_a_head_answered_with_ids_of_its_own_can_be_taught_to_it_again(
    form, opened, viewer, models, monkeypatch, scan, click, control, qtbot
):
    heads = {**models[0].heads, "ears": ("background", "left", "right")}
    monkeypatch.setattr(core, "list_models", lambda: [replace(models[0], heads=heads)])
    form.choice.model.refresh()
    data = np.zeros(scan.shape, np.uint8)
    data[2, 5:8, 5:8], data[4, 5:8, 5:8] = 5, 200
    made_by = {"model": "toy", "head": "ears"}
    noun = Segmentation(data, scan.affine, {5: "left", 200: "right"}, made_by=made_by)
    view.add(viewer, [layers.labels_layer(noun, name="ears · s")])
    click(form, "finetune.copy")
    viewer.layers[-1].paint((3, 10, 12), 5)
    run = control(form, "finetune.run")
    qtbot.waitUntil(run.isEnabled)
    viewer.layers[-1].paint((3, 10, 12), 7)
    qtbot.waitUntil(lambda: not run.isEnabled())
    assert "knows only 1 to 2" in run.toolTip()


def test_a_label_beyond_the_head_is_refused_with_a_way_out(
    form, painted, control, qtbot
):
    form.choice.head.setEditText("cord")
    painted.data[2, 0, 0] = 7
    painted.paint((2, 1, 1), 7)
    run = control(form, "finetune.run")
    qtbot.waitUntil(lambda: not run.isEnabled())
    assert "knows only 1 to 1" in run.toolTip()
    assert "new name" in run.toolTip()


def test_stop_keeps_the_best_so_far(
    form, painted, click, finished, verbs, qtbot, control
):
    click(form, "finetune.run")
    qtbot.waitUntil(lambda: form.curve.best > 0.4)
    click(form, "finetune.stop")
    finished(1)
    assert form.result is not None
    assert form.result.epochs < 100
    assert "→" in control(form, "finetune.verdict").text()
    assert control(form, "finetune.keep").isEnabled()


def test_cancel_discards_and_closes_the_verb(
    form, painted, click, finished, verbs, qtbot, control
):
    click(form, "finetune.run")
    qtbot.waitUntil(lambda: form.curve.best > 0.4)
    click(form, "finetune.cancel")
    finished(1)
    assert form.result is None
    assert verbs.closed
    assert not control(form, "finetune.keep").isEnabled()


def test_progress_shows_loss_and_held_out_dice(form, painted, click, qtbot, control):
    click(form, "finetune.run")
    status = control(form, "finetune.status")
    qtbot.waitUntil(lambda: "Held-out Dice 0.30 at the start" in status.text())
    assert not form.curve.isHidden()


def test_the_verdict_names_numbers_limits_and_the_proof(
    form, painted, click, finished, control
):
    click(form, "finetune.run")
    finished()
    words = control(form, "finetune.verdict").text()
    assert "0.30 → 0.90" in words
    assert "2 slices kept aside" in words
    assert "hint" in words
    assert "7 frozen tensors, identical before and after" in words


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.3, 0.9, "0.30 → 0.90"),
        (0.1834, 0.1842, "0.183 → 0.184"),
        (0.5, 0.5, "0.50 → 0.50"),
    ],
)
def test_a_small_gain_is_seen_in_the_digits(
    form, painted, click, finished, before, after, words
):
    click(form, "finetune.run")
    finished()
    result = form.result
    pair = {"before": before, "after": after}
    told = story(
        replace(result, **{k: getattr(result, k) | {"dice": pair[k]} for k in pair})
    )
    assert told.splitlines()[0] == words


def test_what_learning_needs_is_loaded_once_there_are_labels(
    form, opened, click, monkeypatch
):
    asked = []
    monkeypatch.setattr(worker, "beside", lambda call, **_: asked.append(call))
    click(form, "finetune.new")
    assert finetune._prepare not in asked  # torch must not come before the window
    monkeypatch.setattr(form, "isVisible", lambda: True)
    form.annotation.changed.emit()
    form.annotation.changed.emit()
    assert asked.count(finetune._prepare) == 1


def test_slices_of_a_plain_layer_lie_across_its_thickest_axis(
    form, viewer, click, control, qtbot
):
    viewer.add_image(np.zeros((8, 10, 6), np.float32), scale=(1, 1, 4), name="plain")
    click(form, "finetune.new")
    assert form.annotation.axis() == 2
    layer = viewer.layers[-1]
    layer.data[:, :, 4] = 1
    layer.refresh()
    form.annotation.changed.emit()
    assert control(form, "finetune.slices").text() == "Annotated slices: 1 (4)"
    assert control(form, "finetune.ledger").count == 6


def test_keep_adds_the_model_and_chooses_it_in_segment(
    form, dock, painted, click, finished, models, monkeypatch, control, tmp_path
):
    kept = []

    def save(checkpoint, path, **_):
        path.write_bytes(b"model")
        kept.append(checkpoint)

    def add(path, *, name, **_):
        assert path.is_file()
        heads = {**models[0].heads, "aorta": ("background", "aorta")}
        info = ModelInfo(name, "toy", heads, (), "", 0.1, path, "user")
        models.append(info)
        return info

    monkeypatch.setattr(core, "list_models", lambda: list(models))
    monkeypatch.setattr(core, "save_checkpoint", save)
    monkeypatch.setattr(core, "add_model", add)
    segment = dock(SegmentWidget)
    form.choice.head.setEditText("aorta")
    click(form, "finetune.run")
    finished()
    click(form, "finetune.keep")
    assert kept[0].card["name"] == "toy+aorta"
    assert control(segment, "segment.model").currentText() == "toy+aorta"
    assert segment.chosen_heads() == ("aorta",)
    assert "Kept as toy+aorta" in control(form, "finetune.status").text()
    assert form.result is None


def test_discard_forgets_the_model(form, painted, click, finished, control, models):
    click(form, "finetune.run")
    finished()
    click(form, "finetune.discard")
    assert form.result is None
    assert control(form, "finetune.status").text().startswith("Discarded")
    assert not control(form, "finetune.keep").isEnabled()


def test_a_model_that_is_no_better_can_only_be_kept_anyway(
    form, painted, click, finished, control, monkeypatch
):
    def worse(*args, **options):
        result = yield from core_learn(*args, **options)
        return replace(result, accepted=False, after={"dice": 0.2, "n": 2})

    core_learn = core.finetune
    monkeypatch.setattr(core, "finetune", worse)
    click(form, "finetune.run")
    finished()
    assert control(form, "finetune.keep").text() == "Keep anyway"
    assert "Not clearly better" in control(form, "finetune.status").text()


def test_a_new_model_is_never_dropped_by_another_run(
    form, dock, painted, click, finished, control
):
    segment = dock(SegmentWidget)
    click(form, "finetune.run")
    finished()
    run, offered = control(form, "finetune.run"), form.result
    click(segment, "segment.run")
    painted.paint((3, 10, 12), 1)
    finished()
    form.annotation.changed.emit()
    assert form.result is offered
    assert not run.isEnabled()
    assert run.toolTip() == "Keep or discard the new model first."
    form.annotation.labels.choose(painted)
    click(form, "finetune.discard")
    assert run.isEnabled()


@pytest.mark.parametrize(("accepted", "count"), [(True, 1), (False, 0)])
def test_a_form_that_is_closed_undecided_keeps_a_model_that_is_better(
    form, painted, viewer, click, finished, qtbot, monkeypatch, accepted, count
):
    kept = []
    monkeypatch.setattr(offer, "keep", kept.append)
    click(form, "finetune.run")
    finished()
    form.offer.make(replace(form.result, accepted=accepted))
    viewer.window.remove_dock_widget(form)
    form.deleteLater()
    qtbot.wait(50)
    assert len(kept) == count


def test_napari_that_is_left_undecided_keeps_a_model_that_is_better(
    form, painted, click, finished, monkeypatch
):
    kept = []
    monkeypatch.setattr(offer, "keep", kept.append)
    click(form, "finetune.run")
    finished()
    QApplication.instance().aboutToQuit.emit()
    assert len(kept) == 1
    assert form.result is None


def test_labels_of_another_size_do_not_cost_the_new_model(
    form, painted, click, finished, control
):
    click(form, "finetune.run")
    painted.data = np.zeros((8, 20, 24), np.uint8)
    finished()
    assert form.result is not None
    assert "painted anew" not in control(form, "finetune.verdict").text()


@pytest.fixture
def other(painted, viewer, scan):
    """Another patient's scan on the same grid, opened after the first was painted."""
    strange = replace(scan, data=scan.data[:, :, ::-1] * 3, source="patient2.nii.gz")
    return view.add(viewer, layers.volume_layers(strange))[0]


def test_labels_of_one_scan_are_not_taught_with_another(
    form, painted, opened, other, viewer, control, click, finished, verbs, scan
):
    run, labels = control(form, "finetune.run"), form.annotation.labels
    assert form.annotation.image.layer() == other
    assert not run.isEnabled()
    assert "choose s, or press New empty labels" in run.toolTip()
    form.annotation.image.choose(opened)
    assert run.isEnabled()
    click(form, "finetune.run")
    finished()
    ((volume, _),) = verbs.asked["cases"]
    assert volume is scan
    click(form, "finetune.discard")
    form.annotation.image.choose(other)
    click(form, "finetune.new")
    assert form.annotation.image.layer() == other
    labels.choose(painted)
    assert form.annotation.image.layer() == opened


def test_a_copy_of_labels_and_a_result_keep_the_scan_that_they_were_made_on(
    form, painted, opened, other, viewer, click, dock, finished
):
    click(form, "finetune.copy")
    copy = viewer.layers[-1]
    assert form.annotation.image.layer() == opened
    segment = dock(SegmentWidget)
    segment.image.choose(other)
    click(segment, "segment.run")
    finished()
    assert form.annotation.image.layer() == other
    form.annotation.labels.choose(copy)
    assert form.annotation.image.layer() == opened


def test_labels_of_a_closed_scan_find_it_when_it_is_opened_again(
    form, viewer, scan, click, control, qtbot
):
    filed = replace(scan, sha256="ab" * 32)
    opened = view.add(viewer, layers.volume_layers(filed))[0]
    click(form, "finetune.new")
    viewer.layers[-1].paint((2, 10, 12), 1)
    form.choice.head.setEditText("cord")
    viewer.layers.remove(opened)
    strange = replace(filed, sha256="cd" * 32)
    view.add(viewer, layers.volume_layers(strange))
    run = control(form, "finetune.run")
    qtbot.waitUntil(lambda: "open that one" in run.toolTip())
    view.add(viewer, layers.volume_layers(replace(filed, names=("again",))))
    assert run.isEnabled()


def test_labels_of_unknown_origin_go_with_any_scan_of_their_grid(
    form, opened, other, viewer, control, qtbot
):
    data = np.ones(opened.data.shape, np.uint8)
    viewer.add_labels(data, scale=opened.scale, translate=opened.translate)
    run = control(form, "finetune.run")
    for scan in (opened, other):
        form.annotation.image.choose(scan)
        assert run.isEnabled()


def test_a_draft_names_the_scan_that_its_labels_were_made_on(
    form, painted, other, scan, own_drafts, qtbot
):
    painted.paint((3, 10, 12), 1)
    form.autosave.save()
    qtbot.waitUntil(lambda: bool(list(own_drafts.glob("*.npz"))))
    (path,) = own_drafts.glob("*.npz")
    assert drafts.open_draft(path).scan == drafts.identity(scan)


def test_a_second_form_is_told_that_a_job_runs(
    form, dock, painted, click, qtbot, control
):
    segment = dock(SegmentWidget)
    click(form, "finetune.run")
    click(segment, "segment.run")
    said = control(segment, "segment.status").text()
    assert said.startswith("Fine-tuning is still running.")
    assert control(segment, "segment.run").isEnabled()


def test_news_of_the_library_do_not_reach_a_closed_form(form, viewer, qtbot):
    viewer.window.remove_dock_widget(form)
    form.deleteLater()
    qtbot.wait(50)
    library.changed.emit("toy", None)
