"""Odd files: those that we know of, and those that Hypothesis thinks of."""

import contextlib
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from napari_hydraseg.core import load_volume
from napari_hydraseg.core.errors import GeometryError, HydraSegError, UnsupportedShape

DOCS = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
# name of the file, what becomes of it
TABLE = dict(
    re.findall(
        r"^\| `([^`]+\.[^`]+)` \| ([^|]+) \|", DOCS.read_text("utf-8"), re.MULTILINE
    )
)


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


def noise(shape):
    return np.random.default_rng(1).integers(0, 250, shape)


def outcome(path):
    """Say what becomes of a file, as the table in the documentation does."""
    try:
        volume = load_volume(path)
    except HydraSegError as error:
        return f"{type(error).__name__}: {error.what}".replace(path.name, "it")
    z, y, x = volume.shape
    spacing = " x ".join(f"{size:.3g}" for size in volume.spacing_mm)
    words = [f"{z} x {y} x {x}, {volume.data.dtype}, {spacing} mm, {volume.plane}"]
    return ". ".join([*words, *(note.rstrip(".") for note in volume.notes)])


def files_in(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md")


def test_every_odd_file_ends_as_the_documentation_says(data_root):
    found = {p.name: outcome(p) for p in files_in(data_root / "odd_volumes")}
    assert found == {name: TABLE[name] for name in found}
    assert set(TABLE) == set(found)


def test_every_odd_file_that_loads_lies_where_its_own_library_puts_it(data_root):
    compared = 0
    for path in files_in(data_root / "odd_volumes"):
        if not TABLE[path.name][0].isdigit():
            continue
        data, affine = oracle(path)
        assert_same_in_space(load_volume(path), data, affine, atol=1e-3)
        compared += 1
    assert compared > 30


def oracle(path):
    """Read a file with nibabel, or with SimpleITK where that is its home."""
    if path.suffix in (".nrrd", ".mha", ".mhd"):
        sitk = pytest.importorskip("SimpleITK")
        image = sitk.ReadImage(str(path))
        affine = np.eye(4)
        direction = np.reshape(image.GetDirection(), (3, 3))
        affine[:3, :3] = direction * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        return sitk.GetArrayFromImage(image).T, np.diag([-1, -1, 1, 1]) @ affine
    if path.name == "not_gzip_but_named_gz.nii.gz":  # nibabel goes by the name
        image = nib.Nifti1Image.from_bytes(path.read_bytes())
    else:
        image = nib.load(path)
    data = image.get_fdata()
    return data.reshape(data.shape[:3]), image.affine


TYPES = [
    np.dtype(order + kind) for kind in ("i2", "u2", "i4", "f4", "f8") for order in "<>"
]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=some.lists(some.integers(1, 6), min_size=3, max_size=5),
    dtype=some.sampled_from([*TYPES, np.dtype("u1")]),
    version=some.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
    entries=some.lists(some.floats(-3, 3, width=32), min_size=12, max_size=12),
    codes=some.tuples(some.integers(0, 4), some.integers(0, 4)),
    slope=some.sampled_from([0.0, 1.0, 0.5, -2.0]),
    suffix=some.sampled_from([".nii", ".nii.gz"]),
)
def test_any_sound_nifti_is_what_nibabel_says_or_is_refused(
    tmp_path, shape, dtype, version, entries, codes, slope, suffix
):
    data = noise(shape).astype(dtype)
    affine = np.vstack([np.reshape(entries, (3, 4)), [0, 0, 0, 1]])
    header = version.header_class(endianness=">" if dtype.byteorder == ">" else "<")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["pixdim"][1:4] = 1, 2, 3
    header["quatern_b"] = 0.5
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = affine[row]
    header["sform_code"], header["qform_code"] = codes
    header["scl_slope"], header["scl_inter"] = slope, 3.0
    header["vox_offset"] = 352 if version is nib.Nifti1Image else 544
    path = tmp_path / f"scan{suffix}"
    content = header.binaryblock + bytes(4) + data.tobytes(order="F")
    with nib.openers.Opener(str(path), "wb") as file:
        file.write(content)
    if max(shape[3:], default=1) > 1:
        with pytest.raises((UnsupportedShape, GeometryError)):
            load_volume(path)
        return
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(0))
    flat = abs(np.linalg.det(affine[:3, :3])) < 1e-3 * sizes.prod()
    if codes[0] and (flat or sizes.min() < 1e-2):
        # below that a float32 header does not tell neighbours apart
        with contextlib.suppress(GeometryError):
            load_volume(path)
        return
    volume = load_volume(path)
    image = nib.load(path)
    expected = image.get_fdata().reshape(shape[:3])
    assert volume.data.dtype.isnative
    assert_same_in_space(volume, expected, image.affine, atol=1e-3)
