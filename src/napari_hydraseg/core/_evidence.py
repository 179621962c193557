"""What a freshly trained model is shipped with: its card, scores and reference."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from . import inference
from ._datasets import Dataset
from ._fingerprint import fingerprint
from ._reference import reference_features
from .metrics import evaluate
from .types import Checkpoint, Progress, Steps, finish

REFERENCE_SCANS = 64  # at most, for each head


def describe(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    sets: Sequence[Dataset],
    curve: list[dict[str, float]],
    minutes: int,
) -> Steps[Checkpoint]:
    """Add what the training scans look like, and how well the heads do."""
    heads: dict[str, Any] = {}
    reference: dict[str, Any] = {}
    for number, data in enumerate(sets):
        yield Progress(number, len(sets), f"measuring {data.head}")
        entry, ranges = _reference(checkpoint, data, config["seed"])
        reference[data.head] = entry
        heads[data.head] = {
            "modality": [data.modality],
            **data.about,
            "subjects": {s: len(data.subjects(s)) for s in ("train", "val", "test")},
            "dice": _dice(checkpoint, data),
            "split": "val",
            "fingerprint": ranges,
        }
    card = {
        "name": config["name"],
        "title": config["title"],
        "description": "Slice-wise, with the two neighbouring slices as channels.",
        "licence": config.get("licence", "see heads"),
        "citation": "; ".join(h["cite"] for h in heads.values() if "cite" in h),
        "heads": heads,
        "limits": list(config.get("limits", ())),
        "recommended": recommended(config),
        "parent": None,
        "created": time.strftime("%Y-%m-%d"),
        "trained": {
            "minutes": minutes,
            "machine": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
            "steps": int(curve[-1]["step"]) if curve else 0,
            "start": config["start"],
            "curve": curve,
        },
        "frozen": {},
        "source": "napari-hydraseg, experiments/",
    }
    return replace(checkpoint, card=card, reference=reference)


def recommended(config: Mapping[str, Any]) -> dict[str, list[str]]:
    chosen: dict[str, list[str]] = {}
    for table in config["dataset"]:
        if table.get("recommended", False):
            chosen.setdefault(table["modality"], []).append(table["head"])
    return chosen


def _reference(
    checkpoint: Checkpoint, data: Dataset, seed: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    scans = list(data.scans("train"))
    chosen = np.random.default_rng(seed).permutation(len(scans))[:REFERENCE_SCANS]
    features, prints, subjects = [], [], []
    for index in sorted(chosen):
        subject, volume, _ = scans[index]
        features.append(finish(inference.encode(volume, checkpoint, head=data.head)))
        prints.append(fingerprint(volume))
        subjects.append(subject)
    several = len(set(subjects)) < len(subjects)
    entry = reference_features(
        features, subjects=subjects if several else None, seed=seed
    )
    ranges = {
        name: [float(p) for p in np.percentile([f[name] for f in prints], (5, 95))]
        for name in prints[0]
        if all(name in f for f in prints)
    }
    return entry, ranges


def _dice(checkpoint: Checkpoint, data: Dataset) -> dict[str, dict[str, float]]:
    """Validation Dice of each class on the scans' own grid."""
    rows = []
    for _, volume, labels in data.scans("val"):
        named = replace(labels, names=dict(data.classes))
        found = finish(inference.segment(volume, checkpoint, heads=(data.head,)))
        rows += evaluate(named, found[data.head])
    scores: dict[str, list[float]] = {name: [] for name in data.classes.values()}
    for row in rows:
        if np.isfinite(row["dice"]):
            scores[row["name"]].append(row["dice"])
    return {
        name: {"mean": round(float(np.mean(values)), 4), "n": len(values)}
        for name, values in scores.items()
    }
