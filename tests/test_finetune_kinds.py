"""Fine-tuning of every kind of network, of several channels, from sparse labels."""

from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from balls import ball, make_job, model
from napari_hydraseg.core import (
    _source,
    _teach,
    build,
    finetune,
    finish,
    load_checkpoint,
    save_checkpoint,
    segment,
)
from napari_hydraseg.core._exam import Exam
from napari_hydraseg.core._holdout import identity
from napari_hydraseg.core.errors import EmptyAnnotation, JobError
from napari_hydraseg.core.networks import NETWORKS, module_of, weights_of

OPTIONS = {
    "unet3d": {"width": 2, "depth": 2},
    "unet2d": {"width": 2},
    "quicknat": {"width": 4, "levels": 2},
    "crossstitch": {"width": 4, "levels": 2},
    "dilated": {"width": 2},
}


def drawers():
    """Networks with a head that makes masks."""
    return [n for n in NETWORKS if not getattr(module_of(n), "CLASSIFIES", False)]


@pytest.mark.parametrize("network", drawers())
def test_the_frozen_encoder_of_every_network_stays_and_the_head_learns(network):
    parent = model(network, **OPTIONS.get(network, {}))
    found = finish(finetune(parent, [ball()], head="ball", epochs=1, init="random"))
    assert found.frozen["sha256_before"] == found.frozen["sha256_after"]
    for name, value in parent.weights.items():
        np.testing.assert_array_equal(found.candidate.weights[name], value)
    own = [n for n in found.candidate.weights if n.startswith("heads.ball.")]
    fresh = weights_of(build(found.candidate.spec, seed=0))
    assert any(not np.array_equal(found.candidate.weights[n], fresh[n]) for n in own)


def begun(network, **changes):
    return make_job(
        model(network, **OPTIONS.get(network, {})), [ball()], **{
            "head": "ball", "class_names": (), "mode": "frozen", "depth": None,
            "hold_out": True, "seed": 0, "device": "cpu",
        } | changes,
    )  # fmt: skip


@pytest.mark.parametrize("network", drawers())
def test_nothing_of_a_frozen_encoder_is_in_the_optimiser_or_in_training(network):
    job = begun(network)
    source = _source.Source(job, _source.recipe_of(job, augment=True))
    run = _teach.Run(job, Exam(job), source, _teach.Clock(None, 1), rate=1e-3)
    learning = {id(p) for g in run.optimiser.param_groups for p in g["params"]}
    frozen = [*job.net.encoder.parameters(), *job.net.heads["blob"].parameters()]
    assert learning == {id(p) for p in job.net.heads["ball"].parameters()}
    assert not any(p.requires_grad for p in frozen)
    job.learn()
    assert not any(module.training for module in job.net.encoder.modules())
    assert job.net.heads["ball"].training


@pytest.mark.parametrize(
    ("slices", "seconds", "kept"),
    [
        (8, 1, 16),  # two of each, as long as that takes
        (20, 1, 40),
        (30, 1, 40),  # many slices do not overrun the time
        (30, 25, 50),
        (30, 45, 60),
        (30, 100, 100),
        (100, 120, 160),
    ],
)
def test_however_many_slices_are_painted_features_take_their_share_of_time(
    slices, seconds, kept, monkeypatch
):
    volume, truth = ball(shape=(slices, 16, 16))
    job = make_job(
        model(), [(volume, truth)], head="ball", class_names=(), mode="frozen",
        depth=None, hold_out=False, seed=0, device="cpu",
    )  # fmt: skip
    source = _source.Source(job, _source.recipe_of(job, augment=True))
    clock = SimpleNamespace(monotonic=count().__next__)  # a second for each slice
    monkeypatch.setattr(_source, "time", clock)
    finish(source.fill(seconds=seconds, passes=None))
    assert len(source.kept) == kept


