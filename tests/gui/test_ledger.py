"""Which slices are done, and which one is next: ledger, keys D and N."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_hydraseg import core
from napari_hydraseg.core.suggestion import SliceLook
from napari_hydraseg.core.types import Progress
from napari_hydraseg.gui import layers, ledger, view, worker
from napari_hydraseg.gui.finetune import FinetuneWidget

DOUBT = np.array([0.0, 0.1, 0.4, 0.9, 0.5, 0.2])


def look(volume, checkpoint, *, head="", device="auto"):
    """Play `core.look_at_slices`: slice 3 is the most doubtful."""
    look.calls.append(head)
    for at in range(3):
        time.sleep(0.01)
        yield Progress(at, 3)
    at = np.arange(6.0)
    distance = np.abs(at[:, None] - at)
    return SliceLook(DOUBT if head in checkpoint.spec.heads else None, distance)


@pytest.fixture
def form(dock, verbs, monkeypatch):
    look.calls = []
    monkeypatch.setitem(vars(core), "look_at_slices", look)
    return dock(FinetuneWidget)


@pytest.fixture
def opened(form, viewer, scan):
    return view.add(viewer, layers.volume_layers(scan))[0]


@pytest.fixture
def labels(form, opened, viewer, click):
    click(form, "finetune.new")
    form.choice.head.setEditText("cord")
    return viewer.layers[-1]


def test_d_marks_the_slice_that_is_shown_and_takes_it_back(
    form, labels, viewer, qtbot, control
):
    viewer.dims.set_current_step(0, 5)
    strip = control(form, "finetune.ledger")
    qtbot.keyClick(form, Qt.Key.Key_D)
    assert strip.marks == {5: "done"}
    assert "slices: 1 (5)" in control(form, "finetune.slices").text()
    qtbot.keyClick(form, Qt.Key.Key_D)
    assert strip.marks == {}


def test_d_on_the_canvas_reaches_the_form(make_napari_viewer, verbs, scan, models):
    viewer = make_napari_viewer()
    form = FinetuneWidget(viewer)
    viewer.window.add_dock_widget(form)
    view.add(viewer, layers.volume_layers(scan))
    form.annotation.new_labels()
    viewer.dims.set_current_step(0, 2)
    # what napari's canvas calls for a key, whichever layer is chosen
    viewer.window._qt_viewer.canvas._key_map_handler.press_key("D")
    assert form.annotation.strip.marks == {2: "done"}


@pytest.mark.parametrize(
    ("order", "ndisplay"), [((2, 0, 1), 2), ((1, 0, 2), 2), ((0, 1, 2), 3)]
)
def test_d_vouches_for_no_slice_that_is_not_to_be_seen(
    form, labels, viewer, qtbot, control, order, ndisplay
):
    viewer.dims.set_current_step(0, 4)
    viewer.dims.order, viewer.dims.ndisplay = order, ndisplay
    strip, hint = control(form, "finetune.ledger"), control(form, "finetune.hint")
    qtbot.keyClick(form, Qt.Key.Key_D)
    assert strip.marks == {}
    assert hint.text() == "Look at the axial slice, then press D again."
    assert not hint.isHidden()
    assert view.shows(viewer, "axial")
    qtbot.keyClick(form, Qt.Key.Key_D)
    assert strip.marks == {4: "done"}
    assert hint.isHidden()


def test_beside_a_scan_over_time_d_marks_the_slice_that_is_shown(
    form, labels, opened, viewer, qtbot, control
):
    viewer.add_image(np.zeros((3, 99, 20, 24)), translate=(0, -40, 0, 0))
    form.annotation.image.choose(opened)
    viewer.dims.set_current_step(0, 2)
    form.annotation.go_to(4)
    assert viewer.dims.current_step[0] == 2
    assert form.annotation.shown() == 4
    viewer.dims.order = (0, 3, 1, 2)
    qtbot.keyClick(form, Qt.Key.Key_D)
    viewer.dims.set_point(1, opened.translate[0] - 20)  # where the scan has no slice
    qtbot.keyClick(form, Qt.Key.Key_D)
    assert form.annotation.strip.marks == {}
    form.annotation.go_to(4)
    qtbot.keyClick(form, Qt.Key.Key_D)
    assert control(form, "finetune.ledger").marks == {4: "done"}


def test_typing_a_name_with_d_and_n_marks_nothing(form, labels, qtbot, control):
    control(form, "finetune.head").setEditText("")
    line = control(form, "finetune.head").lineEdit()
    form.window().activateWindow()
    line.setFocus()
    qtbot.keyClicks(line, "dN")
    assert line.text() == "dN"
    assert control(form, "finetune.ledger").marks == {}


def test_a_painted_slice_that_is_set_aside_is_not_learned_from(
    form, labels, viewer, click, control, qtbot
):
    labels.paint((4, 10, 12), 1)
    strip = control(form, "finetune.ledger")
    qtbot.waitUntil(lambda: strip.marks == {4: "painted"})
    viewer.dims.set_current_step(0, 4)
    click(form, "finetune.done")
    assert strip.marks == {4: "done"}
    click(form, "finetune.done")
    assert strip.marks == {4: "aside"}
    assert form.annotation.annotated() == []
    assert "Set aside: 1" in control(form, "finetune.slices").text()
    assert not control(form, "finetune.run").isEnabled()
    click(form, "finetune.done")
    assert form.annotation.annotated() == [4]


def test_the_ledger_says_in_words_what_its_fields_show(form, labels, viewer, control):
    viewer.dims.set_current_step(0, 1)
    form.annotation.toggle_done()
    strip = control(form, "finetune.ledger")
    assert strip.about(1) == "Slice 1: done"
    assert strip.about(2) == "Slice 2: not yet looked at"


def test_a_click_on_a_field_shows_its_slice(form, labels, viewer, control, qtbot):
    strip = control(form, "finetune.ledger")
    strip.resize(120, 22)
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(30, 10))
    assert viewer.dims.current_step[0] == 1
    assert strip.shown == 1


def test_slices_count_by_the_layer_where_another_reaches_farther(
    form, labels, viewer, control
):
    viewer.add_points(np.array([[-200.0, 0.0, 0.0]]))
    form.annotation.go_to(2)
    form.annotation.toggle_done()
    assert control(form, "finetune.ledger").marks == {2: "done"}


def test_n_goes_to_the_most_doubtful_slice_and_says_why(
    form, labels, viewer, finished, qtbot, control
):
    qtbot.keyClick(form, Qt.Key.Key_N)
    assert control(form, "finetune.next").text() == "Stop looking"
    finished()
    assert viewer.dims.current_step[0] == 3
    assert "Slice 3: the model is most unsure" in control(form, "finetune.why").text()
    assert control(form, "finetune.next").text() == "Next best slice (N)"


def test_the_scan_is_looked_at_once_for_each_head(
    form, labels, viewer, finished, click
):
    for _ in range(3):
        click(form, "finetune.next")
        finished()
    assert look.calls == ["cord"]
    form.choice.head.setEditText("aorta")
    click(form, "finetune.next")
    finished()
    assert look.calls == ["cord", "aorta"]
    assert "no head knows" in form.next.why.text()


def test_n_again_offers_another_slice_and_a_done_one_never(
    form, labels, viewer, finished, click
):
    shown = []
    for _ in range(3):
        click(form, "finetune.next")
        finished()
        shown.append(viewer.dims.current_step[0])
    assert len(set(shown)) == 3
    form.annotation.toggle_done()
    click(form, "finetune.next")
    finished()
    assert viewer.dims.current_step[0] != shown[-1]
    assert f"of your slices {shown[-1]}" in form.next.why.text()


def test_when_every_slice_is_done_n_says_so(form, labels, viewer, finished, click):
    labels.metadata["hydraseg"]["done"] = set(range(6))
    form.annotation.changed.emit()
    click(form, "finetune.next")
    finished()
    assert form.next.why.text() == "Every slice is done."


def test_looking_can_be_stopped(form, labels, viewer, click, finished, control):
    click(form, "finetune.next")
    assert worker.running() is not None
    click(form, "finetune.next")
    finished()
    assert control(form, "finetune.why").text() == "Stopped looking."


def test_a_form_can_be_closed_while_it_looks(form, labels, viewer, finished, qtbot):
    form.next.go()
    with qtbot.captureExceptions() as faults:
        viewer.window.remove_dock_widget(form)
        form.deleteLater()
        finished()
    assert not faults


def test_without_a_scan_n_is_disabled_and_says_why(form, control):
    found = control(form, "finetune.next")
    assert not found.isEnabled()
    assert found.toolTip() == "Open a scan first (step 1)."


def test_the_strip_is_drawn_with_ticks_bars_and_nothing_else(qtbot):
    strip = ledger.Ledger()
    qtbot.addWidget(strip)
    strip.resize(120, 22)
    strip.show_marks({0: "done", 2: "painted", 4: "aside"}, count=6, shown=5)
    picture = strip.grab().toImage()
    columns = [
        {picture.pixelColor(20 * at + 10, y).name() for y in range(4, 20)}
        for at in range(4)
    ]
    assert ledger.DONE.name() in columns[0]
    assert ledger.PAINTED.name() in columns[2]
    assert ledger.DONE.name() not in columns[1] | columns[2] | columns[3]
