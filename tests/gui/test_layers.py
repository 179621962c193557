"""Layers and nouns: where a layer lies, what it carries, and the way back."""

from __future__ import annotations

import itertools
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_hydraseg import core
from napari_hydraseg.core.errors import (
    GeometryMismatchError,
    LabelDtype,
    LabelShape,
    UnknownLabelId,
    WrongInput,
)
from napari_hydraseg.core.types import Segmentation
from napari_hydraseg.gui import layers, nouns, writers
from napari_hydraseg.gui.colours import PALETTE, colours


def image_of(volume, **changes):
    data, attributes, _ = layers.volume_layers(volume)[0]
    return Image(data, **{**attributes, **changes})


def labels_of(segmentation, **options):
    data, attributes, _ = layers.labels_layer(segmentation, name="mask", **options)
    return Labels(data, **attributes)


@pytest.fixture
def mask(scan):
    labels = (scan.data[0] > 100).astype(np.uint8)
    return Segmentation(labels, scan.affine, names={1: "blood"})


def test_a_layer_has_a_positive_diagonal_scale_in_mm(scan):
    layer = image_of(scan)
    np.testing.assert_allclose(layer.scale, (5, 1.5, 1))
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    assert layer.axis_labels == ("z", "y", "x")
    assert np.array_equal(layer.affine.affine_matrix, np.eye(4))


def test_the_centre_of_the_scan_stays_in_place(scan):
    layer = image_of(scan)
    middle = (np.array(scan.shape) - 1) / 2
    np.testing.assert_allclose(
        layer.data_to_world(middle), (scan.affine @ [*middle, 1])[:3]
    )


def test_the_true_oblique_affine_stays_in_the_metadata(scan):
    layer = image_of(scan)
    assert layer.metadata["hydraseg"]["affine"] is scan.affine
    assert nouns.volume_of(layer) is scan


def test_an_oblique_scan_is_shown_without_a_warning(scan, viewer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data, attributes, _ in layers.volume_layers(scan):
            viewer.add_image(data, **attributes)
        viewer.dims.set_current_step(0, 3)
    assert len(viewer.layers) == 1


CODES = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


@pytest.mark.parametrize("codes", CODES)
def test_every_orientation_is_shown_straight_upright_and_without_a_warning(
    tmp_path, codes
):
    """Oblique and sheared too; pytest makes errors of napari's warnings."""
    import nibabel as nib
    from napari.components import ViewerModel

    viewer = ViewerModel()
    skew = np.eye(4)
    skew[:3, :3] = [[1, 0.2, 0.1], [-0.25, 1.5, 0.1], [0.1, -0.1, 3]]
    image = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), skew)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(skew), nib.orientations.axcodes2ornt(codes)
    )
    image.as_reoriented(turn).to_filename(tmp_path / "scan.nii")
    volume = core.load_volume(tmp_path / "scan.nii")
    labels = Segmentation((volume.data[0] > 60).astype(np.uint8), volume.affine)
    for data, attributes, kind in (
        *layers.volume_layers(volume),
        layers.labels_layer(labels, name="mask"),
    ):
        layer = getattr(viewer, f"add_{kind}")(data, **attributes)
        assert (np.asarray(layer.scale) > 0).all()
        assert np.array_equal(layer.affine.affine_matrix, np.eye(4))
        assert {str(unit) for unit in layer.units} == {"millimeter"}
        assert layer.axis_labels == ("z", "y", "x")
        middle = (np.array(volume.shape) - 1) / 2
        centre = (volume.affine @ [*middle, 1])[:3]
        np.testing.assert_allclose(layer.data_to_world(middle), centre, atol=1e-6)
    for order in itertools.permutations(range(3)):
        viewer.dims.order = order
        viewer.dims.current_step = (1, 2, 3)


def test_a_picture_without_millimetres_is_shown_in_pixels(scan):
    layer = image_of(replace(scan, known=frozenset()))
    assert {str(unit) for unit in layer.units} == {"pixel"}


def test_channels_share_one_frame_and_only_the_first_is_shown(scan):
    two = replace(scan, data=np.concatenate([scan.data] * 2), names=("T1", "T2"))
    (_, first, _), (_, second, _) = layers.volume_layers(two)
    assert (first["visible"], second["visible"]) == (True, False)
    assert first["translate"] == second["translate"]
    assert (first["name"], second["name"]) == ("s T1", "s T2")


