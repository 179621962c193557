"""The versions of the chosen model, and the way back to an earlier one."""

from __future__ import annotations

import math

from qtpy.compat import isalive
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_hydraseg import core
from napari_hydraseg.core import lineage
from napari_hydraseg.core.lineage import Version

from .choosers import ModelBox
from .fold import Fold
from .form import button, named, text
from .library import card_text, library

_ROWS = 6


class History(Fold):
    """Lists the versions of the chosen model; every one can be used again.

    Nothing is deleted on the way back: the newer versions stay in the list.

    Parameters
    ----------
    model : ModelBox
        The chosen model.
    """

    def __init__(self, model: ModelBox) -> None:
        super().__init__("Versions of the model")
        self._model = model
        self._found: list[Version] = []
        self.versions = named(
            QListWidget(),
            "finetune.versions",
            label="Versions of the model",
            tip="Each was taught from the one above it that stands further left",
        )
        self.use = button(
            "Use this version",
            "finetune.use",
            "Choose the marked version, here and in Segment; the others stay",
            self._use,
        )
        self.back = button(
            "Back to the version before",
            "finetune.rollback",
            "Choose the model that this one was taught from; this one stays in the "
            "list, and is removed under Models",
            self._back,
        )
        self.words = text(name="finetune.history", label="About the versions")
        self._lay_out()
        self.versions.currentRowChanged.connect(lambda _: self._check())
        model.chosen.connect(self.refresh)
        library.changed.connect(lambda *_: self.refresh())
        self.toggled.connect(lambda _: self.refresh())
        self.refresh()

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.versions)
        column.addWidget(self.words)
        line = QHBoxLayout()
        line.addWidget(self.use)
        line.addWidget(self.back)
        column.addLayout(line)
        self.addWidget(inside)

    def refresh(self) -> None:
        """Read the versions again; only while they are shown, as files are read."""
        if not isalive(self) or not self.isExpanded():
            return
        info = self._model.info()
        models = core.list_models()
        self._found = lineage.family(info.name, models) if info is not None else []
        self.versions.blockSignals(True)
        self.versions.clear()
        for version in self._found:
            item = QListWidgetItem(in_words(version))
            item.setData(Qt.ItemDataRole.UserRole, version.model.name)
            item.setToolTip(card_text(version.model))
            self.versions.addItem(item)
            if info is not None and version.model.name == info.name:
                self.versions.setCurrentItem(item)
        self.versions.blockSignals(False)
        height = max(self.versions.sizeHintForRow(0), 18)
        self.versions.setFixedHeight(height * min(len(self._found) or 1, _ROWS) + 8)
        alone = len(self._found) < 2
        self.words.setText("Nothing was taught to this model yet." if alone else "")
        self.words.setVisible(alone)
        self._check()

    def _check(self) -> None:
        info = self._model.info()
        now = info.name if info is not None else ""
        self.use.setEnabled(self._marked() not in ("", now))
        self.back.setEnabled(bool(self._parent(now)))

    def _marked(self) -> str:
        item = self.versions.currentItem()
        return str(item.data(Qt.ItemDataRole.UserRole)) if item is not None else ""

    def _parent(self, name: str) -> str:
        return next((v.parent for v in self._found if v.model.name == name), "")

    def _use(self) -> None:
        library.tell(self._marked(), self)

    def _back(self) -> None:
        info = self._model.info()
        if info is not None:
            library.tell(self._parent(info.name), self)


def in_words(version: Version) -> str:
    """Describe a version in one line: name, date, head, Dice before and after."""
    taught = version.taught
    line = f"{'    ' * version.depth}{version.model.name}"
    if not taught:
        return line
    scores = [taught["before"], taught["after"]]
    known = all(s is not None and math.isfinite(s) for s in scores)
    dice = f" {scores[0]:.2f} → {scores[1]:.2f}" if known else ""
    return f"{line} · {taught['created']} · {taught['head']}{dice}"
