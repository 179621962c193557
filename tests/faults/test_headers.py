"""Files that are odd but honest: they load, in the right place, and say so."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import Segmentation, load_volume, save_segmentation
from napari_hydraseg.core.errors import HydraSegError

INF, NAN = float("inf"), float("nan")
PLACE = (1, 4, 2)
CODES = {"sform_code": 0, "qform_code": 0}


def marked(dtype=np.int16):
    data = np.zeros((5, 6, 7), dtype)
    data[PLACE] = 100
    return data


def marker_ras(volume):
    """Where the brightest voxel lies, in mm towards Right, Anterior, Superior."""
    where = np.unravel_index(volume.data[0].argmax(), volume.shape)
    superior, posterior, left = (volume.affine @ [*where, 1])[:3]
    return -left, -posterior, superior


def rotated(degrees, shear=0.0):
    angle = np.deg2rad(degrees)
    turn = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0],
            [np.sin(angle), np.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * (0.7, 0.9, 3.1)
    affine[0, 1] += shear
    affine[:3, 3] = -30, 12, 5
    return affine


def noted(volume, words):
    return [note for note in volume.notes if words in note]


@pytest.mark.parametrize(
    ("name", "packed", "words"),
    [
        ("a.nii.gz", False, "not packed, though"),
        ("a.nii", True, "packed, though"),
        ("a", False, ""),
        ("a.txt", False, ""),
    ],
)
def test_content_counts_and_not_the_name(tmp_path, name, packed, words, sound):
    """F06: nibabel refuses the first two."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(sound()) if packed else sound())
    volume = load_volume(path)
    assert volume.data.sum() == np.arange(210).sum()
    assert bool(noted(volume, "though its name")) == bool(words)
    assert not words or noted(volume, words)


def test_analyze_has_sizes_and_no_orientation(tmp_path):
    """F07: either file of the pair may be chosen."""
    image = nib.AnalyzeImage(marked(), np.diag([-2.0, 2.0, 3.0, 1.0]))
    nib.save(image, tmp_path / "a.img")
    for name in ("a.hdr", "a.img"):
        volume = load_volume(tmp_path / name)
        assert volume.known == {"spacing"}
        assert volume.spacing_mm == (3, 2, 2)
        assert noted(volume, "does not say how the scan is oriented")
        affine = nib.load(tmp_path / "a.img").affine
        np.testing.assert_allclose(
            marker_ras(volume), (affine @ [*PLACE, 1])[:3], atol=1e-4
        )


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_nifti_pair_is_one_scan(tmp_path, gz):
    """F07."""
    image = nib.Nifti1Pair(marked(), rotated(30))
    nib.save(image, tmp_path / f"a.img{gz}")
    one, two = (load_volume(tmp_path / f"a.{end}{gz}") for end in ("hdr", "img"))
    np.testing.assert_allclose(
        marker_ras(one), (image.affine @ [*PLACE, 1])[:3], atol=1e-4
    )
    np.testing.assert_array_equal(one.data, two.data)
    assert one.sha256 == two.sha256


@pytest.mark.parametrize("share", ["one", "half"])
def test_numbers_that_are_none_are_replaced_and_counted(make, share):
    """F08: NaN by the smallest, infinities by the extreme finite value."""
    data = np.linspace(-5, 5, 210, dtype=np.float32).reshape(5, 6, 7)
    bad = data.copy()
    bad[0, 0, 1] = np.nan
    if share == "half":
        bad[:3] = np.nan
    bad[4, 0, 0], bad[4, 0, 1] = np.inf, -np.inf
    count = int((~np.isfinite(bad)).sum())
    volume = load_volume(make(data=bad))
    good = bad[np.isfinite(bad)]
    assert np.isfinite(volume.data).all()
    assert (volume.data.min(), volume.data.max()) == (good.min(), good.max())
    assert noted(volume, f"{count} voxels were no finite numbers")


def test_a_volume_without_contrast_says_so(make):
    """F09."""
    assert noted(load_volume(make(data=np.full((3, 4, 5), 7, np.int16))), "no contrast")
    assert not noted(load_volume(make()), "no contrast")


