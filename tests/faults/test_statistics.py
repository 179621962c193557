"""Rows F101 to F110: samples that allow no statistic, and reports that must be safe."""

import json
import sys
import tracemalloc
import types
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from napari_hydraseg.core import describe, finish, mmd, mmd_test, shift, write_report
from napari_hydraseg.core._calibration import judge
from napari_hydraseg.core._cohorts import Member, cautions, compare, pair_rows
from napari_hydraseg.core._embedding import embed
from napari_hydraseg.core._reference import reference_features
from napari_hydraseg.core._verdict import FEWEST
from napari_hydraseg.core.errors import (
    DimensionMismatch,
    NonFiniteFeatures,
    TooFewSamples,
)
from napari_hydraseg.core.types import (
    Checkpoint,
    CohortReport,
    ModelSpec,
    ShiftReport,
    Volume,
)


def check_words(error, folder):
    """One short line that ends with what to do, and no folder in it."""
    said = str(error)
    assert len(said) <= 200
    assert "\n" not in said
    assert str(folder) not in said
    assert error.hint.endswith(".")


def member(rng, cohort, person, *, level=0.0, flat=False):
    """A scan whose slices resemble one another far more than other scans'."""
    rows = rng.normal(size=4) + level + 0.2 * rng.normal(size=(5, 4))
    entry = reference_features([{"1": np.ones((5, 3)) if flat else rows}])
    return Member(cohort, person, entry)


def cohorts(seed, n=8, m=8, **options):
    rng = np.random.default_rng(seed)
    first = [member(rng, "a", i) for i in range(n)]
    return first + [member(rng, "b", 100 + i, **options) for i in range(m)]


def seen(volume, *, broken=""):
    """Stand in for the encoder: depth 1 sees nothing, depth 2 the grey values."""
    rows = volume.data[0].reshape(len(volume.data[0]), -1)[:, :4].astype(np.float32)
    if volume.source == broken:
        rows = rows * np.float32(np.nan)
    return {"1": np.ones((len(rows), 3), np.float32), "2": rows}


@pytest.fixture
def population(monkeypatch):
    """Scans of one population, and a model whose reference is 20 others of it."""

    def encode(volume, checkpoint, **_):
        yield from ()
        return seen(volume, broken="broken.nii")

    module = types.ModuleType("napari_hydraseg.core.inference")
    module.encode = encode
    monkeypatch.setitem(sys.modules, module.__name__, module)
    rng = np.random.default_rng(0)
    scans = [
        Volume(
            (rng.normal() + rng.normal(size=(1, 5, 6, 6))).astype(np.float32),
            np.eye(4),
            modality="MR",
            source=f"scan{i}.nii",
        )
        for i in range(24)
    ]
    entry = reference_features([seen(scan) for scan in scans[:20]])
    spec = ModelSpec("toy", ("image",), {"heart": ("background", "a")}, (32, 32))
    return scans[20:], Checkpoint(spec, {}, {"name": "toy"}, {"heart": entry})


@pytest.mark.parametrize(("n", "m"), [(0, 5), (1, 5), (5, 1)])
@pytest.mark.parametrize("statistic", [mmd, mmd_test])
def test_f101_none_or_one_of_a_side_is_refused(statistic, n, m, tmp_path):
    with pytest.raises(TooFewSamples) as caught:
        statistic(np.ones((n, 2)), np.ones((m, 2)))
    check_words(caught.value, tmp_path)


def test_f101_few_scans_get_a_number_with_a_warning_and_the_floor_of_p():
    members = cohorts(0, n=3, m=3)
    found = compare(members, permutations=19, seed=0)
    (row,) = pair_rows(found)
    assert np.isfinite(row["mmd2"])
    assert row["p"] >= 1 / 20
    said = " ".join(cautions(members, found))
    assert "Low power" in said
    assert f"{row['p_floor']:.2g}" in said
    assert row["verdict"] == "cannot-judge"


def test_f102_a_set_and_itself_are_at_no_distance_and_never_called_safe():
    x = np.random.default_rng(1).normal(size=(40, 3))
    for same in (x, x.copy(), x[::-1]):
        assert -0.05 < mmd(x, same) <= 0
        assert mmd_test(x, same, permutations=99)[1] > 0.05
    rows = {"a": "one", "b": "other", "mmd2": -0.01, "p_floor": 0.01}
    rows |= {"verdict": "similar", "p_corrected": 1.0}
    report = describe(CohortReport((), (rows,), ()))
    assert "at most 0: no evidence" in report.verdict
    words = " ".join([report.verdict, *report.notes]).lower()
    assert not [word for word in ("safe", "accurate", "nan") if word in words]


def test_f103_constant_features_give_numbers_and_are_named():
    ones = np.ones((6, 3))
    assert mmd(ones, ones) == pytest.approx(0, abs=1e-12)
    assert mmd_test(ones, ones, permutations=19)[1] == 1.0
    rng = np.random.default_rng(0)
    members = [member(rng, c, (c, i), flat=True) for c in "ab" for i in range(4)]
    found = compare(members, permutations=19, seed=0)
    (row,) = pair_rows(found)
    assert (row["mmd2"], row["p"]) == (pytest.approx(0, abs=1e-9), 1.0)
    assert "At depth 1 all scans are the same" in cautions(members, found)[0]
    assert embed(np.ones((12, 3))).note == "All scans have the same features."


def test_f103_a_depth_that_sees_nothing_is_named_and_the_report_has_no_nan(population):
    scans, model = population
    found = finish(shift(scans[0], model))
    assert "At depth 1 all scans are the same" in found.notes[0]
    json.dumps(asdict(found), allow_nan=False, default=float)


