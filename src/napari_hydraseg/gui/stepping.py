"""The thread's side of a job: steps a verb, hands on its news, and closes it there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from superqt.utils import GeneratorWorker

from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import Progress, Steps

_SECONDS_BETWEEN_SIGNS = 0.03  # more often than the eye sees would flood the event loop


def drive(steps: Steps[Any]) -> Generator[Progress, Any, Any]:
    """Be a generator whatever kind of iterator the steps are."""
    return (yield from steps)


@dataclass(frozen=True)
class Failure:
    """An error on its way to the main thread.

    It travels as a result: raised, a ``RuntimeError`` would be swallowed by superqt
    (the job would never end), and any other would break the slot that napari 0.9
    connects to ``errored``, which takes no argument although the signal has one.
    """

    error: Exception


class StepsWorker(GeneratorWorker):
    """Steps a generator in a thread, and closes it there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._messages: deque[object] = deque()
        self._last_sign = 0.0
        self._last_dice = ""
        self.rescue: Callable[[Any], object] | None = None
        self._closing = False

    def work(self) -> Any:
        """Step the verb to its end; this is what runs in the thread."""
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
            return Failure(error)
        finally:
            self._gen.close()
        return None

    def _rescued(self, result: Any) -> Any:
        try:
            if self._closing and self.rescue is not None:
                self.rescue(result)
        except HydraSegError as error:
            return Failure(error)
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