def test_one_slice_is_a_volume(make):
    """F10."""
    volume = load_volume(make(data=np.arange(12, dtype=np.int16).reshape(3, 4, 1)))
    assert volume.shape == (1, 4, 3)
    assert volume.plane == "axial"


def test_trailing_axes_of_one_are_kept_for_the_mask(make):
    """F11."""
    volume = load_volume(make(data=marked()[..., None, None]))
    assert volume.shape == (7, 6, 5)
    assert volume.grid.shape == (5, 6, 7, 1, 1)


@pytest.mark.parametrize("shape", [(3,), (1, 3)], ids=["time", "channel"])
def test_a_picked_volume_is_the_one_that_was_picked(make, shape):
    """F11."""
    data = np.stack([marked() * n for n in (1, 2, 3)], -1).reshape(5, 6, 7, *shape)
    for name in ("scan.nii", "scan.nii.gz"):
        volume = load_volume(make(name, data=data), index=1)
        assert volume.data.max() == 200
        assert volume.grid.shape == (5, 6, 7)


def test_a_picked_colour_is_the_one_that_was_picked(make):
    """F12."""
    colours = np.dtype([(c, "u1") for c in "RGB"])
    data = np.zeros((3, 4, 5), colours)
    data["G"][1, 2, 3] = 9
    path = make(data=data)
    assert load_volume(path, index=1).data.max() == 9
    assert load_volume(path, index=0).data.max() == 0


