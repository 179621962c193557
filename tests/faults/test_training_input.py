"""Annotations that cannot be learned from, or hardly: rows F65 to F71."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from balls import ball, model
from napari_hydraseg.core import finetune, finish, grid, training
from napari_hydraseg.core._few import pairs_of
from napari_hydraseg.core.errors import (
    EmptyAnnotation,
    GeometryMismatchError,
    LabelDtype,
    LabelShape,
    UnknownLabelId,
)
from napari_hydraseg.core.losses import IGNORE, segmentation_loss


def begun(volume, truth, **options):
    """Check and prepare as `finetune` does, without the training."""
    return next(finetune(model(), [(volume, truth)], head="ball", **options))


def test_f65_nothing_painted_is_refused():
    volume, truth = ball()
    empty = replace(truth, labels=np.zeros_like(truth.labels))
    with pytest.raises(EmptyAnnotation, match="painted"):
        begun(volume, empty)


def test_f65_nothing_painted_where_somebody_vouches_is_refused():
    volume, truth = ball(shape=(20, 16, 16))
    shown = truth.labels.any((1, 2))
    with pytest.raises(EmptyAnnotation, match="marked as annotated"):
        begun(volume, replace(truth, annotated=~shown))
    with pytest.raises(EmptyAnnotation, match="marked as annotated"):
        begun(volume, replace(truth, annotated=truth.labels == 0))
    begun(volume, replace(truth, annotated=np.arange(20) >= 10))  # blank ones, too


@pytest.mark.parametrize("what", ["voxel", "slice"])
def test_f66_one_voxel_or_one_slice_runs_with_a_warning(what):
    volume, truth = ball()
    labels = np.zeros_like(truth.labels)
    if what == "voxel":
        labels[4, 8, 8] = 1
    else:
        labels[4] = truth.labels[4]
    alone = replace(truth, labels=labels, annotated=labels.any((1, 2)))
    found = finish(finetune(model(), [(volume, alone)], head="ball", epochs=1))
    assert any("few" in text for text in found.warnings)
    assert all(np.isfinite(v).all() for v in found.candidate.weights.values())


def test_f67_labels_of_another_shape_are_refused_with_both_shapes():
    volume, truth = ball()
    with pytest.raises(LabelShape, match=r"7, 16, 16.*8, 16, 16"):
        begun(volume, replace(truth, labels=truth.labels[1:]))


def test_f67_marks_that_fit_no_slices_are_refused_with_both_numbers():
    volume, truth = ball()
    with pytest.raises(LabelShape, match=r"axial slice \(8\).*; 5 came"):
        begun(volume, replace(truth, annotated=np.ones(5, bool)))


@pytest.mark.parametrize("shape", [(8, 16, 16), (16, 16, 16)])
def test_marks_count_in_their_own_plane(shape):
    volume, truth = ball(shape=shape)
    volume = replace(volume, plane="sagittal")
    marks = np.arange(shape[0]) == shape[0] // 2
    marked = replace(truth, annotated=marks, plane="axial")
    wanted = np.broadcast_to(marks[:, None, None], shape)
    found = training.vouched(marked, volume)
    np.testing.assert_array_equal(grid.from_slices(found, "sagittal"), wanted)
    ((_, narrowed),) = pairs_of([(volume, marked)], [(0, 7), (0, 8)])
    np.testing.assert_array_equal(
        grid.from_slices(training.vouched(narrowed, volume), "sagittal"),
        wanted & np.isin(np.arange(16), (7, 8)),
    )
    begun(volume, marked)


def test_f68_labels_elsewhere_are_refused_in_millimetres():
    volume, truth = ball()
    moved = truth.affine.copy()
    moved[2, 3] += 3.0
    with pytest.raises(GeometryMismatchError, match=r"3\.0 mm"):
        begun(volume, replace(truth, affine=moved))


def test_f69_labels_that_are_no_whole_numbers_are_refused():
    volume, truth = ball()
    begun(volume, replace(truth, labels=truth.labels.astype(float)))
    begun(volume, replace(truth, labels=truth.labels.astype(bool)))
    with pytest.raises(LabelDtype):
        begun(volume, replace(truth, labels=truth.labels * 0.5))
    with pytest.raises(UnknownLabelId):
        begun(volume, replace(truth, labels=-truth.labels.astype(int)))


def test_f70_an_id_beyond_the_head_is_refused_by_name():
    volume, truth = ball()
    strange = replace(truth, labels=truth.labels * 7, names={})
    steps = finetune(model(), [(volume, strange)], head="blob")
    with pytest.raises(UnknownLabelId, match="7"):
        next(steps)


def test_f71_what_nobody_vouches_for_has_no_gradient():
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 8, 8, generator=chance).requires_grad_()
    labels = torch.randint(0, 2, (1, 8, 8), generator=chance)
    labels[:, :4] = IGNORE
    segmentation_loss(logits, labels).backward()
    assert (logits.grad[:, :, :4] == 0).all()
    assert (logits.grad[:, :, 4:] != 0).any()
