"""Masks drawn anew from probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core.types import Segmentation, Volume, finish


@pytest.fixture
def soft():
    """Three classes and background; label ids as a person painted them."""
    logits = np.random.default_rng(0).normal(size=(4, 3, 8, 9))
    share = np.exp(logits) / np.exp(logits).sum(0)
    return Segmentation(
        np.zeros((3, 8, 9), np.uint8),
        np.eye(4),
        names={4: "wall", 2: "blood", 9: "cord"},
        probabilities=share.astype(np.float32),
    )


def redrawn(soft, threshold, **options):
    return finish(core.redraw(soft, threshold=threshold, **options)).labels


def test_above_the_threshold_the_likeliest_class_wins(soft):
    found, share = redrawn(soft, 0.6), soft.probabilities
    for place in np.ndindex(found.shape):
        here = share[(slice(None), *place)]
        wanted = [4, 2, 9][here[1:].argmax()] if 1 - here[0] > 0.6 else 0
        assert found[place] == wanted


def test_a_lower_threshold_finds_more_and_loses_nothing(soft):
    few, many = redrawn(soft, 0.8), redrawn(soft, 0.4)
    np.testing.assert_array_equal(many[few > 0], few[few > 0])
    assert np.count_nonzero(many) > np.count_nonzero(few)


def test_the_ends_are_everything_and_nothing(soft):
    assert redrawn(soft, 0.0).all()
    assert not redrawn(soft, 1.0).any()


def test_stray_pieces_go_where_the_model_drops_them(soft):
    from napari_hydraseg.core._pieces import keep_largest

    plain = redrawn(soft, 0.6)
    np.testing.assert_array_equal(redrawn(soft, 0.6, largest=True), keep_largest(plain))


def test_without_probabilities_it_is_refused(soft):
    with pytest.raises(ValueError, match="probabilities"):
        redrawn(replace(soft, probabilities=None), 0.5)


def test_at_one_half_a_head_of_two_classes_says_what_it_said(tiny_checkpoint):
    data = np.random.default_rng(1).normal(size=(1, 2, 40, 44)).astype(np.float32)
    scan = Volume(data, np.diag([5.0, 3.0, 3.0, 1.0]), modality="MR")
    steps = core.segment(scan, tiny_checkpoint, probabilities=True, device="cpu")
    found = finish(steps)["blob"]
    assert 0 < np.count_nonzero(found.labels) < found.labels.size
    np.testing.assert_array_equal(redrawn(found, 0.5), found.labels)
