"""A new head starts from the head that knows most of what is painted, and says so."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from balls import ball, make_job, model
from napari_hydraseg.core import _donors, _heads, build, finish
from napari_hydraseg.core._donors import Rank, dice, start, trial
from napari_hydraseg.core.errors import UnknownModel
from napari_hydraseg.core.losses import IGNORE
from napari_hydraseg.core.networks import weights_of


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


class Head(nn.Module):
    """Says `slope` times the image, and `start` of anything."""

    def __init__(self, slope: float, start: float) -> None:
        super().__init__()
        self.classify = nn.Conv2d(1, 2, 1)
        self.classify.weight.data = torch.tensor([0.0, slope]).view(2, 1, 1, 1)
        self.classify.bias.data = torch.tensor([0.0, start])

    def forward(self, features):
        return self.classify(features[0])


def test_a_start_is_known_by_what_a_few_steps_make_of_it():
    lessons = shown()
    near, far = Head(0.05, 0.0), Head(-0.1, 0.05)  # a step moves each by .002
    before = [v.clone() for head in (near, far) for v in head.state_dict().values()]
    assert dice(near, lessons, 2) < 0.6
    assert trial(near, lessons, 2) > 0.9
    assert trial(far, lessons, 2) < 0.5
    after = [v for head in (near, far) for v in head.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_what_nobody_vouches_for_says_nothing_of_a_donor():
    (features, truth), *_ = shown(1)
    sees = Head(1.0, -0.5)
    assert dice(sees, [(features, truth)], 2) > 0.95
    features[0][:, :, 20:] = 1  # where nobody looked
    assert dice(sees, [(features, truth)], 2) > 0.95
    truth[truth == IGNORE] = 0
    assert dice(sees, [(features, truth)], 2) < 0.7


def job(parent=None, **options):
    return make_job(
        parent or model(), [ball()], head="ball", class_names=(), mode="frozen",
        depth=None, hold_out=True, seed=0, device="cpu", **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("donor", "chance", "taken"),
    [(0.5, 0.4, "blob"), (0.4, 0.4, "random"), (0.3, 0.4, "random")],
)
def test_a_donor_is_taken_if_it_beats_random_weights(monkeypatch, donor, chance, taken):
    def rank(job, donors, **_):
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
    assert set(ranks) == {"blob", "ball"}
    assert all(0 <= rank.tried <= 1 for rank in ranks.values())
    for name, value in work.net.state_dict().items():
        assert torch.equal(value, before[name])


def test_heads_with_dropout_are_ranked_by_the_same_chance_each_time():
    work = job(model("quicknat", width=4, levels=2))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = finish(_donors.rank(work, ["blob"]))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert finish(_donors.rank(work, ["blob"])) == one


def test_a_start_is_judged_without_dropout():
    decoder = Head(1.0, -0.5)
    decoder.classify = nn.Sequential(decoder.classify, nn.Dropout(0.9))
    decoder.train()
    assert trial(decoder, shown(), 2) > 0.95


@pytest.mark.parametrize("norm", [False, True])
def test_a_head_that_narrows_lends_its_hidden_channels_whole(norm):
    work = job(model("unet2d", width=2, narrow=True, norm=norm))
    fresh = copy.deepcopy(work.net.heads["ball"].state_dict())
    _heads.adopt(work.net, "ball", "blob", work.spec)
    ours, theirs = (work.net.heads[h].state_dict() for h in ("ball", "blob"))
    for name in ours:
        if name.startswith("classify.conv2"):  # "background" agrees, "ball" does not
            assert torch.equal(ours[name][0], theirs[name][0])
            assert torch.equal(ours[name][1], fresh[name][1])
        else:
            assert torch.equal(ours[name], theirs[name])


def test_classes_agree_by_name_where_the_background_has_no_row():
    names = {"blob": ("background", "front", "ball")}
    parent = model("dilated", width=2)
    spec = replace(parent.spec, heads=names)
    parent = replace(parent, spec=spec, weights=weights_of(build(spec, seed=0)))
    work = job(parent)
    fresh = copy.deepcopy(work.net.heads["ball"].state_dict())
    _heads.adopt(work.net, "ball", "blob", work.spec)
    ours, theirs = (work.net.heads[h].state_dict() for h in ("ball", "blob"))
    assert ours["classify.weight"].shape[0] == 1
    assert torch.equal(ours["classify.weight"][0], theirs["classify.weight"][1])
    assert not torch.equal(fresh["classify.weight"], ours["classify.weight"])


def test_a_slow_machine_tries_the_most_promising_donors_alone():
    work = job()
    heads = ["blob", "dark", "other"]
    for name in heads[1:]:
        work.net.heads[name] = copy.deepcopy(work.net.heads["blob"])
    spec = replace(
        work.spec, heads=dict.fromkeys([*heads, "ball"], ("background", "a"))
    )
    work = replace(work, spec=spec)
    # one that says the contrary of what it knows
    last = work.net.heads["dark"].classify
    last.weight.data, last.bias.data = last.weight.data.flip(0), last.bias.data.flip(0)
    every = finish(_donors.rank(work, heads))
    assert set(every) == {"ball", *heads}
    few = finish(_donors.rank(work, heads, seconds=0.0))
    assert len(few) == 2
    (taken,) = set(few) - {"ball"}
    assert every[taken].as_is == max(every[name].as_is for name in heads)
    assert few[taken] == every[taken]


def test_a_donor_that_is_not_there_is_refused():
    with pytest.raises(UnknownModel, match="blob"):
        finish(start(job(), "liver"))
