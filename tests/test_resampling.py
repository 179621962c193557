"""Resampling, judged by SimpleITK: linear for images, nearest for labels."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import (
    ModelSpec,
    Volume,
    grid,
    load_segmentation,
    load_volume,
    save_segmentation,
)
from napari_hydraseg.core.errors import GeometryMismatchError
from napari_hydraseg.core.io import regrid

sitk = pytest.importorskip("SimpleITK")

AS_IS = {"kind": "window", "low": -1.0, "high": 1.0}  # values in -1..1 stay


def itk_image(data, affine):
    """Tell ITK of a volume (z, y, x) in our frame, as if it were its own."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data))
    turn = affine[:3, :3][::-1, ::-1]  # ITK counts (x, y, z)
    spacing = np.linalg.norm(turn, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((turn / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3][::-1].tolist())
    return image


def by_itk(data, affine, shape, target, how, outside=0.0):
    like = itk_image(np.zeros(shape, np.uint8), target)
    image = itk_image(data, affine)
    made = sitk.Resample(image, like, sitk.Transform(), how, float(outside))
    return sitk.GetArrayFromImage(made)


def turned(spacing, degrees=0.0, shift=(0.0, 0.0, 0.0)):
    angle = np.deg2rad(degrees)
    rotation = np.eye(3)
    rotation[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = shift
    return affine


def smooth(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


TARGETS = {
    "shifted": ((6, 9, 8), turned((3, 2, 1.5), 0, (0.7, -1.3, 2.2))),
    "turned": ((6, 9, 8), turned((3, 2, 1.5), 20, (1, 2, 3))),
    "finer": ((11, 20, 18), turned((1.3, 0.7, 0.6), 0, (0.4, 0.3, 0.2))),
    "coarser": ((3, 4, 5), turned((5, 4, 3), -10, (1, 1, 1))),
    "elsewhere": ((3, 4, 5), turned((1, 1, 1), 0, (500, 0, 0))),
}


@pytest.mark.parametrize("name", TARGETS)
def test_an_image_on_another_grid_is_what_itk_makes_of_it(name):
    shape, target = TARGETS[name]
    data, affine = smooth((6, 9, 8)), turned((3, 2, 1.5), 5)
    found = regrid.onto(data, affine, shape, target)
    expected = by_itk(data, affine, shape, target, sitk.sitkLinear, data.min())
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_labels_on_another_grid_are_what_itk_makes_of_them(name):
    shape, target = TARGETS[name]
    labels = np.random.default_rng(1).integers(0, 9, (6, 9, 8)).astype(np.uint8)
    affine = turned((3, 2, 1.5), 5)
    found = regrid.onto(labels, affine, shape, target, nearest=True)
    assert found.dtype == labels.dtype
    expected = by_itk(labels, affine, shape, target, sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(found, expected)


def test_the_same_grid_changes_nothing():
    data, affine = smooth((4, 5, 6)), turned((3, 2, 1.5), 33, (1, 2, 3))
    np.testing.assert_allclose(regrid.onto(data, affine, data.shape, affine), data)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (np.eye(4), True),
        (turned((1, 1, 1), 0, (0.005, 0, 0)), True),
        (turned((1, 1, 1), 0, (0.1, 0, 0)), False),
        (turned((1, 1, 1), 1), False),
    ],
)
def test_a_grid_is_the_same_if_no_corner_moved(change, same):
    shape, affine = (6, 90, 80), turned((3, 2, 1.5), 12, (10, 20, 30))
    assert regrid.same_grid(shape, affine, shape, change @ affine) is same


def test_a_turn_about_the_last_corner_is_another_grid():
    shape, affine = (6, 90, 80), np.eye(4)
    far = np.array([5, 89, 79.0])
    other = turned((1, 1, 1), 5)
    other[:3, 3] = far - other[:3, :3] @ far
    np.testing.assert_allclose(other @ [*far, 1], [*far, 1])
    assert not regrid.same_grid(shape, affine, shape, other)


# several files as channels


def save(path, data, affine):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def test_a_channel_on_another_grid_is_refused_and_resampling_is_offered(tmp_path):
    first = save(tmp_path / "a_T1.nii", smooth((8, 9, 6)), np.diag([1, 1, 3.0, 1]))
    other = save(tmp_path / "a_T2.nii", smooth((8, 9, 6)), np.diag([1, 1.2, 3.0, 1]))
    with pytest.raises(GeometryMismatchError, match="resampled onto") as caught:
        load_volume([first, other])
    assert "--resample" not in str(caught.value)  # an option of the command line alone
    assert "(--resample)." in caught.value.in_terminal


@pytest.mark.parametrize("way", [1, -1])
def test_a_resampled_channel_is_what_itk_makes_of_the_files(tmp_path, way):
    first = save(tmp_path / "a_T1.nii", smooth((8, 9, 6)), np.diag([1, 1, 3.0, 1]))
    lies = turned((1.7, 1.2, 1.1), 15, (2, -1, 0.5)) @ np.diag([way, 1, 1, 1.0])
    other = save(tmp_path / "a_T2.nii", smooth((7, 8, 12), 1), lies)
    volume = load_volume([first, other], resample=True)
    assert volume.names == ("T1", "T2")
    images = [sitk.ReadImage(str(path)) for path in (first, other)]
    low = float(sitk.GetArrayFromImage(images[1]).min())
    made = sitk.Resample(images[1], images[0], sitk.Transform(), sitk.sitkLinear, low)
    # the first file's axes run to the right, the front and up: ours run back and left
    expected = sitk.GetArrayFromImage(made)[:, ::-1, ::-1]
    np.testing.assert_allclose(volume.data[1], expected, atol=1e-4)
    alone = load_volume(first)
    np.testing.assert_array_equal(volume.data[0], alone.data[0])
    np.testing.assert_array_equal(volume.affine, alone.affine)


# conform and restore


def scan(shape, spacing, plane="axial"):
    return Volume(smooth(shape)[None], np.diag([*spacing, 1.0]), plane=plane)


def spec(mm, patch=(32, 32)):
    return ModelSpec(
        "hydranet",
        ("image",),
        {"a": ("background", "a")},
        patch,
        spacing_mm={"MR": mm},
        intensity={"MR": AS_IS},
    )


def edges_aligned(volume, shape):
    """Grid of `shape` voxels over the same box, edges on edges."""
    factor = np.array(volume.shape) / shape
    target = volume.affine @ np.diag([*factor, 1.0])
    target[:3, 3] += volume.affine[:3, :3] @ ((factor - 1) / 2)
    return target


def test_a_conformed_block_is_what_itk_makes_of_it():
    volume = scan((5, 12, 9), (4.0, 2.0, 1.5))
    found = grid.conform(volume, spec(1.0, (32, 32, 32)), modality="MR").data[0, 0]
    assert found.shape == (20, 24, 14)
    target = edges_aligned(volume, found.shape)
    expected = by_itk(
        volume.data[0], volume.affine, found.shape, target, sitk.sitkLinear
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_conformed_slices_are_what_itk_makes_of_them_in_every_plane(plane):
    volume = scan((6, 7, 8), (2.0, 2.0, 2.0), plane)
    found = grid.conform(volume, spec(0.8), modality="MR").data[:, 0]
    back = grid.from_slices(found, plane)
    target = edges_aligned(volume, back.shape)
    expected = by_itk(
        volume.data[0], volume.affine, back.shape, target, sitk.sitkLinear
    )
    np.testing.assert_allclose(back, expected, atol=1e-5)


def test_shrinking_keeps_everything_in_its_place():
    """A bright ball's middle in mm is the same before and after."""
    _, y, x = np.indices((4, 60, 60))
    ball = np.exp(-((y - 35.2) ** 2 + (x - 21.7) ** 2) / 60).astype(np.float32)
    volume = replace(scan((4, 60, 60), (1.0, 1.0, 1.0)), data=ball[None])
    seen = grid.conform(volume, spec(2.5), modality="MR").data[:, 0]
    weights = seen[0] - seen[0].min()
    target = edges_aligned(volume, seen.shape)
    rows, columns = np.indices(weights.shape)
    middle = [np.average(axis, weights=weights) for axis in (rows, columns)]
    np.testing.assert_allclose((target @ [0, *middle, 1])[1:3], (35.2, 21.7), atol=0.05)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("mm", [2.0, 0.9, 0.5])
def test_labels_come_back_from_a_finer_grid_unchanged(plane, mm):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, (6, 7, 8)).astype(np.uint8)
    volume = scan(labels.shape, (2.0, 2.0, 2.0), plane)
    frame = grid.conform(volume, spec(mm), modality="MR").frame
    inside = frame.enter_labels(grid.to_slices(labels, plane))
    one_hot = (inside[:, None] == np.arange(4)[:, None, None]).astype(np.float32)
    back = frame.leave(one_hot, [1.0, 0, 0, 0]).argmax(1)
    np.testing.assert_array_equal(grid.from_slices(back, plane), labels)


@pytest.mark.parametrize("patch", [(32, 32), (32, 32, 32)])
def test_nothing_is_touched_where_nothing_has_to_change(patch):
    volume = scan((4, 6, 5), (2.0, 2.0, 2.0))
    found = grid.conform(volume, spec(2.0, patch), modality="MR").data
    np.testing.assert_allclose(found.reshape(4, 6, 5), volume.data[0], atol=1e-7)


def test_labels_of_another_grid_are_brought_onto_a_scan_by_the_nearest_voxel(tmp_path):
    labels = np.random.default_rng(3).integers(0, 300, (7, 8, 12)).astype(np.int16)
    lies = turned((1.7, 1.2, 1.1), 15, (2, -1, 0.5))
    scan_path = save(tmp_path / "t1.nii", smooth((8, 9, 6)), np.diag([1, 1, 3.0, 1]))
    mask_path = save(tmp_path / "t1_seg.nii", labels, lies)
    volume = load_volume(scan_path)
    mask = load_segmentation(mask_path, onto=volume)
    images = [sitk.ReadImage(str(path)) for path in (scan_path, mask_path)]
    made = sitk.Resample(
        images[1], images[0], sitk.Transform(), sitk.sitkNearestNeighbor
    )
    expected = sitk.GetArrayFromImage(made)[:, ::-1, ::-1]
    np.testing.assert_array_equal(mask.labels, expected)
    save_segmentation(mask, tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").shape == (8, 9, 6)
    same = load_segmentation(tmp_path / "mask.nii", onto=volume)
    np.testing.assert_array_equal(same.labels, mask.labels)
