"""The shift report: calibrated by scan, deterministic, and plain about its limits."""

import sys
import time
import types
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from scipy import ndimage

from napari_hydraseg import core
from napari_hydraseg.core._advice import advise
from napari_hydraseg.core._calibration import judge, matched_rows, witness
from napari_hydraseg.core._describe import describe as in_words
from napari_hydraseg.core._fingerprint import fingerprint, outside, usual_ranges
from napari_hydraseg.core._reference import reference_features, spread
from napari_hydraseg.core.cohorts import compare_cohorts
from napari_hydraseg.core.errors import (
    DimensionMismatch,
    NonFiniteFeatures,
    TooFewSamples,
    UnknownModel,
)
from napari_hydraseg.core.inference import encode
from napari_hydraseg.core.phantom import heart_phantom
from napari_hydraseg.core.shift import shift
from napari_hydraseg.core.types import Checkpoint, ModelSpec, Progress, Volume, finish

WIDTHS = (6, 12)  # features at the two depths of the features made up here


def features(rng, *, slices=None, shift=(0.0, 0.0)):
    """Features of a scan: its own level, a course along the stack, and noise."""
    count = slices or int(rng.integers(5, 24))
    course = np.linspace(0, 1, count)[:, None]
    return {
        str(depth): (
            rng.normal(size=width)
            + 2 * course
            + 0.3 * rng.normal(size=(count, width))
            + shift[depth]
        ).astype(np.float32)
        for depth, width in enumerate(WIDTHS)
    }


def reference_of(seed, scans=25, **options):
    rng = np.random.default_rng(seed)
    return reference_features([features(rng) for _ in range(scans)], **options)


def new_scan(seed, **options):
    return reference_features([features(np.random.default_rng(seed), **options)])


# --- what a checkpoint keeps


def test_slices_kept_are_spread_evenly_over_the_scan():
    np.testing.assert_array_equal(spread(12, 4), [1, 4, 7, 10])
    np.testing.assert_array_equal(spread(3, 3), [0, 1, 2])


def test_a_reference_keeps_at_most_the_cap_of_each_scan_in_half_precision():
    entry = reference_of(0, scans=5, cap=8)
    assert np.bincount(entry["scan"]).max() <= 8
    assert entry["0"].dtype == np.float16
    assert entry["scan"].dtype == np.int32
    assert entry["position"].dtype == np.float32
    assert 0 < entry["position"].min() < entry["position"].max() < 1


def test_scans_beyond_the_limit_are_drawn_by_the_seed():
    scans = [{"0": np.full((2, 1), i, np.float32)} for i in range(40)]
    draws = [
        reference_features(scans, max_scans=4, seed=s)["0"].ravel() for s in (1, 1, 2)
    ]
    assert len(draws[0]) == 8
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_huge_features_do_not_become_infinite():
    entry = reference_features([{"0": np.full((3, 2), 1e9, np.float32)}])
    assert np.isfinite(entry["0"]).all()


def test_features_that_are_no_numbers_name_the_scan():
    good, bad = ({"0": np.ones((3, 2), np.float32)} for _ in range(2))
    bad["0"][1, 1] = np.nan
    with pytest.raises(NonFiniteFeatures, match="Scan 1"):
        reference_features([good, bad])


def test_a_reference_of_no_scan_or_of_mixed_encoders_is_refused():
    with pytest.raises(TooFewSamples):
        reference_features([])
    with pytest.raises(DimensionMismatch, match="Scan 1"):
        reference_features([{"0": np.ones((3, 2))}, {"1": np.ones((3, 2))}])


def test_every_scan_gives_the_same_number_of_slices_at_like_positions():
    entry = reference_of(0)
    rows = matched_rows(entry, 4)
    assert rows.shape == (25, 4)
    wanted = (np.arange(4) + 0.5) / 4
    assert np.abs(entry["position"][rows] - wanted).max() <= 0.1 + 1e-6  # 5 slices


