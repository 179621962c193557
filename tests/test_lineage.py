"""Which model was taught from which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balls import ball, model
from napari_hydraseg import core
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.lineage import before, family


@pytest.fixture
def rounds(tiny_checkpoint, own_models):
    """A first model, two rounds of teaching, and a second child of the first."""
    made = {}

    def add(name, parent, shift):
        weights = dict((made.get(parent) or tiny_checkpoint).weights)
        key = next(k for k in weights if k.startswith("heads.") and weights[k].ndim)
        weights[key] = weights[key] + np.float32(shift)
        card = {**tiny_checkpoint.card, "name": name, "created": "2026-11-21"}
        card["parent"] = digest(made[parent].weights) if parent else None
        if parent:
            score = {"before": {"dice": 0.7}, "after": {"dice": 0.8}}
            card["heads"] = {"blob": {**card["heads"]["blob"], **score}}
        path = own_models / f"{name}.safetensors"
        core.save_checkpoint(replace(tiny_checkpoint, weights=weights, card=card), path)
        made[name] = core.load_checkpoint(path)

    for name, parent, shift in (
        ("first", None, 0.5),
        ("first+blob", "first", 0.25),
        ("first+blob-2", "first+blob", 0.25),
        ("other", "first", 1.0),
        ("alone", None, 3.0),
    ):
        add(name, parent, shift)
    return [info for info in core.list_models() if info.source == "user"]


@pytest.mark.parametrize("asked", ["first", "first+blob", "first+blob-2", "other"])
def test_a_family_is_the_same_whichever_member_is_asked_for(rounds, asked):
    found = family(asked, rounds)
    assert [(v.model.name, v.depth, v.parent) for v in found] == [
        ("first", 0, ""),
        ("first+blob", 1, "first"),
        ("first+blob-2", 2, "first+blob"),
        ("other", 1, "first"),
    ]


def test_one_step_back_is_the_model_that_it_was_taught_from(rounds):
    assert before("first+blob-2", rounds) == "first+blob"
    assert before("first", rounds) == ""


def test_a_model_without_relatives_stands_alone(rounds):
    assert [v.model.name for v in family("alone", rounds)] == ["alone"]
    assert family("unknown", rounds) == []


def test_if_the_parent_was_removed_the_family_begins_with_the_child(rounds):
    left = [info for info in rounds if info.name != "first"]
    assert [v.model.name for v in family("first+blob-2", left)] == [
        "first+blob",
        "first+blob-2",
    ]


def test_what_a_round_taught_stands_with_its_scores(rounds):
    first, second, *_ = family("first", rounds)
    assert first.taught == {}
    assert second.taught == {
        "head": "blob",
        "before": 0.7,
        "after": 0.8,
        "created": "2026-11-21",
    }


def test_of_several_heads_the_one_that_was_taught_last_is_shown(own_models):
    made, results = model(), []
    for head in ("zeta", "alpha"):
        steps = core.finetune(made, [ball()], head=head, epochs=1, init="random")
        results.append(core.finish(steps))
        made = results[-1].candidate
    core.save_checkpoint(made, own_models / "both.safetensors")
    (info,) = [info for info in core.list_models() if info.source == "user"]
    taught = family(info.name, [info])[0].taught
    assert taught["head"] == "alpha"
    assert taught["after"] == pytest.approx(results[-1].after["dice"], abs=1e-4)


def test_a_damaged_file_has_no_children_and_is_no_fault(rounds):
    damaged = next(info for info in rounds if info.name == "first")
    damaged.path.write_bytes(b"broken")
    assert family("first+blob", rounds)[0].model.name == "first+blob"
