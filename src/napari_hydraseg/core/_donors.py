"""Where a new head starts: which other head learns fastest what is painted.

Each donor lends its weights to the new head, which then takes a few steps on some
annotated slices. What it gets right on them tells which start is worth most: better
than what the donor answers as it is, since a head that knows the structure may see
nothing at first in scans of another kind, and a head that does not may answer by
chance. Random weights take the same steps, and have to be beaten. Where time is short,
those that answer best as they are take their steps first, and the rest none.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import _heads, _source, networks, optimisation
from ._features import Example
from ._job import Job
from .errors import UnknownModel
from .losses import IGNORE, hard_dice_counts, segmentation_loss
from .types import Progress, Steps

MARGIN = 0.02  # of Dice: what a donor must be better by than random weights
STEPS, RATE = 4, 2e-3  # of the trial
SLICES, BLOCKS = 4, 2  # that each step sees


@dataclass(frozen=True)
class Rank:
    """How much a head knows of what is painted.

    Attributes
    ----------
    as_is : float
        Dice of whatever it finds with whatever is painted.
    tried : float
        Mean Dice of the painted classes after a few steps.
    """

    as_is: float
    tried: float


def start(job: Job, init: str, *, seconds: float = math.inf) -> Steps[tuple[str, str]]:
    """Give the head its first weights.

    Parameters
    ----------
    job : Job
        Its new head is changed in place.
    init : str
        As in `core.finetune`.
    seconds : float
        After which no further donor is tried.

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
    ranks = yield from rank(job, others, seconds=seconds)
    chance = ranks.pop(job.head)
    best = max(ranks, key=lambda donor: (ranks[donor].tried, donor))
    found = ranks[best]
    said = f"Dice {found.as_is:.2f} as it is, {found.tried:.2f} after {STEPS} steps"
    said += f"; random weights {chance.tried:.2f}"
    if len(ranks) < len(others):
        said += f"; time to try {len(ranks)} of {len(others)}"
    if found.tried < chance.tried + MARGIN:
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


def rank(
    job: Job, donors: Sequence[str], *, seconds: float = math.inf
) -> Steps[dict[str, Rank]]:
    """Judge donors, and the new head as it is, by some annotated slices.

    Parameters
    ----------
    job : Job
        Nothing of it is changed.
    donors : sequence of str
        Other heads.
    seconds : float
        After which no further one is tried; one always is.

    Yields
    ------
    Progress
        After each slice and each donor.

    Returns
    -------
    dict of str to Rank
        The new head, of random weights, under its own name; and those that were tried.
    """
    began = time.monotonic()
    shown = yield from _source.examples(job)
    most = SLICES if job.spec.slicewise else BLOCKS
    which = np.linspace(0, len(shown) - 1, min(most, len(shown))).round()
    lessons = _together([shown[int(i)] for i in which])
    new = job.net.heads[job.head]
    first = copy.deepcopy(new.state_dict())
    classes = len(job.spec.heads[job.head])
    names, total = [job.head, *donors], 2 * (len(donors) + 1)
    as_is: dict[str, float] = {}
    for name in names:
        as_is[name] = dice(job.net.heads[name], lessons, 2)
        yield Progress(len(as_is), total, "trying where to start from")
    found: dict[str, Rank] = {}
    try:
        for name in [job.head, *sorted(donors, key=lambda d: -as_is[d])]:
            if len(found) > 1 and time.monotonic() - began > seconds:
                break
            new.load_state_dict(first)
            if name != job.head:
                _heads.adopt(job.net, job.head, name, job.spec)
            found[name] = Rank(as_is[name], trial(new, lessons, classes))
            done = len(names) + len(found)
            yield Progress(done, total, "trying where to start from")
    finally:
        new.load_state_dict(first)
    return found


def _together(shown: Sequence[Example]) -> list[Example]:
    """Stack examples of one size: a class that one of them lacks another may show.

    Features of a frozen encoder take no gradients, but must let them pass: copies do.
    """
    sizes: dict[Any, list[Example]] = {}
    for features, labels in shown:
        sizes.setdefault(labels.shape, []).append((features, labels))
    return [
        (
            [
                torch.cat(maps).clone()
                for maps in zip(*(f for f, _ in some), strict=True)
            ],
            torch.cat([labels for _, labels in some]).clone(),
        )
        for some in sizes.values()
    ]


def trial(decoder: nn.Module, lessons: Sequence[Example], classes: int) -> float:
    """Let a copy of a head take a few steps; return its Dice on what it saw.

    Parameters
    ----------
    decoder : Module
        A head with its first weights; it stays as it is.
    lessons : sequence of (features, labels)
        Encoder features of annotated slices and their class indices, in batches.
    classes : int
        Of what is painted, background included.
    """
    tried = copy.deepcopy(decoder).train()
    with torch.random.fork_rng(devices=[]):  # dropout draws from the global state
        torch.default_generator.manual_seed(0)  # the same chance for all
        _learn(tried, lessons)
    tried.eval()
    for module in tried.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()  # statistics of so few steps are too young to go by
    return dice(tried, lessons, classes)


def _learn(tried: nn.Module, lessons: Sequence[Example]) -> None:
    optimiser = optimisation.adamw([{"params": list(tried.parameters()), "lr": RATE}])
    total = sum(len(labels) for _, labels in lessons)
    for _ in range(STEPS):
        optimiser.zero_grad(set_to_none=True)
        for features, labels in lessons:
            loss: Any = segmentation_loss(tried(features), labels)
            (loss * len(labels) / total).backward()
        nn.utils.clip_grad_norm_(tried.parameters(), optimisation.CLIP)
        optimiser.step()


@torch.no_grad()
def dice(decoder: nn.Module, lessons: Sequence[Example], classes: int) -> float:
    """Mean Dice of the classes that are painted or found.

    Parameters
    ----------
    decoder, lessons, classes
        As of `trial`. With 2 classes, whatever is found is held against whatever is
        painted.
    """
    last = classes - 1
    counts = torch.zeros(2, last)
    for features, labels in lessons:
        known = labels != IGNORE
        answer: Tensor = decoder(features).argmax(1)
        pair = (answer[known].clamp(max=last), labels[known].clamp(max=last))
        counts += hard_dice_counts(*pair, classes).cpu()
    values = [float(both / size) for both, size in counts.T if size]
    return float(np.mean(values)) if values else 0.0
