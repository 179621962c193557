"""A head learns from a few slices; what is frozen stays; the judgement is fair."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from balls import ball, model
from napari_hydraseg.core import (
    Segmentation,
    Volume,
    finetune,
    finish,
    network,
    segment,
)
from napari_hydraseg.core._classes import classes_of
from napari_hydraseg.core._heads import spacing_for
from napari_hydraseg.core._holdout import dice_of, identity, interval, split
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.errors import (
    AnnotationError,
    EmptyAnnotation,
    LabelShape,
    UnknownLabelId,
    UnknownModel,
)


def disc(seed=0, slices=8):
    """Give noise with a bright disc in each slice, and its labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64]
    centres = rng.uniform(24, 40, (slices, 2))
    labels = np.stack([(y - a) ** 2 + (x - b) ** 2 < 12**2 for a, b in centres]).astype(
        np.uint8
    )
    data = rng.normal(100, 10, labels.shape) + 120 * labels
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    return (
        Volume(data[None].astype(np.float32), affine, modality="MR"),
        Segmentation(labels, affine, names={1: "disc"}),
    )


def annotated(segmentation, slices):
    which = np.zeros(len(segmentation.labels), bool)
    which[list(slices)] = True
    return replace(segmentation, annotated=which)


@pytest.fixture(scope="module")
def learned(tiny_checkpoint):
    volume, truth = disc()
    steps = finetune(
        tiny_checkpoint,
        [(volume, annotated(truth, (0, 1, 2, 4, 5, 7)))],
        head="disc",
        epochs=150,
    )
    return finish(steps)


def test_a_new_head_learns(learned):
    assert learned.after["dice"] > 0.8
    assert learned.before["dice"] < 0.6
    assert learned.accepted
    assert learned.checkpoint.spec.heads["disc"] == ("background", "disc")


def test_the_frozen_encoder_is_the_same_to_the_bit(learned, tiny_checkpoint):
    assert learned.frozen["sha256_before"] == learned.frozen["sha256_after"]
    assert learned.frozen["tensors"] > 200
    for name, value in tiny_checkpoint.weights.items():
        np.testing.assert_array_equal(learned.checkpoint.weights[name], value)


def test_other_heads_answer_as_before(learned, tiny_checkpoint):
    volume, _ = disc(seed=5)
    before = finish(segment(volume, tiny_checkpoint, heads=("blob",)))["blob"]
    after = finish(segment(volume, learned.checkpoint, heads=("blob",)))["blob"]
    np.testing.assert_array_equal(before.labels, after.labels)


def test_the_new_head_finds_discs_in_another_scan(learned):
    volume, truth = disc(seed=7)
    found = finish(segment(volume, learned.checkpoint, heads=("disc",)))["disc"]
    both = 2 * (found.labels & truth.labels).sum()
    assert both / (found.labels.sum() + truth.labels.sum()) > 0.7


def test_the_card_says_where_the_model_comes_from(learned, tiny_checkpoint):
    card = learned.checkpoint.card
    assert card["parent"] == digest(tiny_checkpoint.weights)
    assert card["heads"]["disc"]["before"]["n"] == 1
    assert "disc" in card["recommended"]["MR"]
    assert learned.checkpoint.name == "tiny+disc"
    assert learned.hold_out["kind"] == "slab"
    assert any("Optimistic" in text for text in learned.warnings)


KNOWN = {
    "modality": ["CT", "US"],
    "licence": "CC BY 4.0; CC BY-SA 4.0",
    "cite": "Somebody 2020",
    "data": "Their scans",
    "fingerprint": {"pixel_spacing_mm": [0.5, 0.6]},
    "scores": {"test": {"blob": {"mean": 0.9}}},
    "dice": {"blob": {"mean": 0.9, "n": 3}},
}


def told(checkpoint, about):
    return replace(checkpoint, card={**checkpoint.card, "heads": {"blob": about}})


