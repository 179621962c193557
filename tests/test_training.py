"""Losses, changed slices, batches and the one loop."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from napari_hydraseg.core import augment, losses, optimisation, training
from napari_hydraseg.core.errors import TrainingDiverged
from napari_hydraseg.core.losses import IGNORE, hard_dice_counts, segmentation_loss
from napari_hydraseg.core.training import Case, draw


def logits_for(labels, classes, sure=20.0):
    return sure * nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


def test_a_perfect_answer_costs_nothing():
    labels = torch.randint(0, 3, (2, 8, 8))
    assert segmentation_loss(logits_for(labels, 3), labels) < 1e-3


def test_what_nobody_vouches_for_gives_no_gradient():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    labels = torch.randint(0, 2, (1, 4, 4))
    labels[0, :2] = IGNORE
    segmentation_loss(logits, labels).backward()
    assert (logits.grad[0, :, :2] == 0).all()
    assert (logits.grad[0, :, 2:] != 0).any()


def test_nothing_is_left_to_load_for_the_first_optimiser():
    optimisation.prepare()
    before = set(sys.modules)
    weight = nn.Parameter(torch.ones(2))
    step = optimisation.adamw([{"params": [weight], "lr": 1e-3}])
    weight.sum().backward()
    step.step()
    assert set(sys.modules) == before


def test_nothing_vouched_for_costs_nothing():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    segmentation_loss(logits, torch.full((1, 4, 4), IGNORE)).backward()
    assert (logits.grad == 0).all()


def test_soft_dice_agrees_with_monai():
    monai = pytest.importorskip("monai.losses", reason="monai is not installed")
    labels = torch.randint(0, 3, (2, 16, 16))
    logits = torch.randn(2, 3, 16, 16)
    oracle = monai.DiceLoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=True,
        smooth_nr=losses.EPS,
        smooth_dr=losses.EPS,
    )(logits, labels[:, None])
    torch.testing.assert_close(losses.soft_dice_loss(logits, labels), oracle)


def test_dice_counts_leave_out_unknown_voxels():
    labels = torch.tensor([0, 1, 1, IGNORE])
    answer = torch.tensor([0, 1, 0, 1])
    assert hard_dice_counts(answer, labels, 2).tolist() == [[2], [3]]


def slice_with_a_square(size=(40, 50)):
    image = torch.zeros(1, *size)
    labels = torch.zeros(size, dtype=torch.uint8)
    labels[10:20, 15:30] = 1
    return image + labels, labels


def test_image_and_labels_move_together():
    image, labels = slice_with_a_square()
    moved, truth = augment.change(
        image,
        labels,
        size=(40, 50),
        centre=(19.5, 24.5),
        recipe=augment.Recipe(rotation_deg=20, scaling=0.2, shift=0.05, bend_px=2),
        rng=np.random.default_rng(3),
    )
    inside = (moved[0] > 0.5) & (truth != IGNORE)
    agreement = (inside == (truth == 1)).float().mean()
    assert agreement > 0.99
    assert not torch.equal(moved, image)


def test_without_a_recipe_a_slice_is_only_cut_out():
    image, labels = slice_with_a_square()
    moved, truth = augment.change(
        image,
        labels,
        size=(20, 30),
        centre=(14.5, 22.5),
        recipe=augment.NONE,
        rng=np.random.default_rng(0),
    )
    torch.testing.assert_close(moved[0], image[0, 5:25, 8:38])
    assert torch.equal(truth, labels[5:25, 8:38].long())


def test_outside_of_the_slice_nothing_is_known():
    image, labels = slice_with_a_square()
    _, truth = augment.change(
        image,
        labels,
        size=(60, 50),
        centre=(19.5, 24.5),
        recipe=augment.NONE,
        rng=np.random.default_rng(0),
    )
    assert (truth[:10] == IGNORE).all()
    assert torch.equal(truth[10:50], labels.long())


@pytest.mark.parametrize("recipe", [augment.LIGHT, augment.STRONG])
def test_the_same_seed_changes_alike(recipe):
    image, labels = slice_with_a_square()
    one, two = (
        augment.change(
            image,
            labels,
            size=(32, 32),
            centre=(20, 20),
            recipe=recipe,
            rng=np.random.default_rng(9),
        )
        for _ in range(2)
    )
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_neighbours_stand_in_at_the_ends():
    images = np.arange(4, dtype=np.float16)[:, None, None, None]
    found = [training.neighbours(images, i, 3).ravel().tolist() for i in range(4)]
    assert found == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_the_loop_learns_and_stops_at_its_budget():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.tensor(5.0))
    values = list(
        optimisation.optimise(
            optimisation.adamw([{"params": [weight], "lr": 0.3}]),
            lambda: weight.square(),
            lambda step: step / 100,
        )
    )
    assert len(values) == 100
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize(("steps", "warm"), [(10, 1), (100, 10), (1000, 29)])
def test_a_short_run_does_not_end_in_its_warm_up(steps, warm):
    weight = nn.Parameter(torch.tensor(5.0))
    optimiser = optimisation.adamw([{"params": [weight], "lr": 1.0}])
    rates = [
        optimiser.param_groups[0]["lr"]
        for _ in optimisation.optimise(
            optimiser, lambda: weight.square(), lambda step: step / steps
        )
    ]
    assert rates.index(max(rates)) == warm
    assert max(rates) > 0.95


def test_a_loss_that_is_no_number_ends_the_run_with_good_weights():
    weight = nn.Parameter(torch.tensor(1.0))
    steps = optimisation.optimise(
        optimisation.adamw([{"params": [weight], "lr": 1.0}]),
        lambda: weight * torch.nan,
        lambda step: step / 100,
    )
    with pytest.raises(TrainingDiverged):
        list(steps)
    assert weight.item() == 1.0


def test_rare_classes_are_drawn_as_often_as_common_ones():
    labels = np.ones((20, 16, 16), np.uint8)
    labels[3, 4:6, 4:6] = 2
    case = Case(
        images=np.zeros((20, 1, 16, 16), np.float16),
        labels=labels,
        classes={1: np.arange(20), 2: np.array([3])},
        annotated=np.arange(20),
    )
    _, drawn = draw(
        [case],
        200,
        size=(16, 16),
        slices=3,
        recipe=augment.NONE,
        rng=np.random.default_rng(0),
        painted=1.0,
    )
    shown = (drawn == 2).flatten(1).any(1).float().mean()
    assert 0.4 < shown < 0.65  # one slice of twenty, half of the draws


def test_a_slice_alone_stands_in_for_its_neighbours():
    case = Case(
        images=np.arange(3, dtype=np.float16)[:, None, None, None],
        labels=np.zeros((3, 1, 1), np.uint8),
        classes={},
        annotated=np.arange(3),
    )
    assert case.triple(1, 3).ravel().tolist() == [0, 1, 2]
    assert case.triple(1, 3, alone=True).ravel().tolist() == [1, 1, 1]


def test_grey_values_below_the_floor_are_cut_off_now_and_then():
    image, labels = torch.full((1, 8, 8), -0.9), torch.zeros(8, 8, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    lowest = [
        augment.change(
            image,
            labels,
            size=(8, 8),
            centre=(3.5, 3.5),
            recipe=augment.Recipe(floor=-0.4),
            rng=rng,
        )[0]
        .min()
        .item()
        for _ in range(200)
    ]
    assert 0.15 < np.isclose(lowest, -0.4).mean() < 0.35


def test_an_image_smaller_than_the_piece_lies_anywhere_in_it():
    case = Case(
        images=np.zeros((1, 1, 8, 8), np.float16),
        labels=np.zeros((1, 8, 8), np.uint8),
        classes={},
        annotated=np.arange(1),
    )
    _, labels = draw(
        [case],
        100,
        size=(24, 8),
        slices=1,
        recipe=augment.NONE,
        rng=np.random.default_rng(0),
    )
    known = (labels != IGNORE).any(2)
    tops = {int(one.float().argmax()) for one in known}
    assert min(tops) <= 2
    assert max(tops) >= 14
    assert known.sum(1).unique().tolist() == [8]
