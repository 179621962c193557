"""Which slice to annotate next: what the model doubts, unlike what is done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core import _engine
from napari_hydraseg.core.suggestion import (
    SliceLook,
    look_at_slices,
    rank_slices,
    slice_scores,
)
from napari_hydraseg.core.types import Volume

LINE = np.abs(np.arange(6.0)[:, None] - np.arange(6.0))


def test_the_most_doubtful_slice_comes_first_if_nothing_is_done():
    doubt = np.array([0, 0.1, 0.2, 0.7, 0.3, 0.1])
    assert rank_slices(SliceLook(doubt, LINE))[0] == 3


def test_a_neighbour_of_a_done_slice_waits_behind_one_that_is_unlike_it():
    doubt = np.array([0, 0.5, 0.1, 0.7, 0.6, 0.1])
    ranked = rank_slices(SliceLook(doubt, LINE), [3])
    assert ranked[0] == 1
    assert 3 not in ranked
    assert len(ranked) == 5


def test_the_score_is_doubt_times_novelty_by_hand():
    doubt = np.array([0.2, 0.4, 0.0, 0.0, 0.1, 0.0])
    score = slice_scores(SliceLook(doubt, LINE), [2])
    np.testing.assert_allclose(score[[0, 1, 4]], [0.5 * 2 / 3, 1 / 3, 0.25 * 2 / 3])
    assert score[2] == -np.inf


@pytest.mark.parametrize("doubt", [None, np.zeros(6)])
def test_without_doubt_the_slice_that_stands_for_the_most_comes_first(doubt):
    look = SliceLook(doubt, LINE)
    assert rank_slices(look)[0] in (2, 3)
    assert rank_slices(look, [0, 1])[0] in (3, 4)


def test_slices_outside_the_scan_and_all_done_leave_nothing():
    look = SliceLook(None, LINE)
    assert rank_slices(look, range(-3, 12)) == []


def test_one_slice_is_offered_even_if_nothing_is_known_of_it():
    assert rank_slices(SliceLook(None, np.zeros((1, 1)))) == [0]


@pytest.fixture
def odd():
    """Four slices alike, and one that is not."""
    noise = np.random.default_rng(0).normal(100, 5, (40, 48)).astype(np.float32)
    data = np.stack([noise, noise, noise, noise, noise])
    data[3, 10:30, 10:30] += 200
    return Volume(data[None], np.diag([5.0, 3.0, 3.0, 1.0]), modality="MR")


def test_a_look_finds_the_slice_that_is_unlike_the_others(odd, tiny_checkpoint):
    look = core.finish(look_at_slices(odd, tiny_checkpoint, head="blob"))
    assert look.doubt.shape == (5,)
    assert ((look.doubt >= 0) & (look.doubt <= 1)).all()
    np.testing.assert_allclose(np.diag(look.distance), 0)
    assert look.distance[0].argmax() == 3
    assert rank_slices(look, [0])[0] == 3


def test_the_doubt_is_the_entropy_of_the_probabilities(odd, tiny_checkpoint):
    look = core.finish(look_at_slices(odd, tiny_checkpoint, head="blob"))
    found = core.finish(
        core.segment(odd, tiny_checkpoint, heads=["blob"], probabilities=True)
    )
    share = found["blob"].probabilities.astype(np.float64)
    entropy = -(share * np.log2(np.maximum(share, 1e-6))).sum(0).mean((1, 2))
    np.testing.assert_allclose(look.doubt, entropy, atol=1e-4)


def test_of_a_new_structure_only_the_features_speak(odd, tiny_checkpoint):
    look = core.finish(look_at_slices(odd, tiny_checkpoint, head="aorta"))
    assert look.doubt is None
    assert look.distance[0].argmax() == 3


def test_slices_are_counted_in_the_plane_of_the_scan(odd, tiny_checkpoint):
    turned = replace(
        odd,
        data=np.ascontiguousarray(np.moveaxis(odd.data, 1, 2)),
        affine=np.diag([3.0, 5.0, 3.0, 1.0]),
        plane="coronal",
    )
    look = core.finish(look_at_slices(turned, tiny_checkpoint, head="blob"))
    assert look.doubt.shape == (5,)
    assert look.distance[0].argmax() == 3


def test_there_is_a_sign_after_each_batch_of_slices(odd, tiny_checkpoint, monkeypatch):
    monkeypatch.setitem(_engine.BATCH_PIXELS, "cpu", 2 * 40 * 48)
    signs = []
    core.finish(look_at_slices(odd, tiny_checkpoint, head="blob"), signs.append)
    assert [(sign.done, sign.total) for sign in signs] == [(2, 5), (4, 5), (5, 5)]


def test_a_volumetric_model_is_asked_by_blocks_and_counts_slices(odd):
    from napari_hydraseg.core import Checkpoint, ModelSpec, build
    from napari_hydraseg.core.networks import weights_of

    spec = ModelSpec(
        "unet3d",
        ("image",),
        {"blob": ("background", "blob")},
        (8, 16, 16),
        spacing_mm={"MR": [5.0, 6.0, 6.0]},
        intensity={"MR": {"kind": "zscore", "low": 0.5, "high": 99.5}},
        options={"width": 4, "depth": 2},
    )
    model = Checkpoint(spec, weights_of(build(spec)), {"name": "small"})
    look = core.finish(core.look_at_slices(odd, model, head="blob"))
    assert look.doubt.shape == (5,)
    assert look.distance[0].tolist() == [0, 1, 2, 3, 4]
    assert core.finish(core.look_at_slices(odd, model, head="new")).doubt is None
