"""The run of `pretrain`: steps over all sets, validation by scan, states that go on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _engine, augment, grid
from ._datasets import Dataset
from ._ranks import Ranks
from ._record import Record, profiled
from ._run import Run
from .losses import IGNORE, hard_dice_counts, segmentation_loss
from .optimisation import optimise
from .training import Case, draw
from .types import ModelSpec, Progress, Steps, finish

ROUNDS = 20  # over the sets, to measure statistics of renewed levels


@dataclass(frozen=True, eq=False)
class Taught:
    """A set with its prepared training and validation cases."""

    data: Dataset
    train: list[Case]
    val: list[Case]

    def table(self, head: str, spec: ModelSpec) -> Tensor:
        """Return what turns label ids of the set into class indices of a head."""
        table = torch.zeros(IGNORE + 1, dtype=torch.long)
        table[IGNORE] = IGNORE
        for label, name in self.data.heads[head].items():
            table[label] = spec.heads[head].index(name)
        return table

    def floor(self, spec: ModelSpec) -> float | None:
        """Return the set's `Dataset.floor` as a normalised grey value."""
        if self.data.floor is None:
            return None
        rule = spec.intensity[self.data.modality]
        share = (self.data.floor - rule["low"]) / (rule["high"] - rule["low"])
        return float(2 * share - 1)


@dataclass(frozen=True)
class Files:
    """Where a run leaves what; see `core.pretrain`."""

    state: Path | None = None
    log: Path | None = None
    track: Path | None = None
    profile: Path | None = None


def fit(
    config: Mapping[str, Any],
    spec: ModelSpec,
    taught: Sequence[Taught],
    *,
    files: Files,
    ranks: Ranks,
) -> Steps[Run]:
    """Train until the budget is used up; see `core.pretrain`.

    Returns
    -------
    Run
        As it ended: ``best`` are the averaged weights at their best validation;
        ``curve`` is ``{"step", HEAD: Dice, ..., "dice"}`` at each validation, empty in
        all processes but the first.
    """
    run = Run(config, spec, ranks)
    if files.state is not None and files.state.is_file():
        run.load(files.state)
    elif config.get("renew", False):
        drawn = (
            _draw(run, part, spec, run.rng)[0] for _ in range(ROUNDS) for part in taught
        )
        run.measure(drawn)
    record = Record(
        files.log if ranks.first else None, files.track if ranks.first else None
    )
    clock = _Clock(config, run)
    losses: dict[str, Tensor] = {}

    def loss() -> Tensor:
        if clock.last >= config.get("settle", 1):
            run.settle()
        losses.clear()
        losses.update(_losses(run, taught, spec))
        total: Tensor = run.weighting(losses, clock.share(run.step))
        return total

    dice = run.curve[-1]["dice"] if run.curve else float("nan")
    steps = optimise(
        run.optimiser, loss, clock.share, first=run.step, gather=ranks.average
    )
    with profiled(files.profile if ranks.first else None) as profiler:
        for value in steps:
            due = clock.tick()
            run.average(config["average"])
            noted = {name: float(one.detach()) for name, one in losses.items()}
            record.step(run.step, {"loss": value, "seconds": run.seconds, **noted})
            if due and ranks.first:
                dice = _validate(run, taught, spec)
                record.validation(run.step, run.curve[-1])
                record.spread(run.step, _spread(run, taught, spec))
                if files.state is not None:
                    run.save(files.state)
            if profiler is not None:
                profiler.step()
            done = round(100 * min(1, clock.last))
            values = {"loss": value, "dice": dice}
            yield Progress(done, 100, f"step {run.step}", values)
    record.close()
    ranks.wait()
    return run


class _Clock:
    """How far a run is: in steps, or in minutes."""

    def __init__(self, config: Mapping[str, Any], run: Run) -> None:
        self.run = run
        self.began = time.monotonic() - run.seconds
        self.steps: int | None = config.get("steps")
        self.budget = 60 * float(config.get("minutes", 0))
        # a budget in steps is validated by steps too, so that it repeats to the bit
        self.every = float(config["validate_every"]) * (1 if self.steps else 60)
        self.last = 0.0

    def share(self, step: int) -> float:
        """Share of the budget that is used up; all processes get the same."""
        spent = time.monotonic() - self.began
        share = step / self.steps if self.steps else spent / self.budget
        self.last = self.run.ranks.agree(float(share))
        return self.last

    def tick(self) -> bool:
        """Count a step; return whether it is time to validate."""
        run = self.run
        before = run.step if self.steps else run.seconds
        run.step, run.seconds = run.step + 1, time.monotonic() - self.began
        now = run.step if self.steps else run.seconds
        return now // self.every > before // self.every or self.share(run.step) >= 1


