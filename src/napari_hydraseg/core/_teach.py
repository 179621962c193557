"""The run itself: keep features, train the head on them, look at held-out slices."""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from . import _engine, _holdout, grid, networks, training
from ._job import Job, modality_of, trained
from .augment import LIGHT, NONE, Recipe
from .losses import IGNORE, hard_dice_counts, segmentation_loss
from .types import Progress, Steps

RATES = {"heads": 2e-3, "encoder": 2e-4}
STEP_PIXELS = 4 * 192**2  # of a batch of 2 to 8 slices
CACHED = 160  # changed slices whose features are kept
CACHE_BYTES = 2 * 2**30
CACHE_SHARE = 0.25  # of the budget, at most, for computing them
CHECKS = 8  # looks at the held-out slices during a run
DEFAULT_MINUTES = 1.0

Place: TypeAlias = tuple[int, int]
"""Case and slice."""

Example: TypeAlias = tuple[list[Tensor], Tensor]
"""Encoder features of one slice, and its class indices, shape (1, h, w)."""

Curve: TypeAlias = list[dict[str, float]]


def held_places(job: Job) -> list[Place]:
    """List the slices that are held out."""
    return [(case, i) for case, held in enumerate(job.split.held) for i in held]


def examples(job: Job) -> Steps[list[Example]]:
    """Compute the features of the slices that are learned from, unchanged."""
    found: list[Example] = []
    places = [(case, i) for case, kept in enumerate(job.split.train) for i in kept]
    for case, index in places:
        image = job.cases[case].triple(index, job.slices)[None]
        labels = torch.from_numpy(job.cases[case].labels[index]).long()
        down, right = (-n % job.net.stride for n in labels.shape)
        padded = F.pad(labels, (0, right, 0, down), value=IGNORE)[None]
        found.append((_features(job, image), padded.to(job.device)))
        yield Progress(len(found), len(places), "looking at the annotated slices")
    return found


def score(job: Job, *, seed: int) -> dict[str, float]:
    """Dice on the held-out slices, on the scans' own grid, with its interval.

    Returns
    -------
    dict
        ``{"dice", "n", "low", "high"}``; nan and 0 if nothing is held out.
    """
    places = held_places(job)
    if not places:
        return {"dice": float("nan"), "n": 0, "low": float("nan"), "high": float("nan")}
    counts = np.stack([_counts(job, _answer(job, place), place) for place in places])
    low, high = _holdout.interval(counts, seed=seed)
    dice = _holdout.dice_of(counts)
    return {"dice": dice, "n": len(places), "low": low, "high": high}


