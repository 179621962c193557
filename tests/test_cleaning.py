"""Cleaning up a mask: what goes, what is filled, what is never touched."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_hydraseg import core
from napari_hydraseg.cli import main
from napari_hydraseg.core.errors import UnknownLabelId
from napari_hydraseg.core.types import Segmentation, SourceGrid, finish

VOXEL_MM3 = 2.0  # of the masks below


def mask(labels, **more):
    """A mask of voxels of 2 x 1 x 1 mm."""
    affine = np.diag([VOXEL_MM3, 1.0, 1.0, 1.0])
    return Segmentation(np.asarray(labels, np.uint8), affine, **more)


def cleaned(labels, **options):
    return finish(core.clean(mask(labels), **options)).labels


@pytest.fixture
def box():
    """A box of class 1 with a hole of one voxel, and a stray piece of two."""
    labels = np.zeros((6, 8, 9), np.uint8)
    labels[1:4, 1:6, 1:6] = 1
    labels[2, 3, 3] = 0
    labels[5, 7, 7:9] = 1
    return labels


@pytest.fixture
def heart():
    """A wall (1) around blood (2), with a gap between them, and blood outside."""
    labels = np.zeros((7, 9, 9), np.uint8)
    labels[1:6, 1:8, 1:8] = 1
    labels[2:5, 2:7, 2:7] = 2
    labels[3, 2, 4] = 0  # between both: five faces to blood, one to the wall
    labels[0, 0, 0] = 2
    return labels


def test_without_options_nothing_changes(box):
    np.testing.assert_array_equal(cleaned(box), box)


def test_the_largest_piece_stays(box):
    found = cleaned(box, largest=True)
    assert not found[5].any()
    np.testing.assert_array_equal(found[:5], box[:5])


@pytest.mark.parametrize(("smallest_mm3", "stays"), [(4.0, True), (4.1, False)])
def test_pieces_smaller_than_a_size_in_mm3_go(box, smallest_mm3, stays):
    assert cleaned(box, smallest_mm3=smallest_mm3)[5].any() == stays


def test_a_size_that_is_a_whole_number_of_voxels_is_not_lost_to_rounding():
    labels = np.ones((1, 1, 3), np.uint8)
    thin = Segmentation(labels, np.diag([0.1, 1.0, 1.0, 1.0]))  # 3 x 0.1 > 0.3
    assert finish(core.clean(thin, smallest_mm3=0.3)).labels.all()


@pytest.mark.parametrize(("holes_mm3", "filled"), [(1.9, 0), (2.0, 1)])
def test_holes_up_to_a_size_in_mm3_are_filled(box, holes_mm3, filled):
    assert cleaned(box, holes_mm3=holes_mm3)[2, 3, 3] == filled


def test_a_hole_that_is_open_to_the_border_stays(box):
    box[2, 3, 3:] = 0
    np.testing.assert_array_equal(cleaned(box, holes_mm3=np.inf), box)


def test_a_hole_in_a_slice_is_closed_only_where_slices_count_by_themselves(box):
    box[:, 3, 3] = 0
    np.testing.assert_array_equal(cleaned(box, holes_mm3=9), box)
    found = cleaned(box, holes_mm3=9, in_slices=True)
    assert found[1:4, 3, 3].all()
    assert not found[[0, 4, 5], 3, 3].any()


def test_a_hole_between_classes_goes_to_the_one_that_encloses_most_of_it(heart):
    found = cleaned(heart, holes_mm3=2)
    assert found[3, 2, 4] == 2
    others = np.ones(heart.shape, bool)
    others[3, 2, 4] = False
    np.testing.assert_array_equal(found[others], heart[others])


def test_one_class_inside_another_is_no_hole(heart):
    found = cleaned(heart, holes_mm3=np.inf, largest=True)
    assert np.count_nonzero(found == 1) == np.count_nonzero(heart == 1)


def test_a_speck_inside_another_class_is_dropped_and_filled(heart):
    heart[3, 4, 4] = 3
    assert cleaned(heart, smallest_mm3=4, holes_mm3=2)[3, 4, 4] == 2


def test_only_the_chosen_classes_are_cleaned(heart):
    found = cleaned(heart, largest=True, holes_mm3=9, classes=[1])
    np.testing.assert_array_equal(found, heart)
    assert cleaned(heart, largest=True, classes=[2])[0, 0, 0] == 0


def test_a_class_that_is_not_there_is_refused(heart):
    with pytest.raises(UnknownLabelId, match="no label 7"):
        cleaned(heart, classes=[7])


@pytest.mark.parametrize("size", [-1.0, float("nan")])
def test_a_size_that_is_none_is_refused(box, size):
    with pytest.raises(ValueError, match="0 or more"):
        cleaned(box, holes_mm3=size)


def test_the_report_counts_in_mm3(box):
    found = finish(core.clean(mask(box), smallest_mm3=5, holes_mm3=5))
    report = found.made_by["cleaned"]
    assert report["unit"] == "mm3"
    assert report["classes"] == [
        {
            "id": 1,
            "name": "label 1",
            "pieces": 1,
            "removed": 4.0,
            "holes": 1,
            "filled": 2.0,
            "left": 75 * VOXEL_MM3,
        }
    ]


def test_without_a_voxel_size_voxels_are_counted_and_the_report_says_so(box):
    picture = mask(box, grid=SourceGrid((8, 9), np.zeros((3, 2)), format="image"))
    found = finish(core.clean(picture, smallest_mm3=3))
    assert found.made_by["cleaned"]["unit"] == "voxels"
    assert found.made_by["cleaned"]["classes"][0]["removed"] == 2
    told = finish(core.clean(mask(box), smallest_mm3=3, known_mm=False))
    np.testing.assert_array_equal(told.labels, found.labels)


def test_the_mask_that_was_given_stays(box):
    given_mask = mask(box.copy(), annotated=np.ones(6, bool), names={1: "liver"})
    found = finish(core.clean(given_mask, largest=True, holes_mm3=9))
    np.testing.assert_array_equal(given_mask.labels, box)
    assert found.annotated is given_mask.annotated
    assert found.names == {1: "liver"}
    assert found.labels.dtype == np.uint8


def test_an_empty_mask_stays_empty():
    found = finish(core.clean(mask(np.zeros((2, 3, 4))), largest=True, holes_mm3=9))
    assert not found.labels.any()
    assert found.made_by["cleaned"]["classes"] == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_filling_all_holes_of_one_class_is_what_scipy_fills(seed, depth):
    some = np.random.default_rng(seed).random((depth + 2, 7, 8)) < 0.7
    wanted = ndimage.binary_fill_holes(some)
    np.testing.assert_array_equal(cleaned(some, holes_mm3=np.inf) > 0, wanted)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_cleaning_twice_is_cleaning_once_and_no_class_takes_from_another(seed):
    some = np.random.default_rng(seed).integers(0, 4, (4, 7, 8)).astype(np.uint8)
    options = {"smallest_mm3": 6.0, "holes_mm3": 8.0}
    once = cleaned(some, **options)
    np.testing.assert_array_equal(cleaned(once, **options), once)
    dropped = cleaned(some, smallest_mm3=6.0)
    np.testing.assert_array_equal(once[dropped > 0], dropped[dropped > 0])


@pytest.fixture
def file(box, tmp_path):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(box.transpose(2, 1, 0), np.diag([1.0, 1, 2, 1])), path)
    return path


def test_the_command_cleans_as_core_does(box, file, tmp_path):
    out = tmp_path / "clean.nii.gz"
    asked = ["clean", file, "-o", out, "--smallest", 5, "--holes", 5, "--json"]
    done = CliRunner().invoke(main, [str(part) for part in asked])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["verb"], told["unit"]) == ("clean", "mm3")
    assert told["classes"][0]["left"] == 150
    wanted = finish(
        core.clean(core.load_segmentation(file), smallest_mm3=5, holes_mm3=5)
    )
    np.testing.assert_array_equal(core.load_segmentation(out).labels, wanted.labels)


@pytest.mark.parametrize(
    ("asked", "status"), [([], 2), (["--largest", "--overwrite"], 7)]
)
def test_the_command_writes_over_no_mask_and_does_nothing_unasked(file, asked, status):
    before = file.read_bytes()
    done = CliRunner().invoke(main, ["clean", str(file), "-o", str(file), *asked])
    assert done.exit_code == status, done.stderr
    assert file.read_bytes() == before
