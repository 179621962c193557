"""Which slice to annotate next: one that the model doubts, unlike those that are done.

Doubt is the entropy of the model's probabilities, novelty the distance of a slice's
encoder features to those of the nearest annotated slice; their product ranks the
slices. Doubt alone would ask for neighbours that all show the same difficulty, novelty
alone for slices with nothing to see.

References
----------
.. [1] L. Yang et al., "Suggestive annotation: a deep active learning framework for
   biomedical image segmentation", MICCAI 2017. :doi:`10.1007/978-3-319-66179-7_46`
.. [2] O. Sener and S. Savarese, "Active learning for convolutional neural networks: a
   core-set approach", ICLR 2018. :doi:`10.48550/arXiv.1708.00489`
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _choice, _engine, grid, inference, networks
from ._reference import deviation
from .errors import WrongInput
from .networks import MultiHead
from .types import Checkpoint, Progress, Steps, Volume, relay

_OVERLAP = 0.25  # of a volumetric model's blocks: a ranking needs no smooth seams
_NOTE = "looking at the slices"
_SMALLEST = 1e-6  # a probability's logarithm must be finite


@dataclass(frozen=True, eq=False)
class SliceLook:
    """What a model makes of each slice of a scan.

    Attributes
    ----------
    doubt : ndarray of float64, shape (slices,), or None
        Mean entropy of the head's answer: 0 (sure) to 1 (knows nothing). None where
        the model has no such head.
    distance : ndarray of float64, shape (slices, slices)
        Between slices: in encoder features, or in slices for a volumetric model.
    """

    doubt: NDArray[np.float64] | None
    distance: NDArray[np.float64]


def look_at_slices(
    volume: Volume, checkpoint: Checkpoint, *, head: str = "", device: str = "auto"
) -> Steps[SliceLook]:
    """Let a model look at every slice of a scan, once.

    Parameters
    ----------
    volume : Volume
        The scan.
    checkpoint : Checkpoint
        The model.
    head : str
        What is being annotated. A name that the model does not know, a new structure,
        leaves only the features.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Yields
    ------
    Progress
        After each batch or block.

    Returns
    -------
    SliceLook
        For `rank_slices`; it holds as long as scan, model and head stay.

    Raises
    ------
    WrongInput
        If the model does not fit the scan's channels or modality.
    """
    known = head in checkpoint.spec.heads
    seen = head if known else _any_head(volume, checkpoint)
    _, modality, _ = _choice.choose(volume, checkpoint, (seen,))
    where = _choice.device_of(device)
    net = networks.network(checkpoint).to(where)
    data = grid.conform(volume, checkpoint.spec, modality=modality, head=seen)
    if not checkpoint.spec.slicewise:
        return (yield from _look_at_blocks(net, data, volume, checkpoint, head, where))
    parts = []
    for places, batch in _engine.batches(data.data, checkpoint.spec, where):
        parts.append(_look(net, batch, seen))
        yield Progress(places[-1] + 1, len(data.data), _NOTE)
    doubt = np.concatenate([part for part, _ in parts])
    depths = zip(*(rows for _, rows in parts), strict=True)
    distance = _distances([np.concatenate(rows) for rows in depths])
    return SliceLook(doubt if known else None, distance)


def _look_at_blocks(
    net: MultiHead,
    data: grid.Conformed,
    volume: Volume,
    checkpoint: Checkpoint,
    head: str,
    device: str,
) -> Steps[SliceLook]:
    """Doubt of a volumetric model by slices; its encoder sees no slice by itself."""
    at = np.arange(volume.shape[volume.plane_axis], dtype=np.float64)
    distance = np.abs(at[:, None] - at)
    if head not in checkpoint.spec.heads:
        yield Progress(1, 1, _NOTE)
        return SliceLook(None, distance)
    steps = _engine.windows(
        net,
        data,
        checkpoint.spec,
        heads=(head,),
        device=device,
        overlap=_OVERLAP,
        probabilities=True,
    )
    answers = yield from relay(steps, lambda p: Progress(p.done, p.total, _NOTE))
    return SliceLook(_doubt_of_volume(answers[head], volume.plane_axis), distance)


def rank_slices(look: SliceLook, annotated: Iterable[int] = ()) -> list[int]:
    """Order the slices that are not annotated yet, the most useful first.

    Parameters
    ----------
    look : SliceLook
        From `look_at_slices`.
    annotated : iterable of int
        Slices that are done, or that shall not be offered again.

    Returns
    -------
    list of int
        Empty if all are done. Without a doubt to go by, the slices that stand for the
        most others come first.
    """
    score = slice_scores(look, annotated)
    order = np.argsort(-score, kind="stable")
    return [int(at) for at in order if np.isfinite(score[at])]


def slice_scores(look: SliceLook, annotated: Iterable[int] = ()) -> NDArray[np.float64]:
    """Score slices from 0 to 1: doubt times novelty; -inf for annotated ones.

    Parameters
    ----------
    look : SliceLook
        From `look_at_slices`.
    annotated : iterable of int
        Slices that are done.
    """
    count = len(look.distance)
    done = sorted({int(at) for at in annotated if 0 <= int(at) < count})
    doubtful = look.doubt is not None and look.doubt.max(initial=0.0) > 0
    if doubtful and look.doubt is not None:
        score = _share(look.doubt) * _share(novelty(look, done))
    else:
        score = _share(_gain(look.distance, done))
    score[done] = -np.inf
    return score


def novelty(look: SliceLook, annotated: Sequence[int]) -> NDArray[np.float64]:
    """Distance of each slice to the nearest annotated one; 1 where none is."""
    if not len(annotated):
        return np.ones(len(look.distance))
    nearest: NDArray[np.float64] = look.distance[:, list(annotated)].min(axis=1)
    return nearest


def _gain(distance: NDArray[np.float64], done: Sequence[int]) -> NDArray[np.float64]:
    """By how much all slices come nearer to an annotated one, for each candidate.

    Greedy facility location: unlike the farthest slice, the one that represents the
    most is no oddity at the scan's end.
    """
    now = distance[:, done].min(axis=1) if len(done) else distance.max(axis=1)
    gain: NDArray[np.float64] = np.maximum(now[:, None] - distance, 0).mean(axis=0)
    return gain


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    top = float(values.max(initial=0.0))
    return values / top if top > 0 else np.zeros(len(values))


def _look(
    net: MultiHead, batch: Tensor, head: str
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Doubt (n,), and features (n, f) of each depth, of a batch in one pass."""
    with torch.inference_mode():
        padded = networks.padded(batch, net)
        maps = net.features(padded, head)
        logits = net.heads[head](maps).float()
        if logits.ndim == batch.ndim:
            logits = logits[..., : batch.shape[-2], : batch.shape[-1]]
        doubt = _entropy(logits.softmax(1)).flatten(1).mean(1)
        rows = inference.summarise(maps, padded).values()
    return _array(doubt), [_array(row) for row in rows]


