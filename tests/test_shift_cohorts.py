"""Cohorts against one another: by persons, for all pairs, with pictures."""

import numpy as np
import pytest
from scipy.stats import binom

from napari_hydraseg.core._cohorts import (
    Member,
    cause_rows,
    cautions,
    compare,
    pair_rows,
    scan_rows,
)
from napari_hydraseg.core._embedding import embed
from napari_hydraseg.core._exchange import exchange, holm, smallest_p
from napari_hydraseg.core._reference import reference_features


def member(rng, cohort, person, *, level=0.0, own=None, slices=5):
    """A scan of two depths; its slices resemble one another far more than others."""
    centre = rng.normal(size=6) if own is None else own
    rows = centre + 0.2 * rng.normal(size=(slices, 6)) + level
    features = {"1": rows[:, :2], "2": rows[:, 2:]}
    return Member(cohort, person, reference_features([features]))


def cohort(rng, name, count, *, level=0.0):
    return [member(rng, name, (name, i), level=level) for i in range(count)]


def verdicts(members, **options):
    rows = pair_rows(compare(members, **({"permutations": 99, "seed": 0} | options)))
    return {(row["a"], row["b"]): row["verdict"] for row in rows}


def test_every_two_cohorts_are_compared():
    rng = np.random.default_rng(0)
    members = [
        *cohort(rng, "Bern", 12),
        *cohort(rng, "Graz", 12),
        *cohort(rng, "Lyon", 12, level=3.0),
    ]
    assert verdicts(members, permutations=199) == {
        ("Bern", "Graz"): "similar",
        ("Bern", "Lyon"): "different",
        ("Graz", "Lyon"): "different",
    }


def test_a_shift_at_one_depth_is_found_and_located():
    rng = np.random.default_rng(1)
    moved = np.array([0, 0, 3, 3, 3, 3.0])
    members = cohort(rng, "a", 12) + cohort(rng, "b", 12, level=moved)
    (found,) = (pair for _, _, pair in compare(members, permutations=99, seed=0).pairs)
    assert found.p == 1 / 100
    assert found.p_depth[0] > 0.05
    assert found.p_depth[1] == 1 / 100


def test_the_type_one_error_over_all_depths_is_five_percent():
    """Scans of two cohorts of one population, with slices that are alike."""

    def p(seed):
        rng = np.random.default_rng(seed)
        kernels = []
        for _ in range(2):
            rows = rng.normal(size=(15, 3))
            squared = ((rows[:, None] - rows) ** 2).sum(axis=-1)
            kernels.append(np.exp(-squared / 6))
        return exchange(
            np.array(kernels), range(7), range(10, 18), permutations=39, seed=seed
        ).p

    low, high = binom.interval(0.99, 500, 0.05)
    assert low <= sum(p(seed) <= 0.05 for seed in range(500)) <= high


def test_swapping_within_persons_sees_what_their_differences_would_hide():
    rng = np.random.default_rng(2)
    own = 3 * rng.normal(size=(10, 6))
    scans = [
        member(rng, name, person, own=own[person], level=level)
        for name, level in (("FLAIR", 0.0), ("T1", 0.8))
        for person in range(10)
    ]
    strangers = [Member(s.cohort, (s.cohort, s.person), s.entry) for s in scans]
    options = {"permutations": 199, "seed": 0}
    (paired,), (free,) = (pair_rows(compare(s, **options)) for s in (scans, strangers))
    assert paired["both"] == 10
    assert paired["verdict"] == "different"
    assert free["verdict"] == "similar"


def test_the_type_one_error_of_swaps_is_five_percent():
    def p(seed):
        rng = np.random.default_rng(seed)
        rows = np.tile(2 * rng.normal(size=(9, 3)), (2, 1)) + rng.normal(size=(18, 3))
        squared = ((rows[:, None] - rows) ** 2).sum(axis=-1)
        found = exchange(
            np.exp(-squared[None] / 20), range(9), range(9), permutations=39, seed=seed
        )
        return found.p

    low, high = binom.interval(0.99, 500, 0.05)
    assert low <= sum(p(seed) <= 0.05 for seed in range(500)) <= high


