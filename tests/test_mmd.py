"""The statistic behind the shift report, against naive loops and its null law."""

import itertools

import numpy as np
import pytest
from scipy.stats import binom

from napari_hydraseg.core._kernels import KERNELS
from napari_hydraseg.core._mmd import mmd, mmd_test
from napari_hydraseg.core.errors import (
    DimensionMismatch,
    NonFiniteFeatures,
    TooFewSamples,
)


def kernel_value(a, b, kernel, gamma):
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    inner = sum(p * q for p, q in zip(a, b, strict=True))
    if kernel == "rbf":
        return np.exp(-gamma * squared)
    if kernel == "multi-rbf":
        return np.mean([np.exp(-gamma * s * squared) for s in (0.25, 0.5, 1, 2, 4)])
    if kernel == "linear":
        return inner
    if kernel == "polynomial":
        return (gamma * inner + 1) ** 3
    return np.exp(-gamma * sum(abs(p - q) for p, q in zip(a, b, strict=True)))


def naive_mmd(x, y, kernel, gamma, unbiased):
    def mean(a, b, same):
        return np.mean(
            [
                kernel_value(p, q, kernel, gamma)
                for (i, p), (j, q) in itertools.product(enumerate(a), enumerate(b))
                if not (same and i == j)
            ]
        )

    x, y = x.astype(float), y.astype(float)
    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