def improved(checkpoint, **options):
    volume, truth = disc(slices=4)
    steps = finetune(
        checkpoint,
        [(volume, replace(truth, names={1: "blob"}))],
        **{"head": "blob", "epochs": 1, **options},
    )
    return finish(steps)


def test_a_head_that_is_improved_keeps_what_its_card_says_of_its_past(tiny_checkpoint):
    found = improved(told(tiny_checkpoint, KNOWN))
    entry = found.candidate.card["heads"]["blob"]
    assert entry["modality"] == ["CT", "MR", "US"]
    assert entry["licence"] == f"{KNOWN['licence']}; that of the user's own data"
    assert entry["data"] == "Their scans; 3 annotated slices of 1 scans"
    assert entry["cite"] == KNOWN["cite"]
    assert entry["fingerprint"] == KNOWN["fingerprint"]
    assert not {"scores", "dice"} & set(entry)  # they are those of the old weights
    again = improved(found.candidate).candidate.card["heads"]["blob"]
    assert again["licence"] == entry["licence"]


def test_a_head_that_starts_from_nothing_has_no_past(tiny_checkpoint):
    found = improved(told(tiny_checkpoint, KNOWN), mode="scratch")
    entry = found.candidate.card["heads"]["blob"]
    assert entry["modality"] == ["MR"]
    assert entry["licence"] == "that of the user's own data"
    assert not {"cite", "fingerprint"} & set(entry)


@pytest.mark.parametrize(
    ("options", "depth"),
    [({}, None), ({"depth": 3}, 3), ({"mode": "full"}, 0)],
)
def test_the_card_says_how_deep_the_encoder_was_frozen(tiny_checkpoint, options, depth):
    levels = len(network(tiny_checkpoint).encoder.levels())
    entry = improved(tiny_checkpoint, **options).candidate.card["heads"]["blob"]
    assert entry["depth"] == (levels if depth is None else depth)


def test_a_slice_once_held_out_is_never_learned_from(learned):
    volume, truth = disc()
    (held,) = learned.checkpoint.card["held_out"].values()
    steps = finetune(
        learned.checkpoint, [(volume, truth)], head="disc", epochs=1, init="disc"
    )
    second = finish(steps)
    (still,) = second.candidate.card["held_out"].values()
    assert set(held) <= set(still)
    assert second.train["slices"] + second.hold_out["slices"] <= len(truth.labels)


def test_on_the_cpu_the_same_seed_gives_the_same_bits(tiny_checkpoint):
    volume, truth = disc(slices=4)
    one, two = (
        finish(finetune(tiny_checkpoint, [(volume, truth)], head="d", epochs=2, seed=3))
        for _ in range(2)
    )
    assert digest(one.candidate.weights) == digest(two.candidate.weights)


@pytest.mark.parametrize(
    ("mode", "depth", "frozen"),
    [("full", None, False), ("scratch", None, False), ("frozen", 3, False)],
)
def test_a_trained_encoder_keeps_only_the_new_head(
    tiny_checkpoint, mode, depth, frozen
):
    volume, truth = disc(slices=4)
    steps = finetune(
        tiny_checkpoint,
        [(volume, truth)],
        head="disc",
        epochs=1,
        mode=mode,
        depth=depth,
    )
    found = finish(steps)
    assert list(found.candidate.spec.heads) == ["disc"]
    same = found.frozen["sha256_before"] == found.frozen["sha256_after"]
    assert same is frozen


def test_a_head_that_starts_anew_must_beat_what_it_was(learned):
    volume, truth = disc()
    marks = annotated(truth, (0, 1, 2, 4, 5, 7))
    found = finish(
        finetune(
            learned.checkpoint, [(volume, marks)], head="disc", epochs=1, mode="scratch"
        )
    )
    assert found.before["dice"] == pytest.approx(learned.after["dice"], abs=0.01)
    assert not found.accepted
    assert found.checkpoint is learned.checkpoint