def test_labels_lie_on_the_scan_and_carry_names_and_millilitres(scan, mask):
    image = image_of(scan)
    layer = labels_of(mask, geometry=nouns.geometry_of(image))
    np.testing.assert_allclose(layer.scale, image.scale)
    np.testing.assert_allclose(layer.translate, image.translate)
    assert layer.units == image.units
    row = layer.features.iloc[0]
    assert (row["index"], row["name"]) == (1, "blood")
    assert row["volume_ml"] == pytest.approx(mask.labels.sum() * 7.5 / 1000, abs=1e-3)


def test_labels_follow_a_scan_that_the_user_moved(scan, mask):
    image = image_of(scan, translate=(1, 2, 3), scale=(2, 2, 2))
    layer = labels_of(mask, geometry=nouns.geometry_of(image))
    np.testing.assert_allclose(
        layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3))
    )


def test_painting_leaves_the_noun_as_it_was(scan, mask):
    layer = labels_of(mask)
    layer.data[0] = 1
    assert mask.labels[0].max() == 0
    assert nouns.segmentation_of(layer).labels[0].min() == 1


def test_what_is_painted_maps_back_by_index_and_keeps_the_true_affine(scan):
    image = image_of(scan)
    empty = Segmentation(np.zeros(scan.shape, np.uint8), scan.affine)
    layer = labels_of(empty, geometry=nouns.geometry_of(image))
    layer.data[2, 3, 4] = 7
    found = nouns.segmentation_of(layer, image)
    assert list(zip(*np.nonzero(found.labels), strict=True)) == [(2, 3, 4)]
    np.testing.assert_array_equal(found.affine, scan.affine)
    assert found.labels.dtype == np.uint8


def test_a_snapshot_does_not_change_with_the_layer(scan, mask):
    layer = labels_of(mask)
    found = nouns.segmentation_of(layer)
    layer.data[:] = 0
    assert found.labels.any()


def test_changed_voxels_are_taken_from_the_layer(scan):
    layer = image_of(scan)
    layer.data = layer.data * 2
    volume = nouns.volume_of(layer)
    np.testing.assert_array_equal(volume.data[0], scan.data[0] * 2)
    assert "changed in the viewer" in volume.notes[-1]


def test_a_plain_layer_in_micrometres_becomes_millimetres():
    layer = Image(np.zeros((4, 5, 6)), scale=(2000, 500, 500), units="um")
    volume = nouns.volume_of(layer)
    assert volume.spacing_mm == pytest.approx((2, 0.5, 0.5))
    assert volume.plane == "axial"
    assert volume.known == {"spacing"}


def test_a_plain_picture_becomes_one_slice_of_unknown_size():
    volume = nouns.volume_of(Image(np.zeros((5, 6))))
    assert volume.shape == (1, 5, 6)
    assert volume.known == frozenset()


def test_a_four_dimensional_layer_is_refused_with_a_reason():
    with pytest.raises(WrongInput, match="4 dimensions"):
        nouns.volume_of(Image(np.zeros((2, 3, 4, 5)), name="cine"))


def test_labels_of_another_shape_are_refused_with_both_shapes(scan, mask):
    other = Labels(np.ones((3, 20, 24), np.uint8))
    with pytest.raises(LabelShape, match=r"24 x 20 x 3 voxels.*24 x 20 x 6"):
        nouns.segmentation_of(other, image_of(scan))


def test_labels_that_lie_elsewhere_are_refused_with_the_distance(scan, mask):
    moved = labels_of(mask, geometry=layers.display(mask) | {"translate": (0, 0, 0)})
    with pytest.raises(GeometryMismatchError, match="mm away"):
        nouns.segmentation_of(moved, image_of(scan))


def test_negative_label_ids_are_refused():
    layer = Labels(np.full((2, 3, 4), -1))
    with pytest.raises(UnknownLabelId, match="-1"):
        nouns.segmentation_of(layer)


