"""The synthetic heart: the sample behind the first click."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hydraseg.core.phantom import heart_phantom

RIGHT, WALL, LEFT, AORTA = 1, 2, 3, 4


@pytest.fixture(scope="module")
def heart():
    return heart_phantom(seed=0)


def test_the_sample_says_that_it_is_synthetic(heart):
    volume, truth = heart
    assert "synthetic" in volume.source
    assert "synthetic" in truth.made_by["truth"]


def test_scan_and_truth_share_one_grid(heart):
    volume, truth = heart
    assert volume.data.shape == (1, 12, 216, 256)
    assert truth.labels.shape == volume.shape
    np.testing.assert_array_equal(truth.affine, volume.affine)
    assert volume.spacing_mm == (10.0, 1.5, 1.5)


def test_every_named_structure_is_there_and_nothing_else(heart):
    _, truth = heart
    assert set(np.unique(truth.labels)) == {0, *truth.names}


def test_one_seed_gives_one_heart_and_another_seed_another(heart):
    again, truth_again = heart_phantom(seed=0)
    other, truth_other = heart_phantom(seed=1)
    np.testing.assert_array_equal(again.data, heart[0].data)
    np.testing.assert_array_equal(truth_again.labels, heart[1].labels)
    assert not np.array_equal(other.data, heart[0].data)
    assert not np.array_equal(truth_other.labels, heart[1].labels)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_muscle_parts_the_left_cavity_from_all_else(seed):
    labels = heart_phantom(seed)[1].labels
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    rim = ndimage.binary_dilation(labels == LEFT, in_plane) & (labels != LEFT)
    assert set(np.unique(labels[rim])) == {WALL}


def test_the_heart_narrows_towards_the_apex_and_ends_before_the_last_slice(heart):
    area = (heart[1].labels == LEFT).sum((1, 2))
    assert area[2] > area[6] > area[9] > 0
    assert not np.isin(heart[1].labels[-1], (RIGHT, WALL, LEFT)).any()


def test_blood_is_bright_and_muscle_is_grey_as_in_cine_mr(heart):
    volume, truth = heart
    grey = {k: np.median(volume.data[0][truth.labels == k]) for k in truth.names}
    assert grey[LEFT] > 2 * grey[WALL]
    assert grey[RIGHT] > 1.5 * grey[WALL]
    assert grey[AORTA] > 2 * grey[WALL]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_left_ventricle_has_a_plausible_size(seed):
    volume, truth = heart_phantom(seed)
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    cavity_ml = (truth.labels == LEFT).sum() * voxel_ml
    assert 80 < cavity_ml < 250  # end diastole: healthy 100-160, dilated up to 300
