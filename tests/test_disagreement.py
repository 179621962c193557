"""Where two masks differ."""

from __future__ import annotations

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core.errors import GeometryMismatchError, WrongInput
from napari_hydraseg.core.types import Segmentation

NAMES = {1: "wall", 2: "blood"}


def mask(rows, *, names=NAMES, **more):
    """A mask of three slices from three rows of digits."""
    labels = np.array([[int(c) for c in row] for row in rows], np.uint8)[:, None, :]
    return Segmentation(labels, np.diag([2.0, 1, 1, 1]), names=names, **more)


TRUE = mask(["0110", "1120", "0000"])
FOUND = mask(["0110", "0210", "0022"])


def test_what_is_missed_and_what_is_too_much_get_labels_and_colours_of_their_own():
    errors = core.disagreement(TRUE, mask(["0110", "0120", "0022"]))
    assert errors.labels[:, 0].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 2, 2]]
    assert errors.names == {
        1: "missed (false negative)",
        2: "too much (false positive)",
    }
    assert len(set(errors.colours.values())) == 2


def test_one_structure_taken_for_another_is_told_apart():
    errors = core.disagreement(TRUE, FOUND)
    assert errors.labels[1, 0].tolist() == [1, 3, 3, 0]
    assert errors.names[3] == "another structure"


def test_the_errors_of_one_structure_leave_the_others_out():
    errors = core.disagreement(TRUE, FOUND, name="wall")
    assert errors.labels[:, 0].tolist() == [[0, 0, 0, 0], [1, 1, 2, 0], [0, 0, 0, 0]]
    with pytest.raises(WrongInput, match="aorta"):
        core.disagreement(TRUE, FOUND, name="aorta")


def test_errors_and_dice_tell_the_same_story():
    rng = np.random.default_rng(0)
    pair = [
        Segmentation(rng.integers(0, 3, (4, 6, 5)).astype(np.uint8), np.eye(4), NAMES)
        for _ in range(2)
    ]
    for row in core.evaluate(*pair):
        wrong = core.disagreement(*pair, name=row["name"]).labels
        both = sum((one.labels == row["label"]).sum() for one in pair)
        assert row["dice"] == pytest.approx(1 - (wrong > 0).sum() / both)


def test_labels_of_other_numbers_belong_together_by_their_names():
    turned = mask(["0220", "2210", "0000"], names={1: "blood", 2: "wall"})
    assert not core.disagreement(TRUE, turned).labels.any()


def test_only_what_the_reference_vouches_for_can_be_wrong():
    vouched = mask(["0110", "1120", "0000"], annotated=np.array([True, True, False]))
    assert not core.disagreement(vouched, FOUND).labels[2].any()


def test_the_worst_slice_comes_first_and_good_ones_not_at_all():
    errors = core.disagreement(TRUE, FOUND)
    assert core.worst_slices(errors) == [(1, 3), (2, 2)]


def test_masks_of_different_scans_are_refused():
    other = Segmentation(TRUE.labels, np.diag([3.0, 1, 1, 1]), NAMES)
    with pytest.raises(GeometryMismatchError):
        core.disagreement(TRUE, other)
