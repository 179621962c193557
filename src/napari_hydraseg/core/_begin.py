"""How a fine-tuning run begins: scans are prepared, split, and the encoder frozen."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from . import _choice, _classes, _heads, _holdout, grid, networks, training
from ._job import Job, Mode, Pair, modality_of
from .errors import EmptyAnnotation, WrongInput
from .losses import IGNORE
from .networks import MultiHead
from .types import Checkpoint, ModelSpec, Progress, Steps

PATCH = 256  # pixels; slices up to this size are learned whole
MOMENTUM = 0.1  # of batch norms that start at random: a short run must reach its mean


def job_steps(
    checkpoint: Checkpoint,
    pairs: Sequence[Pair],
    *,
    head: str,
    class_names: Sequence[str],
    mode: Mode,
    depth: int | None,
    hold_out: bool,
    seed: int,
    device: str,
) -> Steps[Job]:
    """Check and prepare everything that a run needs; see `core.finetune`."""
    if not pairs:
        raise EmptyAnnotation("No annotated scan was given.", "Paint a few slices.")
    pairs = [(volume, _heads.check(volume, found)) for volume, found in pairs]
    spec, classes = _spec(checkpoint, pairs, head, class_names)
    cases = []
    for (volume, segmentation), own in zip(pairs, classes, strict=True):
        yield Progress(0, 1, "preparing the scans")  # so that a cancel is heard
        cases.append(
            training.prepare(
                volume,
                segmentation,
                spec,
                head=head,
                modality=modality_of(volume, checkpoint, head),
                classes=own,
            )
        )
    truths = tuple(
        training.class_slices(segmentation, volume, own)
        for (volume, segmentation), own in zip(pairs, classes, strict=True)
    )
    yield Progress(0, 1, "preparing the model")
    where = _choice.device_of(device)
    net = _network(checkpoint, spec, mode, seed).to(where)
    levels = len(net.encoder.levels())
    count = min(levels if depth is None else depth, levels) if mode == "frozen" else 0
    job = Job(
        net=net,
        checkpoint=checkpoint,
        spec=spec,
        head=head,
        mode=mode,
        classes=classes,
        pairs=tuple(pairs),
        cases=tuple(cases),
        truths=truths,
        lessons=(),
        split=_split(checkpoint, pairs, truths, hold_out=hold_out),
        depth=count,
        frozen=_freeze(net, head, count),
        patch=_patch(spec, cases),
        device=where,
        rng=np.random.default_rng(seed),
    )
    net.to(memory_format=job.format)  # type: ignore[call-overload]  # missing in torch's stubs
    return replace(job, lessons=_lessons(job))


def _spec(
    checkpoint: Checkpoint,
    pairs: Sequence[Pair],
    head: str,
    class_names: Sequence[str],
) -> tuple[ModelSpec, tuple[_classes.Classes, ...]]:
    """Describe the model that comes out, and match label ids with its classes."""
    existing = checkpoint.spec.heads.get(head)
    names, classes = _classes.classes_of(
        [segmentation for _, segmentation in pairs], existing, class_names
    )
    if existing:
        spec = checkpoint.spec
    else:
        spec = _heads.extended(checkpoint.spec, head, names, pairs)
    if head in networks.classifiers(spec):
        raise WrongInput(
            f"The head {head!r} says one thing about a whole image; it learns no mask.",
            "Choose another head.",
        )
    takes = inspect.signature(networks.module_of(spec.network).build).parameters
    if "reads" in spec.options and "reads" not in takes:
        count = len(pairs[0][0].names)
        raise WrongInput(
            f"{checkpoint.name} sees one channel, the scan has {count}.",
            "Load one channel alone, or choose hydranet.",
        )
    return spec, classes


def _network(
    checkpoint: Checkpoint, spec: ModelSpec, mode: Mode, seed: int
) -> MultiHead:
    if mode != "scratch":
        return _heads.grown(checkpoint, spec, seed=seed)
    net = networks.build(spec, seed=seed).eval()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = MOMENTUM
    return net


def _split(
    checkpoint: Checkpoint,
    pairs: Sequence[Pair],
    truths: Sequence[NDArray[np.uint8]],
    *,
    hold_out: bool,
) -> _holdout.Split:
    shown = [_shown(truth) for truth in truths]
    return _holdout.split(
        [_holdout.identities(volume) for volume, _ in pairs],
        [sorted(set().union(*part.values())) for part in shown],
        [{k: v for k, v in part.items() if k} for part in shown],
        ledger=checkpoint.card.get("held_out", {}),
        wanted=hold_out,
    )


def _shown(truth: NDArray[np.uint8]) -> dict[int, list[int]]:
    """List the slices that show each class, background included."""
    found: dict[int, list[int]] = {}
    for index, labels in enumerate(truth):
        for cls in np.flatnonzero(np.bincount(labels.ravel())[:IGNORE]):
            found.setdefault(int(cls), []).append(index)
    return found


def _freeze(net: MultiHead, head: str, count: int) -> bool:
    """Switch off what is not trained; return whether the whole encoder is frozen."""
    net.requires_grad_(False)
    net.heads[head].requires_grad_(True)
    for module in (m for level in net.encoder.levels()[count:] for m in level):
        module.requires_grad_(True)
    return not any(p.requires_grad for p in net.encoder.parameters())


def _patch(spec: ModelSpec, cases: Sequence[training.Case]) -> tuple[int, ...]:
    """Whole slices, in multiples of 32, up to the size that a step can take."""
    if not spec.slicewise:
        return tuple(spec.patch)
    sizes = np.array([case.labels.shape[1:] for case in cases]).max(0)
    return tuple(int(min(-(-n // 32) * 32, PATCH)) for n in sizes)


def _lessons(job: Job) -> tuple[training.Case, ...]:
    """Cases with nothing annotated but the slices that are learned from.

    Raises
    ------
    EmptyAnnotation
        If all was held out, or nothing of it is left at the model's resolution.
    """
    if not any(job.split.train):
        raise EmptyAnnotation(
            "All that is annotated was held out in an earlier round, to judge by.",
            "Annotate another scan, or start from an older model.",
        )
    found = []
    for number, kept in enumerate(job.split.train):
        limit = _within if job.spec.slicewise else _block_within
        lesson = limit(job, number, kept)
        if len(lesson.annotated):
            found.append(lesson)
    if not found:
        raise EmptyAnnotation(
            "What is painted is smaller than the model's voxels.",
            "Paint more.",
        )
    return tuple(found)


def _within(job: Job, number: int, kept: Sequence[int]) -> training.Case:
    case = job.cases[number]
    shown = {cls: np.intersect1d(which, kept) for cls, which in case.classes.items()}
    return replace(
        case,
        annotated=np.intersect1d(case.annotated, kept).astype(np.int64),
        classes={cls: which for cls, which in shown.items() if len(which)},
    )


def _block_within(job: Job, number: int, kept: Sequence[int]) -> training.Case:
    """Leave slices out of a block: nobody vouches for them any more."""
    truth = job.truths[number].copy()
    truth[np.setdiff1d(np.arange(len(truth)), kept)] = IGNORE
    block = grid.from_slices(truth, job.pairs[number][0].plane)[None]
    labels = job.frame(number).enter_labels(block)
    painted = sorted({*np.unique(labels).tolist()} - {0, IGNORE})
    one = np.zeros(1, np.int64)
    return replace(
        job.cases[number],
        labels=labels,
        annotated=one[: int((labels != IGNORE).any())],
        classes=dict.fromkeys(painted, one),
    )