def teach(
    job: Job,
    *,
    augment: bool,
    minutes: float | None,
    epochs: int | None,
    before: float,
    rate: float | None = None,
) -> Steps[tuple[Curve, int]]:
    """Train until the budget is used; the best state for the held-out slices stays.

    Parameters
    ----------
    job : Job
        Its network is trained in place.
    augment : bool
        Whether slices are changed.
    minutes, epochs : float, int, optional
        The budget, caching of features included.
    before : float
        Held-out Dice at the start.
    rate : float, optional
        Peak learning rate of the head; the encoder's keeps its ratio to it.

    Yields
    ------
    Progress
        After each step. Sending ``"stop"`` ends the run.

    Returns
    -------
    curve : list of dict
        ``{"epoch", "loss", "dice"}``, baseline first.
    epochs : int
        Passes over the slices.
    """
    began = time.monotonic()
    budget = float("inf") if epochs else 60 * (minutes or DEFAULT_MINUTES)
    count = int(np.clip(STEP_PIXELS // np.prod(job.patch), 2, 8))
    draw = yield from _source(
        job, LIGHT if augment else NONE, count, seconds=CACHE_SHARE * budget
    )
    per_epoch = sum(len(kept) for kept in job.split.train) / count
    total = epochs and max(1, round(epochs * per_epoch))

    def share(step: int) -> float:
        if total:
            return step / total
        # however slow the machine, one step is taken
        return (time.monotonic() - began) / budget if step else 0.0

    watch, optimiser = _Watch(job, before), training.adamw(_groups(job, rate))
    for step, loss in enumerate(training.optimise(optimiser, draw, share), 1):
        spent = share(step)
        preview = watch.look(step / per_epoch, loss, last=spent >= 1, spent=spent)
        said = yield Progress(
            min(100, round(100 * spent)),
            100,
            f"learning, step {step}",
            {"loss": loss, "dice": watch.dice},
            preview,
        )
        if said == "stop":
            watch.look(step / per_epoch, loss, last=True, spent=spent)
            break
    watch.restore()
    return watch.curve, max(1, round(watch.curve[-1]["epoch"]))


class _Watch:
    """Looks at the held-out slices now and then, and keeps the best state."""

    def __init__(self, job: Job, before: float) -> None:
        self.job, self.dice = job, before
        self.curve: Curve = [{"epoch": 0.0, "loss": float("nan"), "dice": before}]
        self._losses: list[float] = []
        self._due = 1 / CHECKS
        self._best = -1.0
        self._state: dict[str, Tensor] = {}

    def look(
        self, epoch: float, loss: float, *, last: bool, spent: float
    ) -> Mapping[str, Any] | None:
        """Note a step; when it is time, judge, and return what one slice looks like."""
        self._losses.append(loss)
        if not last and spent < self._due:
            return None
        self._due = spent + 1 / CHECKS
        preview = self._judge()
        mean = float(np.mean(self._losses))
        self._losses = []
        self.curve.append({"epoch": epoch, "loss": mean, "dice": self.dice})
        # with nothing held out the latest state is as good a guess as any
        if not self.dice <= self._best:
            self._best = self.dice
            self._state = copy.deepcopy(self.job.net.state_dict())
        return preview

    def restore(self) -> None:
        """Go back to the best state."""
        self.job.net.load_state_dict(self._state)

    def _judge(self) -> Mapping[str, Any] | None:
        places = held_places(self.job)
        if not places:
            return None
        answers = [_answer(self.job, place) for place in places]
        counts = [
            _counts(self.job, answer, place)
            for answer, place in zip(answers, places, strict=True)
        ]
        self.dice = _holdout.dice_of(np.stack(counts))
        middle = len(places) // 2
        case, index = places[middle]
        return {"case": case, "slice": index, "labels": answers[middle]}


def _groups(job: Job, rate: float | None) -> list[dict[str, Any]]:
    factor = rate / RATES["heads"] if rate else 1.0
    own, body = trained(job.net.heads[job.head]), trained(job.net.encoder)
    groups = [{"params": own, "lr": factor * RATES["heads"]}]
    if body:
        groups.append({"params": body, "lr": factor * RATES["encoder"]})
    return groups


def _source(
    job: Job, recipe: Recipe, count: int, *, seconds: float
) -> Steps[Callable[[], Tensor]]:
    """Make what draws a batch and computes its loss."""
    if job.frozen:
        cache = yield from _cache(job, recipe, seconds=seconds)
        return _cached(job, cache, count)
    return _afresh(job, recipe, count)


def _cache(job: Job, recipe: Recipe, *, seconds: float) -> Steps[list[Example]]:
    """Draw changed slices and keep their features as float16."""
    began = time.monotonic()
    cases = _learned_from(job)
    slices = sum(len(case.annotated) for case in cases)
    wanted = int(np.clip(CACHED, 2 * slices, 16 * slices))
    cache: list[Example] = []
    size = 0
    while len(cache) < wanted and size < CACHE_BYTES:
        if len(cache) >= 2 * slices and time.monotonic() - began > seconds:
            break  # a slow machine learns from fewer changes rather than too late
        images, labels = training.draw(
            cases, 1, size=job.patch, slices=job.slices, recipe=recipe, rng=job.rng
        )
        features = [maps.half() for maps in _features(job, images)]
        size += sum(maps.nbytes for maps in features)
        cache.append((features, labels))
        said = yield Progress(len(cache), wanted, "looking at changed slices")
        if said == "stop":
            break
    return cache


def _cached(job: Job, cache: list[Example], count: int) -> Callable[[], Tensor]:
    decoder = job.net.heads[job.head]

    def loss() -> Tensor:
        picked = [cache[int(i)] for i in job.rng.integers(len(cache), size=count)]
        features = [
            torch.cat(maps).float().to(memory_format=torch.channels_last)
            for maps in zip(*(features for features, _ in picked), strict=True)
        ]
        labels = torch.cat([labels for _, labels in picked]).to(job.device)
        return segmentation_loss(decoder(features), labels)

    return loss


def _afresh(job: Job, recipe: Recipe, count: int) -> Callable[[], Tensor]:
    cases = _learned_from(job)

    def loss() -> Tensor:
        images, labels = training.draw(
            cases, count, size=job.patch, slices=job.slices, recipe=recipe, rng=job.rng
        )
        batch = images.to(job.device, memory_format=torch.channels_last)
        return segmentation_loss(
            job.net(batch, (job.head,))[job.head], labels.to(job.device)
        )

    return loss


def _learned_from(job: Job) -> list[training.Case]:
    """Cases with nothing annotated but the slices that are learned from."""
    return [
        replace(
            case,
            annotated=np.array(sorted(kept)),
            classes=_within(case.classes, kept),
        )
        for case, kept in zip(job.cases, job.split.train, strict=True)
        if kept
    ]


def _within(
    classes: Mapping[int, NDArray[np.int64]], kept: Iterable[int]
) -> dict[int, NDArray[np.int64]]:
    """Keep of each class the slices that may be used, and classes that have any."""
    found = {cls: np.intersect1d(shown, list(kept)) for cls, shown in classes.items()}
    return {cls: shown for cls, shown in found.items() if len(shown)}


@torch.inference_mode()
def _features(job: Job, images: Tensor) -> list[Tensor]:
    batch = images.to(job.device, memory_format=torch.channels_last)
    return job.net.encoder(networks.padded(batch, job.net))


@torch.inference_mode()
def _answer(job: Job, place: Place) -> NDArray[np.uint8]:
    """Segment one slice, on the scan's own grid: (row, column)."""
    case, index = place
    image = job.cases[case].triple(index, job.slices)[None]
    batch = image.to(job.device, memory_format=torch.channels_last)
    logits = job.net(batch, (job.head,))[job.head]
    volume = job.pairs[case][0]
    modality = modality_of(volume, job.checkpoint, job.head)
    frame, _ = grid.frame_of(volume, job.spec, modality=modality, head=job.head)
    labels, _ = _engine.answer(logits, frame, job.spec, head=job.head)
    return np.asarray(labels[0])


def _counts(job: Job, answer: NDArray[np.uint8], place: Place) -> NDArray[np.float64]:
    """Count what the Dice of one slice is made of: (2, class)."""
    case, index = place
    volume, segmentation = job.pairs[case]
    truth = training.class_slices(segmentation, volume, job.classes)[index]
    counts = hard_dice_counts(
        torch.from_numpy(answer).long(),
        torch.from_numpy(truth).long(),
        len(job.spec.heads[job.head]),
    )
    return counts.numpy().astype(np.float64)
