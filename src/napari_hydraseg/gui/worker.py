"""A long verb in a thread: progress, stop, cancel, and errors in plain language.

All thread code of the plugin is here and in `stepping`. A verb is a generator: it is
stepped in a thread, its `Progress` goes to the main thread, and it is closed in the
thread that ran it. Napari's own generator worker fails in two things that matter: it
swallows ``RuntimeError`` (every error of torch is one), and it leaves a generator open
when it is asked to quit.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QCoreApplication, QObject, QThreadPool, Signal, Slot

from napari_hydraseg.core.errors import HydraSegError, JobBusy, JobError, OutOfMemory
from napari_hydraseg.core.types import Progress, Steps

from .activity import Activity
from .stepping import Failure, StepsWorker, drive

_LOG = logging.getLogger(__name__)
_MILLISECONDS_TO_SAVE, _MILLISECONDS_TO_END = 4000, 1000  # together: F77

# one thread each, so that calls of a lane keep their order; they end before the process
_lanes = {lane: ThreadPoolExecutor(1, lane) for lane in ("keep", "probe", "count")}
_running: list[Job] = []  # at most one: two jobs would share processor and memory


def start(
    steps: Steps[Any], *, title: str, rescue: Callable[[Any], object] | None = None
) -> Job:
    """Run a long verb in a thread.

    Parameters
    ----------
    steps : Steps
        What a verb such as `core.segment` returned; nothing of it has run yet.
    title : str
        What the user calls this work, for messages.
    rescue : callable, optional
        If napari is closed meanwhile, the verb is told to stop with the best that it
        has, and this saves that, in the verb's thread.

    Returns
    -------
    Job
        Connect to its signals before returning to the event loop.

    Raises
    ------
    JobBusy
        If another job is running in this process.
    """
    news.starting.emit()
    if _running:
        steps.close()
        raise JobBusy(
            f"{_running[0].title} is still running.",
            "Wait until it has finished, or press its Cancel button.",
        )
    return Job(steps, title, rescue)


def running() -> Job | None:
    """Tell which job is running now, if any."""
    return _running[0] if _running else None


def beside(call: Callable[[], object], *, lane: str = "keep") -> Future[object]:
    """Run a short call, which touches no layer, in a thread beside any job."""
    return _lanes[lane].submit(call)


class _News(QObject):
    """Tells every form what concerns all of them."""

    starting = Signal()  # of a job: keep what a crash would take


news = _News()


class Job(QObject):
    """One long verb in a thread, seen from the main thread.

    Exactly one of `returned`, `failed` and `cancelled` is sent, then `ended`.
    """

    progressed = Signal(object)
    returned = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    ended = Signal()

    def __init__(
        self,
        steps: Steps[Any],
        title: str,
        rescue: Callable[[Any], object] | None = None,
    ) -> None:
        super().__init__()
        self.title = title
        self._told = False
        self._activity = Activity(title)
        _running.append(self)
        self._worker: StepsWorker | None = create_worker(
            drive, steps, _worker_class=StepsWorker, _ignore_errors=True
        )
        self._worker.rescue = rescue
        self._worker.yielded.connect(self._on_progress)
        self._worker.returned.connect(self._on_return)
        self._worker.warned.connect(self._on_warning)
        self._worker.finished.connect(self._on_finish)
        _application().aboutToQuit.connect(self._on_quit)
        self._worker.start()

    @Slot()
    def cancel(self) -> None:
        """Discard the work; takes effect at the verb's next `Progress`."""
        if self._worker is not None:
            self._worker.discard()

    @Slot()
    def leave(self) -> None:
        """End because the window is closed: save the best, if that was asked for."""
        if self._worker is not None:
            self._worker.quit()

    @Slot()
    def stop(self) -> None:
        """Ask the verb to end now and return the best it has."""
        if self._worker is not None:
            self._worker.send("stop")

    @Slot(object)
    def _on_progress(self, progress: Progress) -> None:
        self.progressed.emit(progress)
        self._activity.show(progress)

    @Slot(object)
    def _on_return(self, result: object) -> None:
        self._told = True
        if isinstance(result, Failure):
            self.failed.emit(in_plain_words(result.error))
        else:
            self.returned.emit(result)

    @Slot(tuple)
    def _on_warning(self, warned: tuple[Any, ...]) -> None:
        _LOG.warning("%s: %s", self.title, warned[0])

    @Slot()
    def _on_finish(self) -> None:
        self._worker = None
        _running.remove(self)
        _application().aboutToQuit.disconnect(self._on_quit)
        self._activity.close()
        if not self._told:
            self.cancelled.emit()
        self.ended.emit()

    @Slot()
    def _on_quit(self) -> None:
        # closeEvent of a dock's child does not come reliably when napari quits
        self.leave()
        QThreadPool.globalInstance().waitForDone(_MILLISECONDS_TO_SAVE)
        self.cancel()
        QThreadPool.globalInstance().waitForDone(_MILLISECONDS_TO_END)


def in_plain_words(error: BaseException) -> HydraSegError:
    """Any error as one that says what happened and what to do.

    Parameters
    ----------
    error : BaseException
        What a verb raised.

    Returns
    -------
    HydraSegError
        The error itself if it is one, else one that has it as its cause.
    """
    if isinstance(error, HydraSegError):
        return error
    text = str(error).strip() or type(error).__name__
    memory = isinstance(error, MemoryError) or any(
        sign in text.lower() for sign in ("out of memory", "not enough memory")
    )
    plain: HydraSegError
    if memory:
        plain = OutOfMemory(
            "The memory of this computer does not suffice for this scan.",
            "Close other programs or choose fewer structures, then try again.",
        )
    else:
        plain = JobError(
            f"The work stopped unexpectedly ({type(error).__name__}: "
            f"{text.splitlines()[0]}).",
            "Your layers are unchanged. Copy the details for a report of the fault.",
        )
    plain.__cause__ = error
    return plain


def details(error: HydraSegError) -> str:
    """Write what to paste into a fault report: code, message, traceback."""
    cause = error.__cause__ or error
    trace = "".join(traceback.format_exception(cause))
    return f"{error.code} {error}\n\n{trace}"


def _application() -> QCoreApplication:
    found = QCoreApplication.instance()
    if found is None:
        raise JobError("There is no window to report to.", "Use core.finish instead.")
    return found
