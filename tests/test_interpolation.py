"""Filling slices between annotated ones: even shapes, no overlap, nothing vouched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core import dice
from napari_hydraseg.core.errors import AnnotationError
from napari_hydraseg.core.types import PLANES, Segmentation, finish

SIZE = 41


def disc(radius_mm, centre=(20, 20), row_mm=1.0):
    y, x = np.ogrid[:SIZE, :SIZE]
    return ((y - centre[0]) * row_mm) ** 2 + (x - centre[1]) ** 2 <= radius_mm**2


def drawn(slices, count, *, spacing_mm=(5.0, 1.0, 1.0), plane="axial"):
    """A mask with some slices drawn; those alone are vouched for."""
    labels = np.zeros((count, SIZE, SIZE), np.uint8)
    for at, shape in slices.items():
        labels[at] = shape
    axis = PLANES.index(plane)
    return Segmentation(
        np.ascontiguousarray(np.moveaxis(labels, 0, axis)),
        np.diag([*spacing_mm, 1.0]),
        annotated=np.isin(np.arange(count), list(slices)),
        plane=plane,
    )


def filled(slices, count, **options):
    return finish(core.fill_between(drawn(slices, count, **options)))


def test_a_growing_disc_grows_evenly():
    found = filled({0: disc(6), 4: disc(14)}, 5)
    for at, radius in ((1, 8), (2, 10), (3, 12)):
        assert dice(found.labels[at] > 0, disc(radius)) > 0.95


def test_distances_are_measured_in_mm():
    found = filled(
        {0: disc(6, row_mm=2), 4: disc(14, row_mm=2)}, 5, spacing_mm=(5, 2, 1)
    )
    assert dice(found.labels[2] > 0, disc(10, row_mm=2)) > 0.93


def test_a_disc_that_moves_is_half_way_in_the_middle():
    found = filled({0: disc(9, (18, 20)), 2: disc(9, (22, 20))}, 3)
    rows, columns = np.nonzero(found.labels[1])
    assert rows.mean() == pytest.approx(20, abs=0.3)
    assert columns.mean() == pytest.approx(20, abs=0.1)


def test_annotated_slices_and_those_beyond_them_stay():
    slices = {2: disc(6), 5: disc(9), 9: disc(4)}
    given = drawn(slices, 12)
    given.labels[0] = given.labels[11] = 3  # what a model found there
    found = finish(core.fill_between(given))
    assert found.made_by["interpolated"] == [3, 4, 6, 7, 8]
    others = [at for at in range(12) if at not in found.made_by["interpolated"]]
    np.testing.assert_array_equal(found.labels[others], given.labels[others])


def test_what_was_filled_is_not_vouched_for():
    given = drawn({0: disc(6), 3: disc(9)}, 4)
    found = finish(core.fill_between(given))
    assert found.annotated.tolist() == [True, False, False, True]
    assert not given.labels[1:3].any()


def test_what_a_model_found_between_annotated_slices_is_replaced():
    given = drawn({0: disc(6), 2: disc(6)}, 3)
    given.labels[1] = 4
    found = finish(core.fill_between(given))
    np.testing.assert_array_equal(found.labels[1], disc(6))


def test_classes_that_touch_leave_no_gap_and_never_overlap():
    halves = []
    for edge in (12, 27):
        half = disc(15).astype(np.uint8)
        half[:, edge:] *= 2
        halves.append(half)
    found = filled({0: halves[0], 4: halves[1]}, 5)
    for at in (1, 2, 3):
        np.testing.assert_array_equal(found.labels[at] > 0, disc(15))
    edges = [np.flatnonzero(found.labels[at, 20] == 2)[0] for at in range(5)]
    assert edges == sorted(edges)
    assert edges[2] == pytest.approx(19.5, abs=1)


def test_a_ring_stays_a_ring_around_its_inside():
    def ring(radius):
        return disc(radius).astype(np.uint8) + disc(radius - 3)

    found = filled({0: ring(8), 2: ring(14)}, 3)
    assert dice(found.labels[1] == 2, disc(8)) > 0.9
    assert dice(found.labels[1] > 0, disc(11)) > 0.95


def test_a_class_of_one_slice_alone_is_not_carried_on():
    both = disc(9).astype(np.uint8)
    both[:4, :4] = 2
    found = filled({0: both, 2: disc(9)}, 3)
    np.testing.assert_array_equal(found.labels[1], disc(9))


def test_towards_an_empty_annotated_slice_nothing_is_drawn():
    found = filled({0: disc(9), 3: np.zeros((SIZE, SIZE))}, 4)
    assert not found.labels[1:].any()


def test_shapes_that_fill_the_slice_are_filled():
    whole = np.ones((SIZE, SIZE))
    found = filled({0: whole, 2: whole}, 3)
    assert found.labels[1].all()


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_slices_are_those_of_the_plane_of_the_mask(plane):
    axis = PLANES.index(plane)
    found = filled({0: disc(6), 2: disc(10)}, 3, spacing_mm=(1, 1, 1), plane=plane)
    middle = np.take(found.labels, 1, axis)
    assert dice(middle > 0, disc(8)) > 0.95


@pytest.mark.parametrize("slices", [{}, {1: disc(5)}, {1: disc(5), 2: disc(5)}])
def test_where_nothing_lies_between_it_says_what_to_do(slices):
    with pytest.raises(AnnotationError, match="some slices apart"):
        filled(slices, 4)


def test_where_all_counts_as_annotated_it_asks_which_slices_are():
    mask = Segmentation(np.ones((3, 4, 4), np.uint8), np.eye(4))
    with pytest.raises(AnnotationError, match="not known which slices"):
        finish(core.fill_between(mask))


def test_every_slice_gives_a_sign_of_life():
    steps = core.fill_between(drawn({0: disc(6), 5: disc(9)}, 6))
    signs = [progress.done for progress in steps]
    assert signs == [0, 0, 1, 2, 3, 4]


def test_slices_left_out_of_a_real_annotation_come_back(data_root):
    files = sorted((data_root / "hippocampus" / "labels").glob("*.nii.gz"))
    if not files:
        pytest.skip("no masks of the hippocampus here")
    truth = core.load_segmentation(files[0])
    axis = PLANES.index(truth.plane)
    slices = np.moveaxis(truth.labels, axis, 0)
    both = np.flatnonzero([set(np.unique(one)) >= {1, 2} for one in slices])
    ends = both[len(both) // 2 + np.array([0, 3])]
    given = replace(truth, annotated=np.isin(np.arange(len(slices)), ends))
    found = np.moveaxis(finish(core.fill_between(given)).labels, axis, 0)
    for at in range(ends[0] + 1, ends[1]):
        assert dice(found[at] > 0, slices[at] > 0) > 0.85
