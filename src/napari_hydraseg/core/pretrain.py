"""Many heads, one encoder: how the bundled weights were made.

Each step shows the encoder a few slices of every set and adds up the losses of the
heads that these sets teach; a head never sees a slice on which its organ is not
labelled. The encoder's batch norms keep the statistics they started with, so that sets
of different contrast do not pull them apart.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _engine, _evidence, augment, networks
from ._datasets import Dataset, dataset
from .checkpoint import save_checkpoint
from .errors import WrongInput
from .losses import hard_dice_counts, segmentation_loss
from .networks import MultiHead
from .networks._efficientnet import adapt_imagenet, imagenet_weights
from .training import Case, draw, optimise, prepare
from .types import Checkpoint, ModelSpec, Progress, Steps

_KEYS = (
    "name title data minutes seed start validate_every_minutes average rates network "
    "intensity spacing_mm dataset"
).split()
_SET_KEYS = ("folder", "head", "modality", "classes", "patch", "slices_per_step")


@dataclass(frozen=True, eq=False)
class _Taught:
    """A set with its prepared training and validation cases."""

    data: Dataset
    train: list[Case]
    val: list[Case]


def pretrain(config: Mapping[str, Any]) -> Steps[Checkpoint]:
    """Train one encoder with one head for each set.

    Parameters
    ----------
    config : mapping
        A parsed TOML file; ``experiments/hydranet.toml`` shows every entry.

    Yields
    ------
    Progress
        After each step, with its loss; ``values["dice"]`` is the mean validation Dice.

    Returns
    -------
    Checkpoint
        float16 weights of the best validation, card and reference.

    Raises
    ------
    WrongInput
        If an entry is missing.
    """
    _check(config)
    root = Path(config["data"])
    sets = [dataset(table, root) for table in config["dataset"]]
    spec = spec_of(config, sets)
    taught = []
    for number, data in enumerate(sets):
        yield Progress(number, len(sets), f"reading {data.folder.name}")
        taught.append(
            _Taught(data, _cases(data, spec, "train"), _cases(data, spec, "val"))
        )
    start = time.monotonic()
    net, curve = yield from _fit(config, spec, taught)
    checkpoint = Checkpoint(spec, _halved(net), {})
    minutes = round((time.monotonic() - start) / 60)
    return (yield from _evidence.describe(checkpoint, config, sets, curve, minutes))


def _check(config: Mapping[str, Any]) -> None:
    missing = [key for key in _KEYS if key not in config]
    for number, table in enumerate(config.get("dataset", ()), 1):
        missing += [f"dataset {number}: {key}" for key in _SET_KEYS if key not in table]
    if missing:
        raise WrongInput(
            f"The configuration lacks {', '.join(missing[:5])}.",
            "experiments/hydranet.toml shows every entry.",
        )


def spec_of(config: Mapping[str, Any], sets: Sequence[Dataset]) -> ModelSpec:
    """Make the model's spec of a configuration."""
    network, tables = config["network"], config["dataset"]
    own = {t["head"]: t["spacing_mm"] for t in tables if "spacing_mm" in t}
    return ModelSpec(
        network=network["name"],
        channels=tuple(network["channels"]),
        heads={s.head: ("background", *s.classes.values()) for s in sets},
        patch=tuple(network["patch"]),
        spacing_mm={**config["spacing_mm"], **own},
        intensity=config["intensity"],
        options=network["options"],
    )


def _cases(data: Dataset, spec: ModelSpec, split: str) -> list[Case]:
    classes = {label: i for i, label in enumerate(data.classes, 1)}
    return [
        prepare(
            volume,
            labels,
            spec,
            head=data.head,
            modality=data.modality,
            classes=classes,
        )
        for _, volume, labels in data.scans(split)
    ]