@pytest.mark.parametrize("dtype", ["i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_big_endian_files_are_their_little_twins(tmp_path, kind, dtype):
    """F14."""
    data = marked(dtype)
    volumes = []
    for order in "<>":
        header = kind.header_class(endianness=order)
        header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
        path = tmp_path / f"{'le' if order == '<' else 'be'}.nii"
        nib.save(kind(data, rotated(20), header), path)
        volumes.append(load_volume(path))
    assert volumes[0].data.dtype == volumes[1].data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volumes[0].data, volumes[1].data)
    np.testing.assert_array_equal(volumes[0].affine, volumes[1].affine)


@pytest.mark.parametrize("dtype", "u1 i1 u2 i2 u4 i4 u8 i8 f4 f8".split())
def test_voxels_keep_the_type_they_were_stored_in(make, dtype):
    """F15: the ends of the type are what a copy through another type loses."""
    limits = np.finfo(dtype) if dtype[0] == "f" else np.iinfo(dtype)
    data = np.zeros((3, 4, 5), dtype)
    data[0, 0, :2] = limits.min, limits.max
    volume = load_volume(make(data=data))
    assert volume.data.dtype == np.dtype(dtype)
    assert (volume.data.min(), volume.data.max()) == (limits.min, limits.max)


QUADS = {  # sign and exponent (16 bits), then the fraction (112 bits)
    "3fff0000000000000000000000000000": 1.0,
    "c000800000000000": -3.0,
    "3ffd5555555555555555555555555555": 1 / 3,
    "0000000000000000": 0.0,
    "7ffeffffffffffffffffffffffffffff": INF,
    "3c00000000000000": 2.0**-1023,
    "7fff0000000000000000000000000000": INF,
    "7fff8000000000000000000000000000": NAN,
}


@pytest.mark.parametrize("order", "<>")
def test_floats_of_128_bits_are_rounded_and_said(tmp_path, order):
    """F15: IEEE 754 binary128, which NumPy has not on most machines."""
    words = b"".join(bytes.fromhex(text.ljust(32, "0")) for text in QUADS)
    numbers = np.frombuffer(words, "u1").reshape(-1, 16)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_shape((2, 2, 2))
    header["datatype"], header["bitpix"], header["vox_offset"] = 1536, 128, 352
    header["magic"] = b"n+1"
    stored = numbers if order == ">" else numbers[:, ::-1]
    content = header.binaryblock + bytes(4) + stored.tobytes()
    (tmp_path / "q.nii").write_bytes(content)
    volume = load_volume(tmp_path / "q.nii")
    assert noted(volume, "128-bit")
    assert noted(volume, "3 voxels were no finite numbers")
    # nibabel's frame without codes: only x runs against ours, and back again
    found = nib.orientations.apply_orientation(
        volume.data[0].T, [[0, 1], [1, -1], [2, 1]]
    ).ravel(order="F")
    expected = np.array([x if np.isfinite(x) else np.nan for x in QUADS.values()])
    sane = np.isfinite(expected)
    np.testing.assert_array_equal(found[sane], expected[sane])


def test_a_voxel_size_of_zero_can_be_stated(make):
    """F20: and it is said that it was."""
    path = make(pixdim=(1.0, 0.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0), **CODES)
    volume = load_volume(path, assume_spacing_mm=1.5)
    assert volume.spacing_mm == (3, 2, 1.5)
    assert noted(volume, "assumed in place of 0, 2, 3 mm")


def test_a_voxel_size_of_zero_beside_a_sound_sform_is_said(make):
    """F20: once a size was stated; lengths then come from the sform."""
    path = make(pixdim=(1.0, 0.0, NAN, 3.0, 1.0, 1.0, 1.0, 1.0))
    volume = load_volume(path, assume_spacing_mm=1)
    assert volume.spacing_mm == (3, 2, 2)
    assert noted(volume, "the sform is used")


def test_a_negative_voxel_size_counts_without_its_sign(make):
    """F20: as the standard has it."""
    path = make(pixdim=(1.0, -2.0, 2.0, 3.0, 1.0, 1.0, 1.0, 1.0), **CODES)
    volume = load_volume(path)
    assert volume.spacing_mm == (3, 2, 2)
    assert noted(volume, "negative")


@pytest.mark.parametrize("size", [1e-9, 1e6])
def test_an_absurd_voxel_size_is_said(make, size):
    """F20."""
    volume = load_volume(make(pixdim=(1.0, size, 2.0, 3.0, *[1.0] * 4), **CODES))
    assert noted(volume, "unusual; check the units")


def test_an_oblique_scan_keeps_its_marker(make):
    """F21: within 1e-4 mm of where nibabel finds it."""
    path = make(data=marked(), affine=rotated(30))
    expected = (nib.load(path).affine @ [*PLACE, 1])[:3]
    np.testing.assert_allclose(marker_ras(load_volume(path)), expected, atol=1e-4)


def test_a_sheared_scan_loads_and_is_said(make):
    """F22: ITK refuses such files."""
    path = make(data=marked(), affine=rotated(10, shear=0.3))
    volume = load_volume(path)
    expected = (nib.load(path).affine @ [*PLACE, 1])[:3]
    np.testing.assert_allclose(marker_ras(volume), expected, atol=1e-4)
    assert noted(volume, "not at right angles")
    assert not noted(load_volume(make(affine=rotated(10))), "right angles")


def test_two_orientations_that_disagree_are_both_named(tmp_path):
    """F23: the sform counts, as in nibabel."""
    image = nib.Nifti1Image(marked(), np.diag([2.0, 2.0, 3.0, 1.0]))
    image.set_qform(np.diag([-4.0, 2.0, 3.0, 1.0]), 1)
    image.set_sform(np.diag([2.0, 2.0, 3.0, 1.0]), 1)
    nib.save(image, tmp_path / "scan.nii")
    volume = load_volume(tmp_path / "scan.nii")
    expected = (image.affine @ [*PLACE, 1])[:3]
    np.testing.assert_allclose(marker_ras(volume), expected, atol=1e-4)
    assert noted(volume, "RAS at 2 x 2 x 3 (sform, used) and LAS at 4 x 2 x 3")


def test_without_codes_the_orientation_is_unknown(make):
    """F24."""
    volume = load_volume(make(**CODES))
    assert volume.known == {"spacing"}
    assert noted(volume, "does not say how the scan is oriented")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR", "IAL", "SRA"])
def test_a_turned_file_is_the_same_scan(tmp_path, codes):
    """F25: all 48 are in tests/test_io.py; here the voxels are compared too."""
    data = np.random.default_rng(0).integers(0, 99, (5, 6, 7)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([2.0, 3.0, 4.0, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    volumes = []
    for name, one in (("a.nii", image), ("b.nii", image.as_reoriented(turn))):
        nib.save(one, tmp_path / name)
        volumes.append(load_volume(tmp_path / name))
    np.testing.assert_array_equal(volumes[0].data, volumes[1].data)
    np.testing.assert_allclose(volumes[0].affine, volumes[1].affine, atol=1e-5)


@pytest.mark.parametrize(
    ("slope", "inter", "said"),
    [
        (0.0, 5.0, False),
        (NAN, 0.0, False),
        (1.0, 0.0, False),
        (INF, 0.0, True),
        (2.0, INF, True),
        (2.0, NAN, True),
    ],
)
def test_a_scaling_that_is_none_leaves_stored_values(make, slope, inter, said):
    """F26."""
    volume = load_volume(make(data=marked(), scl_slope=slope, scl_inter=inter))
    assert volume.data.dtype == np.int16
    assert volume.data.max() == 100
    assert bool(noted(volume, "stored values are used")) == said


def test_a_scaling_is_applied_as_nibabel_does(make):
    """F26: to float32, computed in float64."""
    path = make(
        data=np.arange(-30000, 30000, 286, dtype=np.int16).reshape(5, 6, 7),
        scl_slope=0.37,
        scl_inter=-1024.5,
    )
    volume = load_volume(path)
    expected = nib.load(path).get_fdata().astype(np.float32)
    assert volume.data.dtype == np.float32
    np.testing.assert_array_equal(np.sort(volume.data, None), np.sort(expected, None))


@pytest.mark.parametrize(
    ("unit", "factor", "words"),
    [(0, 1, "no unit"), (1, 1e3, "metres"), (2, 1, ""), (3, 1e-3, "microns")],
)
def test_lengths_are_in_millimetres(make, unit, factor, words):
    """F27."""
    volume = load_volume(make(xyzt_units=unit))
    np.testing.assert_allclose(volume.spacing_mm, np.array([3, 2, 2]) * factor)
    assert bool(noted(volume, "unit" if not unit else "mm")) == bool(words)
    assert not words or noted(volume, words)


def test_nothing_about_a_person_is_kept(tmp_path):
    """F29: not in the noun, nor in a mask made of it."""
    mark = b"DOE^JOHN"
    image = nib.Nifti1Image(marked(), np.eye(4))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = mark
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", mark))
    nib.save(image, tmp_path / "scan.nii.gz")
    volume = load_volume(tmp_path / "scan.nii.gz")
    assert volume.data.max() == 100
    assert "DOE" not in repr(volume)
    assert "DOE" not in repr(volume.grid)
    mask = Segmentation((volume.data[0] > 0).astype(np.uint8), volume.affine,
                        grid=volume.grid)  # fmt: skip
    save_segmentation(mask, tmp_path / "mask.nii.gz")
    assert b"DOE" not in gzip.decompress((tmp_path / "mask.nii.gz").read_bytes())


def test_every_byte_of_the_header_may_be_wrong(tmp_path, sound):
    """348 bytes x 4 values: each file loads, or is refused in our own words."""
    content = sound(qform_code=1)
    path = tmp_path / "scan.nii"
    loaded, wordy = 0, []
    for place in range(348):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            broken = bytearray(content)
            broken[place] = value
            path.write_bytes(broken)
            try:
                volume = load_volume(path)
            except HydraSegError as error:
                wordy += [(place, value)] * (len(str(error)) > 200 or not error.hint)
            else:
                assert volume.data.size, (place, value)
                assert np.isfinite(volume.data).all(), (place, value)
                loaded += 1
    assert not wordy
    assert 500 < loaded < 348 * 4
    assert {file.name for file in tmp_path.iterdir()} == {"scan.nii"}
