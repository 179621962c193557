"""One long verb in a thread: progress, stop, cancel, errors, one at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from napari_hydraseg.core.errors import (
    DeviceUnavailable,
    HydraSegError,
    JobBusy,
    JobError,
    OutOfMemory,
)
from napari_hydraseg.core.types import Progress
from napari_hydraseg.gui import worker


class Watch:
    """Collects what a job tells."""

    def __init__(self, job):
        self.progress, self.results, self.errors = [], [], []
        self.cancelled, self.threads = 0, set()
        job.progressed.connect(self._progress)
        job.returned.connect(self.results.append)
        job.failed.connect(self.errors.append)
        job.cancelled.connect(self._cancel)

    def _progress(self, progress):
        self.progress.append(progress)
        self.threads.add(threading.current_thread())

    def _cancel(self):
        self.cancelled += 1


def counting(log, steps=5, seconds=0.04):
    try:
        for at in range(steps):
            log.append(threading.current_thread())
            time.sleep(seconds)
            if (yield Progress(at + 1, steps)) == "stop":
                return "best so far"
    finally:
        log.append("closed")
        log.append(threading.current_thread())
    return "done"


def failing(error):
    yield Progress(0, 1)
    raise error


@pytest.fixture
def begin(qtbot, finished):
    def start(steps):
        job = worker.start(steps, title="Counting")
        return job, Watch(job)

    return start


def test_progress_and_result_arrive_in_the_main_thread(begin, finished):
    log = []
    _, watch = begin(counting(log))
    finished()
    assert watch.results == ["done"]
    assert [p.done for p in watch.progress] == [1, 2, 3, 4, 5]
    assert watch.threads == {threading.main_thread()}
    assert threading.main_thread() not in log


def test_cancel_closes_the_verb_in_its_own_thread(begin, finished, qtbot):
    log = []
    job, watch = begin(counting(log, steps=500))
    qtbot.waitUntil(lambda: bool(log))
    job.cancel()
    finished(1)
    assert watch.cancelled == 1
    assert not watch.results
    assert log[-2] == "closed"
    assert log[-1] is log[0]
    assert log[-1] is not threading.main_thread()


def test_stop_lets_the_verb_return_its_best(begin, finished, qtbot):
    job, watch = begin(counting([], steps=500))
    qtbot.waitUntil(lambda: bool(watch.progress))
    job.stop()
    finished(1)
    assert watch.results == ["best so far"]
    assert not watch.cancelled


def test_stop_before_the_first_step_is_heard(begin, finished):
    job, watch = begin(counting([], steps=500))
    job.stop()
    finished(1)
    assert watch.results == ["best so far"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), JobError),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (ZeroDivisionError("division by zero"), JobError),
        (DeviceUnavailable("There is no CUDA here.", "Use cpu."), DeviceUnavailable),
    ],
)
def test_every_error_arrives_once_and_ends_the_job(begin, finished, error, kind):
    _, watch = begin(failing(error))
    finished()
    assert [type(e) for e in watch.errors] == [kind]
    assert isinstance(watch.errors[0], HydraSegError)
    assert not watch.cancelled
    assert not watch.results


def test_details_hold_the_code_and_the_traceback():
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        plain = worker.in_plain_words(error)
    assert plain.code in worker.details(plain)
    assert "test_details_hold" in worker.details(plain)


def test_a_second_job_is_refused_and_closed(begin, finished):
    log = []
    begin(counting(log, steps=20))
    second = counting([])
    with pytest.raises(JobBusy, match="Counting is still running"):
        worker.start(second, title="Second")
    assert second.gi_frame is None
    worker.running().cancel()
    finished()


CLOSE = """
import threading, time
import napari
from qtpy.QtCore import QTimer
from napari_hydraseg.core.types import Progress
from napari_hydraseg.gui.segment import SegmentWidget

def endless():
    try:
        while True:
            time.sleep(0.05)
            yield Progress(1, 10)
    finally:
        print("closed by", threading.current_thread() is threading.main_thread())

viewer = napari.Viewer(show=True)
form = SegmentWidget(viewer)
viewer.window.add_dock_widget(form)
form.bar.start(endless, print, title="Endless")
QTimer.singleShot(1000, viewer.close)
napari.run()
print("left")
"""


def test_closing_napari_ends_the_job_and_the_process():
    done = subprocess.run(
        [sys.executable, "-c", CLOSE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:2]) == ["closed by False", "left"]
    assert "QThread" not in done.stderr


def test_a_torrent_of_progress_does_not_flood_the_window(begin, finished):
    def torrent():
        for at in range(20_000):
            yield Progress(at, 20_001)

    _, watch = begin(torrent())
    finished()
    assert len(watch.progress) < 500


def test_signs_arrive_in_order_though_napari_handles_events_meanwhile(
    viewer, begin, finished
):
    def fast():
        for at in range(1, 60):
            yield Progress(at, 60, values={"dice": at / 60})

    _, watch = begin(fast())
    finished()
    assert [p.done for p in watch.progress] == list(range(1, 60))


def test_every_new_dice_is_told_however_fast(begin, finished):
    def learning():
        for at in range(10):
            yield Progress(at, 100, values={"dice": at / 10})

    _, watch = begin(learning())
    finished()
    assert [p.values["dice"] for p in watch.progress] == [i / 10 for i in range(10)]