def samples(seed=0, n=13, m=9, d=4, shift=0.0, offset=0.0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift
    return x + offset, y + offset


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("unbiased", [True, False])
def test_mmd_agrees_with_a_double_loop(kernel, unbiased):
    x, y = samples(shift=0.3)
    found = mmd(x, y, kernel=kernel, gamma=0.2, unbiased=unbiased, block=5)
    assert found == pytest.approx(naive_mmd(x, y, kernel, 0.2, unbiased), abs=1e-9)


def all_pairs(a, b, kernel, gamma):
    """Kernel values of all pairs from their differences, in float64."""
    a, b = a.astype(float)[:, None], b.astype(float)
    if kernel == "laplacian":
        return np.exp(-gamma * np.abs(a - b).sum(axis=-1))
    if kernel in ("rbf", "multi-rbf"):
        scales = (0.25, 0.5, 1, 2, 4) if kernel == "multi-rbf" else (1,)
        squared = ((a - b) ** 2).sum(axis=-1)
        return np.mean([np.exp(-gamma * s * squared) for s in scales], axis=0)
    inner = (a * b).sum(axis=-1)
    return inner if kernel == "linear" else (gamma * inner + 1) ** 3


@pytest.mark.parametrize("offset", [0.0, 30.0, 1000.0])
@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-9), (np.float32, 1e-7)])
@pytest.mark.parametrize("sizes", [(2, 2, 1), (23, 40, 7), (350, 300, 32)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_an_offset_common_to_both_samples_costs_no_digits(
    kernel, sizes, dtype, error, offset
):
    n, m, d = sizes
    x, y = samples(n=n, m=m, d=d, shift=0.2, offset=offset)
    x, y = x.astype(dtype), y.astype(dtype)
    gamma = 0.5 / d
    moved = (x, y)
    if kernel == "linear":  # invariant, and the differences of large sums are not exact
        mean = np.concatenate((x, y)).mean(axis=0, dtype=float)
        moved = (x - mean, y - mean)
    xx, yy, xy = (
        all_pairs(p, q, kernel, gamma)
        for p, q in ((moved[0],) * 2, (moved[1],) * 2, moved)
    )
    # "polynomial" grows with the sixth power of the offset; there, digits are relative.
    scale = max(1.0, np.abs(xx).max()) if kernel == "polynomial" else 1.0
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    wanted = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.mean()
    found = mmd(x, y, kernel=kernel, gamma=gamma, block=256)
    assert found == pytest.approx(wanted, rel=0, abs=error * scale)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_answer_does_not_depend_on_the_block(kernel):
    x, y = samples(n=50, m=31)
    answers = [mmd(x, y, kernel=kernel, block=b) for b in (1, 7, 31, 2048)]
    np.testing.assert_allclose(answers, answers[0], rtol=1e-11, atol=1e-13)


def test_a_sample_compared_with_itself_gives_about_nothing():
    x, _ = samples(n=200)
    assert mmd(x, x, unbiased=False) == pytest.approx(0, abs=1e-12)
    assert -0.02 < mmd(x, x.copy()) <= 0
    assert mmd_test(x, x.copy(), permutations=99)[1] > 0.05


def test_a_sorted_sample_is_at_no_distance_from_its_shuffle():
    x = np.sort(samples(n=300)[0], axis=0)
    y = np.random.default_rng(1).permutation(x)
    assert mmd(x, y, block=64) == pytest.approx(mmd(x, x, block=300), abs=1e-12)


def test_a_shift_of_the_mean_or_of_the_scale_is_seen():
    x, y = samples(n=200, m=200)
    assert mmd(x, y + 1.0) > 10 * abs(mmd(x, y))
    assert mmd(x, 3.0 * y) > 10 * abs(mmd(x, y))


def test_mmd_is_symmetric():
    x, y = samples(shift=0.5)
    assert mmd(x, y) == pytest.approx(mmd(y, x), abs=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_test_reports_the_same_distance_as_mmd(dtype):
    x, y = (s.astype(dtype) for s in samples(shift=0.3, n=300, m=245))
    for binned in (False, True):
        found = mmd_test(x, y, permutations=5, binned=binned)[0]
        assert found == pytest.approx(mmd(x, y), abs=1e-7)


def test_relabelling_by_matrix_product_equals_relabelling_by_hand():
    x, y = samples(n=7, m=6, shift=0.4)
    mmd2, p = mmd_test(x, y, permutations=400, seed=3)
    pooled = np.concatenate((x, y))
    labels = np.zeros((401, 13))
    labels[:, :7] = 1
    np.random.default_rng(3).permuted(labels[1:], axis=1, out=labels[1:])
    pairs = ((pooled[:, None] - pooled) ** 2).sum(-1)[np.triu_indices(13, 1)]
    gamma = 1 / np.median(pairs)
    by_hand = [
        naive_mmd(pooled[a == 1], pooled[a == 0], "rbf", gamma, True) for a in labels
    ]
    assert mmd2 == pytest.approx(by_hand[0], abs=1e-12)
    count = sum(value >= by_hand[0] - 1e-12 for value in by_hand[1:])
    assert p == (1 + count) / 401


def test_p_is_never_below_its_floor():
    x, y = samples(n=30, m=30, shift=9.0)
    assert mmd_test(x, y, permutations=99)[1] == 1 / 100


def test_one_seed_gives_one_p():
    x, y = samples(n=20, m=20, shift=0.3)
    assert mmd_test(x, y, seed=5) == mmd_test(x, y, seed=5)


def test_groups_may_be_named_in_any_order_and_counted_each_once():
    x, y = samples(n=12, m=8)
    scans_x, scans_y = np.repeat("cab", 4), np.repeat([9, 2], 4)
    scans_x = np.array(list("ccaabbccaabb"))
    whole = mmd_test(x, y, groups_x=scans_x, groups_y=scans_y, permutations=50)
    order = np.argsort(scans_x, kind="stable")
    again = mmd_test(
        x[order], y, groups_x=scans_x[order], groups_y=scans_y, permutations=50
    )
    assert whole[0] == pytest.approx(again[0], abs=1e-12)


def false_alarms(p_of, runs=500):
    """Whether the share of p <= .05 is inside the 99 % interval of a binomial."""
    low, high = binom.interval(0.99, runs, 0.05)
    return low <= sum(p_of(seed) <= 0.05 for seed in range(runs)) <= high


@pytest.mark.parametrize("binned", [False, True])
def test_the_type_one_error_of_single_rows_is_five_percent(binned):
    n, m = (130, 150) if binned else (15, 20)

    def p(seed):
        x, y = samples(seed, n=n, m=m, d=3)
        return mmd_test(x, y, permutations=39, seed=seed, binned=binned)[1]

    assert false_alarms(p)


def test_bins_find_a_shift_and_few_groups_need_none():
    x, y = samples(n=400, m=300, shift=0.5)
    assert mmd_test(x, y, permutations=99, binned=True)[1] == 1 / 100
    few_x, few_y = samples(shift=3.0)
    few = mmd_test(few_x, few_y, permutations=99, binned=True)
    assert few[1] == 1 / 100


def test_bins_are_of_whole_scans():
    x, y = samples(n=300, m=280)
    ids = [np.arange(len(s)) // 2 for s in (x, y)]
    single = mmd_test(x, y, groups_x=ids[0], groups_y=ids[1], permutations=9)
    binned = mmd_test(
        x, y, groups_x=ids[0], groups_y=ids[1], permutations=9, binned=True
    )
    assert binned[0] == pytest.approx(single[0], abs=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_constant_features_give_a_number(kernel):
    ones = np.ones((6, 3))
    assert mmd(ones, ones, kernel=kernel) == pytest.approx(0, abs=1e-12)
    assert mmd_test(ones, ones, permutations=19) == (pytest.approx(0, abs=1e-12), 1.0)


def test_rows_that_mostly_coincide_fall_back_on_the_mean_distance():
    x = np.zeros((10, 2))
    y = np.zeros((10, 2))
    y[0] = 5.0
    assert 0 < mmd(x, y, unbiased=False) < 1


@pytest.mark.parametrize(("n", "m"), [(0, 5), (1, 5), (5, 1)])
def test_too_few_rows_are_refused(n, m):
    with pytest.raises(TooFewSamples):
        mmd(np.ones((n, 2)), np.ones((m, 2)))


def test_one_scan_is_no_cohort():
    x, y = samples()
    with pytest.raises(TooFewSamples, match="groups"):
        mmd_test(x, y, groups_x=np.zeros(len(x)))


@pytest.mark.parametrize("shape", [(5, 3), (5,)])
def test_tables_of_other_width_or_no_tables_are_refused(shape):
    with pytest.raises(DimensionMismatch):
        mmd(np.ones((5, 2)), np.ones(shape))


def test_a_group_id_is_needed_for_every_row():
    x, y = samples()
    with pytest.raises(DimensionMismatch, match="groups_y"):
        mmd_test(x, y, groups_y=[1, 2, 3])


def test_values_that_are_no_numbers_are_refused_and_located():
    x, y = samples()
    y[4, 1] = np.nan
    with pytest.raises(NonFiniteFeatures, match="row 4"):
        mmd(x, y)


def test_an_unknown_kernel_is_a_slip_of_the_caller():
    with pytest.raises(ValueError, match="kernel must be one of"):
        mmd(*samples(), kernel="cauchy")