# --- the calibration


def test_scans_of_the_same_population_alarm_no_more_often_than_promised():
    p = [judge(reference_of(s, scans=19), new_scan(10_000 + s)).p for s in range(200)]
    # 99.5 % upper ends of binomials with n = 200 and probability .05, .15 and .5
    assert sum(value <= 0.05 for value in p) <= 19
    assert sum(value <= 0.15 for value in p) <= 44
    assert 75 <= sum(value <= 0.5 for value in p) <= 119


def test_distance_grows_with_the_shift_and_a_large_one_is_always_found():
    reference = reference_of(0)
    scores = [judge(reference, new_scan(1, shift=(s, s))).score for s in (0, 1, 2, 4)]
    assert scores == sorted(scores)
    for seed in range(20):
        assert judge(reference, new_scan(seed, shift=(4, 4))).p == 1 / 26


def test_a_shift_at_one_depth_alone_is_found_there_and_overall():
    found = judge(reference_of(0), new_scan(3, shift=(0, 5)))
    assert found.percentiles[1] == 100
    assert found.percentiles[0] < 100
    assert found.p == 1 / 26


def with_grey(seed, *, scans, level=0.0):
    """Scans with grey values beside their features."""
    rng = np.random.default_rng(seed)
    made = [features(rng) for _ in range(scans)]
    return [
        scan | {"grey": level + rng.normal(size=(len(scan["0"]), 16))} for scan in made
    ]


def test_a_shift_of_the_grey_values_alone_is_found_there_and_overall():
    reference = reference_features(with_grey(0, scans=25))
    usual, brighter = (
        judge(reference, reference_features(with_grey(2, scans=1, level=level)))
        for level in (0.0, 3.0)
    )
    assert brighter.levels == ["grey", "0", "1"]
    assert brighter.percentiles[0] == 100
    assert brighter.p == 1 / 26 < usual.p
    np.testing.assert_array_equal(brighter.mmd2[1:], usual.mmd2[1:])
    assert brighter.by_features == usual.by_features
    plain = reference_features(with_grey(2, scans=1))
    bright = reference_features(with_grey(2, scans=1, level=3.0))
    assert witness(reference, bright).mean() > witness(reference, plain).mean() + 0.5


def test_the_nearer_of_two_references_is_told_far_out_too():
    near = reference_of(0, scans=60)
    rng = np.random.default_rng(1)
    far = reference_features([features(rng, shift=(40.0, 40.0)) for _ in range(20)])
    scan = new_scan(2, shift=(12.0, 12.0))
    small, large = judge(far, scan), judge(near, scan)
    assert small.score < large.score  # of 20 scans none can be farther out than that
    assert small.by_features > large.by_features


def test_grey_values_count_only_where_both_sides_have_them():
    known, grey = reference_of(0), reference_features(with_grey(1, scans=1))
    bare = {name: table for name, table in grey.items() if name != "grey"}
    assert judge(known, grey).levels == ["0", "1"]
    assert judge(known, grey).p == judge(known, bare).p
    with pytest.raises(DimensionMismatch, match="Scan 1"):
        reference_features([*with_grey(1, scans=1), features(np.random.default_rng(1))])


def test_a_copy_of_a_reference_scan_is_not_flagged():
    rng = np.random.default_rng(0)
    scans = [features(rng) for _ in range(25)]
    reference = reference_features(scans)
    found = [judge(reference, reference_features([scan])).p for scan in scans]
    assert np.mean(np.array(found) <= 0.05) <= 0.05


def test_a_single_slice_can_be_judged():
    reference = reference_of(0)
    found = judge(reference, new_scan(1, slices=1, shift=(6, 6)))
    assert found.slices == 1
    assert found.p == 1 / 26


