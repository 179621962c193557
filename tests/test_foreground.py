"""Cutting air away before a model looks, and putting its answer back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg.core import ModelSpec, Volume, finish, grid, segment
from napari_hydraseg.core._foreground import foreground

RULE = {"kind": "percentile", "low": 0, "high": 100}


@pytest.fixture
def head():
    """A bright block in noisy air, off the middle, oblique."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 20, (20, 40, 50)).astype(np.int16)
    data[8:12, 10:25, 30:45] = rng.integers(500, 900, (4, 15, 15))
    affine = np.diag([5.0, 1.0, 2.0, 1.0])
    affine[1, 2] = 0.3
    return Volume(data[None], affine)


def spec(patch, **rule):
    return ModelSpec(
        "unet2d" if len(patch) == 2 else "unet3d",
        ("image",),
        {"organ": ("background", "organ")},
        patch,
        spacing_mm={"MR": {"mm": rule.pop("mm", 1.0), "foreground": True, **rule}},
        intensity={"MR": RULE},
    )


def test_the_box_holds_all_that_is_bright_and_a_margin_in_mm(head):
    part, box = foreground(head, slicewise=False, margin_mm=10)
    assert box == ((6, 14), (0, 35), (25, 50))
    np.testing.assert_array_equal(part.data[0], head.data[0, 6:14, :35, 25:])


@pytest.mark.parametrize(
    ("plane", "shape", "box"),
    [
        ("axial", (20, 15, 15), ((10, 25), (30, 45))),
        ("coronal", (4, 40, 15), ((8, 12), (30, 45))),
        ("sagittal", (4, 15, 50), ((8, 12), (10, 25))),
    ],
)
def test_of_slices_only_rows_and_columns_are_cut(head, plane, shape, box):
    turned = replace(head, plane=plane)
    part, found = foreground(turned, slicewise=True, margin_mm=0)
    assert part.shape == shape
    assert found == box
    slices = grid.to_slices(head.data[0], plane)
    rows, columns = (slice(*span) for span in found)
    expected = grid.to_slices(part.data[0], plane)
    np.testing.assert_array_equal(slices[:, rows, columns], expected)


def test_slices_that_stand_upright_count_their_rows_from_the_top(head):
    low = replace(head, data=np.roll(head.data, -6, axis=1), plane="coronal")
    _, box = foreground(low, slicewise=True, margin_mm=0)
    assert box[0] == (14, 18)


def test_channels_share_the_box_of_all(head):
    data = np.concatenate([head.data, np.roll(head.data, 3, axis=1)])
    both = replace(head, data=data, names=("T1", "T2"))
    assert foreground(both, slicewise=False, margin_mm=0)[1][0] == (8, 15)


@pytest.mark.parametrize("value", [0, 7])
def test_a_scan_without_contrast_is_kept_whole(value):
    scan = Volume(np.full((1, 3, 4, 5), value, np.int16), np.eye(4))
    assert foreground(scan, slicewise=False)[1] == ((0, 3), (0, 4), (0, 5))


@pytest.mark.parametrize("patch", [(16, 16), (8, 16, 16)])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_model_that_asks_for_it_sees_the_foreground_alone(head, patch, plane):
    scan = replace(head, plane=plane)
    seen = grid.conform(scan, spec(patch), modality="MR")
    plain = grid.conform(scan, spec(patch, foreground=False), modality="MR")
    assert seen.data.size < plain.data.size / 2
    assert seen.data.max() == pytest.approx(plain.data.max(), abs=0.02)


@pytest.mark.parametrize("patch", [(16, 16), (8, 16, 16)])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_labels_come_back_on_the_whole_scan(head, patch, plane):
    scan = replace(head, plane=plane)
    frame, _ = grid.frame_of(scan, spec(patch), modality="MR")
    truth = (head.data[0] > 400).astype(np.uint8)
    slices = grid.to_slices(truth, plane) if len(patch) == 2 else truth[None]
    inside = frame.enter_labels(slices)
    back = frame.leave(inside[:, None].astype(np.float32), [0.0])[:, 0] > 0.5
    ours = grid.from_slices(back, plane) if len(patch) == 2 else back[0]
    # the pixels of 1, 2 and 5 mm are multiples of what the model sees
    np.testing.assert_array_equal(ours, truth.astype(bool))


def test_an_answer_covers_the_whole_scan_and_air_is_background(head, tiny_checkpoint):
    own = tiny_checkpoint.spec
    asking = {"MR": {"mm": 1.0, "foreground": True}}
    model = replace(tiny_checkpoint, spec=replace(own, spacing_mm=asking))
    scan = replace(head, modality="MR")
    steps = segment(scan, model, probabilities=True)
    for found in finish(steps).values():
        assert found.labels.shape == head.shape
        np.testing.assert_allclose(found.probabilities.sum(0), 1, atol=1e-4)
        assert not found.labels[:, :, :20].any()
        assert (found.probabilities[0, :, :, :20] == 1).all()
