"""Every axis order, every flip, every angle: the mask lies where the scan lies.

Judged by nibabel and by SimpleITK, each with its own code and its own convention
(RAS and LPS), not by the code that is tested.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import (
    Segmentation,
    load_segmentation,
    load_volume,
    save_segmentation,
)

SHAPE = (4, 5, 6)
PLACE = (1, 3, 4)  # of the marker, off the middle of every axis
MARK = 1000
ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


def oblique(seed: int, *, shear: float = 0.0) -> np.ndarray:
    """Give an affine with a random rotation, odd voxel sizes and an offset."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    skew = np.eye(3)
    skew[0, 1] = shear
    affine = np.eye(4)
    affine[:3, :3] = rotation @ skew * rng.uniform(0.4, 4, 3)
    affine[:3, 3] = rng.uniform(-150, 150, 3)
    return affine.astype(np.float32).astype(np.float64)  # what a header can hold


def marked(seed: int = 0) -> np.ndarray:
    data = np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)
    data[PLACE] = MARK
    return data


def turned(codes: str, affine: np.ndarray) -> nib.Nifti1Image:
    """Store the same scan with other axes: the world stays."""
    start = nib.Nifti1Image(marked(), affine)
    start.header.set_qform(affine, code=1)
    start.header.set_sform(affine, code=1)
    wanted = nib.orientations.axcodes2ornt(codes)
    now = nib.io_orientation(affine)
    return start.as_reoriented(nib.orientations.ornt_transform(now, wanted))


def ras(volume, index) -> np.ndarray:
    """Millimetres towards Right, Anterior, Superior of one of our voxels."""
    superior, posterior, left = (volume.affine @ [*index, 1])[:3]
    return np.array([-left, -posterior, superior])


def mask_of(volume) -> Segmentation:
    labels = (volume.data[0] == MARK).astype(np.uint8)
    return Segmentation(labels, volume.affine, {1: "marker"}, grid=volume.grid)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_round_trip_through_files_changes_neither_voxel_nor_affine(tmp_path, codes):
    sitk = pytest.importorskip("SimpleITK")
    for seed in range(20):
        affine = oblique(seed)
        scan, mask = tmp_path / f"{seed}.nii", tmp_path / f"{seed}_mask.nii"
        turned(codes, affine).to_filename(scan)
        volume = load_volume(scan)
        (found,) = np.argwhere(volume.data[0] == MARK)
        save_segmentation(mask_of(volume), mask)
        before, after = nib.load(scan), nib.load(mask)
        np.testing.assert_array_equal(after.affine, before.affine)  # bit for bit
        for key in ("pixdim", "qform_code", "sform_code", "xyzt_units"):
            np.testing.assert_array_equal(after.header[key], before.header[key])
        stored = np.asanyarray(before.dataobj) == MARK
        np.testing.assert_array_equal(np.asanyarray(after.dataobj) == 1, stored)
        (index,) = np.argwhere(np.asanyarray(after.dataobj))
        by_nibabel = (after.affine @ [*index, 1])[:3]
        image = sitk.ReadImage(str(mask))
        by_itk = image.TransformIndexToPhysicalPoint([int(i) for i in index])
        truth = (affine @ [*PLACE, 1])[:3]
        np.testing.assert_allclose(ras(volume, found), truth, atol=1e-4)
        np.testing.assert_allclose(by_nibabel, truth, atol=1e-4)
        np.testing.assert_allclose(by_itk, truth * (-1, -1, 1), atol=1e-4)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_all_voxels_are_those_that_nibabel_and_itk_see(tmp_path, codes):
    sitk = pytest.importorskip("SimpleITK")
    scan = tmp_path / "scan.nii.gz"
    turned(codes, oblique(7)).to_filename(scan)
    volume = load_volume(scan)
    image = sitk.ReadImage(str(scan))
    one = nib.load(scan)
    values, inverse = np.asanyarray(one.dataobj), np.linalg.inv(one.affine)
    for index in np.ndindex(volume.shape):
        where = ras(volume, index)
        i, j, k = np.rint(inverse @ [*where, 1])[:3].astype(int)
        assert values[i, j, k] == volume.data[(0, *index)]
        place = image.TransformPhysicalPointToIndex((where * (-1, -1, 1)).tolist())
        assert image[place] == volume.data[(0, *index)]


@pytest.mark.parametrize("codes", ORIENTATIONS[::5])
@pytest.mark.parametrize("seed", range(4))
def test_a_sheared_grid_is_kept_and_gets_no_wrong_qform(tmp_path, codes, seed):
    scan, mask = tmp_path / "scan.nii", tmp_path / "mask.nii"
    image = turned(codes, oblique(seed, shear=0.3))
    image.header["qform_code"] = 0
    image.to_filename(scan)
    volume = load_volume(scan)
    (found,) = np.argwhere(volume.data[0] == MARK)
    truth = (oblique(seed, shear=0.3) @ [*PLACE, 1])[:3]
    np.testing.assert_allclose(ras(volume, found), truth, atol=1e-4)
    for grid in (volume.grid, replace(volume.grid, header={})):
        save_segmentation(replace(mask_of(volume), grid=grid), mask, overwrite=True)
        saved = nib.load(mask)
        assert saved.header["qform_code"] == 0
        np.testing.assert_allclose(saved.affine, image.affine, atol=1e-5)
        (index,) = np.argwhere(np.asanyarray(saved.dataobj))
        np.testing.assert_allclose((saved.affine @ [*index, 1])[:3], truth, atol=1e-4)