def test_two_scans_of_one_person_share_one_vote():
    rng = np.random.default_rng(0)
    scans = [features(rng) for _ in range(20)]
    twins = [scan for scan in scans for _ in range(2)]
    people = np.repeat(np.arange(20), 2).tolist()
    alone = judge(reference_features(scans), new_scan(5))
    paired = judge(reference_features(twins, subjects=people), new_scan(5))
    assert paired.persons == 20
    assert paired.p == pytest.approx(alone.p, abs=1 / 21)
    np.testing.assert_allclose(paired.percentiles, alone.percentiles, atol=5.001)


def test_constant_features_are_no_evidence_and_give_numbers():
    flat = [{"0": np.ones((4, 3), np.float32)} for _ in range(20)]
    found = judge(reference_features(flat), reference_features(flat[:1]))
    assert found.p == 1.0
    assert np.isfinite(found.mmd2).all()
    assert np.isfinite(
        witness(reference_features(flat), reference_features(flat[:1]))
    ).all()


@pytest.mark.parametrize("moved", [0.0, 0.004, 3.0])
def test_a_level_that_died_is_no_evidence_whatever_it_answers(moved):
    rng = np.random.default_rng(0)
    scans = [features(rng) for _ in range(21)]
    dead = [6 + 0.002 * rng.choice([-1, 1], (len(scan["0"]), 8)) for scan in scans]
    dead[-1] += moved  # a picture of another size
    both = [scan | {"2": level} for scan, level in zip(scans, dead, strict=True)]
    (alone, with_dead), (slices, with_dead_slices) = (
        [
            look(reference_features(some[:-1]), reference_features(some[-1:]))
            for some in (scans, both)
        ]
        for look in (judge, witness)
    )
    assert with_dead.mmd2[-1] == 0
    assert with_dead.p == alone.p
    np.testing.assert_array_equal(with_dead.mmd2[:-1], alone.mmd2)
    assert np.corrcoef(with_dead_slices, slices)[0, 1] > 0.999


def test_features_of_another_encoder_are_refused():
    other = reference_features([{"0": np.ones((4, 3)), "1": np.ones((4, 3))}])
    with pytest.raises(DimensionMismatch, match="same model"):
        judge(reference_of(0), other)


def test_the_witness_points_at_the_slices_that_differ():
    rng = np.random.default_rng(2)
    scan = features(rng, slices=20)
    for name in scan:
        scan[name][12:15] += 5
    found = witness(reference_of(0), reference_features([scan], cap=20))
    assert found.shape == (20,)
    assert set(np.argsort(found)[-3:]) == {12, 13, 14}
    assert (found[12:15] > 0).all()


def test_sixty_four_scans_of_sixteen_slices_are_compared_in_two_seconds_of_work():
    rng = np.random.default_rng(0)
    scans = [
        {str(i): rng.normal(size=(16, d)) for i, d in enumerate((32, 48, 80, 224, 640))}
        for _ in range(65)
    ]
    reference = reference_features(scans[:64])
    begin = time.process_time()
    judge(reference, reference_features(scans[64:]))
    assert time.process_time() - begin < 2


# --- causes and advice


@pytest.fixture(scope="module")
def heart():
    return heart_phantom(0)[0]


def test_a_fingerprint_states_the_geometry(heart):
    found = fingerprint(heart)
    assert found["pixel_spacing_mm"] == 1.5
    assert found["slice_spacing_mm"] == 10
    assert found["field_of_view_mm"] == 256 * 1.5
    assert found["stack_mm"] == 120


def test_a_scan_without_spacing_has_no_millimetres(heart):
    found = fingerprint(replace(heart, known=frozenset()))
    assert not [name for name in found if name.endswith("_mm")]


def test_the_noise_estimate_finds_the_noise_that_was_put_in():
    rng = np.random.default_rng(0)
    ramp = np.linspace(100, 200, 128) + np.zeros((4, 128, 1))
    noisy = ramp + rng.normal(0, 2, ramp.shape)
    found = fingerprint(Volume(noisy[None], np.eye(4), modality="MR"))
    span = np.subtract(*np.percentile(noisy, [99, 1]))
    assert found["noise_percent"] == pytest.approx(100 * 2 / span, rel=0.1)


