"""Annotations kept aside each minute and before each job, and offered again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication, QFrame, QHBoxLayout, QVBoxLayout

from napari_hydraseg.core import drafts
from napari_hydraseg.core.errors import HydraSegError

from . import drafting, kept, worker
from .annotate import AnnotateBox
from .form import button, text
from .touch import bare, touch_of

_MILLISECONDS = 60_000
_DISCARD = "Discard"
_SURE = "Discard for good?"
_restored: set[Path] = set()  # drafts that are layers of this session


class Keeper:
    """What is yet to be kept aside: layers painted on since the last time.

    It is no part of any window, so that it still works while one is being closed.
    """

    def __init__(self) -> None:
        self.dirty: dict[Path, tuple[Any, Any]] = {}

    def mark(self, layer: Any, image: Any) -> None:
        """Remember that a layer was painted on."""
        self.dirty[kept.path_of(layer.metadata)] = layer, image

    def save(self) -> list[Future[object]]:
        """Take snapshots now, and write them beside whatever is running.

        Returns
        -------
        list of Future of bool
            Whether there was anything to keep.

        Raises
        ------
        HydraSegError
            If the labels of a layer cannot be kept; the others are.
        """
        futures, fault = [], None
        waiting, self.dirty = self.dirty, {}
        for path, pair in waiting.items():
            try:
                make = drafting.prepare(*pair)
            except HydraSegError as error:
                fault, self.dirty[path] = error, pair
                continue
            future = worker.beside(partial(_write, make, path))
            future.add_done_callback(partial(self._again, path, pair))
            futures.append(future)
        if fault is not None:
            raise fault
        return futures

    def _again(self, path: Path, pair: tuple[Any, Any], future: Future[object]) -> None:
        """Try once more the next time what could not be written."""
        if future.exception() is not None:
            self.dirty.setdefault(path, pair)

    def save_last(self) -> None:
        """Save when nobody can be told of a fault any more."""
        try:
            self.save()
        except (HydraSegError, RuntimeError):  # too late for a thread, or for a layer
            return


class Autosave(QObject):
    """Keeps painted layers aside each minute, before each job and at the end.

    Parameters
    ----------
    annotation : AnnotateBox
        Whose labels are watched.
    """

    told = Signal(str)
    _ended = Signal(object)

    def __init__(self, annotation: AnnotateBox) -> None:
        super().__init__(annotation)
        self._annotation = annotation
        self._watched: WeakSet[Any] = WeakSet()
        self._touch = touch_of(annotation.viewer)
        self.keeper = Keeper()
        self._timer = QTimer(self)
        self._timer.setInterval(_MILLISECONDS)
        self._timer.timeout.connect(self.save)
        self._timer.start()
        self._ended.connect(self._tell)
        annotation.labels.chosen.connect(self._watch)
        self._touch.painted.connect(self._on_touch)
        self._touch.changed.connect(self._on_change)
        annotation.ticked.connect(self._mark)
        worker.news.starting.connect(self.save)
        annotation.destroyed.connect(self.keeper.save_last)
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self._on_quit)

    def save(self) -> None:
        """Keep aside what was painted since the last time."""
        try:
            futures = self.keeper.save()
        except HydraSegError as error:
            self.told.emit(f"Not kept aside: {error}")
            return
        for future in futures:
            future.add_done_callback(self._hand_over)

    def _hand_over(self, future: Future[object]) -> None:
        """Hand the outcome to the main thread; this runs in the other one."""
        if isalive(self):
            self._ended.emit(future)

    def _tell(self, future: Future[object]) -> None:
        error = future.exception()
        if error is not None:
            self.told.emit(f"Not kept aside: {worker.in_plain_words(error)}")
        elif future.result():
            now = time.strftime("%H:%M")
            self.told.emit(f"Kept aside against a crash at {now}; not yet saved.")

    def _watch(self) -> None:
        layer = self._annotation.labels.layer()
        if layer is not None:
            self._watched.add(bare(layer))

    def _on_touch(self, layer: Any) -> None:
        if layer in self._watched:
            self._mark(layer)

    def _on_change(self, layer: Any) -> None:
        """Keep aside what undo has left, where strokes were kept before."""
        if "draft" in layer.metadata.get("hydraseg", {}):
            self._on_touch(layer)

    def _mark(self, layer: Any) -> None:
        self.keeper.mark(layer, self._annotation.scan_under(layer))

    def _on_quit(self) -> None:
        self.keeper.save_last()


class Recovery(QFrame):
    """Offers what an earlier session did not save: Restore or Discard.

    Parameters
    ----------
    annotation : AnnotateBox
        Gets the restored labels.
    autosave : Autosave
        Watches them from then on.
    """

    restored = Signal()

    def __init__(self, annotation: AnnotateBox, autosave: Autosave) -> None:
        super().__init__()
        self._annotation, self._autosave = annotation, autosave
        self.found = drafts.list_drafts()
        self.words = text(name="finetune.recovery", label="Unsaved annotations")
        self.restore = button(
            "Restore",
            "finetune.restore",
            "Put the annotations back into the viewer, as new layers; open the scan "
            "first, so that they find it",
            self._restore,
        )
        self.discard = button(
            _DISCARD,
            "finetune.discard_draft",
            "Delete these annotations; asks once more",
            self._discard,
        )
        self.setFrameShape(QFrame.Shape.StyledPanel)
        column = QVBoxLayout(self)
        column.addWidget(self.words)
        line = QHBoxLayout()
        line.addWidget(self.restore)
        line.addWidget(self.discard)
        column.addLayout(line)
        self._show()

    def _show(self) -> None:
        if not self.found:
            self.hide()  # never shown from here: without a parent it would be a window
        lines = ["An earlier session ended without saving these annotations:"]
        lines += [in_words(info) for info in self.found[:5]]
        if self.found[5:]:
            lines.append(f"and {len(self.found) - 5} more")
        self.words.setText("\n".join(lines))

    def _look_again(self) -> None:
        """Leave out what is gone, or restored already, by this or another form."""
        there = {info.path for info in drafts.list_drafts()}
        self.found = [
            info
            for info in self.found
            if info.path not in _restored
            and (info.path in there or _is_broken(info.path))
        ]

    def _restore(self) -> None:
        self._look_again()
        left = []
        for info in self.found:
            try:
                draft = drafts.open_draft(info.path)
                layer = drafting.restore(self._annotation.viewer, draft, info.path)
            except HydraSegError as error:
                left.append(info)
                self._autosave.told.emit(str(error))
                continue
            _restored.add(info.path)
            self._annotation.labels.choose(layer)
            self._autosave.keeper.mark(layer, self._annotation.scan_under(layer))
        self._autosave.save()  # from now on they are this session's
        self.found = left
        self._show()
        self.restored.emit()

    def _discard(self) -> None:
        if self.discard.text() != _SURE:
            self.discard.setText(_SURE)
            return
        self._look_again()
        for info in self.found:
            drafts.discard_draft(info.path)
        self.found = []
        self._show()


def _write(make: Callable[[], drafts.Draft | None], path: Path) -> bool:
    """Write a draft, or delete it if undo has taken back all that it holds."""
    draft = make()
    if draft is None:
        drafts.discard_draft(path)
    else:
        drafts.save_draft(draft, path)
    return draft is not None


def _is_broken(path: Path) -> bool:
    """Whether a draft is there but cannot be read."""
    try:
        drafts.open_draft(path)
    except HydraSegError:
        return path.exists()
    return False


def in_words(info: drafts.DraftInfo) -> str:
    """Say what a draft is without naming a scan: slices, size, time."""
    when = time.strftime("%d %b %Y, %H:%M", time.localtime(info.saved))
    size = " x ".join(str(n) for n in reversed(info.shape))
    plural = "slice" if info.slices == 1 else "slices"
    return f"{info.slices} {plural} of a scan of {size} voxels, {when}"