@pytest.mark.parametrize("kind", ["parameters", "buffers"])
def test_the_proof_fails_where_anything_frozen_moves(kind, monkeypatch):
    true = _teach.Run.loss

    def loss(run):
        tensor = next(t for t in getattr(run.job.net.encoder, kind)() if t.ndim)
        with torch.no_grad():
            tensor[(0,) * tensor.ndim] += 1e-3
        return true(run)

    monkeypatch.setattr(_teach.Run, "loss", loss)
    with pytest.raises(JobError, match="frozen encoder changed"):
        finish(finetune(model(), [ball()], head="ball", epochs=1, init="random"))


@pytest.mark.parametrize("network", ["hydranet", "unet3d"])
def test_a_second_round_with_more_slices_can_draw_none_that_was_held_out(network):
    parent = model(network, **OPTIONS.get(network, {}))
    volume, truth = ball(shape=(12, 16, 16))
    few, all_of_them = (np.arange(12) % step == 0 for step in (2, 1))
    first = finish(
        finetune(
            parent, [(volume, replace(truth, annotated=few))],
            head="ball", epochs=1, init="random",
        )
    )  # fmt: skip
    (held,) = first.candidate.card["held_out"].values()
    assert held
    job = make_job(
        first.candidate, [(volume, replace(truth, annotated=all_of_them))],
        head="ball", class_names=(), mode="frozen", depth=None, hold_out=True,
        seed=0, device="cpu",
    )  # fmt: skip
    assert set(held) <= set(job.split.held[0])
    (lesson,) = job.lessons
    if job.spec.slicewise:
        drawn = {int(i) for which in lesson.classes.values() for i in which}
        assert not set(held) & (drawn | set(lesson.annotated.tolist()))
    else:
        assert (lesson.labels[0, held] == 255).all()
    new = set(range(12)) - set(np.flatnonzero(few)) - set(job.split.held[0])
    assert new & set(job.split.train[0])  # the second round does learn from more


def rounds(first, second, **changes):
    """Fine-tune for one pass, then begin a second round on the outcome."""
    done = finish(finetune(model(), first, head="ball", epochs=1, init="random"))
    job = make_job(
        done.candidate, second, **{
            "head": "ball", "class_names": (), "mode": "frozen", "depth": None,
            "hold_out": True, "seed": 0, "device": "cpu",
        } | changes,
    )  # fmt: skip
    return done, job