def test_noise_blur_and_gamma_move_their_own_quantity(heart):
    plain = fingerprint(heart)
    grey = heart.data.astype(np.float32)
    rng = np.random.default_rng(0)
    noisy = replace(heart, data=grey + rng.normal(0, 20, grey.shape))
    blurred = replace(heart, data=ndimage.gaussian_filter(grey, (0, 0, 2, 2)))
    darker = replace(heart, data=255 * (grey / grey.max()) ** 2)
    assert fingerprint(noisy)["noise_percent"] > 2 * plain["noise_percent"]
    assert fingerprint(blurred)["sharpness"] < 0.8 * plain["sharpness"]
    assert fingerprint(darker)["air_percent"] > plain["air_percent"] + 5


def test_grey_values_of_mr_may_have_any_scale(heart):
    scaled = replace(heart, data=heart.data * 7.0 + 100)
    for name, value in fingerprint(heart).items():
        assert fingerprint(scaled)[name] == pytest.approx(value, rel=1e-3)


def test_an_eight_bit_ct_is_measured_as_its_hounsfield_units_are():
    rng = np.random.default_rng(0)
    body = np.full((6, 64, 64), -1000.0, np.float32)  # air, fat, an organ, bone
    body[:, 8:56, 8:56] = -95
    body[:, 16:40, 16:40] = 60
    body[:, 44:52, 44:52] = 700
    body += rng.normal(0, 5, body.shape)
    copy = np.round((body.clip(-125, 275) + 125) * 255 / 400)
    affine = np.diag([1.5, 1.5, 5.0, 1.0])
    units, eight = (
        fingerprint(Volume(data[None], affine, modality="CT"))
        for data in (body, copy.astype(np.uint8))
    )
    assert (units["low_hu"], units["high_hu"]) == (-125, 275)
    for name, value in units.items():
        assert eight[name] == pytest.approx(value, rel=0.02), name


def test_a_blank_scan_has_a_fingerprint_without_contrast():
    blank = Volume(np.zeros((1, 3, 8, 8)), np.eye(4), modality="MR")
    assert "contrast_percent" not in fingerprint(blank)


def test_causes_are_what_lies_outside_in_plain_words():
    usual = usual_ranges([{"slice_spacing_mm": mm} for mm in (0.8, 1.0, 2.0, 3.0)])
    (cause,) = outside({"slice_spacing_mm": 9.0, "sharpness": 2.0}, usual)
    assert (cause["scan"], cause["unit"]) == (9.0, "mm")
    assert "distance between slices is 9.00 mm, more than" in cause["text"]
    assert outside({"slice_spacing_mm": 1.5}, usual) == []


@pytest.mark.parametrize(
    ("percentiles", "depth"),
    [
        ([50, 60, 70], None),
        ([99, 100, 60], None),
        ([60, 90, 99], 2),
        ([99, 99, 99], None),
        ([60, 90, 99, nan], 2),  # a level at which all scans look alike
        ([60, 99, 90, nan], None),
        ([nan, 90, 99, 99], 2),
        ([nan, nan, nan, nan], None),
    ],
)
def test_the_profile_speaks_for_the_deepest_level_that_looks_alike(percentiles, depth):
    found = advise("different", head="heart", percentiles=percentiles)
    assert found["by_profile"] == depth
    assert found["init"] == "heart"
    assert "does not prove" in found["text"]


def test_what_is_advised_is_the_default_as_nothing_was_shown_to_beat_it():
    for verdict in ("different", "borderline", "similar", "cannot-judge"):
        found = advise(verdict, head="heart", percentiles=[60, 90, 99])
        assert (found["donor"], found["depth"]) == ("auto", None)
        assert "whole encoder frozen" in found["text"]


