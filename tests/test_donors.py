"""A new head starts from the head that knows most of what is painted, and says so."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from balls import ball, model
from napari_hydraseg.core import _donors, finish
from napari_hydraseg.core._begin import make_job
from napari_hydraseg.core._donors import Rank, judge, start
from napari_hydraseg.core.errors import UnknownModel
from napari_hydraseg.core.losses import IGNORE


class Donor(nn.Module):
    """Sees the image times `gain`, and says `sign` of it."""

    def __init__(self, gain: float, sign: float) -> None:
        super().__init__()
        self.gain = gain
        self.classify = nn.Conv2d(1, 2, 1)
        self.classify.weight.data = torch.tensor([0.0, sign]).view(2, 1, 1, 1)
        self.classify.bias.data = torch.tensor([0.0, -0.5 * sign])

    def forward(self, features):
        return self.classify(features[0] * self.gain)


NET = SimpleNamespace(
    heads={"sees": Donor(1, 1), "denies": Donor(1, -1), "blind": Donor(0, 1)}
)


def shown(count=2):
    """Give slices that are 1 where something is painted, and nearly 0 elsewhere."""
    chance = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        truth = torch.zeros(1, 24, 24, dtype=torch.long)
        truth[:, 6:14, 8:16] = 1
        grey = truth[:, None] + 0.05 * torch.randn(1, 1, 24, 24, generator=chance)
        truth[:, 20:] = IGNORE
        found.append(([grey], truth))
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_donor_is_known_by_what_it_sees_also_where_it_says_otherwise(count):
    as_is = {name: judge(NET, name, shown(count), 2) for name in NET.heads}
    assert as_is["sees"].as_is > 0.9
    assert as_is["denies"].as_is < 0.3
    assert as_is["denies"].probe > 0.9
    assert as_is["blind"].probe < 0.3


def job(**options):
    return make_job(
        model(), [ball()], head="ball", class_names=(), mode="frozen", depth=None,
        hold_out=True, seed=0, device="cpu", **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("donor", "chance", "taken"),
    [(0.5, 0.4, "blob"), (0.4, 0.4, "random"), (0.3, 0.4, "random")],
)
def test_a_donor_is_taken_if_it_beats_random_weights(monkeypatch, donor, chance, taken):
    def rank(job, donors):
        yield from ()
        assert donors == ["blob"]
        return {"blob": Rank(0.1, donor), "ball": Rank(0.0, chance)}

    monkeypatch.setattr(_donors, "rank", rank)
    work = job()
    name, reason = finish(start(work, "auto"))
    assert name == taken
    assert "blob" in reason
    assert f"{donor:.2f}" in reason
    assert f"{chance:.2f}" in reason
    ours, theirs = (work.net.heads[h].state_dict() for h in ("ball", "blob"))
    same = np.array_equal(ours["reduce.weight"], theirs["reduce.weight"])
    assert same is (taken == "blob")


def test_every_head_is_ranked_beside_the_new_one_and_nothing_changes():
    work = job()
    before = {k: v.clone() for k, v in work.net.state_dict().items()}
    ranks = finish(_donors.rank(work, ["blob"]))
    assert list(ranks) == ["blob", "ball"]
    assert all(0 <= rank.best <= 1 for rank in ranks.values())
    for name, value in work.net.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_donor_that_is_not_there_is_refused():
    with pytest.raises(UnknownModel, match="blob"):
        finish(start(job(), "liver"))
