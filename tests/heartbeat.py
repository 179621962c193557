"""How long a window does not answer, and what keeps it from it."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from qtpy.QtCore import Qt, QTimer

_BEAT = 10  # ms
_LONG = 0.05  # s: what is longer than this is looked into
_OURS = "napari_hydraseg"


@dataclass
class Gap:
    """A time between two beats.

    Attributes
    ----------
    ms : float
        On the clock: what a user feels. Other processes lengthen it.
    cpu_ms : float
        Of it, processor time of the main thread: what ran there. Other processes
        hardly lengthen it; a lock that another thread holds does not show in it.
    where : str
        What the main thread was doing, if the gap was long.
    """

    ms: float
    cpu_ms: float
    where: str = ""


@dataclass
class Heart:
    """Beats in the main thread; a second thread looks where it is when a beat is late.

    Use as a context; `gaps` tells of the time in between.
    """

    gaps: list[Gap] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._main = threading.get_ident()
        self._last = time.monotonic(), time.thread_time()
        self._where = ""
        self._over = threading.Event()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._timer.start(_BEAT)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.stop()
        self._beat()
        self._over.set()
        self._watcher.join()

    def longest(self) -> Gap:
        """Give the longest gap on the clock."""
        return max(self.gaps, key=lambda gap: gap.ms)

    def busiest(self) -> Gap:
        """Give the gap in which the main thread worked most."""
        return max(self.gaps, key=lambda gap: gap.cpu_ms)

    def _beat(self) -> None:
        now = time.monotonic(), time.thread_time()
        wall, worked = (1000 * (b - a) for a, b in zip(self._last, now, strict=True))
        self.gaps.append(Gap(wall, worked, self._where))
        self._last, self._where = now, ""

    def _watch(self) -> None:
        """Look at the main thread whenever a beat is late."""
        while not self._over.wait(0.01):
            if time.monotonic() - self._last[0] > _LONG:
                frame = sys._current_frames().get(self._main)
                self._where = told(frame) if frame is not None else ""
                del frame  # it keeps alive what its function has, such as a painter


def told(frame: FrameType) -> str:
    """Name the innermost function of a stack, and the innermost of ours."""
    stack = traceback.StackSummary.extract(
        traceback.walk_stack(frame), lookup_lines=False
    )
    stack.reverse()  # outermost first
    ours = [line for line in stack if _OURS in line.filename]
    names = [_name(line) for line in (*ours[-1:], stack[-1])]
    return " > ".join(dict.fromkeys(names))


def _name(line: Any) -> str:
    return f"{Path(line.filename).stem}.{line.name}:{line.lineno}"
