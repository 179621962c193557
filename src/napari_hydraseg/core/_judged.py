"""How well one head does on labelled scans, where somebody vouches for them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from . import _choice, _engine, grid, inference, networks, training
from ._few import Pair
from .metrics import dice
from .types import Checkpoint, Steps, Volume


def alone(checkpoint: Checkpoint, head: str | None) -> Checkpoint:
    """Leave out all heads but one, or all: a network that is built in no time.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    head : str or None
        The one that stays.
    """
    kept = ("encoder.",) if head is None else ("encoder.", f"heads.{head}.")
    heads = {k: v for k, v in checkpoint.spec.heads.items() if k == head}
    return replace(
        checkpoint,
        spec=replace(checkpoint.spec, heads=heads),
        weights={k: v for k, v in checkpoint.weights.items() if k.startswith(kept)},
        reference={},
    )


def dice_of_scans(
    checkpoint: Checkpoint, head: str, pairs: Sequence[Pair], *, device: str
) -> Steps[NDArray[np.float64]]:
    """Dice of each scan, mean over the classes that its reference shows, else nan.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    head : str
        One of its heads, whose labels are class indices.
    pairs : sequence of (Volume, Segmentation)
        Scans; only what is vouched for counts.
    device : str
        Where to compute.

    Yields
    ------
    Progress
        That of the segmentation.

    Returns
    -------
    ndarray, shape (scan,)
    """
    model, found = alone(checkpoint, head), []
    for volume, truth in pairs:
        known = training.vouched(truth, volume)
        candidate = yield from _slices(model, head, volume, known, device)
        labels = grid.to_slices(truth.labels, volume.plane)
        reference, answer = labels[known], candidate[known]
        shown = [i for i in np.unique(reference) if i]
        values = np.array([dice(reference == i, answer == i) for i in shown])
        found.append(mean(values))
    return np.array(found)


def mean(values: NDArray[np.float64]) -> float:
    """Mean of what is known; nan if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _slices(
    model: Checkpoint,
    head: str,
    volume: Volume,
    known: NDArray[np.bool_],
    device: str,
) -> Steps[NDArray[np.uint8]]:
    """Answer in slices of the acquisition plane, from the first to the last known one.

    The rest is left out where a model sees slices: a lone scan may have hundreds.
    """
    wanted = np.flatnonzero(known.any((1, 2)))
    first, last = int(wanted.min(initial=len(known))), int(wanted.max(initial=0))
    if not model.spec.slicewise or last + 1 - first >= len(known):
        steps = inference.segment(volume, model, heads=(head,), device=device)
        labels = (yield from steps)[head].labels
        return np.asarray(grid.to_slices(labels, volume.plane), np.uint8)
    answer = np.zeros(known.shape, np.uint8)
    if not len(wanted):
        return answer
    modality, _ = _choice.modality_of(volume, model, (head,))
    # grey values are those of the whole scan
    data = grid.conform(volume, model.spec, modality=modality, head=head)
    reach = int(model.spec.options.get("slices", 1)) // 2
    low, high = max(first - reach, 0), min(last + 1 + reach, len(known))
    where = _choice.device_of(device)
    parts = yield from _engine.slicewise(
        networks.network(model).to(where),
        replace(data, data=data.data[low:high]),
        model.spec,
        heads=(head,),
        device=where,
        probabilities=False,
    )
    answer[first : last + 1] = parts[head][0][first - low : last + 1 - low]
    return answer
