"""Device and time, said before Run is pressed."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from napari_hydraseg import core
from napari_hydraseg.core.types import Progress
from napari_hydraseg.gui import layers, view, worker
from napari_hydraseg.gui.badge import Badge
from napari_hydraseg.gui.segment import SegmentWidget


@pytest.fixture
def badge(qtbot):
    made = Badge("segment.badge")
    qtbot.addWidget(made)
    return made


def probe(seconds, log=None):
    def gather():
        def call():
            if log is not None:
                log.append(seconds)
            return SimpleNamespace(device="CPU, 2 threads", seconds=seconds)

        return call

    return gather


def test_the_badge_says_where_and_how_long(badge, qtbot):
    badge.show()
    badge.ask("a", probe(12.3))
    qtbot.waitUntil(lambda: bool(badge.text()) and "Measuring" not in badge.text())
    assert badge.text() == "CPU, 2 threads · about 12 s for this scan"


def test_what_was_measured_is_not_measured_again(badge, qtbot):
    log = []
    badge.show()
    for key, seconds in (("a", 12), ("b", 200), ("a", 12)):
        badge.ask(key, probe(seconds, log))
        words = "12 s" if key == "a" else "3 min"
        qtbot.waitUntil(lambda words=words: words in badge.text())
    assert log == [12, 200]


def test_a_hidden_form_measures_nothing(badge, qtbot):
    log = []
    badge.ask("a", probe(12, log))
    qtbot.wait(600)
    assert log == []
    badge.show()
    qtbot.waitUntil(lambda: log == [12])


def test_a_fault_of_the_probe_leaves_the_badge_empty(badge, qtbot):
    def gather():
        def call():
            raise RuntimeError("no kernel")

        return call

    badge.show()
    badge.ask("a", gather)
    qtbot.waitUntil(lambda: "a" in badge._known)
    assert badge.text() == ""


def counting(gate):
    """Play a long verb that ends once the gate is open."""
    while not gate.is_set():
        yield Progress(0, 1)
        gate.wait(0.01)


def test_a_probe_that_a_job_overtakes_says_nothing_and_is_run_again(
    badge, qtbot, finished
):
    log, probing, working = [], threading.Event(), threading.Event()

    def gather():
        def call():
            log.append(len(log))
            probing.wait(30)
            return SimpleNamespace(device="CPU", seconds=100 if len(log) == 1 else 7)

        return call

    badge.show()
    badge.ask("a", gather)
    qtbot.waitUntil(lambda: log == [0])
    assert badge.text().startswith("Measuring")
    worker.start(counting(working), title="Counting")
    assert badge.text() == ""
    probing.set()
    qtbot.wait(600)
    assert (log, badge.text()) == ([0], "")
    working.set()
    finished()
    qtbot.waitUntil(lambda: "about 7 s" in badge.text())
    assert log == [0, 1]


def test_the_time_of_the_work_itself_is_told_and_not_measured_again(badge, qtbot):
    log = []
    badge.show()
    badge.ask("a", probe(12, log))
    badge.took("a", SimpleNamespace(device="CPU, 2 threads", seconds=9.2))
    assert badge.text() == "CPU, 2 threads · took 9 s"
    qtbot.wait(600)
    assert log == []
    badge.ask("a", probe(12, log))
    assert badge.text() == "CPU, 2 threads · took 9 s"


def test_after_a_job_the_badge_says_what_it_took(
    dock, verbs, viewer, scan, click, finished, monkeypatch, control
):
    monkeypatch.setitem(vars(core), "measure_pace", lambda *_, **__: 1 / 0)
    form = dock(SegmentWidget)
    view.add(viewer, layers.volume_layers(scan))
    click(form, "segment.run")
    finished()
    said = control(form, "segment.badge").text()
    assert said.startswith("CPU, ")
    assert said.endswith(" · took 0 s")


def test_segment_asks_for_what_is_chosen(dock, verbs, viewer, scan, monkeypatch):
    asked = []

    def play(volume, checkpoint, *, heads, device):
        asked.append((volume, heads, device))
        return SimpleNamespace(device="CPU", seconds=1)

    monkeypatch.setitem(vars(core), "measure_pace", play)
    form = dock(SegmentWidget)
    assert form.badge._gather is None
    view.add(viewer, layers.volume_layers(scan))
    assert form.badge._gather()().seconds == 1
    assert asked == [(scan, ("heart",), "auto")]


OPEN = """
import sys, time
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
_, panel = viewer.window.add_plugin_dock_widget("napari-hydraseg", "HydraSeg")
for _ in range(20):
    QApplication.processEvents()
    time.sleep(0.01)
print(panel.isVisible(), {"torch", "sklearn", "nibabel"} & set(sys.modules))
viewer.close()
"""


def test_opening_the_first_dock_loads_no_heavy_library():
    done = subprocess.run(
        [sys.executable, "-c", OPEN], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "set()"], done.stdout + done.stderr
