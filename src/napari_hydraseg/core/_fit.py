"""The run of `pretrain`: steps over all sets, validation by scan, states that go on."""

import copy
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _engine, augment, networks
from ._datasets import Dataset
from .errors import WrongInput
from .io.atomic import atomic_write
from .losses import IGNORE, hard_dice_counts, segmentation_loss
from .networks import MultiHead
from .networks._efficientnet import adapt_imagenet, imagenet_weights
from .training import Case, adamw, draw, optimise
from .types import ModelSpec, Progress, Steps


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


class _Run:
    """Networks, optimiser and chance of a run: all that its state holds."""

    def __init__(self, config: Mapping[str, Any], spec: ModelSpec) -> None:
        self.fingerprint = hashlib.sha256(
            json.dumps(config, sort_keys=True, default=str).encode()
        ).hexdigest()
        self.rng = np.random.default_rng(config["seed"])
        self.low = config.get("precision", "float32") == "bfloat16"
        self.net = _start(config, spec)
        self.averaged = copy.deepcopy(self.net).eval()
        self.best = copy.deepcopy(self.net).eval()
        encoder, heads = self.net.encoder.parameters(), self.net.heads.parameters()
        rates = config["rates"]
        self.optimiser = adamw(
            [
                {"params": list(encoder), "lr": rates["encoder"]},
                {"params": list(heads), "lr": rates["heads"]},
            ]
        )
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []

    def save(self, path: Path) -> None:
        """Write the state, so that a killed run can go on."""
        state = {
            "fingerprint": self.fingerprint,
            "rng": json.dumps(self.rng.bit_generator.state),
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": json.dumps(self.curve),
        }
        atomic_write(path, lambda stream: torch.save(state, stream), overwrite=True)

    def load(self, path: Path) -> None:
        """Go on where `save` left off.

        Raises
        ------
        WrongInput
            If the state is that of another configuration.
        """
        state = torch.load(path, weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise WrongInput(
                f"{path.name} is the state of another configuration.",
                "Name another state, or delete this one.",
            )
        self.rng.bit_generator.state = json.loads(state["rng"])
        for name in ("net", "averaged", "best"):
            getattr(self, name).load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.curve = json.loads(state["curve"])


def _start(config: Mapping[str, Any], spec: ModelSpec) -> MultiHead:
    net: MultiHead = networks.build(spec, seed=config["seed"])
    if config["start"] == "imagenet":
        slices = int(spec.options.get("slices", 1))
        start = adapt_imagenet(
            imagenet_weights(), slices * len(spec.channels), together=slices
        )
        net.encoder.load_state_dict(start)
    net.train().encoder.eval()  # batch norms keep their statistics
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return net


def fit(
    config: Mapping[str, Any],
    spec: ModelSpec,
    taught: Sequence[Taught],
    *,
    state: Path | None,
) -> Steps[tuple[MultiHead, list[dict[str, float]]]]:
    """Train until the budget is used up; see `core.pretrain`.

    Returns
    -------
    net : MultiHead
        The averaged weights at their best validation.
    curve : list of dict
        ``{"step", HEAD: Dice, ..., "dice"}`` at each validation.
    """
    run = _Run(config, spec)
    if state is not None and state.is_file():
        run.load(state)
    began = time.monotonic() - run.seconds
    steps, budget = config.get("steps"), 60 * config.get("minutes", 0)
    # a budget in steps is validated by steps too, so that it repeats to the bit
    every = config["validate_every"] * (1 if steps else 60)

    def share(step: int) -> float:
        spent = time.monotonic() - began
        return float(step / steps if steps else spent / budget)

    def loss() -> Tensor:
        return _loss(run, taught, spec)

    dice = run.curve[-1]["dice"] if run.curve else float("nan")
    for value in optimise(run.optimiser, loss, share, first=run.step):
        before = run.step if steps else run.seconds
        run.step, run.seconds = run.step + 1, time.monotonic() - began
        _average(run, config["average"])
        now = run.step if steps else run.seconds
        if now // every > before // every or share(run.step) >= 1:
            dice = _validate(run, taught, spec)
            if state is not None:
                run.save(state)
        done = round(100 * min(1, share(run.step)))
        values = {"loss": value, "dice": dice}
        yield Progress(done, 100, f"step {run.step}", values)
    return run.best, run.curve


def _loss(run: _Run, taught: Sequence[Taught], spec: ModelSpec) -> Tensor:
    """Sum over sets of the mean loss of their heads, divided by the sets."""
    total = torch.zeros(())
    for part in taught:
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
            rng=run.rng,
        )
        heads = tuple(part.data.heads)
        with torch.autocast("cpu", torch.bfloat16, enabled=run.low):
            logits = run.net(images.to(memory_format=torch.channels_last), heads)
        losses = [
            segmentation_loss(logits[head].float(), part.table(head, spec)[labels])
            for head in heads
        ]
        total = total + torch.stack(losses).mean()
    return total / len(taught)


@torch.no_grad()
def _average(run: _Run, most: float) -> None:
    decay = min(most, run.step / (run.step + 9))
    pairs = zip(run.averaged.parameters(), run.net.parameters(), strict=True)
    for mean, value in pairs:
        mean.lerp_(value, 1 - decay)


def _validate(run: _Run, taught: Sequence[Taught], spec: ModelSpec) -> float:
    """Note the mean Dice of each head over its validation scans; keep the best."""
    scores: dict[str, list[float]] = {}
    for part in taught:
        for case in part.val:
            for head, dice in _dice(run.averaged, part, case, spec).items():
                scores.setdefault(head, []).append(dice)
    row = {head: float(np.nanmean(values)) for head, values in scores.items()}
    mean = float(np.mean(list(row.values())))
    if not run.curve or mean >= max(old["dice"] for old in run.curve):
        run.best.load_state_dict(run.averaged.state_dict())
    run.curve.append({"step": run.step, **row, "dice": mean})
    return mean


@torch.inference_mode()
def _dice(
    net: MultiHead, part: Taught, case: Case, spec: ModelSpec
) -> dict[str, float]:
    """Mean Dice over classes for each head, on the model's grid."""
    counts = {
        head: torch.zeros(2, len(spec.heads[head]) - 1) for head in part.data.heads
    }
    data = case.images.astype(np.float32)
    for places, batch in _engine.batches(data, spec, "cpu"):
        labels = torch.from_numpy(case.labels[places.start : places.stop]).long()
        for head, logits in net(batch, tuple(counts)).items():
            truth = part.table(head, spec)[labels]
            classes = len(spec.heads[head])
            counts[head] += hard_dice_counts(logits.argmax(1), truth, classes)
    return {head: (c[0] / c[1]).nanmean().item() for head, c in counts.items()}
