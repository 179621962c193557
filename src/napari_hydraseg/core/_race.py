"""One run of a comparison: choose a learning rate, teach an arm, test it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arms import Arm
from ._few import Pair, Place, inner_split, pairs_of
from ._judged import alone, dice_of_scans, mean
from ._teach import DEFAULT_MINUTES
from .finetune import finetune
from .types import Checkpoint, FinetuneResult, Progress, Steps, relay

RATES = (6e-4, 2e-3, 6e-3)  # that of finetune, and a third and three times of it


@dataclass(frozen=True, eq=False)
class Race:
    """What all arms share.

    Attributes
    ----------
    cases, test : tuple of (Volume, Segmentation)
        To learn from and to test on; labels are class indices.
    groups : tuple of int
        For each test scan, which person it shows, from 0.
    head : str
        The new head.
    class_names : tuple of str
        Without background.
    init : str
        Where the head of a pretrained arm starts.
    minutes, epochs : float, int or None
        The budget of each training.
    rates : tuple of float
        Learning rates to choose from, the middle one the default.
    try_share : float
        Share of the budget that each of them is tried with.
    seed : int
    device : str
    """

    cases: tuple[Pair, ...]
    test: tuple[Pair, ...]
    groups: tuple[int, ...]
    head: str
    class_names: tuple[str, ...]
    init: str
    minutes: float | None
    epochs: int | None
    rates: tuple[float, ...]
    try_share: float
    seed: int
    device: str


def run_arm(
    race: Race,
    arm: Arm,
    start: Checkpoint,
    places: Sequence[Place],
    *,
    repeat: int,
) -> Steps[dict[str, Any]]:
    """Teach one arm from the drawn slices and test it.

    Parameters
    ----------
    race : Race
        What all arms share.
    arm : Arm
        How to teach.
    start : Checkpoint
        Where it starts from.
    places : sequence of (int, int)
        The drawn slices.
    repeat : int
        Which repeat it is; seeds hang on it.

    Yields
    ------
    Progress
        That of the verbs that do the work.

    Returns
    -------
    dict
        ``{"rate", "updates", "seconds", "choice_seconds", "dice"}``; ``dice`` has one
        number for each person of the test scans.
    """
    began = time.monotonic()
    seed = race.seed + repeat
    if race.init == "random":  # other heads are of no use
        start = alone(start, None)
    rate = yield from _choose(race, arm, start, places, seed=seed)
    chosen = time.monotonic()
    pairs = pairs_of(race.cases, places)
    model, updates = yield from _taught(race, arm, start, pairs, rate, seed=seed)
    seconds = time.monotonic() - chosen
    scores = yield from dice_of_scans(model, race.head, race.test, device=race.device)
    groups = np.array(race.groups)
    found = [mean(scores[groups == g]) for g in range(groups.max() + 1)]
    return {
        "rate": rate,
        "updates": updates,
        "seconds": round(seconds, 2),
        "choice_seconds": round(chosen - began, 2),
        "dice": found,
    }


def _choose(
    race: Race, arm: Arm, start: Checkpoint, places: Sequence[Place], *, seed: int
) -> Steps[float]:
    """Choose the learning rate of an arm that trains the encoder, by drawn slices."""
    default = race.rates[len(race.rates) // 2]
    halves = inner_split(places, seed=seed)
    if not arm.trains_encoder or len(race.rates) == 1 or halves is None:
        return default
    learn, judge = (pairs_of(race.cases, part) for part in halves)
    best, highest = default, -1.0
    for rate in race.rates:
        model, _ = yield from _taught(
            race, arm, start, learn, rate, seed=seed, share=race.try_share
        )
        scores = yield from dice_of_scans(model, race.head, judge, device=race.device)
        if mean(scores) > highest:  # a mean that is nan chooses nothing
            best, highest = rate, mean(scores)
    return best


def _taught(
    race: Race,
    arm: Arm,
    start: Checkpoint,
    pairs: Sequence[Pair],
    rate: float,
    *,
    seed: int,
    share: float = 1.0,
) -> Steps[tuple[Checkpoint, int]]:
    """Fine-tune for a share of the budget; return the model and its updates."""
    steps = finetune(
        start,
        pairs,
        head=race.head,
        class_names=race.class_names,
        init=race.init if arm.pretrained else "random",
        mode=arm.mode,
        depth=arm.depth,
        augment=arm.augment,
        minutes=None if race.epochs else share * (race.minutes or DEFAULT_MINUTES),
        epochs=race.epochs and max(1, round(share * race.epochs)),
        rate=rate,
        hold_out="none",
        seed=seed,
        device=race.device,
    )
    result, updates = yield from _counted(steps)
    return result.candidate, updates


def _counted(steps: Steps[FinetuneResult]) -> Steps[tuple[FinetuneResult, int]]:
    """Run a fine-tuning and count its updates: each yields its loss."""
    losses = []

    def noted(progress: Progress) -> Progress:
        if "loss" in progress.values:
            losses.append(progress.values["loss"])
        return progress

    result = yield from relay(steps, noted)
    return result, len(losses)
