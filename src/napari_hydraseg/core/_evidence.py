"""What a freshly trained model is shipped with: its card, scores and reference."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from . import inference
from ._datasets import Dataset
from ._fingerprint import fingerprint, usual_ranges
from ._reference import reference_features
from ._scores import Scored, score, table
from .types import Checkpoint, Progress, Steps, finish

REFERENCE_SCANS = 64  # at most, for each head


class Look(NamedTuple):
    """A scan as the encoder sees it; it may have learned from it."""

    subject: str
    learned: bool
    features: dict[str, NDArray[np.float32]]
    fingerprint: dict[str, float]


def describe(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    sets: Sequence[Dataset],
    curve: list[dict[str, float]],
    minutes: int,
) -> Steps[Checkpoint]:
    """Add what the scans look like, and how well the heads do."""
    scores = yield from score(checkpoint, sets, "val")
    looks = []
    for number, data in enumerate(sets):
        yield Progress(number, len(sets), f"looking at {data.folder.name}")
        looks.append(_looks(checkpoint, data, number, seed=config["seed"]))
    heads: dict[str, Any] = {}
    reference: dict[str, Any] = {}
    for head in checkpoint.spec.heads:
        own = [data for data in sets if head in data.heads]
        own_looks = [
            look
            for data, part in zip(sets, looks, strict=True)
            if head in data.heads
            for look in part
        ]
        reference[head], ranges = _reference(own_looks, seed=config["seed"])
        heads[head] = {"modality": modalities(head, own), **_head(own)}
        heads[head] |= scored(scores[head], "val", seed=config["seed"])
        heads[head]["fingerprint"] = ranges
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
            "start": Path(config["start"]).stem,  # no folder of anybody's
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


def modalities(head: str, sets: Sequence[Dataset]) -> list[str]:
    """List the modalities that a head learned from."""
    return list(dict.fromkeys(str(d.modality) for d in sets if head in d.heads))


def _head(sets: Sequence[Dataset]) -> dict[str, Any]:
    """Describe what a head learned from."""
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
    return {**said, "subjects": counts}


def _looks(
    checkpoint: Checkpoint, data: Dataset, number: int, *, seed: int
) -> list[Look]:
    """Encode scans of a set, each once: its heads share one spacing.

    Validation scans come first: to an encoder, scans that it learned from look a little
    more alike than others do.
    """
    scans = [
        (split == "train", *one)
        for split in ("train", "val")
        for one in data.files(split)
    ]
    head = next(iter(data.heads))
    found = []
    for index in _drawn([learned for learned, *_ in scans], seed=seed):
        learned, subject, image, _ = scans[index]
        volume = data.volume(image)
        features = finish(inference.encode(volume, checkpoint, head=head))
        measured = fingerprint(volume)
        if data.nominal:  # its millimetres are made up
            measured = {k: v for k, v in measured.items() if not k.endswith("_mm")}
        found.append(Look(f"{number} {subject}", learned, features, measured))
    return found


def _drawn(learned: Sequence[bool], *, seed: int) -> list[int]:
    """Draw at most `REFERENCE_SCANS`, first of those that were not learned from."""
    order = np.random.default_rng(seed).permutation(len(learned)).tolist()
    return sorted(sorted(order, key=lambda i: learned[i])[:REFERENCE_SCANS])


def _reference(
    looks: Sequence[Look], *, seed: int
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Features and usual ranges of at most `REFERENCE_SCANS` scans."""
    kept = [looks[i] for i in _drawn([look.learned for look in looks], seed=seed)]
    subjects = [look.subject for look in kept]
    several = len(set(subjects)) < len(subjects)
    entry = reference_features(
        [look.features for look in kept],
        subjects=subjects if several else None,
        seed=seed,
    )
    return entry, usual_ranges([look.fingerprint for look in kept])
