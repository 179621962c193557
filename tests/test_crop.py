"""Cutting air away, and putting labels back where they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg.core import Segmentation, SourceGrid, Volume
from napari_hydraseg.core._crop import crop, foreground, paste


@pytest.fixture
def head():
    """A bright block in noisy air, off the middle, oblique."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 20, (20, 40, 50)).astype(np.int16)
    data[8:12, 10:25, 30:45] = rng.integers(500, 900, (4, 15, 15))
    affine = np.diag([5.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.3
    grid = SourceGrid((50, 40, 20), np.empty((3, 2)))
    return Volume(data[None], affine, grid=grid)


def test_the_box_holds_all_that_is_bright_and_a_margin_in_mm(head):
    box = foreground(head, margin_mm=10)
    assert [(s.start, s.stop) for s in box] == [(6, 14), (0, 35), (25, 50)]


def test_what_is_kept_stays_at_its_millimetres(head):
    box = foreground(head, margin_mm=0)
    part = crop(head, box)
    index = np.array([1, 2, 3])
    whole = index + [side.start for side in box]
    assert part.data[(0, *index)] == head.data[(0, *whole)]
    np.testing.assert_allclose(part.affine @ [*index, 1], head.affine @ [*whole, 1])
    assert part.grid is None


@pytest.mark.parametrize("margin", [0, 3, 1000])
def test_labels_come_back_on_the_whole_scan(head, margin):
    truth = (head.data[0] > 400).astype(np.uint8)
    box = foreground(head, margin_mm=margin)
    part = crop(head, box)
    soft = np.stack([truth[box] == 0, truth[box] == 1]).astype(np.float32)
    made = Segmentation(truth[box], part.affine, {1: "head"}, probabilities=soft)
    back = paste(made, box, head)
    np.testing.assert_array_equal(back.labels, truth)
    np.testing.assert_array_equal(back.probabilities.argmax(0), truth)
    np.testing.assert_array_equal(back.probabilities.sum(0), 1)
    assert back.affine is head.affine
    assert back.grid is head.grid


def test_channels_share_the_box_of_all(head):
    data = np.concatenate([head.data, np.roll(head.data, 3, axis=1)])
    both = foreground(replace(head, data=data, names=("T1", "T2")), margin_mm=0)
    assert (both[0].start, both[0].stop) == (8, 15)


@pytest.mark.parametrize("value", [0, 7])
def test_a_scan_without_contrast_is_kept_whole(value):
    scan = Volume(np.full((1, 3, 4, 5), value, np.int16), np.eye(4))
    assert foreground(scan) == (slice(0, 3), slice(0, 4), slice(0, 5))