def _array(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.cpu().double().numpy()
    return found


def _entropy(share: Tensor) -> Tensor:
    """Entropy over classes, (n, k, ...) -> (n, 1, ...), as a share of the largest."""
    kept = share.clamp_min(_SMALLEST)
    classes = max(share.shape[1], 2)
    return -(kept * kept.log()).sum(1, keepdim=True) / float(np.log(classes))


def _doubt_of_volume(answer: _engine.Answer, axis: int) -> NDArray[np.float64]:
    _, share = answer
    if share is None:
        raise ValueError("The probabilities of a volume were not kept.")
    entropy = _entropy(torch.from_numpy(share))[0, 0].numpy()  # (z, y, x)
    across = tuple(a for a in range(3) if a != axis)
    doubt: NDArray[np.float64] = entropy.mean(axis=across, dtype=np.float64)
    return doubt


def _distances(depths: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Distances between slices; every depth counts alike, and each feature of one."""
    from scipy.spatial.distance import cdist

    count = len(depths[0])
    total = np.zeros((count, count))
    for rows in depths:
        spread = deviation(rows)
        moves = np.isfinite(spread)
        if moves.any():
            scaled = (rows - rows.mean(axis=0))[:, moves] / spread[moves]
            total += cdist(scaled, scaled, "sqeuclidean") / moves.sum()
    return np.sqrt(total)


def _any_head(volume: Volume, checkpoint: Checkpoint) -> str:
    """Find a head whose spacing suits the scan, for a structure that has none yet."""
    try:
        return _choice.choose(volume, checkpoint, ())[0][0]
    except WrongInput:  # nothing is recommended for such scans: any will do
        return next(iter(checkpoint.spec.heads))
