"""Answers lie on the scan; heads share a pass; blocks join without seams."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_hydraseg.core import (
    Checkpoint,
    ModelSpec,
    Volume,
    build,
    encode,
    finish,
    segment,
)
from napari_hydraseg.core._pieces import keep_largest
from napari_hydraseg.core.errors import DeviceUnavailable, UnknownModel, WrongInput
from napari_hydraseg.core.networks import weights_of


@pytest.fixture
def scan():
    rng = np.random.default_rng(0)
    affine = np.array(
        [[4.0, 0.1, 0, 7], [0.2, 1.5, 0, -3], [0, 0, 1.5, 2], [0, 0, 0, 1]]
    )
    data = rng.integers(0, 300, (1, 5, 50, 60)).astype(np.int16)
    return Volume(data, affine, modality="MR")


@pytest.fixture(scope="module")
def volumetric():
    spec = ModelSpec(
        "unet3d",
        ("image",),
        {"blob": ("background", "blob")},
        (16, 32, 32),
        intensity={"MR": {"kind": "zscore", "low": 0.5, "high": 99.5}},
        options={"width": 4, "depth": 3},
    )
    return Checkpoint(spec, weights_of(build(spec, seed=2)), {"name": "tiny3d"})


def test_the_answer_lies_on_the_grid_of_the_scan(scan, tiny_checkpoint):
    found = finish(segment(scan, tiny_checkpoint))["blob"]
    assert found.labels.shape == scan.shape
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.affine, scan.affine)
    assert found.names == {1: "blob"}
    assert found.made_by["model"] == "tiny"
    assert len(found.made_by["sha256"]) == 64


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_a_scan_of_another_plane_is_seen_in_that_plane(scan, tiny_checkpoint, plane):
    found = finish(segment(replace(scan, plane=plane), tiny_checkpoint))["blob"]
    assert found.labels.shape == scan.shape
    assert found.plane == plane


def test_probabilities_add_up_to_one(scan, tiny_checkpoint):
    found = finish(segment(scan, tiny_checkpoint, probabilities=True))["blob"]
    np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.probabilities.argmax(0), found.labels)


def test_the_same_scan_gives_the_same_bits(scan, tiny_checkpoint):
    one, two = (finish(segment(scan, tiny_checkpoint))["blob"] for _ in range(2))
    np.testing.assert_array_equal(one.labels, two.labels)


def test_heads_of_equal_spacing_share_one_pass(scan, tiny_checkpoint, monkeypatch):
    from napari_hydraseg.core.networks import _efficientnet

    spec = replace(
        tiny_checkpoint.spec,
        heads={n: ("background", n) for n in ("a", "b", "c")},
        spacing_mm={"MR": 3.0, "c": 1.5},
    )
    model = Checkpoint(spec, weights_of(build(spec)), {})
    passes = []
    forward = _efficientnet.EfficientNetLite0.forward

    def counted(self, x):
        passes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(_efficientnet.EfficientNetLite0, "forward", counted)
    found = finish(segment(scan, model, heads=("a", "b", "c")))
    assert list(found) == ["a", "b", "c"]
    assert sum(passes) == 2 * scan.shape[0]  # a and b together, c alone


def test_progress_comes_and_a_cancel_ends_it(scan, tiny_checkpoint):
    steps = segment(scan, tiny_checkpoint)
    first = next(steps)
    assert 0 < first.done <= first.total
    steps.close()


def test_what_does_not_fit_is_refused(scan, tiny_checkpoint):
    with pytest.raises(UnknownModel, match="blob"):
        finish(segment(scan, tiny_checkpoint, heads=("liver",)))
    two = replace(scan, data=np.repeat(scan.data, 2, 0), names=("T1", "T2"))
    with pytest.raises(WrongInput, match="T1, T2"):
        finish(segment(two, tiny_checkpoint))
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable):
            finish(segment(scan, tiny_checkpoint, device="cuda"))


def test_a_modality_that_is_not_stated_is_guessed_and_said(scan, tiny_checkpoint):
    unknown = replace(scan, modality=None)
    found = finish(segment(unknown, tiny_checkpoint))["blob"]
    assert any("MR" in note for note in found.made_by["fallbacks"])
    air = replace(unknown, data=unknown.data - 1000)
    found = finish(segment(air, tiny_checkpoint))["blob"]
    assert found.made_by["modality"] == "CT"


def test_features_come_one_row_for_each_slice(scan, tiny_checkpoint):
    features = finish(encode(scan, tiny_checkpoint))
    assert list(features) == ["1", "2", "3", "4", "5", "grey"]
    assert [f.shape[1] for f in features.values()] == [32, 48, 80, 224, 640, 16]
    assert all(len(f) == scan.shape[0] for f in features.values())


def test_blocks_answer_on_the_grid_of_the_scan(scan, volumetric):
    found = finish(segment(scan, volumetric))["blob"]
    assert found.labels.shape == scan.shape


def test_blocks_are_joined_as_monai_does(volumetric):
    inferers = pytest.importorskip("monai.inferers", reason="monai is not installed")
    from napari_hydraseg.core import grid, network

    rng = np.random.default_rng(1)
    scan = Volume(
        rng.normal(size=(1, 20, 44, 52)).astype("f4"), np.eye(4), modality="MR"
    )
    ours = finish(segment(scan, volumetric, probabilities=True))["blob"]
    net = network(volumetric)
    data = torch.from_numpy(grid.conform(scan, volumetric.spec, modality="MR").data)
    with torch.inference_mode():
        oracle = inferers.sliding_window_inference(
            data, volumetric.spec.patch, 2, lambda x: net(x)["blob"], 0.5, "gaussian"
        )
    agree = (oracle.argmax(1)[0].numpy() == ours.labels).mean()
    assert agree > 0.98  # tiles start at other voxels, so edges differ a little


@pytest.mark.parametrize("name", ["tiny_checkpoint", "volumetric"])
def test_a_head_that_looks_at_the_mirror_image_answers_it_alike(request, name):
    model = request.getfixturevalue(name)
    twice = replace(model, spec=replace(model.spec, mirror=("blob",)))
    data = np.random.default_rng(0).normal(size=(1, 16, 32, 32)).astype("f4")
    scan = Volume(data, np.diag([3.0, 1, 1, 1]), modality="MR")
    mirrored = replace(scan, data=np.ascontiguousarray(data[..., ::-1]))

    def disagree(model):
        one, two = (
            finish(segment(one, model, probabilities=True))["blob"].probabilities
            for one in (scan, mirrored)
        )
        return np.abs(one - two[..., ::-1]).max()

    assert disagree(twice) < 1e-4 < 1e-3 < disagree(model)


def test_of_an_organ_that_is_there_once_the_largest_piece_is_kept():
    labels = np.zeros((3, 8, 8), np.uint8)
    labels[:2, 1:4, 1:4] = 1
    labels[2, 6, 6] = 1  # a false one
    labels[1, 5:7, 5:7] = 2
    kept = keep_largest(labels)
    assert kept[2, 6, 6] == 0
    labels[2, 6, 6] = 0
    np.testing.assert_array_equal(kept, labels)
    assert kept.dtype == labels.dtype
    assert not keep_largest(np.zeros((1, 2, 2), np.uint8)).any()


@pytest.mark.parametrize(
    ("crop", "columns", "said"),
    [
        (8, (12, 15), ""),
        (8, (8, 12), "The a reaches the edge of that middle"),
        (8, (0, 0), "No a lies in that middle"),
        (None, (0, 0), ""),
    ],
)
def test_what_a_model_of_the_middle_may_have_missed_is_said(crop, columns, said):
    from napari_hydraseg.core import grid
    from napari_hydraseg.core.inference import _cut_notes

    frame = grid.Frame((20, 30), (20, 30), "L,A", crop=crop)
    mask = np.zeros((2, 20, 30), np.uint8)
    mask[1, 8:12, slice(*columns)] = 1
    notes = _cut_notes(frame, {"a": mask})
    assert [note for note in notes if said in note] if said else not notes
