"""The Models dock: cards, adding, converting, exporting, removing."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
from qtpy.QtWidgets import QMessageBox

from napari_hydraseg import core
from napari_hydraseg.core import models
from napari_hydraseg.core.errors import IncompatibleWeights
from napari_hydraseg.gui.models import KINDS, ModelsWidget


@pytest.fixture
def form(dock, monkeypatch):
    """The dock on the real library: what is bundled, and an empty folder."""
    made = dock(ModelsWidget)
    monkeypatch.setattr(core, "list_models", models.list_models)
    made.model.refresh()
    return made


@pytest.fixture
def file(tiny_checkpoint, tmp_path):
    path = tmp_path / "from a colleague.safetensors"
    core.save_checkpoint(tiny_checkpoint, path)
    return path


@pytest.fixture
def answer(monkeypatch):
    """Answer the question that is asked before a model is deleted."""

    def prepare(button):
        asked = []

        def question(parent, title, words):
            asked.append(words)
            return button

        monkeypatch.setattr(QMessageBox, "question", question)
        return asked

    return prepare


def test_a_model_of_a_colleague_is_added_chosen_and_never_overwritten(
    form, file, finished, control
):
    for name in ("tiny", "tiny-2"):
        form.add_file(file)
        finished()
        assert control(form, "models.status").text() == f"Added as {name}."
        assert form.model.currentText() == name
    assert "Random weights, for tests" in control(form, "models.card").text()


def test_published_weights_are_converted_on_the_way_in(
    form, tiny_checkpoint, tmp_path, finished, monkeypatch, control
):
    asked = []

    def play(path, *, kind):
        asked.append((path.name, kind))
        return replace(tiny_checkpoint, card={**tiny_checkpoint.card, "name": "theirs"})

    monkeypatch.setitem(vars(core), "convert", play)
    control(form, "models.kind").setCurrentText("quicknat")
    form.add_file(tmp_path / "weights.pt")
    finished()
    assert asked == [("weights.pt", "quicknat")]
    assert form.model.currentText() == "theirs"


def test_weights_of_no_known_kind_are_explained(
    form, tmp_path, finished, monkeypatch, control
):
    def refuse(path, *, kind):
        raise IncompatibleWeights("x.pt is of no known kind.", "Choose another file.")

    monkeypatch.setitem(vars(core), "convert", refuse)
    form.add_file(tmp_path / "x.pt")
    finished()
    assert "no known kind" in control(form, "models.status").text()
    assert control(form, "models.add").isEnabled()


def test_every_kind_of_published_weights_is_offered():
    assert import_module("napari_hydraseg.core.convert").KINDS == KINDS


def test_an_exported_model_can_be_added_again(
    form, tmp_path, monkeypatch, click, finished, control
):
    path = tmp_path / "out.safetensors"
    monkeypatch.setattr(
        "napari_hydraseg.gui.models.QFileDialog.getSaveFileName",
        lambda *_: (str(path), ""),
    )
    name = form.model.currentText()
    click(form, "models.export")
    finished()
    assert control(form, "models.status").text() == "Exported as out.safetensors."
    assert core.load_checkpoint(path).name == name


def test_removing_asks_first_and_no_means_no(form, file, finished, click, answer):
    form.add_file(file)
    finished()
    asked = answer(QMessageBox.StandardButton.No)
    click(form, "models.remove")
    assert "tiny" in asked[0]
    assert "tiny" in [model.name for model in core.list_models()]
    answer(QMessageBox.StandardButton.Yes)
    click(form, "models.remove")
    assert "tiny" not in [model.name for model in core.list_models()]
    assert form.model.findText("tiny") == -1


def test_bundled_models_can_never_be_removed(form, control):
    assert form.model.info().source == "bundled"
    assert not control(form, "models.remove").isEnabled()
    assert control(form, "models.remove").toolTip() == "Bundled models stay"
