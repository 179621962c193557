"""Versions of a model, and the way back."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from napari_hydraseg import core
from napari_hydraseg.core import lineage
from napari_hydraseg.core.types import ModelInfo
from napari_hydraseg.gui.finetune import FinetuneWidget
from napari_hydraseg.gui.library import library
from napari_hydraseg.gui.segment import SegmentWidget


@pytest.fixture
def rounds(models, monkeypatch, tmp_path):
    """The toy model, and a model that was taught from it."""
    score = {"before": {"dice": 0.71}, "after": {"dice": 0.86}}
    card = {
        "name": "toy+cord",
        "parent": "digest of toy",
        "created": "2026-11-21",
        "heads": {"cord": score},
    }
    child = ModelInfo(
        "toy+cord",
        "toy",
        models[0].heads,
        ("MR",),
        "",
        0.1,
        tmp_path / "c",
        "user",
        card,
    )
    models.append(child)
    monkeypatch.setattr(core, "list_models", lambda: list(models))
    monkeypatch.setattr(lineage, "_digest", lambda info: f"digest of {info.name}")
    return models


def open_versions(form, name):
    form.choice.model.setCurrentText(name)
    form.history.expand(animate=False)
    return form.history.versions


def test_the_versions_stand_under_each_other_with_their_scores(dock, verbs, rounds):
    form = dock(FinetuneWidget)
    found = open_versions(form, "toy+cord")
    assert [found.item(row).text() for row in range(found.count())] == [
        "toy",
        "    toy+cord · 2026-11-21 · cord 0.71 → 0.86",
    ]
    assert found.currentRow() == 1


def test_back_chooses_the_version_before_everywhere_and_keeps_the_newer(
    dock, verbs, rounds, click, control
):
    form, segment = dock(FinetuneWidget), dock(SegmentWidget)
    segment.model.setCurrentText("toy+cord")
    found = open_versions(form, "toy+cord")
    click(form, "finetune.rollback")
    assert form.choice.model.currentText() == "toy"
    assert segment.model.currentText() == "toy"
    assert found.count() == 2
    assert not control(form, "finetune.rollback").isEnabled()


def test_a_model_is_chosen_in_its_own_window_alone(
    dock, verbs, rounds, click, make_napari_viewer_proxy
):
    form, here = dock(FinetuneWidget), dock(SegmentWidget)
    other = make_napari_viewer_proxy()
    there = SegmentWidget(other)
    other.window.add_dock_widget(there)
    for segment in (here, there):
        segment.model.setCurrentText("toy+cord")
        segment.heads.tick(["cord"])
    open_versions(form, "toy+cord")
    click(form, "finetune.rollback")
    assert here.model.currentText() == "toy"
    assert there.model.currentText() == "toy+cord"
    assert [form.chosen_heads() for form in (here, there)] == [("cord",)] * 2


def test_news_of_other_models_leave_a_form_as_it_is(dock, verbs, rounds):
    segment = dock(SegmentWidget)
    segment.model.setCurrentText("toy")
    segment.heads.tick(["cord"])
    chosen = []
    segment.model.chosen.connect(lambda: chosen.append(1))
    rounds.pop()
    library.changed.emit("", None)
    assert segment.model.count() == len(rounds)
    assert segment.chosen_heads() == ("cord",)
    assert not chosen


def test_a_newer_version_can_be_taken_up_again(dock, verbs, rounds, click, control):
    form = dock(FinetuneWidget)
    found = open_versions(form, "toy")
    assert not control(form, "finetune.use").isEnabled()
    found.setCurrentRow(1)
    click(form, "finetune.use")
    assert form.choice.model.currentText() == "toy+cord"


def test_a_model_that_was_never_taught_says_so(dock, verbs, models, control):
    form = dock(FinetuneWidget)
    open_versions(form, "toy")
    assert "Nothing was taught" in control(form, "finetune.history").text()
    assert not control(form, "finetune.rollback").isEnabled()


def test_no_file_is_read_before_the_versions_are_opened(
    dock, verbs, rounds, monkeypatch
):
    calls = SimpleNamespace(n=0)

    def count(info):
        calls.n += 1
        return ""

    monkeypatch.setattr(lineage, "_digest", count)
    form = dock(FinetuneWidget)
    form.choice.model.setCurrentText("toy+cord")
    assert calls.n == 0
    form.history.expand(animate=False)
    assert calls.n > 0


def test_a_version_without_scores_is_named_without_them(rounds):
    from napari_hydraseg.gui.history import in_words

    card = {**rounds[1].card, "heads": {"cord": {"after": {"dice": None}}}}
    version = lineage.Version(replace(rounds[1], card=card), 1, "toy")
    assert in_words(version) == "    toy+cord · 2026-11-21 · cord"
