"""A new model on offer: the user keeps or discards it, and it is never just dropped."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QHBoxLayout, QWidget

from napari_hydraseg.core.errors import HydraSegError
from napari_hydraseg.core.types import FinetuneResult

from .form import button
from .jobbar import JobBar
from .library import keep, library

UNDECIDED = "Keep or discard the new model first."


class Pending:
    """A result that nobody has decided on yet.

    It is no part of any window, so that it still works while one is being closed.
    """

    def __init__(self) -> None:
        self.result: FinetuneResult | None = None

    def keep_last(self) -> None:
        """Keep a model that is better when nobody can be asked any more."""
        result, self.result = self.result, None
        try:
            if result is not None and result.accepted:
                keep(result)
        except (HydraSegError, OSError):  # nobody can be told either
            return


class Offer(QWidget):
    """Keep and Discard; they are shown while a new model is on offer.

    Parameters
    ----------
    bar : JobBar
        Its status says what became of the model.
    """

    answered = Signal(bool)  # whether the model was kept

    def __init__(self, bar: JobBar) -> None:
        super().__init__()
        self._bar, self._pending = bar, Pending()
        self.keep = button(
            "Keep", "finetune.keep", "Add the new model to your models", self._keep
        )
        self.discard = button(
            "Discard",
            "finetune.discard",
            "Forget the new model; the old one was never changed",
            self._discard,
        )
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.keep)
        line.addWidget(self.discard)
        self._take(None)
        self.destroyed.connect(self._pending.keep_last)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._on_quit)

    @property
    def result(self) -> FinetuneResult | None:
        """What is on offer."""
        return self._pending.result

    def make(self, result: FinetuneResult) -> None:
        """Offer a new model."""
        self._take(result)

    def _take(self, result: FinetuneResult | None) -> None:
        self._pending.result = result
        for answer in (self.keep, self.discard):
            answer.setEnabled(result is not None)
        accepted = result is None or result.accepted
        self.keep.setText("Keep" if accepted else "Keep anyway")
        self.setVisible(result is not None)

    def _keep(self) -> None:
        if self.result is None:
            return
        try:
            name = keep(self.result)
        except HydraSegError as error:
            self._bar.complain(error)
            return
        self._take(None)
        self.answered.emit(True)
        self._bar.say(f"Kept as {name} in your models, and chosen in Segment.")
        library.tell(name, self)

    def _discard(self) -> None:
        self._take(None)
        self.answered.emit(False)
        self._bar.say("Discarded. Your models are as before.")

    def _on_quit(self) -> None:
        self._pending.keep_last()