def test_f102_a_copy_of_a_training_scan_is_never_called_different(population):
    scans, model = population
    entry = reference_features([seen(scan) for scan in scans] * 5)
    own = replace(model, reference={"heart": entry})
    assert finish(shift(scans[0], own)).verdict == "similar"


def test_f104_features_of_another_encoder_are_refused(tmp_path):
    with pytest.raises(DimensionMismatch) as caught:
        mmd(np.ones((4, 2)), np.ones((4, 3)))
    check_words(caught.value, tmp_path)
    narrow, wide = ({"1": np.ones((5, width))} for width in (3, 4))
    one, other = reference_features([narrow] * 3), reference_features([wide])
    with pytest.raises(DimensionMismatch) as caught:
        judge(one, other)
    check_words(caught.value, tmp_path)
    with pytest.raises(DimensionMismatch) as caught:
        compare([Member("a", 1, one), Member("b", 2, other)], permutations=9, seed=0)
    check_words(caught.value, tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_f105_values_that_are_no_numbers_are_refused_and_located(value, tmp_path):
    x = np.ones((6, 3))
    x[4, 1] = value
    for statistic in (mmd, mmd_test):
        with pytest.raises(NonFiniteFeatures, match="row 4") as caught:
            statistic(np.ones((6, 3)), x)
        check_words(caught.value, tmp_path)


def test_f105_a_scan_without_numbers_is_named_and_left_out_only_when_asked(population):
    scans, model = population
    given = [replace(scans[0], source="broken.nii"), *scans[1:]]
    with pytest.raises(NonFiniteFeatures, match=r"broken\.nii") as caught:
        finish(shift(given, model))
    check_words(caught.value, "/")
    found = finish(shift(given, model, drop_nonfinite=True))
    assert "1 scans were left out" in found.notes[0]
    assert len(found.per_case) == 3


def test_f106_false_alarms_are_five_percent_when_scans_are_permuted():
    """Of slices, they would be far more: slices of a scan are no independent ones."""

    def p(seed, by_scan=True):
        rng = np.random.default_rng(seed)
        ids = [np.repeat(np.arange(n), 4) for n in (8, 10)]
        x, y = (
            rng.normal(size=(which.max() + 1, 3))[which]
            + 0.2 * rng.normal(size=(len(which), 3))
            for which in ids
        )
        groups = {"groups_x": ids[0], "groups_y": ids[1]} if by_scan else {}
        return mmd_test(x, y, permutations=39, seed=seed, **groups)[1]

    low, high = binom.interval(0.99, 500, 0.05)
    assert low <= sum(p(seed) <= 0.05 for seed in range(500)) <= high
    assert sum(p(seed, by_scan=False) <= 0.05 for seed in range(30)) > 18


def test_f106_a_shift_of_half_a_standard_deviation_is_found_with_sixty_scans():
    """With 60 scans a side and 4 features, in at least 80 % of the cases."""
    found = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 0.5
        found += mmd_test(x, y, permutations=99, seed=seed)[1] <= 0.05
    assert found >= 32


def test_f107_memory_does_not_grow_with_the_samples():
    """What is held beside the input: the same for twice the rows."""

    def peak(rows):
        x = np.random.default_rng(0).normal(size=(2 * rows, 32)).astype(np.float32)
        tracemalloc.start()
        value = mmd(x[:rows], x[rows:], block=256)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return value, size

    (few, small), (_, large) = peak(1500), peak(3000)
    assert large < 1.2 * small
    x = np.random.default_rng(0).normal(size=(3000, 32)).astype(np.float32)
    whole = mmd(x[:1500].astype(float), x[1500:].astype(float), block=4096)
    assert few == pytest.approx(whole, abs=1e-7)
    in_blocks = mmd(x[:1500].astype(float), x[1500:].astype(float), block=256)
    assert in_blocks == pytest.approx(whole, abs=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_f109_too_few_scans_for_tsne_are_shown_by_pca_with_a_note(n):
    drawn = embed(np.random.default_rng(0).normal(size=(n, 5)))
    assert drawn.pca.shape == (n, 2)
    assert np.isfinite(drawn.pca).all()
    assert drawn.tsne is None
    assert drawn.note


EVIL = ("<script>alert(1)</script>", "{{7*7}}", "=cmd|' /C calc'!A0", "a,b\nc")


def test_f110_names_from_outside_are_text_in_every_report(tmp_path):
    pairs = [
        {"a": a, "b": b, "verdict": "similar", "mmd2": 0.1, "p_corrected": 0.5}
        | {"p_floor": 0.01}
        for a, b in pairwise(EVIL)
    ]
    counts = tuple({"cohort": name, "persons": 2, "scans": 2} for name in EVIL)
    shifted = ShiftReport(
        "similar", 0.5, 0.05, 50.0, FEWEST, (), causes=({"name": EVIL[0], "scan": 1},)
    )
    for number, result in enumerate((CohortReport(counts, tuple(pairs), ()), shifted)):
        for kind in ("html", "csv"):
            write_report(describe(result), tmp_path / f"{number}.{kind}")
    page = (tmp_path / "0.html").read_text() + (tmp_path / "1.html").read_text()
    assert "<script>alert" not in page
    assert "{{7*7}}" in page
    assert 'src="http' not in page
    cells = (tmp_path / "0.csv").read_text()
    assert "'=cmd" in cells
    assert '"a,b\nc"' in cells
