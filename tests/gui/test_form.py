"""Forms fit any window: they scroll, and what is folded away opens in full."""

from __future__ import annotations

import os
from types import SimpleNamespace

import napari.settings
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPalette
from qtpy.QtWidgets import QLabel, QPushButton, QScrollArea, QWidget

from napari_hydraseg.gui.choosers import LayerBox
from napari_hydraseg.gui.drawing import LOSS, readable
from napari_hydraseg.gui.evaluate import EvaluateWidget
from napari_hydraseg.gui.finetune import FinetuneWidget
from napari_hydraseg.gui.fold import Fold
from napari_hydraseg.gui.load import LoadWidget
from napari_hydraseg.gui.models import ModelsWidget
from napari_hydraseg.gui.preferences import use_model_folder
from napari_hydraseg.gui.segment import SegmentWidget
from napari_hydraseg.gui.shift import ShiftWidget

FORMS = (
    LoadWidget,
    SegmentWidget,
    FinetuneWidget,
    ShiftWidget,
    EvaluateWidget,
    ModelsWidget,
)


@pytest.mark.parametrize("kind", FORMS, ids=lambda kind: kind.__name__)
def test_a_low_dock_scrolls_and_is_as_wide_as_its_widest_row(dock, verbs, kind, qtbot):
    form = dock(kind)
    area = form.findChild(QScrollArea)
    bar = area.verticalScrollBar().sizeHint().width()
    assert form.minimumSizeHint().height() < 200
    inside = area.widget().minimumSizeHint().width()
    assert form.minimumSizeHint().width() >= inside + bar
    area.widget().layout().addWidget(QPushButton("a row that comes later " * 5))
    qtbot.waitUntil(lambda: form.minimumSizeHint().width() > inside + bar + 100)


def test_what_is_folded_away_opens_as_high_as_its_content_and_grows(qtbot):
    fold = Fold("More")
    words = QLabel("one line")
    fold.addWidget(words)
    qtbot.addWidget(fold)
    fold.show()
    assert fold.content().maximumHeight() == 0
    fold.toggleButton().click()
    qtbot.waitUntil(lambda: fold.content().height() >= words.sizeHint().height())
    before = fold.sizeHint().height()
    words.setText("many\nlines\nthat\ncame\nlater")
    qtbot.waitUntil(lambda: fold.sizeHint().height() > before)
    assert fold.content().maximumHeight() > fold.content().sizeHint().height()
    fold.toggleButton().click()
    assert fold.content().maximumHeight() == 0


@pytest.fixture
def said(monkeypatch):
    """Play napari's preferences."""
    models = SimpleNamespace(folder="")
    found = SimpleNamespace(models=models)
    monkeypatch.setattr(
        napari.settings, "get_plugin_settings", lambda _: found, raising=False
    )
    return models


def test_the_folder_of_models_comes_from_the_preferences(said, monkeypatch):
    monkeypatch.delenv("HYDRASEG_WEIGHTS")
    said.folder = "/models/here"
    use_model_folder()
    assert os.environ["HYDRASEG_WEIGHTS"] == "/models/here"
    said.folder = "/models/there"
    use_model_folder()
    assert os.environ["HYDRASEG_WEIGHTS"] == "/models/there"
    said.folder = ""
    use_model_folder()
    assert "HYDRASEG_WEIGHTS" not in os.environ


def test_the_environment_wins_over_the_preferences(said, own_models):
    said.folder = "/models/elsewhere"
    use_model_folder()
    assert os.environ["HYDRASEG_WEIGHTS"] == str(own_models)


def test_a_long_name_is_shortened_in_its_middle_and_whole_in_its_tip(dock, viewer):
    box = dock(lambda viewer: LayerBox(viewer, "image"))
    name = "patient of the second cohort · candidate of the third round"
    viewer.add_image(np.zeros((4, 4)), name=name)
    box.resize(140, 24)
    assert box.itemData(0, Qt.ItemDataRole.ToolTipRole) == name
    assert box.shown().endswith("round")
    assert "…" in box.shown()
    box.resize(900, 24)
    assert box.shown() == name


@pytest.mark.parametrize(("words", "darker"), [("#ffffff", False), ("#000000", True)])
def test_colours_of_a_curve_are_darker_where_the_theme_is_light(qtbot, words, darker):
    widget = QWidget()
    qtbot.addWidget(widget)
    palette = widget.palette()
    palette.setColor(QPalette.ColorRole.WindowText, QColor(words))
    widget.setPalette(palette)
    assert (readable(LOSS, widget).lightness() < LOSS.lightness()) == darker
