"""MGZ, NRRD, MetaImage and pictures."""

import gzip
import re
import struct
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_hydraseg.core import Segmentation, load_volume, save_segmentation
from napari_hydraseg.core.errors import (
    NotAVolume,
    TruncatedFile,
    UnsupportedDtype,
    UnsupportedShape,
    VolumeTooLarge,
)
from napari_hydraseg.core.io import scans_in

sitk = pytest.importorskip("SimpleITK", reason="the [itk] extra is not installed")


def oblique(seed=0):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(np.eye(3) + rng.normal(0, 0.2, (3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * (0.7, 1.1, 2.5)
    affine[:3, 3] = -40, 12, 7
    return affine


def noise(shape=(5, 6, 7), dtype=np.int16):
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def itk_image(data, affine):
    """Make an ITK image of voxels (i, j, k) and an affine in RAS."""
    image = sitk.GetImageFromArray(data.T)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def assert_same_in_space(volume, data, affine, *, atol=1e-4):
    """Each of 30 voxels (i, j, k) of a file has its value at its millimetres."""
    rng = np.random.default_rng(0)
    places = np.array([rng.integers(0, n, 30) for n in data.shape])
    right, anterior, superior, _ = affine @ [*places, np.ones(30)]
    ours = np.linalg.inv(volume.affine) @ [superior, -anterior, -right, np.ones(30)]
    found = np.rint(ours[:3]).astype(int)
    back = (volume.affine @ [*found, np.ones(30)])[:3]
    np.testing.assert_allclose(back, [superior, -anterior, -right], atol=atol)
    expected = data[tuple(places)]
    finite = np.isfinite(expected)
    np.testing.assert_allclose(
        volume.data[0][tuple(found)][finite], expected[finite], rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_an_mgh_file_lies_where_nibabel_puts_it(tmp_path, name, dtype):
    nib.save(nib.MGHImage(noise(dtype=dtype), oblique()), tmp_path / name)
    volume = load_volume(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    image = nib.MGHImage.from_bytes(
        gzip.decompress(content) if name == "a.mgz" else content
    )
    assert volume.data.dtype == np.dtype(dtype)
    assert volume.notes == ()
    assert_same_in_space(volume, np.asanyarray(image.dataobj), image.affine)


def test_an_mgh_file_that_says_nothing_of_space_is_said_so(tmp_path):
    nib.save(nib.MGHImage(noise(), oblique()), tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[28:30] = bytes(2)  # "good RAS"
    (tmp_path / "a.mgh").write_bytes(content)
    assert load_volume(tmp_path / "a.mgh").known == frozenset()


@pytest.mark.parametrize(
    ("place", "value", "error"),
    [(4, -3, NotAVolume), (4, 0, NotAVolume), (12, 0, NotAVolume),
     (20, 99, UnsupportedDtype), (8, 2**30, VolumeTooLarge)],
)  # fmt: skip
def test_an_mgh_header_of_nonsense_is_refused(tmp_path, place, value, error):
    nib.save(nib.MGHImage(noise(), np.eye(4)), tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[place : place + 4] = struct.pack(">i", value)
    (tmp_path / "a.mgh").write_bytes(content)
    with pytest.raises(error):
        load_volume(tmp_path / "a.mgh")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_files_of_itk_lie_where_itk_puts_them(tmp_path, name, packed):
    data, affine = noise(), oblique(3)
    sitk.WriteImage(itk_image(data, affine), str(tmp_path / name), packed)
    volume = load_volume(tmp_path / name)
    assert volume.known == {"spacing", "orientation"}
    assert volume.data.dtype == np.int16
    assert_same_in_space(volume, data, affine)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_mask_of_an_itk_file_is_a_nifti_at_the_same_place(tmp_path, name):
    data, affine = noise(), oblique(3)
    sitk.WriteImage(itk_image(data, affine), str(tmp_path / name))
    volume = load_volume(tmp_path / name)
    mask = (volume.data[0] > 100).astype(np.uint8)
    save_segmentation(
        Segmentation(mask, volume.affine, grid=volume.grid), tmp_path / "m.nii.gz"
    )
    saved = nib.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(saved.dataobj), data > 100)
    np.testing.assert_allclose(saved.affine, affine, atol=1e-5)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd"])
def test_a_flipped_bit_of_packed_voxels_is_seen(tmp_path, name, capfd):
    """SimpleITK reads such a MetaImage with other voxels and without an error."""
    sitk.WriteImage(
        itk_image(noise((20, 20, 9)), np.eye(4)), str(tmp_path / name), True
    )
    path = tmp_path / ("a.zraw" if name == "a.mhd" else name)
    good = path.read_bytes()
    for place in np.linspace(len(good) // 2, len(good) - 1, 20).astype(int):
        content = bytearray(good)
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(TruncatedFile):
            load_volume(tmp_path / name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("lost", [1, 8, 100])
def test_a_cut_itk_file_is_refused(tmp_path, name, packed, lost, capfd):
    sitk.WriteImage(itk_image(noise(), np.eye(4)), str(tmp_path / name), packed)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-lost])
    with pytest.raises(TruncatedFile):
        load_volume(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_the_second_file_of_two_must_be_beside_the_first(tmp_path):
    sitk.WriteImage(itk_image(noise(), np.eye(4)), str(tmp_path / "a.mhd"))
    header = (tmp_path / "a.mhd").read_text()
    for other in ("gone.raw", "/dev/zero", "../a.raw"):
        (tmp_path / "a.mhd").write_text(header.replace("a.raw", other))
        with pytest.raises(NotAVolume, match="not beside it"):
            load_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_text_header_alone_takes_no_memory(tmp_path, encoding):
    (tmp_path / "bomb.nrrd").write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 32767 32767 32767\n"
        f"encoding: {encoding}\nendian: little\n\nnothing"
    )
    with pytest.raises(VolumeTooLarge):
        load_volume(tmp_path / "bomb.nrrd")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_colours_and_time_of_itk_files_must_be_picked(tmp_path, name):
    colours, times = noise((4, 5, 6, 3), np.uint8), noise((3, 4, 5, 6))
    path = str(tmp_path / name)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), path)
    with pytest.raises(UnsupportedDtype, match="index 0 to 2"):
        load_volume(path)
    np.testing.assert_array_equal(load_volume(path, index=1).data[0], colours[..., 1])
    sitk.WriteImage(sitk.GetImageFromArray(times, isVector=False), path)
    with pytest.raises(UnsupportedShape, match="index 0 to 2"):
        load_volume(path)
    np.testing.assert_array_equal(load_volume(path, index=2).data[0], times[2])


def test_without_simpleitk_the_extra_is_named(tmp_path, monkeypatch):
    sitk.WriteImage(itk_image(noise(), np.eye(4)), str(tmp_path / "a.nrrd"))
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(
        NotAVolume, match=re.escape('pip install "napari-hydraseg[itk]"')
    ):
        load_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("mode", ["L", "I;16", "1", "F", "P", "LA", "RGBA"])
def test_grey_pictures_of_every_kind_keep_their_values(tmp_path, mode):
    grey = noise((4, 5), np.uint8)
    name = "a.tiff" if mode == "F" else "a.png"
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 200)
    elif mode == "F":
        picture = Image.fromarray(grey.astype(np.float32) / 7)
    elif mode == "P":  # numbers that stand for other grey values
        picture = Image.fromarray(255 - grey, "L").convert("P")
        picture.putpalette([255 - n for n in range(256) for _ in range(3)])
        assert (np.asarray(picture.convert("L")) == grey).all()
    else:
        picture = Image.fromarray(grey).convert(mode)
    picture.save(tmp_path / name)
    expected = {"I;16": grey * np.uint16(200), "F": grey / np.float32(7)}.get(
        mode, grey
    )
    if mode == "1":
        expected = np.asarray(picture)
    volume = load_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.data[0, 0], expected)
    assert volume.known == frozenset()


def test_a_colour_picture_needs_a_channel(tmp_path):
    colours = noise((4, 5, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(UnsupportedDtype, match="index 0, 1 or 2"):
        load_volume(tmp_path / "a.png")
    volume = load_volume(tmp_path / "a.png", index=2)
    np.testing.assert_array_equal(volume.data[0, 0], colours[..., 2])


def test_a_page_of_a_tiff_must_be_picked(tmp_path):
    pages = [Image.fromarray(noise((4, 5), np.uint8) + n) for n in range(3)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(UnsupportedShape, match="index 0 to 2"):
        load_volume(tmp_path / "a.tiff")
    volume = load_volume(tmp_path / "a.tiff", index=2)
    np.testing.assert_array_equal(volume.data[0, 0], noise((4, 5), np.uint8) + 2)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tiff", "a.bmp"])
def test_a_cut_picture_is_refused(tmp_path, name):
    Image.fromarray(noise((64, 64), np.uint8)).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises((TruncatedFile, NotAVolume)):
        load_volume(tmp_path / name)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    Image.new("L", (10_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(VolumeTooLarge):
        load_volume(tmp_path / "a.png")


def test_a_millimetre_is_known_only_where_one_was_stated(tmp_path):
    Image.fromarray(noise((4, 5), np.uint8)).save(tmp_path / "a.png")
    volume = load_volume(tmp_path / "a.png", assume_spacing_mm=0.25)
    assert volume.known == {"spacing"}
    assert volume.spacing_mm[1:] == (0.25, 0.25)


def test_a_folder_lists_one_file_of_a_pair(tmp_path):
    nib.save(nib.Nifti1Pair(noise(), np.eye(4)), tmp_path / "a.img")
    nib.save(nib.MGHImage(noise(), np.eye(4)), tmp_path / "b.mgz")
    sitk.WriteImage(itk_image(noise(), np.eye(4)), str(tmp_path / "c.mhd"))
    assert [path.name for path in scans_in(tmp_path)] == ["a.hdr", "b.mgz", "c.mhd"]
