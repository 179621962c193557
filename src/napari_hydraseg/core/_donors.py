"""Where a new head starts: which other head knows most of what is painted.

Each donor is judged twice by some annotated slices, in one pass: by its answer as it
is, and by a probe, a class layer that is fitted anew to what its decoder sees (least
squares, in closed form), on slices that the fit has not seen. The probe also knows
donors that see the structure but call it background. What a head of random weights
reaches in the same probe is what a donor has to beat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _heads, _source, networks
from ._features import Example
from ._job import Job
from .errors import UnknownModel
from .losses import IGNORE, hard_dice_counts
from .networks import MultiHead
from .types import Progress, Steps

MARGIN = 0.02  # of Dice: what a donor must be better by than random weights
PIXELS = 2**16  # of a slice, at most
RIDGE = 1e-3  # times the mean square of the features: they are not independent


@dataclass(frozen=True)
class Rank:
    """How much a head knows of what is painted.

    Attributes
    ----------
    as_is : float
        Dice of whatever it finds with whatever is painted.
    probe : float
        Mean Dice of the painted classes, with a class layer fitted anew.
    """

    as_is: float
    probe: float

    @property
    def best(self) -> float:
        """The better of the two."""
        return max(self.as_is, self.probe)


def start(job: Job, init: str) -> Steps[tuple[str, str]]:
    """Give the head its first weights.

    Parameters
    ----------
    job : Job
        Its new head is changed in place.
    init : str
        As in `core.finetune`.

    Yields
    ------
    Progress
        After each slice and each donor that is looked at.

    Returns
    -------
    donor : str
        The name of a head, or "random".
    reason : str
        Why, in a sentence.

    Raises
    ------
    UnknownModel
        If `init` names no head that could be taken.
    """
    images = job.net.reads.get(job.head, 1)
    others = _donors(job, images)
    if job.mode == "scratch":
        return "random", "Everything starts at random, for comparison."
    if job.head in others:
        return job.head, f"The head {job.head} goes on from what it knows."
    if init == "random":
        return "random", "A random start was asked for."
    if init != "auto":
        if init not in others:
            raise UnknownModel(
                f"There is no head {init!r} to start from; known: {', '.join(others)}.",
                "Choose one of these, auto or random.",
            )
        _heads.adopt(job.net, job.head, init, job.spec)
        return init, f"The head {init} was asked for."
    if not others:
        return "random", f"No other head reads {images} channels at once."
    ranks = yield from rank(job, others)
    chance = ranks.pop(job.head)
    best = max(ranks, key=lambda donor: (ranks[donor].best, donor))
    found = ranks[best]
    said = f"Dice {found.as_is:.2f} as it is, {found.probe:.2f} with a new last layer"
    said += f"; random weights {chance.probe:.2f} with one"
    if found.best < chance.probe + MARGIN:
        return "random", f"No other head fits; the best is {best} ({said})."
    _heads.adopt(job.net, job.head, best, job.spec)
    return best, f"Of {len(ranks)} other heads {best} fits best ({said})."


def _donors(job: Job, images: int) -> list[str]:
    """Heads that read as many images at once, and make masks."""
    return [
        name
        for name in job.checkpoint.spec.heads
        if name == job.head or job.net.reads.get(name, 1) == images
        if name not in networks.classifiers(job.spec)
    ]


def rank(job: Job, donors: Sequence[str]) -> Steps[dict[str, Rank]]:
    """Judge donors, and the new head as it is, by some annotated slices.

    Parameters
    ----------
    job : Job
        Nothing of it is changed.
    donors : sequence of str
        Other heads.

    Yields
    ------
    Progress
        After each slice and each donor.

    Returns
    -------
    dict of str to Rank
        The new head, of random weights, under its own name.
    """
    shown = yield from _source.examples(job)
    classes = len(job.spec.heads[job.head])
    found: dict[str, Rank] = {}
    names = [*donors, job.head]
    for name in names:
        found[name] = judge(job.net, name, shown, classes)
        yield Progress(len(found), len(names), "looking at what other heads know")
    return found


@torch.inference_mode()
def judge(net: MultiHead, head: str, shown: Sequence[Example], classes: int) -> Rank:
    """Judge one head by slices; see the top of this file.

    Parameters
    ----------
    net : MultiHead
        The network.
    head : str
        One of its heads.
    shown : sequence of (features, labels)
        Encoder features of annotated slices and their class indices.
    classes : int
        Of what is painted, background included.
    """
    counts = torch.zeros(2, 1)
    seen: list[tuple[Tensor, Tensor]] = []
    for features, labels in shown:
        logits, last = _seen(net, head, features)
        known = (labels != IGNORE).flatten()
        step = max(1, int(known.sum()) // PIXELS)
        truth = labels.flatten()[known][::step]
        answer = logits.argmax(1).flatten()[known][::step]
        counts += hard_dice_counts((answer > 0).long(), (truth > 0).long(), 2).cpu()
        rows = last.movedim(1, -1).flatten(0, -2)[known][::step]
        seen.append((rows.float(), truth))
    return Rank(_dice(counts), _probe(seen, classes))


def _seen(net: MultiHead, head: str, features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits, and what the class layer made them from."""
    inputs: list[Tensor] = []

    def note(_: Any, arguments: tuple[Tensor]) -> None:
        inputs.append(arguments[0])

    decoder = net.heads[head]
    handle = decoder.get_submodule("classify").register_forward_pre_hook(note)
    try:
        logits: Tensor = decoder(features)
    finally:
        handle.remove()
    return logits, inputs[0]


def _probe(seen: Sequence[tuple[Tensor, Tensor]], classes: int) -> float:
    """Fit a class layer to every other slice and judge it by the rest; both ways."""
    halves = [seen[::2], seen[1::2]] if len(seen) > 1 else [seen, seen]
    counts = torch.zeros(2, classes - 1)
    for learn, judged in (halves, halves[::-1]):
        layer = _fitted(learn, classes)
        for rows, truth in judged:
            answer = (rows @ layer[:-1] + layer[-1]).argmax(1)
            counts += hard_dice_counts(answer, truth, classes).cpu()
    return _dice(counts)


def _fitted(seen: Sequence[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """Least squares of the classes on the features: (feature + 1, class).

    Rare classes weigh more, by the root of their rarity: as often as background they
    would be found everywhere, as rarely as they are, nowhere.
    """
    rows = torch.cat([features for features, _ in seen]).double()
    truth = torch.cat([labels for _, labels in seen])
    rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
    sizes = torch.bincount(truth, minlength=classes).clamp_min(1).double()
    weighted = rows * sizes.rsqrt()[truth][:, None]
    gram = rows.T @ weighted
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-9)
    gram += ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    targets = torch.nn.functional.one_hot(truth, classes).double()
    layer: Tensor = torch.linalg.solve(gram, weighted.T @ targets)
    return layer.float()


def _dice(counts: Tensor) -> float:
    """Mean over the classes that were painted or found."""
    values = [float(both / size) for both, size in counts.T if size]
    return float(np.mean(values)) if values else 0.0