def _fit(
    config: Mapping[str, Any], spec: ModelSpec, taught: Sequence[_Taught]
) -> Steps[tuple[MultiHead, list[dict[str, float]]]]:
    rng = np.random.default_rng(config["seed"])
    net = networks.build(spec, seed=config["seed"])
    if config["start"] == "imagenet":
        slices = int(spec.options["slices"])
        start = adapt_imagenet(
            imagenet_weights(), slices * len(spec.channels), together=slices
        )
        net.encoder.load_state_dict(start)
    net.train().encoder.eval()  # batch norms keep their statistics
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    averaged, best = copy.deepcopy(net).eval(), copy.deepcopy(net).eval()
    budget, every = 60 * config["minutes"], 60 * config["validate_every_minutes"]
    began = time.monotonic()

    def loss() -> Tensor:
        return _loss(net, taught, spec, rng)

    groups = [
        {"params": list(net.encoder.parameters()), "lr": config["rates"]["encoder"]},
        {"params": list(net.heads.parameters()), "lr": config["rates"]["heads"]},
    ]
    steps = optimise(groups, loss, lambda _: (time.monotonic() - began) / budget)
    curve: list[dict[str, float]] = []
    due, dice = every, float("nan")
    for step, value in enumerate(steps):
        _average(averaged, net, min(config["average"], (step + 1) / (step + 10)))
        spent = time.monotonic() - began
        if spent >= due or spent >= budget:
            due += every
            dice = _validate(averaged, taught, spec, curve, step)
            if dice >= max(row["dice"] for row in curve):
                best = copy.deepcopy(averaged)
                _snapshot(best, config, spec)
        yield Progress(
            int(spent), budget, f"step {step + 1}", {"loss": value, "dice": dice}
        )
    return best, curve


def _loss(
    net: MultiHead, taught: Sequence[_Taught], spec: ModelSpec, rng: np.random.Generator
) -> Tensor:
    total = torch.zeros(())
    for part in taught:
        recipe = replace(augment.STRONG, flip=0.5 if part.data.flip else 0.0)
        images, labels = draw(
            part.train,
            part.data.slices_per_step,
            size=part.data.patch,
            slices=int(spec.options["slices"]),
            recipe=recipe,
            rng=rng,
        )
        images = images.to(memory_format=torch.channels_last)
        logits = net(images, (part.data.head,))[part.data.head]
        total = total + segmentation_loss(logits, labels)
    return total / len(taught)


@torch.no_grad()
def _average(averaged: MultiHead, net: MultiHead, decay: float) -> None:
    for mean, value in zip(averaged.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)


@torch.inference_mode()
def _validate(
    net: MultiHead,
    taught: Sequence[_Taught],
    spec: ModelSpec,
    curve: list[dict[str, float]],
    step: int,
) -> float:
    """Mean over sets of the mean Dice over scans and classes, on the model's grid."""
    row: dict[str, float] = {"step": step}
    for part in taught:
        scores = []
        for case in part.val:
            classes = len(spec.heads[part.data.head])
            counts = torch.zeros(2, classes - 1)
            data = case.images.astype(np.float32)
            for places, batch in _engine.batches(data, spec, "cpu"):
                answer = net(batch, (part.data.head,))[part.data.head].argmax(1)
                truth = torch.from_numpy(case.labels[places.start : places.stop]).long()
                counts += hard_dice_counts(answer, truth, classes)
            scores.append((counts[0] / counts[1]).nanmean().item())
        row[part.data.head] = float(np.nanmean(scores))
    row["dice"] = float(np.mean([row[part.data.head] for part in taught]))
    curve.append(row)
    return row["dice"]


def _halved(net: MultiHead) -> dict[str, Any]:
    """Weights as float16: half the size, the same answers to 0.1 %."""
    return {
        name: value.astype(np.float16) if value.dtype == np.float32 else value
        for name, value in networks.weights_of(net).items()
    }


def _snapshot(net: MultiHead, config: Mapping[str, Any], spec: ModelSpec) -> None:
    if "snapshot" in config:
        card = {
            "name": config["name"],
            "heads": {
                t["head"]: {"modality": [t["modality"]]} for t in config["dataset"]
            },
            "recommended": _evidence.recommended(config),
        }
        save_checkpoint(
            Checkpoint(spec, _halved(net), card), config["snapshot"], overwrite=True
        )
