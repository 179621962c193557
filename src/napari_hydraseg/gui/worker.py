"""A long verb in a thread: progress, stop, cancel, and errors in plain language.

All thread code of the plugin is here. A verb is a generator, so this steps it, hands
its `Progress` to the main thread, and closes it in the thread that ran it. Napari's own
generator worker does neither of two things that matter: it swallows ``RuntimeError``
(every error of torch is one) and it leaves the generator open when it is asked to quit.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QCoreApplication, QObject, QThreadPool, Signal, Slot
from superqt.utils import GeneratorWorker

from napari_hydraseg.core.errors import HydraSegError, JobBusy, JobError, OutOfMemory
from napari_hydraseg.core.types import Progress, Steps

from .activity import Activity

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_SIGNS = 0.03  # more often than the eye sees would flood the event loop
_MILLISECONDS_TO_SAVE, _MILLISECONDS_TO_END = 4000, 1000  # together: F77

# one thread each, so that calls of a lane keep their order; they end before the process
_lanes = {lane: ThreadPoolExecutor(1, lane) for lane in ("keep", "probe")}
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
        self._worker: _StepsWorker | None = create_worker(
            _drive, steps, _worker_class=_StepsWorker, _ignore_errors=True
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
        if isinstance(result, _Failure):
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


def _drive(steps: Steps[Any]) -> Generator[Progress, Any, Any]:
    return (yield from steps)


@dataclass(frozen=True)
class _Failure:
    """An error on its way to the main thread.

    It travels as a result: raised, a ``RuntimeError`` would be swallowed by superqt
    (the job would never end), and any other would break the slot that napari 0.9
    connects to ``errored``, which takes no argument although the signal has one.
    """

    error: Exception


class _StepsWorker(GeneratorWorker):
    """Steps a generator in a thread, and closes it there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._messages: deque[object] = deque()
        self._last_sign = 0.0
        self._last_dice = ""
        self.rescue: Callable[[Any], object] | None = None
        self._closing = False

    def work(self) -> Any:
        try:
            progress = next(self._gen)
            while not self.abort_requested:
                self._tell(progress)
                message = self._messages.popleft() if self._messages else None
                progress = self._gen.send(message)
            self.aborted.emit()
        except StopIteration as end:
            return self._rescued(end.value)
        except Exception as error:  # told in plain words by `Job`; nothing is hidden
            return _Failure(error)
        finally:
            self._gen.close()
        return None

    def _rescued(self, result: Any) -> Any:
        try:
            if self._closing and self.rescue is not None:
                self.rescue(result)
        except HydraSegError as error:
            return _Failure(error)
        return result

    def quit(self) -> None:
        """End as napari asks for when its window is closed."""
        if self.rescue is None:
            super().quit()
        elif not self._closing:
            self._closing = True
            self.send("stop")

    def discard(self) -> None:
        """End without a result."""
        super().quit()

    def _tell(self, progress: Progress) -> None:
        dice = str(progress.values.get("dice", ""))
        news = progress.done >= progress.total or dice != self._last_dice
        now = time.monotonic()
        if news or now - self._last_sign >= _SECONDS_BETWEEN_SIGNS:
            self._last_sign, self._last_dice = now, dice
            self.yielded.emit(progress)

    def send(self, value: object) -> None:
        """Hand a message to the verb at its next step."""
        self._messages.append(value)
