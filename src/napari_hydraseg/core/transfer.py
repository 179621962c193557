"""Does a pretrained encoder help? All arms on the same slices, for the same time.

Each arm teaches the same new head from the same few annotated slices, with the same
budget, and is tested on the same scans, which no arm has seen. What trains the encoder
chooses among three learning rates by slices kept aside from the drawn ones, so that the
baseline is as good as the budget lets it be. The ImageNet arm tells what medical
pre-training adds to a start that anybody can have.
"""

import json
import os
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch

from .. import __version__
from . import _heads, _holdout
from ._arms import Arm, arms_of, starts
from ._few import Pair, annotated, draw, numbered, told
from ._outcome import outcome
from ._race import RATES, Race, run_arm
from ._state import State
from .checkpoint import digest
from .errors import EmptyAnnotation, JobError, WrongInput
from .types import Checkpoint, Progress, Segmentation, Steps, TransferReport, Volume

FOUR = ("frozen", "frozen+augment", "scratch", "scratch+augment")
OVERLAP = (
    "Test slices belong to scans that were learned from: expect less on other scans."
)


def compare_transfer(
    checkpoint: Checkpoint,
    train: Sequence[tuple[Volume, Segmentation]],
    test: Sequence[tuple[Volume, Segmentation]],
    *,
    head: str,
    class_names: Sequence[str] = (),
    arms: Sequence[str] = FOUR,
    slices: Sequence[int] = (),
    repeats: int | Sequence[int] = 3,
    minutes: float | None = None,
    epochs: int | None = None,
    rates: Sequence[float] = RATES,
    try_share: float = 1.0,
    init: str = "random",
    subjects: Sequence[str] = (),
    state: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Steps[TransferReport]:
    """Compare ways to teach a new head: pretrained, ImageNet and scratch.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model whose encoder is put to the test.
    train, test : sequence of (Volume, Segmentation)
        Scans to learn from, and scans apart. Only what ``Segmentation.annotated``
        vouches for counts. Labels agree by name, else by id.
    head : str
        A name that the model does not have yet.
    class_names : sequence of str
        As in `finetune`.
    arms : sequence of str
        ``frozen`` (the model's encoder), ``full`` (its encoder trained too),
        ``imagenet`` (the ImageNet encoder, frozen; left out with a note where there is
        none), ``scratch``. ``frozen@3``: only the three finest levels are frozen.
        ``+augment``: slices are changed.
    slices : sequence of int
        Numbers of annotated slices; each is drawn anew for each repeat, across the
        organ. Default: all that are annotated.
    repeats : int or sequence of int
        Draws and seeds; one number, or one for each of `slices`.
    minutes, epochs : float, int, optional
        Budget of each training: equal time, or equal passes, which are equal updates.
        Default: one minute.
    rates : sequence of float
        Learning rates of the head among which arms that train the encoder choose; the
        time for it is not part of the budget. One rate: no choice.
    try_share : float
        Share of the budget that each of these is tried with.
    init : str
        Where the head of the pretrained arms starts; see `finetune`.
    subjects : sequence of str
        Whom each test scan shows; the mean of a person's scans then counts once.
    state : path-like, optional
        A file that keeps finished runs; one that is there already is gone on with.
    seed : int
        Of draws and trainings.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Yields
    ------
    Progress
        With ``done`` runs of ``total``. Sending ``"stop"`` ends it with those.

    Returns
    -------
    TransferReport

    Raises
    ------
    ValueError
        If an arm has no such name, or lengths of `subjects` or `repeats` do not fit.
    WrongInput
        If a scan is tested on that is learned from, or the head is not new.
    AnnotationError
        If labels and scans do not fit, or too few slices are painted.
    JobError
        If `state` belongs to another comparison, or nothing was finished.
    """
    wanted, plan = arms_of(arms), _rounds(slices, repeats)
    _check(checkpoint, train, test, head)
    names, cases, tests = numbered(train, test, class_names)
    models, notes = starts(checkpoint, wanted)
    if _overlap(cases, tests):
        notes.append(OVERLAP)
    race = Race(
        cases=cases,
        test=tests,
        groups=_groups(subjects, len(tests)),
        head=head,
        class_names=names[1:],
        init=init,
        minutes=minutes,
        epochs=epochs,
        rates=tuple(rates),
        try_share=try_share,
        seed=seed,
        device=device,
    )
    ran = [arm for arm in wanted if arm.name in models]
    basis = _basis(race, checkpoint, ran, slices, repeats)
    kept = State(state, _fingerprint(race, checkpoint, basis))
    runs = yield from _runs(race, ran, models, plan, kept)
    return outcome(ran, runs, basis, notes, head=head, seed=seed)


def _check(
    checkpoint: Checkpoint, train: Sequence[Pair], test: Sequence[Pair], head: str
) -> None:
    """Refuse what cannot be compared."""
    if head in checkpoint.spec.heads:
        raise WrongInput(
            f"{checkpoint.name} has a head {head!r}; the comparison teaches a new one.",
            "Choose another name.",
        )
    if not train or not test:
        raise EmptyAnnotation(
            f"{len(train)} scans to learn from and {len(test)} to test on were given.",
            "Give at least one of each.",
        )
    for volume, segmentation in (*train, *test):
        _heads.check(volume, segmentation, blank=True)  # a test scan may show nothing


def _overlap(cases: Sequence[Pair], tests: Sequence[Pair]) -> bool:
    """Whether a scan stands on both sides, with slices apart.

    Raises
    ------
    WrongInput
        If a slice stands on both sides.
    """
    learned: dict[str, set[int]] = {}
    for pair in cases:
        learned.setdefault(_holdout.identity(pair[0]), set()).update(annotated(pair))
    found = False
    for pair in tests:
        twin = learned.get(_holdout.identity(pair[0]))
        found = found or twin is not None
        if twin is not None and twin & set(annotated(pair)):
            raise WrongInput(
                "A test scan is one of those to learn from.",
                "Test on scans, or at least on slices, apart.",
            )
    return found


def _groups(subjects: Sequence[str], count: int) -> tuple[int, ...]:
    if not subjects:
        return tuple(range(count))
    if len(subjects) != count:
        raise ValueError(f"{len(subjects)} subjects for {count} test scans")
    known = list(dict.fromkeys(subjects))
    return tuple(known.index(subject) for subject in subjects)


def _rounds(
    slices: Sequence[int], repeats: int | Sequence[int]
) -> list[tuple[int, int | None]]:
    """List repeat and number of slices of each round."""
    counts = slices or (None,)
    many = [repeats] * len(counts) if isinstance(repeats, int) else list(repeats)
    if len(many) != len(counts):
        raise ValueError(f"{len(many)} repeats for {len(counts)} numbers of slices")
    wanted = product(range(max(many)), zip(counts, many, strict=True))
    return [(repeat, count) for repeat, (count, most) in wanted if repeat < most]


def _runs(
    race: Race,
    arms: Sequence[Arm],
    models: Mapping[str, Checkpoint],
    rounds: Sequence[tuple[int, int | None]],
    kept: State,
) -> Steps[list[dict[str, Any]]]:
    """Run what is not kept yet; arms take turns, so that a slow hour hits them all."""
    plan = [(repeat, count, arm) for repeat, count in rounds for arm in arms]
    for done, (repeat, count, arm) in enumerate(plan):
        key = {"slices": count, "repeat": repeat, "arm": arm.name}
        if kept.has(key):
            continue
        places = draw(race.cases, count, seed=race.seed + 1000 * repeat + (count or 0))
        title = f"{arm.name}, repeat {repeat + 1}"
        title += f", {count} slices" if count else ""
        steps = run_arm(race, arm, models[arm.name], places, repeat=repeat)
        found = yield from _unless_stopped(steps, Progress(done, len(plan), title))
        if found is None:
            break
        kept.add(key | found)
        yield Progress(done + 1, len(plan), f"{title}: tested")
    if not kept.runs:
        raise JobError("Nothing was finished to compare.", "Let it run for longer.")
    return kept.runs


def _unless_stopped(
    steps: Steps[dict[str, Any]], place: Progress
) -> Steps[dict[str, Any] | None]:
    """Run until the end (its result) or until somebody says stop (None)."""
    try:
        while True:
            inner = next(steps)
            note = f"{place.note}: {inner.note}"
            said = yield Progress(place.done, place.total, note, inner.values)
            if said == "stop":
                return None
    except StopIteration as end:
        result: dict[str, Any] = end.value
        return result
    finally:
        steps.close()


def _basis(
    race: Race,
    checkpoint: Checkpoint,
    arms: Sequence[Arm],
    slices: Sequence[int],
    repeats: int | Sequence[int],
) -> dict[str, Any]:
    budget = (
        f"{race.epochs} epochs"
        if race.epochs
        else f"{60 * (race.minutes or 1):.3g} s of training"
    )
    return {
        "model": checkpoint.name,
        "classes": list(race.class_names),
        "arms": [arm.name for arm in arms],
        "annotated slices": list(slices) or "all",
        "repeats": repeats if isinstance(repeats, int) else list(repeats),
        "budget of each training": budget,
        "learning rates to choose from": list(race.rates),
        "share of the budget that each is tried with": race.try_share,
        "start of pretrained heads": race.init,
        "scans to learn from": len(race.cases),
        "test scans": max(race.groups) + 1,
        "seed": race.seed,
        "device": race.device,
        "threads": torch.get_num_threads(),
        "versions": {"napari-hydraseg": __version__, "torch": torch.__version__},
    }


def _fingerprint(
    race: Race, checkpoint: Checkpoint, basis: Mapping[str, Any]
) -> dict[str, Any]:
    """Say what a kept run depends on; more arms, slices or repeats may be added."""
    free = ("arms", "annotated slices", "repeats", "threads")
    scans = [told(pair) for pair in (*race.cases, *race.test)]
    fixed = {key: value for key, value in basis.items() if key not in free}
    content = fixed | {"weights": digest(checkpoint.weights), "scans": scans}
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found
