"""The Mahalanobis distance of scans, each person left out, with a shrunk covariance."""

import numpy as np
import pytest

from napari_hydraseg.core._calibration import judge, witness
from napari_hydraseg.core._novelty import LEAST, RIDGE, novelty, novelty_to
from napari_hydraseg.core._reference import reference_features


def test_leaving_out_by_the_identity_is_leaving_out_the_long_way():
    rng = np.random.default_rng(0)
    rows, persons = rng.normal(size=(30, 6)), np.repeat(np.arange(10), 3)
    found = novelty(rows, persons)
    for person in range(10):
        own, rest = rows[persons == person], rows[persons != person]
        covariance = rest.T @ rest / 30 + RIDGE * np.eye(6)
        wanted = np.einsum("ij,jk,ik->i", own, np.linalg.inv(covariance), own)
        np.testing.assert_allclose(found[persons == person], wanted, rtol=1e-10)


def test_more_features_than_slices_are_no_obstacle():
    rows = np.random.default_rng(1).normal(size=(12, 200))
    found = novelty(rows, np.arange(12))
    assert np.isfinite(found).all()
    assert (found > LEAST).all()


def test_slices_that_are_all_alike_have_a_logarithm():
    flat = np.zeros((8, 3))
    np.testing.assert_array_equal(novelty(flat, np.arange(8)), LEAST)
    np.testing.assert_array_equal(novelty_to(flat, flat), LEAST)


def test_new_slices_of_the_population_are_as_far_as_left_out_ones():
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(5, 5))
    known, fresh = (rng.normal(size=(n, 5)) @ mix for n in (400, 400))
    left_out = novelty(known, np.arange(400)).mean()
    assert novelty_to(known, fresh).mean() == pytest.approx(left_out, rel=0.15)


def in_step(rng, *, level=1.0, against=0.0):
    """Slices whose twelve features rise and fall together, but for some of them."""
    together = level * rng.normal(size=(8, 1)) + 0.1 * rng.normal(size=(8, 12))
    return {"1": together + against * np.tile((1, -1), 6)}


def test_a_scan_whose_features_do_not_go_together_as_in_the_others_is_found():
    """Each of its features, by itself, is as usual."""
    rng = np.random.default_rng(3)
    reference = reference_features([in_step(rng) for _ in range(25)])
    odd = reference_features([in_step(rng, level=0.1, against=1.0)])
    found = judge(reference, odd)
    assert found.p == 1 / 26
    assert found.novelty[0] > 2
    assert (witness(reference, odd) > 0).all()


def test_a_further_scan_of_them_is_as_usual():
    rng = np.random.default_rng(4)
    reference = reference_features([in_step(rng) for _ in range(25)])
    p = [judge(reference, reference_features([in_step(rng)])).p for _ in range(20)]
    assert sum(value <= 0.05 for value in p) <= 4  # 99.9 % end, 20 draws of .05
