"""The Load form."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_hydraseg import core
from napari_hydraseg.core.types import Segmentation
from napari_hydraseg.gui.load import LoadWidget


@pytest.fixture
def form(dock):
    return dock(LoadWidget)


@pytest.fixture
def files(tmp_path):
    """A scan with thick coronal slices, and its labels."""
    import nibabel

    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (20, 6, 18), dtype=np.int16)
    image = nibabel.Nifti1Image(values, np.diag([1, 4, 1, 1]))
    image.header.set_sform(image.affine, code=1)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    volume = core.load_volume(tmp_path / "scan.nii.gz")
    labels = (volume.data[0] > 150).astype(np.uint8)
    mask = Segmentation(labels, volume.affine, {1: "cord"}, grid=volume.grid)
    core.save_segmentation(mask, tmp_path / "scan_seg.nii.gz")
    return tmp_path / "scan.nii.gz", tmp_path / "scan_seg.nii.gz"


def test_a_scan_opens_in_its_own_plane_with_the_head_up(
    form, viewer, files, finished, control
):
    form.open_paths([files[0]])
    finished()
    assert [layer.name for layer in viewer.layers] == ["scan"]
    assert viewer.dims.order == (1, 0, 2)
    assert viewer.dims.current_step[1] == 3
    camera = getattr(viewer, "scene", viewer).camera
    assert camera.orientation2d[0] == "up"
    said = control(form, "load.status").text()
    assert "20 x 6 x 18 voxels of 1 x 4 x 1 mm, coronal slices" in said
    assert "kind of scan not stated" in said


def test_scan_and_labels_open_together_on_top_of_each_other(
    form, viewer, files, finished
):
    form.open_paths(list(files))
    finished()
    scan, labels = viewer.layers
    assert isinstance(labels, Labels)
    np.testing.assert_allclose(scan.translate, labels.translate)
    np.testing.assert_allclose(scan.scale, labels.scale)


def test_two_files_can_be_channels_of_one_scan(
    form, viewer, files, finished, click, tmp_path
):
    second = tmp_path / "other.nii.gz"
    second.write_bytes(files[0].read_bytes())
    form.channels.setChecked(True)
    form.open_paths([files[0], second])
    finished()
    assert [layer.visible for layer in viewer.layers] == [True, False]
    volume = viewer.layers[0].metadata["hydraseg"]["volume"]
    assert len(volume.names) == 2


def test_the_kind_of_scan_goes_into_the_volume(form, viewer, files, finished):
    form.modality.setCurrentText("CT")
    form.open_paths([files[0]])
    finished()
    assert viewer.layers[0].metadata["hydraseg"]["volume"].modality == "CT"


def test_a_damaged_file_is_explained_and_adds_nothing(
    form, viewer, files, finished, control, tmp_path
):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(files[0].read_bytes()[:-20])
    form.open_paths([broken])
    finished()
    assert len(viewer.layers) == 0
    said = control(form, "load.status").text()
    assert "broken.nii.gz is damaged" in said
    assert "again" in said
    assert control(form, "load.open").isEnabled()


def test_one_click_opens_the_synthetic_heart(form, viewer, click, control):
    click(form, "load.sample")
    assert [layer.visible for layer in viewer.layers] == [True, False]
    assert "Synthetic" in control(form, "load.status").text()


def test_sides_of_the_patient_are_named_only_if_the_file_states_them(
    form, viewer, files, finished, click
):
    form.open_paths([files[0]])
    finished()
    overlays = viewer.canvas.overlays
    assert (overlays.hydraseg_left.text, overlays.hydraseg_top.text) == ("R", "S")
    viewer.dims.order = (0, 1, 2)
    assert (overlays.hydraseg_left.text, overlays.hydraseg_top.text) == ("R", "A")
    click(form, "load.sample")  # its file does not state the orientation
    assert not overlays.hydraseg_left.visible
    assert "not known" in overlays.text.text