def test_channels_of_a_person_count_as_one():
    rng = np.random.default_rng(3)
    one = [member(rng, c, i) for c in "ab" for i in range(5)]
    twice = [m for m in one for _ in range(2)]
    options = {"permutations": 19, "seed": 0}
    (single,), (double,) = (pair_rows(compare(s, **options)) for s in (one, twice))
    assert single["p_floor"] == double["p_floor"]
    # The median distance is another one where slices are there twice.
    assert single["mmd2"] == pytest.approx(double["mmd2"], abs=5e-3)


def test_no_verdict_is_given_where_no_p_could_be_small():
    rng = np.random.default_rng(4)
    members = cohort(rng, "a", 3) + cohort(rng, "b", 3, level=9.0)
    assert smallest_p(3, 3, 0, 999) == 2 / 20
    assert verdicts(members) == {("a", "b"): "cannot-judge"}


def test_correcting_for_many_pairs_counts_for_the_smallest_p_too():
    rng = np.random.default_rng(4)
    members = cohort(rng, "a", 4) + cohort(rng, "b", 4, level=60.0)
    members += cohort(rng, "c", 4, level=120.0)
    assert smallest_p(4, 4, 0, 999) < 0.05  # of two cohorts alone
    matrix = compare(members, permutations=999, seed=0)
    rows = pair_rows(matrix)
    assert [row["p_floor"] for row in rows] == pytest.approx([6 / 70] * 3)
    assert {row["verdict"] for row in rows} == {"cannot-judge"}
    assert any("0.086" in line for line in cautions(members, matrix))


def test_p_never_falls_below_the_smallest_that_is_possible():
    for seed in range(8):
        rng = np.random.default_rng(seed)
        members = cohort(rng, "a", 2) + cohort(rng, "b", 2, level=9.0)
        ((_, _, found),) = compare(members, permutations=49, seed=seed).pairs
        assert found.p >= found.p_floor == 2 / 6  # of what is drawn, less now and then
        assert min(found.p_depth) >= found.p_floor


@pytest.mark.parametrize(
    ("sizes", "floor"),
    [((3, 4, 0), 1 / 35), ((5, 5, 5), 2 / 32), ((50, 50, 0), 1 / 1000)],
)
def test_the_smallest_p_counts_the_exchanges_that_there_are(sizes, floor):
    assert smallest_p(*sizes, 999) == pytest.approx(floor)


def test_many_pairs_are_corrected_as_holm_does():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_scans_of_two_kinds_lie_apart_in_both_pictures():
    rng = np.random.default_rng(5)
    members = cohort(rng, "a", 10) + cohort(rng, "b", 10, level=6.0)
    rows, note = scan_rows(members, seed=0)
    assert note == ""
    for picture in ("pca", "tsne"):
        points = np.array([row[picture] for row in rows])
        within = np.linalg.norm(points[:10] - points[:10].mean(axis=0), axis=1).mean()
        apart = np.linalg.norm(points[:10].mean(axis=0) - points[10:].mean(axis=0))
        assert apart > within


def test_a_picture_is_the_same_each_time():
    points = np.random.default_rng(6).normal(size=(14, 5))
    first, again = embed(points, seed=1), embed(points, seed=1)
    np.testing.assert_array_equal(first.tsne, again.tsne)


def test_what_differs_between_cohorts_is_named_with_its_numbers():
    site = [{"slice_spacing_mm": mm, "sharpness": 2.0} for mm in (1.0, 1.1, 1.2)]
    other = [{"slice_spacing_mm": 5.0, "sharpness": 2.0}] * 3
    (row,) = cause_rows({"Bern": site, "Graz": other})
    assert row["name"] == "distance between slices"
    assert row["Bern"] == "1.01 to 1.19 mm"
    assert row["Graz"] == "5.00 mm"