def test_a_scan_held_out_whole_stays_so_when_more_of_it_is_annotated():
    pairs = [ball(seed) for seed in (0, 1)]
    few = [(v, replace(t, annotated=np.arange(8) // 2 == 1)) for v, t in pairs]
    first, job = rounds(few, pairs)
    assert first.hold_out == {"cases": 1, "slices": 2, "kind": "scan"}
    assert job.split.kind == "scan"
    assert sorted(map(len, job.split.held)) == [0, 8]
    held = job.split.held.index(list(range(8)))
    steps = finetune(first.candidate, [pairs[held]], head="ball", epochs=1)
    with pytest.raises(EmptyAnnotation, match="held out in an earlier round"):
        finish(steps)


def test_beside_another_scan_held_out_slices_of_the_first_are_still_optimistic():
    one, two = (ball(seed) for seed in (0, 1))
    _, job = rounds([one], [one, two])
    assert job.split.kind == "slab"
    held, kept = job.split.held[0], job.split.train[0]
    assert held
    assert all(abs(k - h) > 1 for k in kept for h in held)
    assert not job.split.held[1]


@pytest.mark.parametrize("stored", [np.float32, np.int16])
def test_a_scan_is_known_again_beside_another_channel(stored):
    volume, truth = ball(channels=2)
    alone = replace(volume, data=volume.data[:1].astype(stored), names=("T1",))
    both = replace(
        volume, data=np.concatenate([alone.data, volume.data[1:]], dtype=np.float32)
    )
    some = replace(truth, annotated=np.arange(8) % 2 == 0)
    first, job = rounds([(alone, some)], [(both, truth)], head="both")
    (held,) = {tuple(s) for s in first.candidate.card["held_out"].values()}
    assert list(held) == job.split.held[0]


def test_a_ledger_of_whole_scans_is_still_understood():
    volume, truth = ball(channels=2)
    old = model()
    card = {**old.card, "held_out": {identity(volume): [3, 4]}}
    job = make_job(
        replace(old, card=card), [(volume, truth)], head="ball", class_names=(),
        mode="frozen", depth=None, hold_out=True, seed=0, device="cpu",
    )  # fmt: skip
    assert job.split.held == [[3, 4]]


def test_a_head_starts_from_a_donor_with_other_norms():
    (donor,) = model().spec.heads
    parent = model("hydranet", norms={donor: "batch"})
    found = finish(finetune(parent, [ball()], head="ball", epochs=1, init=donor))
    assert found.init == donor
    start = parent.weights[f"heads.{donor}.ups.0.convs.0.weight"]
    came = found.candidate.weights["heads.ball.ups.0.convs.0.weight"]
    assert np.corrcoef(start.ravel(), came.ravel())[0, 1] > 0.9


def test_a_volumetric_model_learns_and_is_judged_by_slices():
    parent = model("unet3d", width=4, depth=2, norm="instance")
    cases = [ball(seed) for seed in (0, 1)]
    found = finish(finetune(parent, cases, head="ball", epochs=250, init="random"))
    assert found.hold_out == {"cases": 1, "slices": 8, "kind": "scan"}
    assert found.train["slices"] == 8
    assert found.after["dice"] > max(0.6, found.before["dice"])
    other, truth = ball(5)
    labels = finish(segment(other, found.candidate, heads=("ball",)))["ball"].labels
    both = 2 * (labels & truth.labels).sum()
    assert both / (labels.sum() + truth.labels.sum()) > 0.5


def test_held_out_slices_of_a_block_are_not_learned_from():
    job = begun("unet3d")
    (held,), (kept,) = job.split.held, job.split.train
    labels = job.lessons[0].labels[0]
    assert held
    assert (labels[held] == 255).all()
    assert (labels[kept] != 255).all()


def test_a_head_reads_two_channels_through_an_encoder_of_one(tmp_path):
    parent = model()
    volume, truth = ball(channels=2)
    found = finish(finetune(parent, [(volume, truth)], head="ball", epochs=2))
    assert found.init == "random"
    assert found.candidate.spec.options["reads"] == {"ball": ["T1", "T2"]}
    for name, value in parent.weights.items():
        np.testing.assert_array_equal(found.candidate.weights[name], value)
    save_checkpoint(found.candidate, tmp_path / "m.safetensors")
    again = load_checkpoint(tmp_path / "m.safetensors")
    one, two = (
        finish(segment(volume, ck, heads=("ball",), probabilities=True))["ball"]
        for ck in (found.candidate, again)
    )
    np.testing.assert_array_equal(one.probabilities, two.probabilities)
    swapped = replace(volume, data=volume.data[::-1], names=("T2", "T1"))
    third = finish(segment(swapped, again, heads=("ball",), probabilities=True))
    np.testing.assert_array_equal(one.probabilities, third["ball"].probabilities)
    single, _ = ball(3)
    old, new = (
        finish(segment(single, ck, heads=("blob",), probabilities=True))["blob"]
        for ck in (parent, again)
    )
    np.testing.assert_array_equal(old.probabilities, new.probabilities)


def test_a_start_at_random_learns_because_its_norms_do():
    volume, truth = ball(shape=(6, 32, 32))
    steps = finetune(
        model(), [(volume, truth)], head="ball", mode="scratch", epochs=120,
        hold_out="none", augment=False,
    )  # fmt: skip
    found = finish(steps)
    moved = [n for n in found.candidate.weights if n.endswith("running_mean")]
    assert moved
    assert all(found.candidate.weights[n].any() for n in moved)
    assert found.curve[-1]["loss"] < found.curve[1]["loss"] / 2


def test_ids_come_back_as_they_were_painted():
    volume, truth = ball(classes=2)
    painted = replace(
        truth,
        labels=np.array([0, 5, 200], np.uint8)[truth.labels],
        names={5: "front", 200: "back"},
    )
    found = finish(finetune(model(), [(volume, painted)], head="ball", epochs=1))
    assert found.candidate.spec.heads["ball"] == ("background", "front", "back")
    assert found.candidate.card["heads"]["ball"]["ids"] == {"front": 5, "back": 200}
    answer = finish(segment(volume, found.candidate, heads=("ball",)))["ball"]
    assert answer.names == {5: "front", 200: "back"}
    assert set(np.unique(answer.labels)) <= {0, 5, 200}


def test_scans_with_other_numbers_teach_the_same_classes():
    (volume, truth), (other, theirs) = (ball(seed, classes=2) for seed in (0, 1))
    swapped = np.array([0, 2, 1], np.uint8)[theirs.labels]
    pairs = [
        (volume, replace(truth, names={1: "front", 2: "back"})),
        (other, replace(theirs, labels=swapped, names={2: "front", 1: "back"})),
    ]
    found = finish(finetune(model(), pairs, head="ball", epochs=1, init="random"))
    assert found.candidate.spec.heads["ball"] == ("background", "front", "back")
    assert "ids" not in found.candidate.card["heads"]["ball"]
    job = make_job(
        model(), pairs, head="ball", class_names=(), mode="frozen", depth=None,
        hold_out=True, seed=0, device="cpu",
    )  # fmt: skip
    for case, wanted in zip(job.truths, (truth, theirs), strict=True):
        np.testing.assert_array_equal(case, wanted.labels)


def test_scribbles_are_enough():
    volume, truth = ball()
    scribbled = np.zeros(truth.labels.shape, bool)
    scribbled[::2, ::4] = True
    found = finish(
        finetune(
            model(), [(volume, replace(truth, annotated=scribbled))],
            head="ball", epochs=1,
        )
    )  # fmt: skip
    assert found.train["slices"] + found.hold_out["slices"] <= 4


@pytest.mark.parametrize(
    ("head", "names", "flipped"),
    [
        ("liver", ("liver",), True),
        ("kidney left", ("kidney",), False),
        ("kidneys", ("left kidney", "right kidney"), False),
        ("lungs", ("lung_L", "lung_R"), False),
        ("small", ("bright", "fleet"), True),
        ("colour", ("red", "blue"), True),
        ("LeftLung", ("lung",), False),
        ("leftlung", ("lung",), False),
        ("lung", ("upperlungright", "rest"), False),
        ("kidneyLeft", ("kidney",), False),
        ("LKidney", ("kidney",), False),
        ("kidneyR", ("kidney",), False),
        ("Lt lung", ("lung",), False),
        ("ctx-lh", ("cortex",), False),
        ("cleft", ("upright", "brightSpot"), True),
        ("MRImage", ("CTLung", "FLAIR"), True),
    ],
)
def test_names_that_know_sides_are_not_flipped(head, names, flipped):
    volume, truth = ball(classes=len(names), shape=(4, 16, 16))
    painted = replace(truth, names=dict(enumerate(names, 1)))
    job = make_job(
        model(), [(volume, painted)], head=head, class_names=(),
        mode="frozen", depth=None, hold_out=True, seed=0, device="cpu",
    )  # fmt: skip
    recipe = _source.recipe_of(job, augment=True)
    assert (recipe.flip > 0) is flipped
    assert recipe.bias > 0  # it is MR


def test_a_turn_is_one_of_the_body_where_voxels_are_not_cubes():
    from napari_hydraseg.core.augment import Recipe, change

    image = torch.zeros(1, 21, 41)
    image[0, 10, 10:31] = 1.0  # 20 mm along rows of voxels of 2 x 1 mm
    labels = (image[0] > 0).to(torch.uint8)

    class Quarter:
        def uniform(self, low=0.0, high=1.0, size=None):
            return high  # the largest turn

        def random(self):
            return 1.0

    _, turned = change(
        image, labels, size=(21, 41), centre=(10, 20),
        recipe=Recipe(rotation_deg=90), rng=Quarter(), voxel_mm=(2.0, 1.0),
    )  # fmt: skip
    rows, columns = np.nonzero((turned == 1).numpy())
    assert set(columns) <= {19, 20, 21}  # a row of 2 mm is two columns wide
    assert len(set(columns)) <= 2
    assert rows.max() - rows.min() == 10  # 20 mm again