def test_a_new_head_is_to_start_from_the_nearest_if_that_was_looked_for():
    for verdict, donor in (
        ("different", "heart"),
        ("borderline", "heart"),
        ("similar", "auto"),
        ("cannot-judge", "auto"),
    ):
        found = advise(verdict, head="heart", percentiles=[60, 90, 99], nearest=True)
        assert (found["donor"], found["depth"]) == (donor, None)
        assert ("start from heart" in found["text"]) == (donor == "heart")


# --- the verb, with made-up features: what a slice's grey values say


def scan_like(seed, *, level=0.0, slices=8, modality="MR"):
    rng = np.random.default_rng(seed)
    data = rng.normal(level + 0.5 * rng.normal(), 1, (1, slices, 12, 12))
    return Volume(data.astype(np.float32), np.eye(4), modality=modality)


def describe(volume):
    grey = volume.data[0].reshape(volume.shape[0], -1)
    ends = np.percentile(grey, [5, 25, 50, 75, 95], axis=1).T
    rough = np.stack([grey.std(axis=1), np.abs(np.diff(grey)).mean(axis=1)], axis=1)
    return {"0": ends.astype(np.float32), "1": rough.astype(np.float32)}


@pytest.fixture
def encoded(monkeypatch):
    """Stand in for the encoder; collects the heads that were asked for."""
    asked = []

    def pretended(volume, checkpoint, *, head=None, device="auto"):
        asked.append(head)
        yield Progress(1, 2)
        yield Progress(2, 2)
        return describe(volume)

    module = types.ModuleType("napari_hydraseg.core.inference")
    module.encode = pretended
    monkeypatch.setitem(sys.modules, "napari_hydraseg.core.inference", module)
    return asked


def checkpoint_of(*heads, scans=24, level=0.0):
    spec = ModelSpec(
        "hydranet", ("image",), dict.fromkeys(heads, ("background", "a")), (64, 64)
    )
    stored = [scan_like(s, level=level) for s in range(scans)]
    entry = reference_features([describe(scan) for scan in stored])
    usual = usual_ranges([fingerprint(scan) for scan in stored])
    card = {
        "name": "toy",
        "heads": {h: {"modality": ["MR"], "fingerprint": usual} for h in heads},
    }
    return Checkpoint(spec, {}, card, dict.fromkeys(heads, entry))


def test_a_scan_of_the_population_looks_like_it(encoded):
    found = finish(shift(scan_like(100), checkpoint_of("heart")))
    assert found.verdict == "similar"
    assert found.p > 0.15
    assert found.p_floor == 1 / 25
    assert found.n_reference == 24
    assert [row["depth"] for row in found.by_depth] == [0, 1]
    assert len(found.per_slice) == 8
    assert found.advice["init"] == "heart"


def test_another_population_differs_and_says_why(encoded):
    other = replace(scan_like(100, level=9.0, modality="US"), affine=np.eye(4) * 5)
    found = finish(shift(other, checkpoint_of("heart")))
    assert found.verdict == "different"
    assert found.advice["donor"] == "heart"  # the nearest, as none was named
    assert (
        finish(shift(other, checkpoint_of("heart"), head="heart")).advice["donor"]
        == "auto"
    )
    assert found.p == found.p_floor
    assert found.percentile == 100
    assert found.causes[0]["name"] == "modality"
    assert any("pixel size is 5.00 mm" in cause["text"] for cause in found.causes)


def test_too_few_reference_scans_are_no_ground_for_a_verdict(encoded):
    found = finish(shift(scan_like(100), checkpoint_of("heart", scans=18)))
    assert found.verdict == "cannot-judge"
    assert np.isnan(found.p)
    assert found.n_reference == 18
    assert "too few" in found.advice["text"]


