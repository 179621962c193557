"""The published spinal-cord networks, converted, on a scan that they never saw."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import (
    convert,
    dice,
    finish,
    load_segmentation,
    load_volume,
    save_segmentation,
    segment,
)

GREY = 2  # of the labels
PUBLISHED = {"challenge": 0.8905, "large": 0.9088}  # the same recipe, run in Keras


@pytest.fixture(scope="module")
def model(data_root):
    pytest.importorskip("h5py")
    folder = data_root / "published_weights"
    return lambda name: convert(folder / f"sct_gm_{name}.hdf5")


@pytest.fixture(scope="module")
def files(data_root):
    folder = data_root / "spinal_cord_gm" / "extra_gm_only"
    name = "sct_errsm_t2s_uncropped.nii.gz"
    return folder / "images" / name, folder / "labels" / name


def agreement(checkpoint, scan, labels):
    found = finish(segment(load_volume(scan, modality="MR"), checkpoint))["grey_matter"]
    return dice(load_segmentation(labels).labels == GREY, found.labels == 1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_grey_matter_is_found_as_published(name, model, files):
    assert agreement(model(name), *files) == pytest.approx(PUBLISHED[name], abs=5e-4)


@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("challenge", "PIR"),
        ("challenge", "RSA"),
        ("challenge", "IAL"),
        ("large", "RSA"),
    ],
)
def test_a_scan_stored_another_way_gives_the_same(name, turned, model, files, tmp_path):
    to = nib.orientations.axcodes2ornt(tuple(turned))
    for path, file in zip(files, ("scan.nii.gz", "labels.nii.gz"), strict=True):
        image = nib.load(path)
        way = nib.orientations.ornt_transform(nib.io_orientation(image.affine), to)
        nib.save(image.as_reoriented(way), tmp_path / file)
    scan, labels = tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"
    expected = pytest.approx(PUBLISHED[name], abs=0.01)
    assert agreement(model(name), scan, labels) == expected


def test_the_mask_lies_on_the_grid_of_the_file(model, files, tmp_path):
    found = finish(segment(load_volume(files[0], modality="MR"), model("challenge")))
    save_segmentation(found["grey_matter"], tmp_path / "mask.nii.gz")
    mask, scan, manual = (nib.load(p) for p in (tmp_path / "mask.nii.gz", *files))
    assert mask.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine)
    overlap = dice(np.asarray(mask.dataobj) == 1, np.asarray(manual.dataobj) == GREY)
    assert overlap == pytest.approx(PUBLISHED["challenge"], abs=5e-4)


@pytest.mark.parametrize(("shift_mm", "said"), [(0, ""), (60, "off the centre?")])
def test_a_cord_beside_the_middle_is_said(shift_mm, said, model, files):
    """The published recipe looks at the middle 50 mm of each slice."""
    scan = load_volume(files[0], modality="MR")
    few = replace(scan, data=scan.data[:, :1], grid=None)
    pixels = round(2 * shift_mm / few.spacing_mm[2])  # the middle moves half as far
    wider = np.pad(few.data, ((0, 0),) * 3 + ((pixels, 0),), mode="edge")
    steps = segment(replace(few, data=wider), model("challenge"))
    notes = finish(steps)["grey_matter"].made_by["fallbacks"]
    assert [n for n in notes if "middle of each slice alone, 50 mm to a side" in n]
    after = [note for note in notes if "that middle" in note]
    assert bool(after) == bool(said)
    assert not said or said in after[0]


def test_a_head_that_it_is_taught_decides_by_itself(model, files):
    """The published threshold is that of the published head."""
    made = model("challenge")
    spec = made.spec
    both = {**spec.heads, "other": ("background", "other")}
    own = "heads.grey_matter."
    twin = {
        name.replace(own, "heads.other."): value
        for name, value in made.weights.items()
        if name.startswith(own)
    }
    taught = replace(
        made, spec=replace(spec, heads=both), weights={**made.weights, **twin}
    )
    volume = load_volume(files[0], modality="MR")
    found = finish(segment(volume, taught, heads=("grey_matter", "other")))
    sizes = {head: int(answer.labels.sum()) for head, answer in found.items()}
    assert 0 < sizes["grey_matter"] < sizes["other"]


def test_probabilities_and_mask_agree(model, files):
    volume = load_volume(files[0], modality="MR")
    steps = segment(volume, model("challenge"), probabilities=True)
    found = finish(steps)["grey_matter"]
    assert found.probabilities.shape == (2, *volume.shape)
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)
    assert found.probabilities[1][found.labels == 1].min() > 0.4
    assert found.probabilities[1][found.labels == 0].mean() < 0.01
