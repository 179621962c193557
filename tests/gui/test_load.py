"""The Load form."""

from __future__ import annotations

from pathlib import Path

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


def test_f29_no_name_of_a_scan_gets_into_the_settings(form, files, finished, control):
    """Nor a folder's: the settings of napari are a file that people send around."""
    from napari.settings import get_settings

    folder = files[0].parent / "DOE^JOHN"
    folder.mkdir()
    scan = files[0].rename(folder / "DOE^JOHN.nii.gz")
    form.open_paths([scan])
    finished()
    assert "18 voxels" in control(form, "load.status").text()
    settings = get_settings()
    assert "DOE" not in settings.json()
    kept = Path(settings.config_path or "none")
    assert not kept.is_file() or b"DOE" not in kept.read_bytes()


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
    assert "broken.nii.gz ends early" in said
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


def slices(folder, *, description="T2", count=4, name="s"):
    """Write a DICOM series of small slices."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(exist_ok=True)
    series = generate_uid()
    for k in range(count):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = MRImageStorage
        one.SOPInstanceUID = generate_uid()
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.SeriesInstanceUID, one.SeriesDescription = series, description
        one.StudyInstanceUID = one.FrameOfReferenceUID = series
        one.Modality, one.InstanceNumber = "MR", k + 1
        one.Rows, one.Columns, one.PixelSpacing = 6, 8, [1.0, 1.0]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [0.0, 0.0, 3.0 * k]
        one.PixelData = (np.arange(48, dtype=np.uint16) + k).tobytes()
        one.save_as(folder / f"{name}{k}.dcm", enforce_file_format=True)
    return folder


def test_a_folder_of_one_series_opens(form, viewer, finished, tmp_path):
    form.open_folder(slices(tmp_path / "mr"))
    finished()
    (layer,) = viewer.layers
    assert layer.name == "mr"
    volume = layer.metadata["hydraseg"]["volume"]
    assert (volume.modality, volume.shape) == ("MR", (4, 6, 8))
    assert viewer.canvas.overlays.hydraseg_left.text == "R"


def test_of_several_series_the_user_chooses_one(
    form, viewer, finished, click, control, tmp_path
):
    slices(tmp_path / "mr", description="T1", name="a")
    slices(tmp_path / "mr", description="FLAIR", name="b", count=5)
    form.open_folder(tmp_path / "mr")
    finished()
    assert len(viewer.layers) == 0
    listed = control(form, "load.series")
    words = [listed.itemText(i) for i in range(listed.count())]
    assert len(words) == 2
    assert "2 series" in control(form, "load.status").text()
    listed.setCurrentIndex(next(i for i, w in enumerate(words) if "FLAIR" in w))
    click(form, "load.open_series")
    finished()
    (layer,) = viewer.layers
    assert layer.data.shape == (5, 6, 8)


def test_a_series_with_a_gap_opens_only_if_the_user_allows_it(
    form, viewer, finished, control, tmp_path
):
    folder = slices(tmp_path / "mr", count=6)
    (folder / "s3.dcm").unlink()
    form.open_folder(folder)
    finished()
    assert len(viewer.layers) == 0
    control(form, "load.regularise").setChecked(True)
    form.open_folder(folder)
    finished()
    assert viewer.layers[0].data.shape == (6, 6, 8)


def test_channels_on_other_grids_are_brought_together_only_if_allowed(
    form, viewer, files, finished, control, tmp_path
):
    import nibabel

    values = np.random.default_rng(1).normal(size=(10, 6, 9)).astype(np.float32)
    other = tmp_path / "other.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2, 4, 2, 1])), other)
    form.channels.setChecked(True)
    form.open_paths([files[0], other])
    finished()
    assert len(viewer.layers) == 0
    assert "another grid" in control(form, "load.status").text()
    control(form, "load.resample").setChecked(True)
    form.open_paths([files[0], other])
    finished()
    assert [layer.data.shape for layer in viewer.layers] == [(18, 6, 20)] * 2


def test_one_volume_of_a_series_in_time_is_picked_by_its_number(
    form, viewer, finished, control, tmp_path
):
    import nibabel

    values = np.arange(3, dtype=np.int16) * np.ones((6, 5, 4, 1), np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "cine.nii")
    form.open_paths([tmp_path / "cine.nii"])
    finished()
    assert len(viewer.layers) == 0
    control(form, "load.index").setValue(2)
    form.open_paths([tmp_path / "cine.nii"])
    finished()
    assert viewer.layers[0].data.max() == 2
