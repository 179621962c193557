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
from ._scores import Scored, score, table
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
    for number, head in enumerate(checkpoint.spec.heads):
        yield Progress(number, len(checkpoint.spec.heads), f"measuring {head}")
        own = [data for data in sets if head in data.heads]
        heads[head], reference[head] = _head(checkpoint, head, own, config["seed"])
    cited = dict.fromkeys(data.about.get("cite", "not stated") for data in sets)
    card = {
        "name": config["name"],
        "title": config["title"],
        "description": config.get("description", ""),
        "licence": config.get("licence", "see heads"),
        "citation": "; ".join(cited),
        "heads": heads,
        "limits": list(config.get("limits", ())),
        "recommended": {k: list(v) for k, v in config["recommended"].items()},
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


def scored(found: Sequence[Scored], split: str, *, seed: int = 0) -> dict[str, Any]:
    """Return the entries of a head's card that hold its scores.

    Parameters
    ----------
    found : sequence of Scored
        From `core._scores.score`.
    split : {"val", "test"}
        Which scans were segmented.
    seed : int
        Of the bootstrap.
    """
    classes = table(found, seed=seed)
    dice = {
        name: {key: row[key] for key in ("mean", "n")}
        for name, row in classes.items()
        if row["n"]
    }
    return {"dice": dice, "split": split, "scores": {split: classes}}


def _head(
    checkpoint: Checkpoint, head: str, sets: Sequence[Dataset], seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe one head: what it learned from, how well it does, its scans."""
    entry, ranges = _reference(checkpoint, head, sets, seed)
    counts = {
        split: sum(len(data.subjects(split)) for data in sets)
        for split in ("train", "val", "test")
    }
    said = {
        key: "; ".join(
            dict.fromkeys(data.about[key] for data in sets if key in data.about)
        )
        for key in ("licence", "data", "cite")
    }
    return {
        "modality": list(dict.fromkeys(data.modality for data in sets)),
        **said,
        "subjects": counts,
        **scored(finish(score(checkpoint, head, sets, "val")), "val", seed=seed),
        "fingerprint": ranges,
    }, entry


def _reference(
    checkpoint: Checkpoint, head: str, sets: Sequence[Dataset], seed: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    scans = [
        (f"{number} {subject}", volume)
        for number, data in enumerate(sets)
        for subject, volume, _ in data.scans("train")
    ]
    chosen = np.random.default_rng(seed).permutation(len(scans))[:REFERENCE_SCANS]
    features, prints, subjects = [], [], []
    for subject, volume in (scans[index] for index in sorted(chosen)):
        features.append(finish(inference.encode(volume, checkpoint, head=head)))
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