@pytest.mark.parametrize("codes", ORIENTATIONS[::3])
def test_a_scan_that_is_no_nifti_gives_a_mask_that_itk_puts_in_its_place(
    tmp_path, codes
):
    sitk = pytest.importorskip("SimpleITK")
    turned(codes, oblique(5)).to_filename(tmp_path / "scan.nii")
    volume = load_volume(tmp_path / "scan.nii")
    bare = replace(volume.grid, header={}, format="dicom")
    save_segmentation(replace(mask_of(volume), grid=bare), tmp_path / "mask.nii")
    image = sitk.ReadImage(str(tmp_path / "mask.nii"))
    array = sitk.GetArrayFromImage(image)
    (index,) = np.argwhere(array)
    place = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
    truth = (oblique(5) @ [*PLACE, 1])[:3] * (-1, -1, 1)
    np.testing.assert_allclose(place, truth, atol=1e-4)
    codes_written = nib.load(tmp_path / "mask.nii").header
    assert (codes_written["qform_code"], codes_written["sform_code"]) == (1, 1)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "SAL", "PIR", "IPL"])
@pytest.mark.parametrize("thick", range(3))
def test_the_acquisition_plane_is_kept_however_the_file_is_turned(
    tmp_path, codes, thick
):
    """Thick along Superior: axial; along Anterior: coronal; along Right: sagittal."""
    sizes = [1.0, 1.0, 1.0]
    sizes[2 - thick] = 4.0
    scan = tmp_path / "scan.nii"
    turned(codes, np.diag([*sizes, 1.0])).to_filename(scan)
    volume = load_volume(scan)
    assert volume.plane == ("axial", "coronal", "sagittal")[thick]
    assert volume.spacing_mm[volume.plane_axis] == 4.0
    save_segmentation(mask_of(volume), tmp_path / "mask.nii")
    assert load_segmentation(tmp_path / "mask.nii").plane == volume.plane


def by_side(volume) -> Segmentation:
    """Name two bright spots as a model of the body would: by the patient's sides."""
    spots = np.argwhere(volume.data[0] > 0)
    spots = spots[np.argsort(spots @ volume.affine[2, :3])]  # from Right to Left
    labels = np.zeros(volume.shape, np.uint8)
    for label, spot in enumerate(spots, 1):
        labels[tuple(spot)] = label
    names = {1: "right kidney", 2: "left kidney"}
    return Segmentation(labels, volume.affine, names, grid=volume.grid)


@pytest.mark.parametrize("codes", ORIENTATIONS[::4])
def test_a_mirrored_scan_swaps_what_is_called_left_and_right(tmp_path, codes):
    spots = np.zeros(SHAPE, np.int16)
    spots[0, 2, 2], spots[3, 2, 2] = 10, 20  # the first on the right side, by RAS
    affine = np.diag([-2.0, 2, 2, 1]) if codes[0] in "L" else np.diag([2.0, 2, 2, 1])
    named = {}
    for way, data in (("straight", spots), ("mirrored", spots[::-1])):
        image = nib.Nifti1Image(np.ascontiguousarray(data), affine)
        wanted = nib.orientations.axcodes2ornt(codes)
        image = image.as_reoriented(
            nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
        )
        image.to_filename(tmp_path / f"{way}.nii")
        volume = load_volume(tmp_path / f"{way}.nii")
        save_segmentation(by_side(volume), tmp_path / f"{way}_seg.nii")
        mask = load_segmentation(tmp_path / f"{way}_seg.nii")
        stored = np.asanyarray(nib.load(tmp_path / f"{way}.nii").dataobj)
        saved = np.asanyarray(nib.load(tmp_path / f"{way}_seg.nii").dataobj)
        named[way] = {int(v): mask.names[int(saved[stored == v][0])] for v in (10, 20)}
    assert named["straight"][10] == named["mirrored"][20]
    assert named["straight"][20] == named["mirrored"][10]
    assert named["straight"][10] != named["straight"][20]


SIDED = {  # ids of paired organs, from the data sets' own pages
    "abdomen_ct_btcv": {"right": 2, "left": 3},
}


@pytest.mark.parametrize("name", SIDED)
def test_left_named_organs_of_real_scans_lie_on_the_left(data_root, name):
    files = sorted((data_root / name / "labels").glob("*.nii.gz"))
    if not files:
        pytest.skip(f"no labels in {name}")
    for path in files[:3]:
        mask = load_segmentation(path)
        middle = {
            side: np.argwhere(mask.labels == label).mean(0) @ mask.affine[2, :3]
            for side, label in SIDED[name].items()
        }
        assert middle["left"] > middle["right"]