def test_levels_above_the_depth_stay_frozen(tiny_checkpoint):
    volume, truth = disc(slices=4)
    steps = finetune(tiny_checkpoint, [(volume, truth)], head="disc", epochs=1, depth=3)
    new, old = finish(steps).candidate.weights, tiny_checkpoint.weights
    stem, late = "encoder._conv_stem.weight", "encoder._blocks.15._project_conv.weight"
    np.testing.assert_array_equal(new[stem], old[stem])
    assert not np.array_equal(new[late], old[late])


def ended(steps, message):
    """Send a message once, then listen to the end."""
    try:
        steps.send(message)
        while True:
            next(steps)
    except StopIteration as end:
        return end.value


def test_stop_ends_the_run_with_what_it_has(tiny_checkpoint):
    volume, truth = disc(slices=4)
    steps = finetune(tiny_checkpoint, [(volume, truth)], head="disc", minutes=30)
    while not next(steps).note.startswith("learning"):
        pass
    assert ended(steps, "stop").candidate.spec.heads["disc"]


def test_a_stop_before_the_first_step_is_not_lost(tiny_checkpoint):
    volume, truth = disc(slices=4)
    steps = finetune(tiny_checkpoint, [(volume, truth)], head="disc", minutes=30)
    while not next(steps).note.startswith("looking at changed"):
        pass
    assert steps.send("stop").note == "learning, step 1"
    assert len(ended(steps, None).curve) == 2


def test_a_budget_that_is_over_before_it_began_still_ends_well(tiny_checkpoint):
    volume, truth = disc(slices=4)
    steps = finetune(tiny_checkpoint, [(volume, truth)], head="disc", minutes=1e-6)
    assert len(finish(steps).curve) == 2


def test_a_model_that_is_no_better_is_not_accepted(tiny_checkpoint, monkeypatch):
    finetuning = sys.modules["napari_hydraseg.core.finetune"]
    scores = iter([0.9, 0.4])
    monkeypatch.setattr(
        finetuning,
        "score",
        lambda counts, seed: {"dice": next(scores), "n": 2, "low": 0.0, "high": 1.0},
    )
    volume, truth = disc(slices=4)
    found = finish(finetune(tiny_checkpoint, [(volume, truth)], head="d", epochs=1))
    assert not found.accepted
    assert found.checkpoint is tiny_checkpoint


def test_unusable_annotations_are_refused(tiny_checkpoint):
    volume, truth = disc(slices=3)
    empty = replace(truth, labels=np.zeros_like(truth.labels))
    with pytest.raises(EmptyAnnotation):
        finish(finetune(tiny_checkpoint, [(volume, empty)], head="d"))
    with pytest.raises(EmptyAnnotation):
        finish(finetune(tiny_checkpoint, [(volume, annotated(truth, ()))], head="d"))
    cropped = replace(truth, labels=truth.labels[1:])
    with pytest.raises(LabelShape):
        finish(finetune(tiny_checkpoint, [(volume, cropped)], head="d"))
    with pytest.raises(UnknownModel, match="blob"):
        finish(finetune(tiny_checkpoint, [(volume, truth)], head="d", init="liver"))


def labelled(*ids, names=None):
    labels = np.zeros((1, 4, 8), np.uint16)
    labels[0, 0, : len(ids)] = ids
    return Segmentation(labels, np.eye(4), names=names or {})


HEAD = ("background", "liver", "spleen")


def test_classes_are_matched_by_name_and_then_by_id():
    named = labelled(5, 200, names={5: "spleen", 200: "liver"})
    assert classes_of([named], HEAD, ())[1] == ({5: 2, 200: 1},)
    assert classes_of([labelled(1, 2)], HEAD, ())[1] == ({1: 1, 2: 2},)
    others = labelled(1, 2, names={1: "Leber", 2: "Milz"})
    assert classes_of([others], HEAD, ())[1] == ({1: 1, 2: 2},)
    names, classes = classes_of([labelled(5, 200)], None, ())
    assert names == ("background", "class 5", "class 200")
    assert classes == ({5: 1, 200: 2},)
    assert classes_of([labelled(2)], None, ("a", "b"))[0] == ("background", "a", "b")
    with pytest.raises(UnknownLabelId, match="7"):
        classes_of([labelled(7)], ("background", "a"), ())