def _losses(run: Run, taught: Sequence[Taught], spec: ModelSpec) -> dict[str, Tensor]:
    """Return the loss of each head: the mean over the sets that teach it."""
    found: dict[str, list[Tensor]] = {}
    device = run.ranks.device
    for part in taught:
        batch, labels = _draw(run, part, spec, run.rng)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=run.low):
            logits = run.net(batch, tuple(part.data.heads))
        for head in part.data.heads:
            truth = part.table(head, spec)[labels].to(device)
            loss = segmentation_loss(logits[head].float(), truth)
            found.setdefault(head, []).append(loss)
    return {head: torch.stack(losses).mean() for head, losses in found.items()}


def _draw(
    run: Run, part: Taught, spec: ModelSpec, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Draw augmented slices of a set, and their labels."""
    recipe = replace(
        augment.STRONG,
        flip=0.5 if part.data.flip else 0.0,
        floor=part.floor(spec),
    )
    images, labels = draw(
        part.train,
        part.data.slices_per_step,
        size=part.data.patch,
        slices=int(spec.options.get("slices", 1)),
        recipe=recipe,
        rng=rng,
    )
    return images.to(run.ranks.device, memory_format=run.format), labels


@torch.inference_mode()
def _spread(run: Run, taught: Sequence[Taught], spec: ModelSpec) -> dict[str, float]:
    """How far slices of all sets lie apart at each encoder level, of their mean.

    A level that has died in training says the same of every slice: 0.
    """
    rng = np.random.default_rng(run.seed)
    seen = [run.averaged.encoder(_draw(run, part, spec, rng)[0]) for part in taught]
    spreads = {}
    for level, maps in enumerate(zip(*seen, strict=True)):
        rows = torch.cat([one.float().flatten(2).mean(2) for one in maps])
        spreads[str(level)] = (rows.std(0).mean() / rows.abs().mean()).item()
    return spreads


def _validate(run: Run, taught: Sequence[Taught], spec: ModelSpec) -> float:
    """Note the mean Dice of each head over its validation scans; keep the best."""
    scores: dict[str, list[float]] = {}
    for part in taught:
        for case in part.val:
            for head, dice in _dice(run, part, case, spec).items():
                scores.setdefault(head, []).append(dice)
    row = {head: float(np.nanmean(values)) for head, values in scores.items()}
    mean = float(np.mean(list(row.values())))
    if not run.curve or mean >= max(old["dice"] for old in run.curve):
        run.best.load_state_dict(run.averaged.state_dict())
    run.curve.append({"step": run.step, **row, "dice": mean})
    return mean


@torch.inference_mode()
def _dice(run: Run, part: Taught, case: Case, spec: ModelSpec) -> dict[str, float]:
    """Mean Dice over classes for each head, on the model's grid."""
    heads = tuple(part.data.heads)
    size = case.labels.shape[1:]
    frame = grid.Frame(size, size)  # the Dice is that of the model's own grid
    conformed = grid.Conformed(case.images.astype(np.float32), frame, "axial")
    if spec.slicewise:
        steps = _engine.slicewise(
            run.averaged, conformed, spec, heads=heads, device=run.ranks.device,
            probabilities=False,
        )  # fmt: skip
    else:
        steps = _engine.windows(
            run.averaged, conformed, spec, heads=heads, device=run.ranks.device,
            overlap=0.5, probabilities=False,
        )  # fmt: skip
    dice = {}
    for head, (answer, _) in finish(steps).items():
        truth = part.table(head, spec)[torch.from_numpy(case.labels).long()]
        counts = hard_dice_counts(
            torch.from_numpy(answer).long(), truth, len(spec.heads[head])
        )
        dice[head] = (counts[0] / counts[1]).nanmean().item()
    return dice
