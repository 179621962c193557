"""The Evaluate form: numbers, errors on the canvas, several scans, the report."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core.types import Segmentation
from napari_hydraseg.gui import layers, origin, view
from napari_hydraseg.gui.evaluate import EvaluateWidget
from napari_hydraseg.gui.judging import scan_under
from napari_hydraseg.gui.series import Cases

NAMES = {1: "wall", 2: "blood"}


@pytest.fixture
def form(dock):
    return dock(EvaluateWidget)


@pytest.fixture
def masks(scan):
    """A mask, and one that misses slice 2, and finds too much on slices 4 and 5."""
    true = (scan.data[0] > 100).astype(np.uint8)
    true[:, :11] *= 2
    wrong = true.copy()
    wrong[2] = 0
    wrong[4, 0, :4] = 1
    wrong[5, 0, 0] = 2
    return [Segmentation(one, scan.affine, NAMES) for one in (true, wrong)]


@pytest.fixture
def compared(form, viewer, scan, masks, click, finished):
    """The form after one comparison, on the scan."""
    made = [layers.labels_layer(m, name=n) for m, n in zip(masks, "tf", strict=True)]
    view.add(viewer, [*layers.volume_layers(scan), *made])
    form.reference.setCurrentText("t")
    form.candidate.setCurrentText("f")
    click(form, "evaluate.run")
    finished()
    return form


def saved(form, path, monkeypatch, click, finished):
    monkeypatch.setattr(
        "napari_hydraseg.gui.evaluate.QFileDialog.getSaveFileName",
        lambda *_: (str(path), ""),
    )
    click(form, "evaluate.save")
    finished(120)  # the first import of Matplotlib takes long on a busy machine
    return path.read_text("utf-8")


def test_errors_are_one_layer_with_two_named_colours(
    compared, viewer, masks, click, finished
):
    click(compared, "evaluate.errors")
    finished()
    errors = viewer.layers["errors · f"]
    assert list(errors.features["name"]) == [
        "missed (false negative)",
        "too much (false positive)",
    ]
    np.testing.assert_array_equal(errors.data == 1, masks[0].labels > masks[1].labels)
    assert (errors.data == 2).sum() == 5
    assert not np.allclose(errors.get_color(1), errors.get_color(2))
    np.testing.assert_allclose(errors.scale, viewer.layers["s"].scale)
    assert not viewer.layers["f"].visible


def test_errors_are_never_offered_as_a_mask(compared, viewer, click, finished):
    click(compared, "evaluate.errors")
    finished()
    assert compared.candidate.currentText() == "f"
    assert compared.candidate.findText("errors · f") == -1


def test_the_worst_slice_is_shown_and_then_the_next(
    compared, viewer, click, finished, control
):
    click(compared, "evaluate.worst")
    finished()
    assert viewer.dims.current_step[0] == 2
    click(compared, "evaluate.worst")
    assert viewer.dims.current_step[0] == 4
    assert "4 wrong voxels" in control(compared, "evaluate.where").text()


def test_a_row_of_the_table_chooses_whose_errors_are_shown(
    compared, viewer, click, finished, control
):
    control(compared, "evaluate.table").setCurrentCell(1, 0)
    assert compared.errors.structure.currentText() == "blood"
    click(compared, "evaluate.errors")
    finished()
    assert (viewer.layers["errors · f"].data == 2).sum() == 1
    control(compared, "evaluate.table").setCurrentCell(0, 0)
    click(compared, "evaluate.errors")
    finished()
    assert [layer.name for layer in viewer.layers].count("errors · f") == 1
    assert (viewer.layers["errors · f"].data == 2).sum() == 4


def test_a_file_can_be_the_reference(form, viewer, masks, tmp_path, finished, click):
    core.save_segmentation(masks[0], tmp_path / "expert.nii.gz")
    view.add(viewer, [layers.labels_layer(masks[1], name="f")])
    form.open_file(tmp_path / "expert.nii.gz")
    finished()
    assert form.reference.currentText() == "expert"
    assert form.candidate.currentText() == "f"
    assert not viewer.layers["expert"].visible
    click(form, "evaluate.run")
    finished()
    assert [row["name"] for row in form.rows] == ["wall", "blood"]
    assert form.rows[0]["dice"] < 1


def test_a_report_shows_the_worst_slice_of_each_structure(
    compared, tmp_path, monkeypatch, click, finished
):
    page = saved(compared, tmp_path / "e.html", monkeypatch, click, finished)
    assert "wall, worst slice (2): " in page
    assert page.count("data:image/png") == 2
    assert "s.nii.gz" not in page


def test_a_report_shows_the_scan_that_a_mask_is_of(compared, viewer, scan):
    other = replace(scan, data=scan.data + 1000, source="other.nii.gz")
    (image,) = view.add(viewer, layers.volume_layers(other))
    assert scan_under(viewer, compared._pair) is not image.data
    origin.remember(viewer.layers["f"].metadata, image)
    assert scan_under(viewer, compared._pair) is image.data


def test_several_scans_give_a_mean_with_its_interval(
    compared, viewer, masks, scan, click, finished, control, tmp_path, monkeypatch
):
    summary = control(compared, "evaluate.summary")
    control(compared, "evaluate.several").setChecked(True)
    click(compared, "evaluate.run")  # the same scan once more is no second one
    finished()
    assert summary.isHidden()
    other = np.roll(masks[0].labels, 1, 0)
    noun = Segmentation(other, scan.affine, NAMES)
    view.add(viewer, [layers.labels_layer(noun, name="second")])
    assert compared.reference.currentText() == "t"  # what is new is to be judged
    compared.reference.setCurrentText("second")
    compared.candidate.setCurrentText("f")
    click(compared, "evaluate.run")
    finished()
    assert [summary.item(0, i).text() for i in (0, 3)] == ["wall", "2"]
    low, _, high = summary.item(0, 2).text().partition(" to ")
    assert float(low) <= float(summary.item(0, 1).text()) <= float(high)
    text = saved(compared, tmp_path / "e.json", monkeypatch, click, finished)
    assert {row["case"] for row in json.loads(text)["rows"]} == {"case 1", "case 2"}


def test_a_second_try_on_a_scan_replaces_the_first(masks):
    cases = Cases()
    for dice in (0.5, 0.7):
        cases.add(masks[0], [{"name": "wall", "dice": dice}])
    assert [(row["case"], row["dice"]) for row in cases.rows()] == [("1", 0.7)]