def test_a_head_without_reference_is_no_ground_for_a_verdict(encoded):
    found = finish(shift(scan_like(1), replace(checkpoint_of("heart"), reference={})))
    assert found.verdict == "cannot-judge"
    assert found.n_reference == 0


def test_scans_of_ones_own_replace_the_models_reference(encoded):
    own = [scan_like(s, level=9.0) for s in range(20)]
    found = finish(
        shift(scan_like(100, level=9.0), checkpoint_of("heart"), reference=own)
    )
    assert found.verdict == "similar"
    assert found.n_reference == 20


def test_a_report_on_given_scans_does_not_speak_of_training(encoded):
    own = [scan_like(s) for s in range(20)]
    given = finish(shift(scan_like(100), checkpoint_of("heart"), reference=own))
    trained = finish(shift(scan_like(100), checkpoint_of("heart")))
    assert "the scans given as reference" in in_words(given).verdict
    assert "trained on" not in in_words(given).verdict
    assert "the scans this model was trained on" in in_words(trained).verdict


def test_two_scans_of_a_person_are_one_in_a_given_reference(encoded):
    own = [scan_like(s) for s in range(20)]
    persons = [s // 2 for s in range(20)]
    model = checkpoint_of("heart")
    found = finish(shift(scan_like(100), model, reference=own, persons=persons))
    assert found.verdict == "cannot-judge"
    assert found.basis["reference persons"] == 10
    with pytest.raises(DimensionMismatch, match="19 persons were given for 20"):
        finish(shift(scan_like(100), model, reference=own, persons=persons[1:]))


def test_a_bad_scan_of_a_given_reference_can_be_left_out(encoded):
    own = [scan_like(s) for s in range(21)]
    own[3] = scan_like(3, level=np.nan)
    model = checkpoint_of("heart")
    with pytest.raises(NonFiniteFeatures):
        finish(shift(scan_like(100), model, reference=own))
    found = finish(shift(scan_like(100), model, reference=own, drop_nonfinite=True))
    assert found.n_reference == 20
    assert "Of the reference: 1 scans were left out" in found.notes[0]


def two_modalities():
    """A model that knows MR and CT, with a head of few persons for CT."""
    model, few = checkpoint_of("heart", "liver"), checkpoint_of("veins", scans=12)
    spec = replace(
        model.spec,
        heads={**model.spec.heads, **few.spec.heads},
        intensity={"MR": {"kind": "zscore"}, "CT": {"kind": "window"}},
    )
    card = {**model.card, "recommended": {"MR": ["heart"], "CT": ["veins", "liver"]}}
    return replace(
        model, spec=spec, card=card, reference={**model.reference, **few.reference}
    )


def test_a_head_that_can_judge_goes_before_one_that_cannot(encoded):
    found = finish(shift(scan_like(100, modality="CT"), two_modalities()))
    assert found.basis["head"] == "liver"
    named = finish(shift(scan_like(100, modality="CT"), two_modalities(), head="veins"))
    assert named.verdict == "cannot-judge"


def test_a_modality_that_is_guessed_is_said(encoded):
    found = finish(shift(scan_like(100, modality=None), two_modalities()))
    assert found.basis["head"] == "heart"
    assert "MR was taken" in " ".join(found.notes)
    air = scan_like(100, modality=None, level=-1000)
    cohorts = {"a": [air, air], "b": [air, air]}
    compared = finish(compare_cohorts(cohorts, two_modalities(), permutations=9))
    assert compared.basis["head"] == "veins"
    assert "CT was taken" in " ".join(compared.notes)


def test_a_scan_that_two_models_cannot_read_is_left_out_once(encoded):
    cohorts = {name: [scan_like(s) for s in range(3)] for name in "ab"}
    cohorts["a"].append(scan_like(3, level=np.nan))
    model = checkpoint_of("heart")
    found = finish(
        compare_cohorts(
            cohorts, model, after=model, permutations=9, drop_nonfinite=True
        )
    )
    assert found.notes[0].startswith("1 scans were left out")


def test_the_nearest_head_is_judged_when_none_is_named(encoded):
    near, far = checkpoint_of("heart", "liver"), checkpoint_of("liver", level=9.0)
    both = replace(near, reference={**near.reference, **far.reference})
    found = finish(shift(scan_like(100), both))
    assert found.basis["head"] == "heart"
    assert len(encoded) == 1  # heads of one spacing share a pass


def test_a_cohort_is_judged_as_a_whole_and_scan_by_scan(encoded):
    model = checkpoint_of("heart")
    alike = finish(shift([scan_like(100 + s) for s in range(6)], model))
    other = finish(shift([scan_like(s, level=2.0) for s in range(6)], model))
    assert len(alike.per_case) == len({row["case"] for row in alike.per_case}) == 6
    assert alike.verdict == "similar"
    assert other.verdict == "different"
    assert other.p_floor < 1 / 25  # many scans can be surer than one


def test_the_report_is_the_same_each_time(encoded):
    scans, model = [scan_like(100), scan_like(101)], checkpoint_of("heart")
    first, again = (finish(shift(scans, model, seed=3)) for _ in range(2))
    assert (first.p, first.by_depth, first.per_slice) == (
        again.p,
        again.by_depth,
        again.per_slice,
    )


def test_progress_never_goes_back_and_a_cancel_ends_it(encoded):
    seen = []
    model = checkpoint_of("heart")
    finish(shift([scan_like(1), scan_like(2)], model), lambda step: seen.append(step))
    done = [step.done / step.total for step in seen]
    assert done == sorted(done)
    assert done[-1] <= 1
    steps = shift(scan_like(1), model)
    next(steps)
    steps.close()


def test_the_real_encoder_sees_a_shift_that_its_own_reference_does_not(
    tiny_checkpoint,
):
    scans = [scan_like(s, slices=3) for s in range(21)]
    seen = [finish(encode(scan, tiny_checkpoint)) for scan in scans[:20]]
    model = replace(tiny_checkpoint, reference={"blob": reference_features(seen)})
    flat = replace(scans[20], data=ndimage.gaussian_filter(scans[20].data, 3))
    assert finish(shift(scans[20], model)).verdict != "different"
    assert finish(shift(flat, model)).verdict == "different"


def test_the_report_tells_of_grey_values_apart_from_the_depths(tiny_checkpoint):
    scans = [scan_like(s, slices=3) for s in range(21)]
    seen = [finish(encode(scan, tiny_checkpoint)) for scan in scans[:20]]
    model = replace(tiny_checkpoint, reference={"blob": reference_features(seen)})
    # a bend that keeps the order of the grey values
    bent = replace(scans[20], data=np.exp(scans[20].data / scans[20].data.std()))
    plain, found = (finish(shift(scan, model)) for scan in (scans[20], bent))
    assert [row["depth"] for row in found.by_depth] == [1, 2, 3, 4, 5]
    assert found.grey["depth"] == "grey"
    assert found.grey["percentile"] == 100
    assert found.grey["novelty"] > 2 * plain.grey["novelty"]
    (bars,) = [f for f in core.describe(found).figures if f["kind"] == "bar"]
    assert bars["names"] == ["grey values", *(f"depth {i}" for i in range(1, 6))]
    old = {k: v for k, v in model.reference["blob"].items() if k != "grey"}
    older = replace(tiny_checkpoint, reference={"blob": old})
    without = finish(shift(bent, older))  # a model file of before
    assert without.grey == {}
    assert len(without.by_depth) == 5


def test_an_unknown_head_or_no_scan_is_refused(encoded):
    with pytest.raises(UnknownModel, match="no head 'lung'"):
        finish(shift(scan_like(1), checkpoint_of("heart"), head="lung"))
    with pytest.raises(TooFewSamples):
        finish(shift([], checkpoint_of("heart")))
