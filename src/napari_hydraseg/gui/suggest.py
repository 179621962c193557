"""The next slice to annotate: found by the model, shown by one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import ref

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import Progress

from . import worker
from .annotate import AnnotateBox
from .form import button, text
from .jobbar import device, open_steps
from .scans import volume_steps
from .teach import HeadBox

if TYPE_CHECKING:  # it needs torch, which must not delay the first dock
    from napari_hydraseg.core.suggestion import SliceLook

_WORDS = "Next best slice (N)"
_STOP = "Stop looking"
_TIP = (
    "Go to the slice that the model is least sure of and that is least like those you "
    "have done; key N. Press again for another"
)


class NextSlice(QWidget):
    """Jumps to the slice whose annotation would teach the model most.

    The model looks at a scan once; after that the answer comes at once.

    Parameters
    ----------
    annotation : AnnotateBox
        Which scan, and which slices are done.
    choice : HeadBox
        Which model, and which of its heads.
    """

    def __init__(self, annotation: AnnotateBox, choice: HeadBox) -> None:
        super().__init__()
        self._annotation, self._choice = annotation, choice
        self._looks: dict[tuple[Any, ...], tuple[ref[Any], SliceLook]] = {}
        self._offered: list[int] = []
        self._seen: list[int] = []
        self._job: worker.Job | None = None
        self.next = button(_WORDS, "finetune.next", _TIP, self.go)
        self.why = text(name="finetune.why", label="Why this slice")
        self.why.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.next)
        column.addWidget(self.why)
        annotation.changed.connect(self._check)
        choice.changed.connect(self._check)
        self._check()

    def go(self) -> None:
        """Show the next best slice; look at the scan first if that is still to do."""
        if self._job is not None:
            self._job.cancel()
            return
        reason = self._problem()
        if reason:
            self._say(reason)
            return
        look = self._looks.get(self._key(), (None, None))[1]
        if look is not None:
            self._show(look)
            return
        self._look()

    def _look(self) -> None:
        layer, key = self._annotation.image.layer(), self._key()
        head, where = self._choice.head_name(), device()
        try:
            self._job = worker.start(
                open_steps(
                    self._choice.model.path(),
                    volume_steps(layer),
                    lambda checkpoint, volume: core.look_at_slices(
                        volume, checkpoint, head=head, device=where
                    ),
                ),
                title="Looking for the next slice",
            )
        except HydraSegError as error:
            self._say(str(error))
            return
        self._job.progressed.connect(self._on_progress)
        self._job.returned.connect(lambda found: self._on_look(key, layer, found))
        self._job.failed.connect(lambda error: self._say(str(error)))
        self._job.cancelled.connect(lambda: self._say("Stopped looking."))
        self._job.ended.connect(self._on_end)
        self.destroyed.connect(self._job.cancel)
        self.next.setText(_STOP)
        self._say("Looking at all slices once…")

    def _key(self) -> tuple[Any, ...]:
        layer, model = self._annotation.image.layer(), self._choice.model.info()
        volume = layer.metadata.get("hydraseg", {}).get("volume")
        modality = volume.modality if volume is not None else None
        path = str(model.path) if model is not None else ""
        return id(layer), modality, path, self._choice.head_name()

    def _problem(self) -> str:
        if self._annotation.image.layer() is None:
            return "Open a scan first (step 1)."
        if self._choice.model.info() is None:
            return self._choice.model.problem or "No model."
        return ""

    def _check(self) -> None:
        reason = self._problem()
        self.next.setEnabled(not reason or self._job is not None)
        self.next.setToolTip(reason or _TIP)

    def _on_progress(self, progress: Progress) -> None:
        self._say(f"Looking at all slices once: {progress.done} of {progress.total}")

    def _on_look(self, key: tuple[Any, ...], layer: Any, found: SliceLook) -> None:
        if not isalive(self):
            return
        # a scan that is gone makes room; its id could otherwise name another layer
        self._looks = {k: v for k, v in self._looks.items() if v[0]() is not None}
        self._looks[key] = (ref(layer), found)
        QTimer.singleShot(0, self._go_on)  # once the job has ended

    def _go_on(self) -> None:
        if isalive(self) and self._job is None:
            self.go()

    def _on_end(self) -> None:
        self._job = None
        if not isalive(self):
            return
        self.next.setText(_WORDS)
        self._check()

    def _show(self, look: SliceLook) -> None:
        done = self._annotation.annotated()
        if done != self._seen:
            self._seen, self._offered = done, []
        ranked = core.rank_slices(look, [*done, *self._offered])
        if not ranked and self._offered:
            self._offered = []
            ranked = core.rank_slices(look, done)
        if not ranked:
            self._say("Every slice is done.")
            return
        best = ranked[0]
        self._offered.append(best)
        self._annotation.go_to(best)
        self._say(reason_for(look, best, done))

    def _say(self, words: str) -> None:
        if not isalive(self):
            return  # a job that is cancelled ends after the form
        self.why.setText(words)
        self.why.setVisible(bool(words))


def reason_for(look: SliceLook, at: int, done: list[int]) -> str:
    """Say why a slice is offered, in plain words.

    Parameters
    ----------
    look : SliceLook
        What the model made of the scan.
    at : int
        The slice.
    done : list of int
        Slices that are annotated.
    """
    said = []
    if look.doubt is not None:
        place = 1 + int((look.doubt > look.doubt[at]).sum())
        order = "most" if place == 1 else f"{_ordinal(place)} most"
        said.append(f"the model is {order} unsure here")
    else:
        said.append("no head knows this structure yet, so the slice stands for many")
    if done:
        nearest = min(done, key=lambda other: float(look.distance[at, other]))
        said.append(f"of your slices {nearest} is the most like it")
    return f"Slice {at}: {'; '.join(said)}."


def _ordinal(number: int) -> str:
    teens = number % 100 in (11, 12, 13)
    ending = "th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
