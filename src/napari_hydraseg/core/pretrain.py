"""Many heads, one encoder: how the bundled weights were made.

Each step shows the encoder a few slices of every set. A head learns nothing from a set
in which its organ is not labelled, all heads of a set share one pass, and the losses of
all heads become one (`core._weighting`). The encoder's batch norms keep the statistics
they started with, so that sets of different contrast do not pull them apart.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _evidence, _fit, _ranks, grid, networks
from ._datasets import Dataset, classes_of, dataset
from ._run import Run
from .errors import WrongInput
from .networks import MultiHead
from .training import Case, prepare
from .types import Checkpoint, ModelSpec, Progress, Steps

_KEYS = (
    "name title data seed start validate_every average rates network "
    "intensity spacing_mm recommended dataset"
).split()
_MORE_KEYS = (
    "steps minutes precision description licence limits weighting largest mirror "
    "settle depth renew"
).split()
_SET_KEYS = "folder heads modality patch slices_per_step".split()
_MORE_SET_KEYS = "flip floor nominal licence data cite".split()


def pretrain(
    config: Mapping[str, Any],
    *,
    state: str | Path | None = None,
    log: str | Path | None = None,
    track: str | Path | None = None,
    profile: str | Path | None = None,
    device: str = "auto",
) -> Steps[Checkpoint]:
    """Train one encoder with one head for each organ.

    Parameters
    ----------
    config : mapping
        A parsed TOML file; ``experiments/hydranet.toml`` shows every entry. The
        budget is ``steps`` or ``minutes``.
    state : path, optional
        Where to keep what a run needs to go on; a run whose state lies there goes on.
        With a budget in steps the outcome is the same to the bit.
    log : path, optional
        Where losses and Dice are written as JSON lines; a run that goes on appends.
    track : path, optional
        Folder for TensorBoard (extra ``[track]``).
    profile : path, optional
        Where a profile of a few steps is written, for chrome://tracing or Perfetto.
    device : str
        "auto", "cpu", "cuda" or "mps". Under torchrun all processes train together;
        the first one validates and writes.

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
        If an entry is missing, or the state is that of another configuration.
    """
    files = _files(state=state, log=log, track=track, profile=profile)
    checkpoint, run = yield from train(config, files=files, device=device)
    if not run.ranks.first:
        return checkpoint
    sets, minutes = _sets(config), round(run.seconds / 60)
    return (yield from _evidence.describe(checkpoint, config, sets, run.curve, minutes))


def train(
    config: Mapping[str, Any], *, files: _fit.Files, device: str = "auto"
) -> Steps[tuple[Checkpoint, Run]]:
    """Train as `pretrain` does, without the card and the reference.

    Parameters
    ----------
    config, device
        As in `pretrain`.
    files : Files
        What is kept where.

    Returns
    -------
    checkpoint : Checkpoint
        float16 weights of the best validation; the card holds only the modalities.
    run : Run
        From `core._fit.fit`.
    """
    _check(config)
    sets = _sets(config)
    spec = spec_of(config, sets)
    _check_spacing(spec, sets)
    taught = []
    for number, data in enumerate(sets):
        yield Progress(number, len(sets), f"reading {data.folder.name}")
        cases = [_cases(data, spec, split) for split in ("train", "val")]
        taught.append(_fit.Taught(data, *cases))
    ranks = _ranks.join(device)
    run = yield from _fit.fit(config, spec, taught, files=files, ranks=ranks)
    heads = {h: {"modality": _evidence.modalities(h, sets)} for h in spec.heads}
    card = {"name": config["name"], "heads": heads}
    return Checkpoint(spec, halved(run.best.cpu()), card), run


def _files(**named: str | Path | None) -> _fit.Files:
    return _fit.Files(**{k: Path(v) for k, v in named.items() if v is not None})


def _sets(config: Mapping[str, Any]) -> list[Dataset]:
    return [dataset(table, Path(config["data"])) for table in config["dataset"]]


def spec_of(config: Mapping[str, Any], sets: Sequence[Dataset]) -> ModelSpec:
    """Make the model's spec of a configuration."""
    network = config["network"]
    return ModelSpec(
        network=network["name"],
        channels=tuple(network["channels"]),
        heads=classes_of(sets),
        patch=tuple(network["patch"]),
        spacing_mm=config["spacing_mm"],
        intensity=config["intensity"],
        largest=tuple(config.get("largest", ())),
        mirror=tuple(config.get("mirror", ())),
        options=network["options"],
    )


def halved(net: MultiHead) -> dict[str, Any]:
    """Weights as float16: half the size, the same answers to 0.1 %."""
    return {
        name: value.astype(np.float16) if value.dtype == np.float32 else value
        for name, value in networks.weights_of(net).items()
    }


def _check(config: Mapping[str, Any]) -> None:
    missing = [key for key in _KEYS if key not in config]
    if "steps" not in config and "minutes" not in config:
        missing.append("steps or minutes")
    for number, table in enumerate(config.get("dataset", ()), 1):
        missing += [f"dataset {number}: {key}" for key in _SET_KEYS if key not in table]
    _refuse_unknown(config, [*_KEYS, *_MORE_KEYS])
    for table in config.get("dataset", ()):
        _refuse_unknown(table, [*_SET_KEYS, *_MORE_SET_KEYS])
    if missing:
        raise WrongInput(
            f"The configuration lacks {', '.join(missing[:5])}.",
            "experiments/hydranet.toml shows every entry.",
        )


def _check_spacing(spec: ModelSpec, sets: Sequence[Dataset]) -> None:
    """Refuse heads of one set that want different voxels: they share one pass."""
    for data in sets:
        modality = str(data.modality)
        rules = [
            grid.spacing_rule(spec, modality=modality, head=head) for head in data.heads
        ]
        if any(rule != rules[0] for rule in rules):
            raise WrongInput(
                f"The heads that {data.folder.name} teaches have different spacings.",
                "Give them one, or list the set once for each.",
            )


def _refuse_unknown(table: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse an entry that nothing reads: it is a slip of the pen."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else "Take it out."
            raise WrongInput(f"The configuration has an unknown entry, {key}.", hint)


def _cases(data: Dataset, spec: ModelSpec, split: str) -> list[Case]:
    """Prepare scans; their labels keep the ids of the set, which each head reads."""
    return [
        prepare(
            volume,
            labels,
            spec,
            head=next(iter(data.heads)),
            modality=data.modality,
            classes={label: label for label in data.ids},
        )
        for _, volume, labels in data.scans(split)
    ]