@pytest.mark.parametrize("existing", [None, HEAD])
def test_each_scan_is_matched_by_its_own_names(existing):
    one = labelled(1, 2, names={1: "liver", 2: "spleen"})
    two = labelled(1, 2, names={1: "spleen", 2: "liver"})
    assert classes_of([one, two], existing, ()) == (HEAD, ({1: 1, 2: 2}, {1: 2, 2: 1}))


def test_a_new_head_has_the_classes_of_all_scans():
    one = labelled(1, names={1: "liver"})
    two = labelled(1, 2, names={1: "spleen", 2: "liver"})
    assert classes_of([one, two], None, ()) == (HEAD, ({1: 1}, {1: 2, 2: 1}))


def test_a_scan_without_names_takes_those_of_the_others():
    named = labelled(1, 2, names={1: "spleen", 2: "liver"})
    for existing in (None, HEAD):
        _, (one, two) = classes_of([named, labelled(1, 2)], existing, ())
        assert one == two
    other = labelled(1, names={1: "liver"})
    with pytest.raises(UnknownLabelId, match="elsewhere it is called liver or spleen"):
        classes_of([named, other, labelled(1)], None, ())


@pytest.mark.parametrize(
    ("names", "match"),
    [({1: "spleen", 2: "tumour"}, "2 is called tumour"), ({1: "spleen"}, "2 has no")],
)
def test_labels_of_which_some_have_names_of_the_head_are_refused(names, match):
    with pytest.raises(UnknownLabelId, match=match):
        classes_of([labelled(1, 2, names=names)], HEAD, ())
    with pytest.raises(UnknownLabelId, match="2 "):  # its name says that 1 is no liver
        classes_of([labelled(2, names=names)], HEAD, ())


def test_names_that_fit_no_labels_are_refused():
    assert classes_of([labelled(5)], None, ("a",)) == (("background", "a"), ({5: 1},))
    with pytest.raises(AnnotationError, match="1 label ids are painted, up to 5; 2 "):
        classes_of([labelled(5)], None, ("a", "b"))
    with pytest.raises(AnnotationError, match="called a in a scan"):
        classes_of([labelled(2, names={2: "a"})], None, ("a", "b"))


def test_more_classes_than_a_head_can_learn_are_refused():
    def many(count):
        return Segmentation(np.arange(count, dtype=np.uint16)[None, None], np.eye(4))

    assert len(classes_of([many(255)], None, ())[0]) == 255
    with pytest.raises(AnnotationError, match="254 classes at most"):
        classes_of([many(256)], None, ())


def test_small_structures_are_seen_larger():
    volume, truth = disc()  # discs 24 pixels across
    assert spacing_for([(volume, truth)]) == pytest.approx(24 / 32, abs=0.02)
    y, x = np.mgrid[:64, :64]
    small = np.broadcast_to((y - 32) ** 2 + (x - 32) ** 2 < 9, truth.labels.shape)
    tiny = replace(truth, labels=small.astype(np.uint8))
    assert spacing_for([(volume, tiny)]) == 0.5  # never more than twice


def shown(slices):
    """Let one class be painted on them."""
    return [{1: some} for some in slices]


def test_one_scan_of_several_is_held_out_whole():
    slices = [[1, 2, 3], [4, 5], [6]]
    found = split(["x", "y", "z"], slices, shown(slices), ledger={}, wanted=True)
    assert found.kind == "scan"
    assert sum(map(bool, found.held)) == 1
    for kept, held, every in zip(found.train, found.held, slices, strict=True):
        assert sorted(kept + held) == every
        assert not (kept and held)


