"""Where a job will run, and about how long: said before Run is pressed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import Segmentation

from . import nouns, worker
from .jobbar import duration
from .libraries import load_torch
from .scans import is_lazy

if TYPE_CHECKING:  # it needs torch, which must not delay the first dock
    from napari_hydraseg.core.pace import Pace

_MILLISECONDS_OF_REST = 400  # while choices are being made, nothing is measured
_MEASURING = "Measuring how long this will take…"


class Badge(QLabel):
    """Shows device and time: measured by a short probe, then by the work itself.

    A probe runs only while the form is shown and no job runs. One that a job has
    overtaken says nothing: it shared the machine with it.

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
        self.key: Hashable = None
        self._known: dict[Hashable, str] = {}
        self._gather: Callable[[], Callable[[], Pace]] | None = None
        self._probe: Future[object] | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_MILLISECONDS_OF_REST)
        self._rest.timeout.connect(self._measure)
        self._measured.connect(self._on_measured)
        worker.news.starting.connect(self._on_job)

    def ask(
        self, key: Hashable, gather: Callable[[], Callable[[], Pace]] | None
    ) -> None:
        """Show what holds for a choice; measure it if that is not known.

        Parameters
        ----------
        key : hashable
            Names the choice: scan, model, heads, device. None: nothing can run, so
            that nothing is said.
        gather : callable or None
            Called in the main thread; what it returns is called in another one. None:
            this cannot be measured beforehand.
        """
        self.key, self._gather = key, gather
        self.setText(self._known.get(key, ""))
        if gather is not None and key not in self._known:
            self._rest.start()

    def took(self, key: Hashable, pace: Pace) -> None:
        """Take the time of the work itself, which is better than any probe's.

        Parameters
        ----------
        key : hashable
            `key` when the work began.
        pace : Pace
            Where it ran, and how long.
        """
        self._learn(key, f"{pace.device} · took {duration(pace.seconds)}")

    def showEvent(self, event: Any) -> None:
        """Measure what was chosen while the form was hidden."""
        super().showEvent(event)
        self.ask(self.key, self._gather)

    def _on_job(self) -> None:
        """Forget the probe that a job overtakes."""
        if isalive(self) and self._probe is not None:
            self._probe = None
            self.setText(self._known.get(self.key, ""))

    def _measure(self) -> None:
        if self._gather is None or not self.isVisible() or self.key in self._known:
            return
        if worker.running() is not None or self._probe is not None:
            self._rest.start()  # it would be measured too long
            return
        key = self.key
        try:
            probe = self._gather()
        except HydraSegError:  # Run says it, where it belongs
            return
        self.setText(_MEASURING)
        self._probe = future = worker.beside(probe, lane="probe")
        future.add_done_callback(lambda done: self._hand_over(key, done))

    def _hand_over(self, key: Hashable, future: Future[object]) -> None:
        """Hand the outcome to the main thread; this runs in the other one."""
        if isalive(self):
            self._measured.emit(key, future)

    def _on_measured(self, key: Hashable, future: Future[object]) -> None:
        if future is not self._probe:
            self._rest.start()  # once more, unless the job has told it by then
            return
        self._probe = None
        words = ""  # a fault is told by Run, in full
        if future.exception() is None:
            pace: Any = future.result()
            words = f"{pace.device} · about {duration(pace.seconds)} for this scan"
        self._learn(key, words)

    def _learn(self, key: Hashable, words: str) -> None:
        self._known[key] = words
        if key == self.key:
            self.setText(words)


def probe_of(
    layer: Any, model: str, *, heads: Sequence[str], device: str
) -> Callable[[], Callable[[], Pace]] | None:
    """Give what `Badge.ask` wants for segmenting a layer.

    A scan that is not in memory would have to be read twice: None.

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
    if is_lazy(layer):
        return None

    def gather() -> Callable[[], Pace]:
        volume = nouns.volume_of(layer)

        def measure() -> Pace:
            load_torch()
            return core.measure_pace(
                volume, core.get_model(model), heads=heads, device=device
            )

        return measure

    return gather


def pace_of(found: Mapping[str, Segmentation]) -> Pace | None:
    """Tell where and how long a segmentation has run; None if it does not say.

    Parameters
    ----------
    found : mapping of str to Segmentation
        By head, from `core.segment`.
    """
    from napari_hydraseg.core.pace import Pace, in_words

    made_by: Mapping[str, Any] = next((s.made_by for s in found.values()), {})
    if not {"device", "seconds"} <= set(made_by):
        return None
    return Pace(in_words(str(made_by["device"])), float(made_by["seconds"]))
