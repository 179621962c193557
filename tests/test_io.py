"""Files in and out: the right place, the right voxels, nothing lost."""

import gzip
import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_hydraseg.core import (
    Segmentation,
    Volume,
    load_segmentation,
    load_volume,
    save_segmentation,
    save_volume,
)
from napari_hydraseg.core.errors import (
    GeometryMismatchError,
    LabelDtype,
    NonFiniteVolume,
    NotAVolume,
    SaveError,
    SingularAffine,
    TruncatedFile,
    UnsupportedDtype,
    UnsupportedShape,
    WouldOverwrite,
    WouldOverwriteSource,
)

MARK = 1000  # value of the marker voxel


def oblique(seed: int) -> np.ndarray:
    """Give an affine with odd spacing, a rotation and an offset."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.eye(3) + rng.normal(0, 0.2, (3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.5, 4, 3)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


def write(path, data, affine=None, **header):
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    if header:  # without an affine nibabel leaves the header's fields alone
        image = nib.Nifti1Image(data, None, image.header)
    nib.save(image, path)
    return path


def marked(shape=(5, 6, 7), place=(1, 4, 2)):
    data = np.zeros(shape, np.int16)
    data[place] = MARK
    return data


ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_marker_stays_at_its_millimetres_in_every_orientation(tmp_path, codes):
    start = nib.Nifti1Image(marked(), oblique(3))
    transform = nib.orientations.ornt_transform(
        nib.io_orientation(start.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = start.as_reoriented(transform)
    nib.save(turned, tmp_path / "scan.nii.gz")
    volume = load_volume(tmp_path / "scan.nii.gz")
    where = np.argwhere(volume.data[0] == MARK)[0]
    superior, posterior, left = (volume.affine @ [*where, 1])[:3]
    ras = (start.affine @ [1, 4, 2, 1])[:3]
    np.testing.assert_allclose((-left, -posterior, superior), ras, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_voxels_run_towards_superior_posterior_and_left(tmp_path, seed):
    write(tmp_path / "scan.nii", marked(), oblique(seed))
    affine = load_volume(tmp_path / "scan.nii").affine[:3, :3]
    largest = np.abs(affine).argmax(0)
    assert sorted(largest) == [0, 1, 2]
    assert (affine.diagonal() > 0).all()


@pytest.mark.parametrize("codes", ORIENTATIONS[::7])
def test_a_mask_comes_back_on_the_grid_of_its_scan(tmp_path, codes):
    start = nib.Nifti1Image(marked(), oblique(1))
    start.header["descrip"] = b"DOE^JOHN"
    transform = nib.orientations.ornt_transform(
        nib.io_orientation(start.affine), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(start.as_reoriented(transform), tmp_path / "scan.nii.gz")
    volume = load_volume(tmp_path / "scan.nii.gz")
    mask = Segmentation(
        (volume.data[0] == MARK).astype(np.uint8),
        volume.affine,
        names={1: "marker"},
        grid=volume.grid,
    )
    save_segmentation(mask, tmp_path / "mask.nii.gz")
    scan, saved = (nib.load(tmp_path / f"{n}.nii.gz") for n in ("scan", "mask"))
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(scan.affine, saved.affine)
    for key in ("pixdim", "qform_code", "sform_code", "srow_x", "quatern_b"):
        np.testing.assert_array_equal(scan.header[key], saved.header[key])
    np.testing.assert_array_equal(
        np.asanyarray(scan.dataobj) == MARK, np.asanyarray(saved.dataobj) == 1
    )
    assert b"DOE" not in gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())
    assert load_segmentation(tmp_path / "mask.nii.gz").names == {1: "marker"}


def test_a_trailing_axis_of_one_is_kept_in_the_mask(tmp_path):
    write(tmp_path / "scan.nii", marked()[..., None])
    volume = load_volume(tmp_path / "scan.nii")
    mask = Segmentation(
        np.ones(volume.shape, np.uint8), volume.affine, grid=volume.grid
    )
    # the reader squeezes it; the grid of the file is what counts
    save_segmentation(mask, tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").shape == (5, 6, 7, 1)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_one_flipped_bit_is_noticed(tmp_path, place):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 500, (20, 20, 20)).astype(np.int16)
    path = write(tmp_path / "scan.nii.gz", noise)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 8
    path.write_bytes(content)
    with pytest.raises(TruncatedFile):
        load_volume(path)


@pytest.mark.parametrize("lost", [1, 8, 2000])
def test_a_file_that_ends_early_is_refused(tmp_path, lost):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "s.nii.gz", rng.normal(size=(20, 20, 20)))
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(TruncatedFile):
        load_volume(path)
    plain = write(tmp_path / "s.nii", rng.normal(size=(20, 20, 20)))
    plain.write_bytes(plain.read_bytes()[:-lost])
    with pytest.raises(TruncatedFile):
        load_volume(plain)


@pytest.mark.parametrize(
    "content", [b"", b"<html>login</html>" * 100, b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_scan_is_refused(tmp_path, content):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(content)
    with pytest.raises(NotAVolume):
        load_volume(path)


def test_content_counts_and_not_the_suffix(tmp_path):
    path = write(tmp_path / "scan.nii", marked())
    (tmp_path / "really.nii.gz").write_bytes(path.read_bytes())
    volume = load_volume(tmp_path / "really.nii.gz")
    assert volume.data.max() == MARK


def test_unusable_numbers_are_refused(tmp_path):
    with pytest.raises(UnsupportedDtype):
        load_volume(write(tmp_path / "c.nii", np.ones((3, 3, 3), np.complex64)))
    with pytest.raises(NonFiniteVolume):
        load_volume(write(tmp_path / "n.nii", np.full((3, 3, 3), np.nan)))
    with pytest.raises(UnsupportedShape):
        load_volume(write(tmp_path / "2d.nii", np.ones((3, 3))))


def test_some_nan_are_replaced_and_said(tmp_path):
    data = marked().astype(np.float32)
    data[0, 0, 0] = np.nan
    volume = load_volume(write(tmp_path / "scan.nii", data))
    assert np.isfinite(volume.data).all()
    assert any("1 voxels" in note for note in volume.notes)


def test_a_singular_affine_is_refused(tmp_path):
    flat = [1, 1, 0, 0]
    path = write(
        tmp_path / "scan.nii", marked(), srow_x=flat, srow_y=flat, sform_code=2
    )
    with pytest.raises(SingularAffine):
        load_volume(path)


def test_a_time_series_needs_an_index(tmp_path):
    data = np.stack([marked(), 2 * marked()], -1)
    path = write(tmp_path / "scan.nii", data)
    with pytest.raises(UnsupportedShape):
        load_volume(path)
    assert load_volume(path, index=1).data.max() == 2 * MARK


def test_big_endian_voxels_become_native(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(marked(), np.eye(4), header), tmp_path / "scan.nii")
    assert (tmp_path / "scan.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    volume = load_volume(tmp_path / "scan.nii")
    assert volume.data.dtype == np.int16
    assert volume.data.max() == MARK


def test_channels_share_a_grid_or_are_refused(tmp_path):
    write(tmp_path / "a_T1.nii", marked())
    write(tmp_path / "a_T2.nii", 2 * marked())
    shifted = np.eye(4)
    shifted[0, 3] = 5
    write(tmp_path / "a_FLAIR.nii", marked(), shifted)
    both = load_volume([tmp_path / "a_T1.nii", tmp_path / "a_T2.nii"])
    assert both.names == ("T1", "T2")
    assert both.data.shape[0] == 2
    with pytest.raises(GeometryMismatchError):
        load_volume([tmp_path / "a_T1.nii", tmp_path / "a_FLAIR.nii"])


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [((1, 1, 5), "axial"), ((1, 5, 1), "coronal"), ((5, 1, 1), "sagittal")],
)
def test_the_plane_lies_across_the_thickest_axis(tmp_path, spacing, plane):
    path = write(tmp_path / "s.nii", marked(), np.diag([*map(float, spacing), 1]))
    assert load_volume(path).plane == plane


def test_a_picture_is_one_slice_without_millimetres(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "us.png")
    volume = load_volume(tmp_path / "us.png", modality="US")
    np.testing.assert_array_equal(volume.data[0, 0], pixels)
    assert volume.known == frozenset()
    assert volume.plane == "axial"


@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_the_mask_of_a_picture_lies_on_it(tmp_path, suffix):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(pixels).save(tmp_path / "us.png")
    volume = load_volume(tmp_path / "us.png")
    mask = Segmentation(
        (volume.data[0] > 6).astype(np.uint8), volume.affine, grid=volume.grid
    )
    save_segmentation(mask, tmp_path / f"mask{suffix}")
    again = load_segmentation(tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(again.labels, mask.labels)
    np.testing.assert_allclose(again.affine, volume.affine)


def test_labels_must_be_whole_numbers(tmp_path):
    with pytest.raises(LabelDtype):
        load_segmentation(write(tmp_path / "x.nii", np.full((3, 3, 3), 0.5)))


def test_ids_above_255_are_kept(tmp_path):
    labels = np.zeros((3, 4, 5), np.uint16)
    labels[1, 2, 3] = 700
    save_segmentation(Segmentation(labels, np.eye(4)), tmp_path / "m.nii")
    again = load_segmentation(tmp_path / "m.nii").labels
    np.testing.assert_array_equal(again, labels)


def test_a_mask_is_never_overwritten_unasked(tmp_path):
    mask = Segmentation(np.ones((2, 2, 2), np.uint8), np.eye(4))
    save_segmentation(mask, tmp_path / "m.nii")
    with pytest.raises(WouldOverwrite):
        save_segmentation(mask, tmp_path / "m.nii")
    save_segmentation(mask, tmp_path / "m.nii", overwrite=True)
    with pytest.raises(SaveError):
        save_segmentation(mask, tmp_path / "m.doc")
    assert {p.name for p in tmp_path.iterdir()} == {"m.nii"}


@pytest.mark.parametrize("codes", ORIENTATIONS[::7])
@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64, np.uint8])
def test_a_scan_comes_back_on_its_own_grid(tmp_path, codes, kind):
    affine = oblique(3) @ nib.orientations.inv_ornt_aff(
        nib.orientations.axcodes2ornt(codes), (5, 6, 7)
    )
    grey = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(kind)
    scan = load_volume(write(tmp_path / "a.nii", grey, affine))
    save_volume(scan, tmp_path / "b.nii.gz")
    first, second = nib.load(tmp_path / "a.nii"), nib.load(tmp_path / "b.nii.gz")
    assert second.get_data_dtype() == kind
    assert np.array_equal(second.get_fdata(), grey)
    assert np.array_equal(second.affine, first.affine)
    for field in ("sform_code", "qform_code", "pixdim"):
        assert np.array_equal(second.header[field], first.header[field]), field


def test_channels_become_the_fourth_axis(tmp_path):
    grey = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    scan = load_volume(write(tmp_path / "a.nii", grey, oblique(1)))
    both = replace(scan, data=np.concatenate([scan.data, 2 * scan.data]))
    save_volume(both, tmp_path / "b.nii")
    found = nib.load(tmp_path / "b.nii").get_fdata()
    assert found.shape == (5, 6, 7, 2)
    assert np.array_equal(found[..., 1], 2 * grey)


def test_a_scan_of_no_file_is_written_where_it_lies(tmp_path):
    data = np.arange(24, dtype=np.float16).reshape(1, 2, 3, 4)
    affine = np.diag([5.0, 1.0, 2.0, 1.0])
    save_volume(Volume(data, affine), tmp_path / "a.nii.gz")
    again = load_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(again.data, data)
    np.testing.assert_allclose(again.affine, affine)


def test_a_scan_is_never_written_over_itself_or_over_others_unasked(tmp_path):
    path = write(tmp_path / "a.nii", marked(), oblique(1))
    scan = load_volume(path)
    with pytest.raises(WouldOverwrite):
        save_volume(scan, path)
    with pytest.raises(WouldOverwriteSource):
        save_volume(scan, path, overwrite=True)
    with pytest.raises(SaveError, match=r"\.nii"):
        save_volume(scan, tmp_path / "a.png")
    with pytest.raises(GeometryMismatchError):
        save_volume(replace(scan, data=scan.data[:, :-1]), tmp_path / "b.nii")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_real_scans_keep_their_grid(data_root, tmp_path):
    names = sorted((data_root / "spinal_cord_gm" / "labels").glob("*.nii.gz"))
    assert names
    for number, path in enumerate(names):
        labels = load_segmentation(path)
        saved = tmp_path / f"{number}.nii.gz"
        save_segmentation(labels, saved)
        one, two = nib.load(path), nib.load(saved)
        np.testing.assert_array_equal(one.affine, two.affine)
        np.testing.assert_array_equal(one.header["pixdim"], two.header["pixdim"])
        np.testing.assert_array_equal(
            np.asanyarray(one.dataobj), np.asanyarray(two.dataobj)
        )
