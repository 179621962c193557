"""The run itself: gradient steps within a budget, and looks at held-out slices."""

import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from . import _holdout, optimisation
from ._exam import Counts, Exam
from ._job import Job, trained
from ._source import Source
from .types import Progress, Steps, relay

RATE = 2e-3  # of a head
GENTLE = 0.1  # times that: of an encoder that knows something already
TRIAL_SHARE = 0.25  # of the budget, at most, for trying where to start from
CACHE_SHARE = 0.25  # of what is left then, at most, for computing features
CHECKS = 8  # looks at the held-out slices during a run, at least
LOOK_SHARE = 0.2  # of the budget, at most, for these
LOOK_SECONDS = 15.0  # between looks of a long run
PATIENCE = 0.5  # share of the budget without a better look that ends a run
DEFAULT_MINUTES = 1.0
GLANCE_SECONDS = 1.0  # between previews, at least
SAVE_SECONDS = 10.0  # between states on the disk, at least
GOOD_EVERY = 10  # steps between copies of weights that can be gone back to

Curve: TypeAlias = list[dict[str, float]]


class Clock:
    """How far a run is: in passes over the slices, or in minutes since its start."""

    def __init__(self, minutes: float | None, epochs: int | None) -> None:
        self.epochs = epochs
        self.budget = math.inf if epochs else 60 * (minutes or DEFAULT_MINUTES)
        self.began = time.monotonic()
        self.first = 0.0  # seconds before the first step
        self.look = 0.0  # seconds that a look takes
        self.pace = 0.0  # seconds that a step takes

    @property
    def seconds(self) -> float:
        """Seconds since the start, those of a killed run included."""
        return time.monotonic() - self.began

    @property
    def gap(self) -> float:
        """Share of the budget between two looks; where time counts, so does theirs."""
        often = self.epochs / 10 if self.epochs else self.budget / LOOK_SECONDS
        gap = 1 / min(max(often, CHECKS), 5 * CHECKS)
        return gap if self.epochs else max(gap, self.look / self.budget / LOOK_SHARE)

    def tick(self, seconds: float) -> None:
        """Note how long a step took."""
        self.pace = seconds if not self.pace else 0.8 * self.pace + 0.2 * seconds

    def share(self, step: int, per_epoch: float) -> float:
        """Share of the budget that is used up; half a step and a look must still fit.

        A step ends, on average, half of its time after the budget.
        """
        if self.epochs:
            return step / max(1, round(self.epochs * per_epoch))
        room = max(self.budget - self.first - self.look - self.pace / 2, 1e-3)
        # however slow the machine, one step is taken
        return (self.seconds - self.first) / room if step else 0.0