def test_only_non_empty_slices_of_hand_made_labels_count(scan):
    layer = labels_of(Segmentation(np.zeros(scan.shape, np.uint8), scan.affine))
    layer.data[[1, 4], 5, 5] = 1
    found = nouns.annotated_slices(layer, 0)
    assert np.flatnonzero(found).tolist() == [1, 4]


def test_only_corrected_slices_of_a_prediction_count(mask):
    layer = labels_of(replace(mask, made_by={"model": "toy"}))
    assert not nouns.annotated_slices(layer, 0).any()
    layer.data[3, 0, 0] = 1
    layer.metadata["hydraseg"]["done"] = {5}
    assert np.flatnonzero(nouns.annotated_slices(layer, 0)).tolist() == [3, 5]


def test_slices_are_counted_across_the_acquisition_plane(scan):
    layer = labels_of(Segmentation(np.zeros(scan.shape, np.uint8), scan.affine))
    layer.data[1, :, 7] = 1
    assert np.flatnonzero(nouns.annotated_slices(layer, 2)).tolist() == [7]


def test_equal_names_get_equal_colours_and_neighbours_differ():
    first = colours({1: "anterior", 2: "posterior"})
    again = colours({1: "anterior", 2: "posterior"})
    for label in (1, 2):
        np.testing.assert_array_equal(first.map(label), again.map(label))
    assert not np.array_equal(first.map(1), first.map(2))


def test_an_id_without_a_name_is_still_seen():
    assert colours({1: "cord"}).map(9)[3] > 0
    assert colours({1: "cord"}).map(0)[3] == 0


def test_no_two_colours_of_the_palette_look_alike():
    rgb = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE]
    apart = [np.abs(np.subtract(a, b)).max() for a, b in itertools.combinations(rgb, 2)]
    assert min(apart) > 40


@pytest.mark.parametrize(
    ("path", "labels"),
    [
        ("scan_seg.nii.gz", True),
        ("sub-01_dseg.nii.gz", True),
        ("case-mask.nii", True),
        ("x_labels.nii.gz", True),
        ("labels/case_1.nii.gz", True),
        ("images/case_1.nii.gz", False),
        ("segment.nii.gz", False),
        ("patient_T1.nii.gz", False),
    ],
)
def test_labels_are_recognised_by_name_or_folder(path, labels):
    assert layers.looks_like_labels(Path("data") / path) is labels


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("a.b.nii", "a.b"), ("s.png", "s"), ("scan", "scan")],
)
def test_the_name_of_a_layer_is_that_of_the_file_without_its_ending(name, stem):
    assert layers.stem(name) == stem


@pytest.fixture
def saved(scan, mask, tmp_path):
    path = tmp_path / "case_seg.nii.gz"
    core.save_segmentation(mask, path)
    return path


def test_a_file_of_labels_opens_as_labels(saved):
    ((data, attributes, kind),) = layers.get_reader(str(saved))(str(saved))
    assert kind == "labels"
    assert attributes["name"] == "case_seg"
    assert data.max() == 1


def test_grey_values_in_a_file_called_mask_open_as_an_image(tmp_path, saved):
    import nibabel

    path = tmp_path / "grey_mask.nii.gz"
    values = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    assert layers.get_reader(str(path))(str(path))[0][2] == "image"
    with pytest.raises(LabelDtype):
        layers.open_file(path, kind="labels")


@pytest.mark.parametrize(
    "name", ["a.NII.GZ", "a.mgz", "a.nrrd", "a.mha", "a.img", "1.dcm"]
)
def test_scans_of_every_format_are_offered_to_napari(name):
    assert layers.get_reader(name) is not None


def test_a_folder_is_read_only_if_dicom_lies_in_it(tmp_path):
    assert layers.get_reader(str(tmp_path)) is None
    (tmp_path / "notes.txt").write_text("nothing to see")
    assert layers.get_reader(str(tmp_path)) is None
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    assert layers.get_reader(str(tmp_path)) is not None
    assert layers.get_reader(str(tmp_path / "none")) is None


def test_napari_hears_quickly_that_a_folder_is_none_of_ours(tmp_path):
    for number in range(300):
        (tmp_path / f"{number}.zarr").write_bytes(bytes(1000))
    layers.get_reader(str(tmp_path))
    start = time.process_time()
    assert layers.get_reader(str(tmp_path)) is None
    assert time.process_time() - start < 0.01


