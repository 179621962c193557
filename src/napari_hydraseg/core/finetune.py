"""Teach one head from a few annotated slices, with the encoder truly frozen.

"Frozen" means: no gradient, the whole encoder in eval mode (its batch norms keep their
statistics), not in the optimiser, and every tensor and buffer bit-identical afterwards.
Its features are therefore computed once for each changed slice and kept; only the small
decoder is trained on them.
"""

from collections.abc import Sequence
from typing import Literal

from . import _candidate, _heads, _teach, networks
from ._job import Job, Mode, make_job
from .checkpoint import digest
from .errors import UnknownModel
from .types import Checkpoint, FinetuneResult, Segmentation, Steps, T, Volume


def finetune(
    checkpoint: Checkpoint,
    cases: Sequence[tuple[Volume, Segmentation]],
    *,
    head: str,
    class_names: Sequence[str] = (),
    init: str = "auto",
    mode: Mode = "frozen",
    depth: int | None = None,
    augment: bool = True,
    minutes: float | None = None,
    epochs: int | None = None,
    rate: float | None = None,
    hold_out: Literal["auto", "none"] = "auto",
    seed: int = 0,
    device: str = "auto",
) -> Steps[FinetuneResult]:
    """Add a head to a model, or improve one, from annotated slices.

    Parameters
    ----------
    checkpoint : Checkpoint
        A slice-wise model.
    cases : sequence of (Volume, Segmentation)
        Scans with labels on their grid. Only what ``Segmentation.annotated`` vouches
        for is learned from; a slice that is not vouched for is not background.
    head : str
        A new name, or one of the model's heads.
    class_names : sequence of str
        Names for label ids 1, 2, ...; default: the labels' own names.
    init : str
        Where a new head starts: the name of another head, "random", or "auto" (the
        head whose foreground fits best, if any does).
    mode : {"frozen", "full", "scratch"}
        Train the head alone; train everything; or start everything at random, for
        comparison. Only "frozen" keeps the other heads.
    depth : int, optional
        How many of the encoder's levels stay frozen, the finest first; default: all.
    augment : bool
        Whether slices are turned, scaled and changed in contrast.
    minutes, epochs : float, int, optional
        Budget: wall time of the training, or passes over the annotated slices.
        Default: one minute.
    rate : float, optional
        Peak learning rate of the head; the encoder's, where it is trained, keeps its
        ratio to it. Default: that which suits most heads.
    hold_out : {"auto", "none"}
        Whether to keep annotated slices aside to judge before and after.
    seed : int
        On the CPU and with `epochs`, the same seed gives the same bits.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Yields
    ------
    Progress
        After each step, with ``values["loss"]`` and ``values["dice"]`` (held-out; nan
        before the first look). Sending ``"stop"`` ends the run with the best so far.

    Returns
    -------
    FinetuneResult
        With ``accepted`` False, and the old model, if the held-out slices are not
        segmented better than before.

    Raises
    ------
    AnnotationError
        If nothing is painted, or labels and scan do not fit.
    WrongInput
        If the model is volumetric or does not take the scan.
    UnknownModel
        If `init` names no head.
    """
    job = make_job(
        checkpoint,
        cases,
        head=head,
        class_names=class_names,
        mode=mode,
        depth=depth,
        hold_out=hold_out == "auto",
        seed=seed,
        device=device,
    )
    sha_before = digest(networks.weights_of(job.net.encoder))
    shown = yield from _teach.examples(job)
    donor, reason = _start(job, init, mode, shown)
    before = _teach.score(job, seed=seed)
    lesson = _teach.teach(
        job,
        augment=augment,
        minutes=minutes,
        epochs=epochs,
        before=before["dice"],
        rate=rate,
    )
    curve, passes = yield from _insist(lesson)
    return _candidate.result(
        job,
        init=donor,
        reason=reason,
        mode=mode,
        before=before,
        after=_teach.score(job, seed=seed),
        curve=tuple(curve),
        epochs=passes,
        sha_before=sha_before,
    )


def _insist(steps: Steps[T]) -> Steps[T]:
    """Repeat a message at each step: not every one of them listens."""
    said: str | None = None
    try:
        progress = next(steps)
        while True:
            said = (yield progress) or said
            progress = steps.send(said)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def _start(
    job: Job, init: str, mode: Mode, shown: Sequence[_teach.Example]
) -> tuple[str, str]:
    """Give the head its first weights; return where they come from, and why."""
    others = job.checkpoint.spec.heads
    if mode == "scratch":
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
    ranks = _heads.rank_donors(job.net, list(others), shown)
    best = max(ranks, key=lambda donor: ranks[donor])
    fit = f"Dice {ranks[best]:.2f} with what is painted, untrained"
    if ranks[best] < _heads.DONOR_DICE:
        return "random", f"No other head fits; the best is {best} ({fit})."
    _heads.adopt(job.net, job.head, best, job.spec)
    return best, f"Of the other heads {best} fits best ({fit})."