def test_neighbours_of_a_held_out_slab_are_left_out():
    every = list(range(20))
    found = split(["x"], [every], shown([every]), ledger={}, wanted=True)
    (held,), (kept,) = found.held, found.train
    assert held == list(range(held[0], held[0] + 4))
    assert all(abs(k - h) > 1 for k in kept for h in held)


def test_the_ledger_wins_over_the_choice():
    every = list(range(10))
    found = split(["x"], [every], shown([every]), ledger={"x": [3, 4]}, wanted=True)
    assert found.held == [[3, 4]]
    assert not {3, 4} & set(found.train[0])


def test_a_scan_with_slices_on_both_sides_keeps_a_gap_and_is_no_scan_apart():
    every = list(range(10))
    both = [every] * 2
    names = [("x",), ("y",)]
    found = split(names, both, shown(both), ledger={"y": [3, 4]}, wanted=True)
    assert found.kind == "slab"
    assert found.held == [[], [3, 4]]
    assert found.train == [every, [0, 1, 6, 7, 8, 9]]
    few = [every, [3, 4]]
    apart = split(names, few, shown(few), ledger={"y": [3, 4]}, wanted=True)
    assert (apart.kind, apart.train) == ("scan", [every, []])


@pytest.mark.parametrize("scan", [f"scan {i}" for i in range(8)])
def test_what_is_held_out_leaves_something_of_each_class(scan):
    every = list(range(20))
    painted = [{1: every[4:12], 2: [6, 7]}]
    found = split([(scan,)], [every], painted, ledger={}, wanted=True)
    assert found.held[0]
    assert not found.lost
    assert {6, 7} & set(found.train[0])
    two = [every, every]
    painted = [{1: every}, {1: every, 2: [6, 7]}]
    found = split([(scan,), ("other",)], two, painted, ledger={}, wanted=True)
    assert found.held == [every, []]


def test_a_class_of_which_nothing_is_left_is_named():
    every = list(range(20))
    painted = [{1: every[4:12], 2: [6, 7]}]
    ledger = {"x": [5, 6]}
    found = split([("x",)], [every], painted, ledger=ledger, wanted=True)
    assert found.lost == (2,)
    card = dict(model().card)
    volume, truth = ball(classes=2)
    labels = np.where(truth.labels == 2, 1, truth.labels)
    labels[4, 8:10, 8:10] = 2
    two = replace(truth, labels=labels, names={1: "organ", 2: "tumour"})
    card["held_out"] = {identity(volume): [4]}
    parent = replace(model(), card=card)
    steps = finetune(parent, [(volume, two)], head="ball", epochs=1, init="random")
    assert any("Not learned: tumour" in text for text in finish(steps).warnings)


def test_one_scan_in_two_cases_is_one_scan():
    parts = [list(range(0, 20, 2)), list(range(20))]
    found = split([("x",), ("x",)], parts, shown(parts), ledger={}, wanted=True)
    held = {i for slices in found.held for i in slices}
    assert found.kind == "slab"
    assert found.held == [sorted(held & set(part)) for part in parts]
    assert all(abs(k - h) > 1 for kept in found.train for k in kept for h in held)
    parts *= 2
    names = [("x",), ("y",), ("x", "z"), ("w", "y")]
    found = split(names, parts, shown(parts), ledger={}, wanted=True)
    assert found.kind == "scan"
    assert [bool(slices) for slices in found.held] in ([1, 0, 1, 0], [0, 1, 0, 1])


def test_dice_is_pooled_over_slices_and_averaged_over_classes():
    counts = np.array([[[2.0, 0.0], [4.0, 0.0]], [[4.0, 0.0], [4.0, 0.0]]])
    assert dice_of(counts) == 6 / 8
    low, high = interval(counts, seed=0)
    assert low <= 6 / 8 <= high
    assert np.isnan(interval(counts[:1], seed=0)[0])