def test_the_manifest_claims_what_the_reader_reads():
    from npe2 import PluginManifest

    claimed = PluginManifest.from_distribution("napari-hydraseg").contributions.readers
    (reader,) = claimed
    assert reader.accepts_directories
    assert {p.removeprefix("*") for p in reader.filename_patterns} == set(
        layers.SUFFIXES
    )


def test_colours_of_a_file_are_shown_and_colours_of_a_layer_are_saved(mask, tmp_path):
    chosen = replace(mask, colours={1: "#123456"})
    core.save_segmentation(chosen, tmp_path / "a_seg.nii.gz")
    (made,) = layers.layers_of(
        layers.open_file(tmp_path / "a_seg.nii.gz"), name="a_seg"
    )
    layer = Labels(made[0], **made[1])
    shown = np.rint(255 * np.asarray(layer.get_color(1))[:3]).astype(int)
    assert shown.tolist() == [0x12, 0x34, 0x56]
    data, attributes, _ = layer.as_layer_data_tuple()
    writers.write_labels(str(tmp_path / "b_seg.nii.gz"), data, attributes)
    again = core.load_segmentation(tmp_path / "b_seg.nii.gz")
    assert (again.names, again.colours) == ({1: "blood"}, {1: "#123456"})


def test_plain_pictures_are_left_to_napari():
    assert layers.get_reader("photo.png") is None
    assert layers.get_reader(["a.nii", "photo.tif"]) is None


def test_saving_a_layer_and_reading_it_back_gives_the_same_grid(
    saved, tmp_path, viewer
):
    made = layers.get_reader(str(saved))(str(saved))[0]
    layer = Labels(made[0], **made[1])
    layer.data[0, 0, 0] = 1
    path = str(tmp_path / "out_seg.nii.gz")
    data, attributes, _ = layer.as_layer_data_tuple()
    assert writers.write_labels(path, data, attributes) == [path]
    before, after = core.load_segmentation(saved), core.load_segmentation(path)
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    assert np.argwhere(after.labels != before.labels).tolist() == [[0, 0, 0]]
    assert after.names == {1: "blood"}


def test_saving_an_image_layer_gives_the_scan_back_on_its_own_grid(scan, tmp_path):
    core.save_volume(scan, tmp_path / "a.nii.gz")
    opened = core.load_volume(tmp_path / "a.nii.gz")
    path = str(tmp_path / "b.nii.gz")
    data, attributes, _ = image_of(opened).as_layer_data_tuple()
    assert writers.write_image(path, data, attributes) == [path]
    again = core.load_volume(path)
    assert np.array_equal(again.data, opened.data)
    assert np.array_equal(again.affine, opened.affine)
    assert again.grid.shape == opened.grid.shape


def test_of_several_channels_the_one_that_is_shown_is_saved(scan, tmp_path):
    both = replace(
        scan, data=np.concatenate([scan.data, 2 * scan.data]), names=("a", "b")
    )
    made = layers.layers_of(both, name="scan")[1]
    data, attributes, _ = Image(made[0], **made[1]).as_layer_data_tuple()
    writers.write_image(str(tmp_path / "b.nii.gz"), data, attributes)
    again = core.load_volume(tmp_path / "b.nii.gz")
    assert again.data.shape[0] == 1
    np.testing.assert_allclose(again.data[0], 2 * scan.data[0], rtol=1e-6)


def test_a_plain_image_layer_is_saved_where_it_lies(tmp_path):
    layer = Image(np.ones((3, 4, 5), np.float32), scale=(5, 2, 1), units="mm")
    data, attributes, _ = layer.as_layer_data_tuple()
    writers.write_image(str(tmp_path / "b.nii.gz"), data, attributes)
    again = core.load_volume(tmp_path / "b.nii.gz")
    np.testing.assert_allclose(again.spacing_mm, (5, 2, 1))


def test_the_sample_says_that_it_is_synthetic_and_hides_its_truth():
    (_, image, _), (_, truth, _) = layers.phantom()
    assert "synthetic" in image["name"]
    assert truth["visible"] is False
    assert "myocardium" in truth["features"]["name"]
