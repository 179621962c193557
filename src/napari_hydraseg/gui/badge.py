"""Where a job will run, and about how long: said before Run is pressed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError

from . import nouns, worker
from .jobbar import duration

if TYPE_CHECKING:  # it needs torch, which must not delay the first dock
    from napari_hydraseg.core.pace import Pace

_MILLISECONDS_OF_REST = 400  # while choices are being made, nothing is measured
_MEASURING = "Measuring how long this will take…"


class Badge(QLabel):
    """Shows device and time, measured by a short probe while nothing else runs.

    Nothing is measured while the form is hidden.

    Parameters
    ----------
    name : str
        Its object name.
    """

    _measured = Signal(object, object)

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("Device and time")
        self.setWordWrap(True)
        self._known: dict[Hashable, str] = {}
        self._key: Hashable = None
        self._gather: Callable[[], Callable[[], Pace]] | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_MILLISECONDS_OF_REST)
        self._rest.timeout.connect(self._measure)
        self._measured.connect(self._on_measured)

    def ask(
        self, key: Hashable, gather: Callable[[], Callable[[], Pace]] | None
    ) -> None:
        """Show what holds for a choice; measure it if that is not known.

        Parameters
        ----------
        key : hashable
            Names the choice: scan, model, heads, device.
        gather : callable or None
            Called in the main thread; what it returns is called in another one. None:
            nothing can run, so that nothing is said.
        """
        self._key, self._gather = key, gather
        self.setText(self._known.get(key, "") if gather is not None else "")
        if gather is not None and key not in self._known:
            self._rest.start()

    def showEvent(self, event: Any) -> None:
        """Measure what was chosen while the form was hidden."""
        super().showEvent(event)
        self.ask(self._key, self._gather)

    def _measure(self) -> None:
        if self._gather is None or not self.isVisible():
            return
        if worker.running() is not None:  # it would be measured too long
            self._rest.start()
            return
        key = self._key
        try:
            probe = self._gather()
        except HydraSegError:  # Run says it, where it belongs
            return
        self.setText(_MEASURING)
        future = worker.beside(probe, lane="probe")
        future.add_done_callback(lambda done: self._hand_over(key, done))

    def _hand_over(self, key: Hashable, future: Future[object]) -> None:
        """Hand the outcome to the main thread; this runs in the other one."""
        if isalive(self):
            self._measured.emit(key, future)

    def _on_measured(self, key: Hashable, future: Future[object]) -> None:
        words = ""  # a fault is told by Run, in full
        if future.exception() is None:
            pace: Any = future.result()
            words = f"{pace.device} · about {duration(pace.seconds)} for this scan"
        self._known[key] = words
        if key == self._key:
            self.setText(words)


def probe_of(
    layer: Any, model: str, *, heads: Sequence[str], device: str
) -> Callable[[], Callable[[], Pace]]:
    """Give what `Badge.ask` wants for segmenting a layer.

    Parameters
    ----------
    layer : napari.layers.Image
        The scan.
    model : str
        A model's name or path.
    heads : sequence of str
        Which organs.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    """

    def gather() -> Callable[[], Pace]:
        volume = nouns.volume_of(layer)
        return lambda: core.measure_pace(
            volume, core.get_model(model), heads=heads, device=device
        )

    return gather
