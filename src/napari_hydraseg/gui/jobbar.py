"""The row of a job: Run, Stop, Cancel, progress and a status in plain words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import Checkpoint, Progress, Steps, Volume

from . import worker
from .form import button, named, text
from .libraries import load_torch


class JobBar(QWidget):
    """Run, Stop, Cancel, progress and status of the one job of a form.

    Parameters
    ----------
    room : str
        Prefix of the object names.
    run : str
        Text of the Run button.
    control : str
        Object name of the Run button, after the prefix.
    tip : str
        What Run does.
    stop : bool
        Whether the job can be stopped early and still give a result.
    """

    finished = Signal()

    def __init__(
        self,
        room: str,
        run: str,
        *,
        tip: str,
        stop: bool = False,
        control: str = "run",
    ) -> None:
        super().__init__()
        self._job: worker.Job | None = None
        self._reason = ""
        self._details = ""
        self._first: tuple[float, int] | None = None
        self.run = named(QPushButton(run), f"{room}.{control}", label=run, tip=tip)
        self._tip = tip
        self.stop = button(
            "Stop",
            f"{room}.stop",
            "Stop now and keep the best model so far",
            self._stop,
        )
        self.cancel = button(
            "Cancel", f"{room}.cancel", "Stop and discard this work", self._cancel
        )
        self.progress = named(
            QProgressBar(), f"{room}.progress", label="Progress", tip="Share done, in %"
        )
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(8)
        self.status = text(name=f"{room}.status", label="Status")
        self.copy = button(
            "Copy details",
            f"{room}.details",
            "Copy the fault's details, for a report",
            self._copy,
        )
        self._lay_out(stop)
        self._idle()

    def _lay_out(self, stop: bool) -> None:
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 2)
        if stop:
            buttons.addWidget(self.stop, 1)
        buttons.addWidget(self.cancel, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.addLayout(buttons)
        column.addWidget(self.progress)
        column.addWidget(self.status)
        column.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignLeft)
        self.stop.setParent(self)
        self.stop.setVisible(stop)
        self.copy.hide()

    @property
    def busy(self) -> bool:
        """Whether this form's job is running."""
        return self._job is not None

    def set_ready(self, reason: str = "") -> None:
        """Enable Run, or disable it and say why.

        Parameters
        ----------
        reason : str
            What the user has to do first; empty: Run can be pressed.
        """
        changed = reason != self._reason
        old, self._reason = self._reason, reason
        self.run.setEnabled(not reason and not self.busy)
        self.run.setToolTip(reason or self._tip)
        if self.busy or not changed:
            return
        if reason or self.status.text() == old:
            self.say(reason)

    def tell(self, words: str) -> None:
        """Put words into the status line; an empty one takes no room."""
        self.status.setText(words)
        self.status.setVisible(bool(words))

    def say(self, words: str) -> None:
        """Put words into the status line and forget the last fault."""
        self.tell(words)
        self.copy.hide()

    def complain(self, error: HydraSegError) -> None:
        """Show what went wrong and what to do."""
        self._details = worker.details(error)
        self.tell(f"{error.what}\n{error.hint}".strip())
        self.copy.show()
        show_error(str(error))

    def start(
        self,
        gather: Callable[[], Steps[Any]],
        show: Callable[[Any], object],
        *,
        title: str,
        watch: Callable[[Progress], object] | None = None,
        rescue: Callable[[Any], object] | None = None,
    ) -> None:
        """Run a job: gather its input, step it in a thread, show its result.

        Parameters
        ----------
        gather : callable
            Reads form and layers in the main thread; returns the steps.
        show : callable
            Called in the main thread with the result.
        title : str
            What the user calls the work.
        watch : callable, optional
            Called in the main thread with each `Progress`.
        rescue : callable, optional
            Saves the best so far if napari is closed meanwhile.
        """
        if self.busy:
            return
        try:
            self._job = worker.start(gather(), title=title, rescue=rescue)
        except HydraSegError as error:
            self.complain(error)
            return
        self._show, self._watch = show, watch
        self._first = None
        self._job.progressed.connect(self._on_progress)
        self._job.returned.connect(self._on_return)
        self._job.failed.connect(self.complain)
        self._job.cancelled.connect(self._on_cancelled)
        self._job.ended.connect(self._on_end)
        self.destroyed.connect(self._job.leave)
        self.run.setEnabled(False)
        self.cancel.setEnabled(True)
        self.stop.setEnabled(True)
        self._move(0, 0)
        self.say(f"{title}: starting…")

    def _on_progress(self, progress: Progress) -> None:
        self._move(max(progress.total, 1), progress.done)
        if not self.cancel.isEnabled() or not self.stop.isEnabled():
            return  # the status says what the user asked for
        note = progress.note or "working"
        self.tell(
            f"{note[:1].upper()}{note[1:]}: {progress.done} of {progress.total}"
            f"{self._left(progress)}"
        )
        if self._watch is not None:
            self._watch(progress)

    def _left(self, progress: Progress) -> str:
        """Tell the time left by the pace so far, once there is a pace."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, progress.done)  # what came before was preparation
        since, start = self._first
        done, left = progress.done - start, progress.total - progress.done
        if done < max(1, 0.03 * progress.total) or now - since < 2 or left <= 0:
            return ""  # too early to tell
        return f" · about {duration((now - since) / done * left)} left"

    def _on_return(self, result: object) -> None:
        self.say("")
        try:
            self._show(result)
        except HydraSegError as error:
            self.complain(error)

    def _on_cancelled(self) -> None:
        self.say("Cancelled. Nothing was changed.")

    def _on_end(self) -> None:
        self._job = None
        self._idle()
        self.run.setEnabled(not self._reason)
        QTimer.singleShot(0, self.finished.emit)

    def _idle(self) -> None:
        self.cancel.setText("Cancel")
        self.cancel.setEnabled(False)
        self.stop.setEnabled(False)
        self._move(1, 0)

    def _move(self, total: int, done: int) -> None:
        """Move the bar; with no total it only shows life.

        Qt would draw a bar that moves at once, and with it the canvas of the window; so
        it is drawn with all else that has changed.
        """
        self.progress.setUpdatesEnabled(False)
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress.setUpdatesEnabled(True)

    def _cancel(self) -> None:
        if self._job is not None:
            self.cancel.setEnabled(False)
            self.stop.setEnabled(False)
            self.cancel.setText("Cancelling…")
            self.tell("Cancelling…")
            self._job.cancel()

    def _stop(self) -> None:
        if self._job is not None:
            self.stop.setEnabled(False)
            self.tell("Stopping: keeping the best so far…")
            self._job.stop()

    def _copy(self) -> None:
        QApplication.clipboard().setText(self._details)


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "3 min"."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def device() -> str:
    """Where networks shall run, from the plugin's preferences (napari 0.9 or newer)."""
    try:
        from napari.settings import get_plugin_settings

        return str(get_plugin_settings("napari-hydraseg").compute.device)
    except (ImportError, AttributeError, KeyError, ValueError):
        return "auto"


def open_steps(
    name: str, scan: Steps[Volume], verb: Callable[[Checkpoint, Volume], Steps[Any]]
) -> Steps[Any]:
    """Read a scan and open a model in the worker's thread, then do something with them.

    Parameters
    ----------
    name : str
        A model's name or path.
    scan : Steps of Volume
        From `scans.volume_steps`.
    verb : callable
        Gets the checkpoint and the scan, returns the steps of a long verb.
    """
    yield Progress(0, 1, "opening the model")
    load_torch()
    checkpoint = core.get_model(name)
    yield Progress(0, 1, "opening the scan")  # so that a cancel is heard in between
    volume = yield from scan
    return (yield from verb(checkpoint, volume))
