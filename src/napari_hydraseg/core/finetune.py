"""Teach one head from a few annotated slices, with the encoder truly frozen.

"Frozen" means: no gradient, the whole encoder in eval mode (its batch norms keep their
statistics), not in the optimiser, and every tensor and buffer bit-identical afterwards.
Its features are therefore computed once for each changed slice and kept; only the small
decoder is trained on them.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from . import _candidate, _donors, _saved, _source, networks
from ._begin import job_steps
from ._exam import Counts, Exam, score
from ._job import Job, Mode
from ._teach import RATE, TRIAL_SHARE, Clock, Run, teach
from .errors import SaveError
from .io.atomic import ensure_writable
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
    state: str | os.PathLike[str] | None = None,
    keep_state: bool = False,
) -> Steps[FinetuneResult]:
    """Add a head to a model, or improve one, from annotated slices.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model that is added to; it is left as it is.
    cases : sequence of (Volume, Segmentation)
        Scans with labels on their grid. Only what ``Segmentation.annotated`` vouches
        for is learned from; a slice that is not vouched for is not background. A new
        head on a model of one channel reads all channels of the scans, each encoded
        apart.
    head : str
        A new name, or one of the model's heads.
    class_names : sequence of str
        Names for label ids 1, 2, ...; default: the labels' own names.
    init : str
        Where a new head starts: the name of another head, "random", or "auto" (the
        head that gets most of some painted slices right after a few steps on them, if
        any does better than random weights).
    mode : {"frozen", "full", "scratch"}
        Train the head alone; train everything; or start everything at random, for
        comparison. Only "frozen" keeps the other heads.
    depth : int, optional
        How many of the encoder's levels stay frozen, the finest first; default: all.
    augment : bool
        Whether slices are turned, scaled and changed in contrast.
    minutes, epochs : float, int, optional
        Budget: wall time of all of it, or passes over the annotated slices. Default:
        one minute. A run also ends when the held-out slices have not got better for
        half of it.
    rate : float, optional
        Peak learning rate of the head; that of an encoder that is trained is a tenth,
        or the same where it starts at random. Default: that which suits most heads.
    hold_out : {"auto", "none"}
        Whether to keep annotated slices aside to judge before and after.
    seed : int
        On the CPU and with `epochs`, the same seed gives the same bits.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    state : path, optional
        File in which the run keeps what it needs to go on after it was killed. If it
        is there, the run goes on: on the CPU and with `epochs` to the same bits. It is
        deleted at the end. Where it cannot be written for a while, the run goes on,
        and says so in its warnings.
    keep_state : bool
        Leave the state where it is at the end, for who saves the model and deletes it
        then: nothing is lost if saving fails.

    Yields
    ------
    Progress
        After each step, with ``values["loss"]`` and ``values["dice"]`` (held-out, at
        the last look), and now and then, at least at each look, with a ``preview``
        of a held-out slice: ``{"case", "slice", "labels"}``. Sending ``"stop"`` ends
        the run with the best so far.

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
        If the model does not take the scan.
    UnknownModel
        If `init` names no head.
    IncompatibleWeights
        If `state` is that of a run on other data or with other options.
    TrainingDiverged
        If the loss is no number, again after the learning rate was divided by ten.
    OutOfMemory
        If the memory does not suffice for a single slice.
    SaveError
        If `state` cannot be written at the beginning.
    """
    if state is not None:
        ensure_writable(Path(state), overwrite=True)
    clock = Clock(minutes, epochs)
    job = yield from job_steps(
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
    frozen = _candidate.Frozen(job)
    recipe = _source.recipe_of(job, augment=augment)
    run = Run(job, Exam(job), _source.Source(job, recipe), clock, rate=rate or RATE)
    options = {
        "init": init,
        "depth": depth,
        "augment": augment,
        "minutes": minutes,
        "epochs": epochs,
        "hold_out": hold_out,
        "seed": seed,
        "rate": rate,
    }
    book = _Book(run, None if state is None else Path(state), options)
    before, story = yield from _insist(_train(book, init))
    if not keep_state:
        book.close()
    return _candidate.result(
        job,
        frozen,
        init=story["init"],
        reason=story["reason"],
        before=score(before, seed=seed),
        after=score(run.counts, seed=seed),
        curve=tuple(run.curve),
        epochs=max(1, round(run.curve[-1]["epoch"])),
        notes=run.source.notes,
    )


class _Book:
    """Where a run's state is written, and read when it goes on."""

    def __init__(self, run: Run, path: Path | None, options: dict[str, Any]) -> None:
        self.run, self.path = run, path
        self.known = _saved.fields(run.job, options)
        self.begun: dict[str, Any] = {}

    def read(self) -> dict[str, Any] | None:
        """Return what a killed run left, if it left anything."""
        if self.path is None or not self.path.is_file():
            return None
        return _saved.read(self.path, self.known)

    def write(self) -> None:
        """Write the state; what was learned is worth more than that it is written."""
        if self.path is None:
            return
        try:
            _saved.write(self.path, self.known, {**self.run.content(), **self.begun})
        except SaveError as error:
            note, notes = f"{error.what} The run went on.", self.run.source.notes
            if note not in notes:
                notes.append(note)

    def close(self) -> None:
        """Forget the state: the run has ended."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _train(book: _Book, init: str) -> Steps[tuple[Counts, dict[str, str]]]:
    """Begin a run or go on with it, to its end."""
    run, left = book.run, book.read()
    if left is None:
        seconds = TRIAL_SHARE * run.clock.budget
        donor, reason = yield from _donors.start(run.job, init, seconds=seconds)
        began = time.monotonic()
        before, _ = yield from _old(run.job, run.exam).sit()
        run.clock.look = time.monotonic() - began
        run.baseline(before)
        yield from run.fill()
        story = {"init": donor, "reason": reason}
    else:
        before, story = left["before"].numpy(), left["story"]
        yield from run.resume(left)
    book.begun = {"before": torch.from_numpy(before), "story": story}
    yield from teach(run, book.write)
    return before, story


def _old(job: Job, exam: Exam) -> Exam:
    """Give the exam of what there is before: a head that starts anew had one."""
    if job.mode != "scratch" or job.head not in job.checkpoint.spec.heads:
        return exam
    return Exam(replace(job, net=networks.network(job.checkpoint).to(job.device)))


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
