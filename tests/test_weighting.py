"""The losses of many heads become one."""

import math

import pytest
import torch

from napari_hydraseg.core._weighting import Weighting
from napari_hydraseg.core.errors import WrongInput

LOSSES = {"a": torch.tensor(1.0), "b": torch.tensor(3.0)}


def test_linear_is_the_weighted_mean():
    assert Weighting({}, LOSSES)(LOSSES, 0.3).item() == 2
    twice = Weighting({"kind": "linear", "weights": {"b": 2}}, LOSSES)
    assert twice(LOSSES, 0.3).item() == 3.5


def test_uncertainty_learns_the_size_of_each_loss():
    weighting = Weighting({"kind": "uncertainty"}, LOSSES)
    assert weighting(LOSSES, 0).item() == 2  # as linear at the start
    optimiser = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        weighting(LOSSES, 0).backward()
        optimiser.step()
    # exp(-s) L + s / 2 is least at s = log(2 L)
    wanted = [math.log(2 * loss) for loss in (1, 3)]
    assert weighting.log_variance.tolist() == pytest.approx(wanted, abs=0.02)


def test_uncertainty_weighs_the_heads_that_a_step_showed():
    weighting = Weighting({"kind": "uncertainty"}, LOSSES)
    weighting.log_variance.data = torch.tensor([5.0, 0.0])
    assert weighting({"b": LOSSES["b"]}, 0).item() == 3


def test_the_schedule_moves_from_half_and_half_to_the_main_heads():
    weighting = Weighting({"kind": "scheduled", "main": ["b"]}, LOSSES)
    assert weighting(LOSSES, 0).item() == 2
    assert weighting(LOSSES, 0.5).item() == pytest.approx(3 - 2 / 32)
    assert weighting(LOSSES, 1).item() == 3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"kind": "best"}, "best"),
        ({"weights": {"c": 1}}, "c"),
        ({"kind": "scheduled"}, "main"),
    ],
)
def test_a_wrong_weighting_is_named(table, said):
    with pytest.raises(WrongInput, match=said):
        Weighting(table, LOSSES)