class Run:
    """A run and all that its state holds.

    Parameters
    ----------
    job : Job
        Its network is trained in place.
    exam : Exam
        By which the best state is chosen.
    source : Source
        Of batches.
    clock : Clock
        Of the budget.
    rate : float
        Peak learning rate of the head.
    """

    def __init__(
        self, job: Job, exam: Exam, source: Source, clock: Clock, *, rate: float
    ) -> None:
        self.job, self.exam, self.source, self.clock = job, exam, source, clock
        self.optimiser = optimisation.adamw(_groups(job, rate))
        self.per_epoch = sum(map(len, job.split.train)) / source.count
        self.step = 0
        self.curve: Curve = []
        self.counts: Counts = np.zeros((0, 2, 1))
        self.best: dict[str, Tensor] = {}
        self.best_share = 0.0
        self.losses: list[float] = []
        self.due = 1 / CHECKS
        self.mended = False
        self._good = _copy(job.state())
        self._chance = ""  # the random state before features were kept

    @property
    def share(self) -> float:
        """Share of the budget that is used up."""
        return self.clock.share(self.step, self.per_epoch)

    @property
    def dice(self) -> float:
        """Held-out Dice at the last look."""
        return self.curve[-1]["dice"]

    def baseline(self, counts: Counts) -> None:
        """Note what the held-out slices looked like before the first step."""
        self.counts = counts
        dice = _holdout.dice_of(counts) if len(counts) else math.nan
        self.curve = [{"epoch": 0.0, "loss": math.nan, "dice": dice}]

    def fill(self, exactly: int | None = None) -> Steps[None]:
        """Keep features, where the encoder is frozen."""
        self._chance = json.dumps(self.job.rng.bit_generator.state)
        seconds = CACHE_SHARE * (self.clock.budget - self.clock.seconds)
        passes = self.clock.epochs
        yield from self.source.fill(seconds=seconds, passes=passes, exactly=exactly)

    def loss(self) -> Tensor:
        """Back-propagate one batch; remember weights that gave a finite loss."""
        before = self._good if self.step % GOOD_EVERY else _copy(self.job.state())
        loss = self.source.loss()
        if torch.isfinite(loss):
            self._good = before
        return loss

    def mend(self) -> bool:
        """Go back to the last good weights, with a tenth of the rate; once."""
        put_back(self.job.net, self._good)
        if self.mended:
            return False
        self.mended = True
        self.optimiser.state.clear()
        for group in self.optimiser.param_groups:
            group["peak"] /= 10
        self.source.notes.append(
            "The loss was no number: the last good weights came back, and the "
            "learning rate was divided by ten."
        )
        return True

    def look(self) -> Steps[Mapping[str, Any] | None]:
        """Judge by the held-out slices; keep the state if it is the best so far."""
        began = time.monotonic()
        # signs of life, which do not move the bar of the whole
        share = min(100, round(100 * self.share))
        sitting = self.exam.sit()
        counts, preview = yield from relay(
            sitting, lambda progress: Progress(share, 100, progress.note)
        )
        self.clock.look = time.monotonic() - began
        self.due = self.share + self.clock.gap
        dice = _holdout.dice_of(counts) if len(counts) else math.nan
        losses = [loss for loss in self.losses if math.isfinite(loss)]
        mean = float(np.mean(losses)) if losses else math.nan
        self.losses = []
        epoch = self.step / self.per_epoch
        # with nothing held out the latest state is as good a guess as any
        best = max((row["dice"] for row in self.curve[1:]), default=-1.0)
        state = self.job.state()
        if not dice <= best and all(bool(v.isfinite().all()) for v in state.values()):
            self.best, self.counts = _copy(state), counts
            self.best_share = self.share
        self.curve.append({"epoch": epoch, "loss": mean, "dice": dice})
        return preview

    @property
    def tired(self) -> bool:
        """Whether nothing has got better for so long that nothing will."""
        return len(self.counts) > 1 and self.share - self.best_share > PATIENCE

    def content(self) -> dict[str, Any]:
        """Return the state of the run."""
        return {
            "net": self.job.state(),
            "best": self.best,
            "good": self._good,
            "optimiser": self.optimiser.state_dict(),
            "counts": torch.from_numpy(self.counts),
            "chance": self._chance,
            "kept": 0 if self.source.kept is None else len(self.source.kept),
            "rng": json.dumps(self.job.rng.bit_generator.state),
            "seconds": (self.clock.seconds, self.clock.first, self.clock.look),
            "own": json.dumps(
                {name: getattr(self, name) for name in _OWN} | {"_": self.source.pieces}
            ),
            "notes": list(self.source.notes),
        }

    def resume(self, content: Mapping[str, Any]) -> Steps[None]:
        """Go on where `content` was taken; kept features are computed again."""
        self.job.rng.bit_generator.state = json.loads(content["chance"])
        yield from self.fill(exactly=content["kept"] or None)
        self.job.rng.bit_generator.state = json.loads(content["rng"])
        put_back(self.job.net, content["net"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.best, self._good = content["best"], content["good"]
        self.counts = content["counts"].numpy()
        own = json.loads(content["own"])
        self.source.pieces = own.pop("_")
        for name, value in own.items():
            setattr(self, name, value)
        self.source.notes[:] = content["notes"]
        seconds, self.clock.first, self.clock.look = content["seconds"]
        self.clock.began = time.monotonic() - seconds


_OWN = ("step", "curve", "best_share", "losses", "due", "mended")


def teach(run: Run, save: Callable[[], None]) -> Steps[None]:
    """Train until the budget is used; the best state for the held-out slices stays.

    Parameters
    ----------
    run : Run
        With its features kept.
    save : callable
        Writes the run's state.

    Yields
    ------
    Progress
        After each step. Sending ``"stop"`` ends the run.
    """
    if not run.step:
        run.clock.first = run.clock.seconds
    saved = glanced = time.monotonic()
    stopped = False
    steps = optimisation.optimise(
        run.optimiser,
        run.loss,
        lambda step: run.clock.share(step, run.per_epoch),
        first=run.step,
        mend=run.mend,
    )
    began = time.monotonic()
    for loss in steps:
        run.step += 1
        run.losses.append(loss)
        preview = None
        now, epoch = time.monotonic(), run.step / run.per_epoch
        run.clock.tick(now - began)
        if run.share >= min(run.due, 1):
            preview = yield from run.look()
        elif epoch % 1 < 1 / run.per_epoch and now - glanced > GLANCE_SECONDS:
            preview, glanced = run.exam.glance(), now
        stopped = (yield _progress(run, loss, preview)) == "stop"
        if stopped or run.tired:
            break
        if now - saved > SAVE_SECONDS or run.step == 1:
            save()
            saved = time.monotonic()
        began = time.monotonic()
    if run.losses:
        yield from run.look()
    put_back(run.job.net, run.best or run._good)


def _progress(run: Run, loss: float, preview: Mapping[str, Any] | None) -> Progress:
    done = min(100, round(100 * run.share))
    values = {"loss": loss, "dice": run.dice}
    return Progress(done, 100, f"learning, step {run.step}", values, preview)


def _groups(job: Job, rate: float) -> list[dict[str, Any]]:
    """Parameters that learn; an encoder that starts at random learns like a head."""
    groups = [{"params": trained(job.net.heads[job.head]), "lr": rate}]
    body = trained(job.net.encoder)
    slow = rate if job.mode == "scratch" else rate * GENTLE
    return groups + ([{"params": body, "lr": slow}] if body else [])


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def put_back(net: nn.Module, part: Mapping[str, Tensor]) -> None:
    """Load some tensors of a network and keep the rest; an unknown name is refused."""
    net.load_state_dict({**net.state_dict(), **part})
