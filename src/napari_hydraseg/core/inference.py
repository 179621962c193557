"""Segmentation and encoder features: slice by slice, or by sliding window.

Heads that want the same spacing share one pass of the encoder.
"""

import json
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from . import _choice, _engine, grid, networks
from ._levels import GREY
from ._pieces import keep_largest
from .checkpoint import digest
from .errors import OutOfMemory
from .types import (
    Checkpoint,
    ModelSpec,
    Progress,
    Segmentation,
    Steps,
    Volume,
    relay,
)

QUANTILES = (np.arange(16) + 1) / 17  # of the grey values of a slice


def segment(
    volume: Volume,
    checkpoint: Checkpoint,
    *,
    heads: Sequence[str] = (),
    overlap: float = 0.5,
    device: str = "auto",
    probabilities: bool = False,
) -> Steps[dict[str, Segmentation]]:
    """Segment a scan.

    Parameters
    ----------
    volume : Volume
        The scan, with the channels that the model wants.
    checkpoint : Checkpoint
        The model.
    heads : sequence of str
        Which organs; default: what the model's card recommends for the scan's
        modality, or the only head.
    overlap : float
        Of neighbouring blocks of a volumetric model, 0 to 0.9.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    probabilities : bool
        Whether to keep the softmax output.

    Yields
    ------
    Progress
        After each batch or block.

    Returns
    -------
    dict of str to Segmentation
        On the scan's own grid, one for each head.

    Raises
    ------
    WrongInput
        If the model does not fit the scan's channels or modality.
    UnknownModel
        If the model has no such head.
    DeviceError
        If the device is not there or its memory does not suffice.
    """
    start = time.monotonic()
    chosen, modality, notes = _choice.choose(volume, checkpoint, heads)
    where = _choice.device_of(device)
    try:
        found, more = yield from _segment_on(
            volume, checkpoint, chosen, modality, where, overlap, probabilities
        )
    except torch.OutOfMemoryError:
        if where == "cpu":
            raise OutOfMemory(
                "The memory does not suffice.", "Crop the scan."
            ) from None
        notes.append("The GPU's memory did not suffice: the CPU was used.")
        where = "cpu"
        found, more = yield from _segment_on(
            volume, checkpoint, chosen, modality, where, overlap, probabilities
        )
    made_by = {
        "model": checkpoint.name,
        "sha256": digest(checkpoint.weights),
        "modality": modality,
        "device": where,
        "threads": torch.get_num_threads(),
        "parameters": {"overlap": overlap},
        "versions": {"napari-hydraseg": __version__, "torch": torch.__version__},
        "fallbacks": list(dict.fromkeys([*volume.notes, *notes, *more])),
        "seconds": round(time.monotonic() - start, 3),
    }
    return {
        head: _on_scan(found[head], volume, checkpoint, head, made_by)
        for head in chosen
    }


def encode(
    volume: Volume,
    checkpoint: Checkpoint,
    *,
    head: str | None = None,
    device: str = "auto",
) -> Steps[dict[str, NDArray[np.float32]]]:
    """Summarise a scan by what the encoder sees, one row for each slice.

    Parameters
    ----------
    volume : Volume
        The scan.
    checkpoint : Checkpoint
        The model.
    head : str, optional
        Whose spacing is used; default: the first that would segment the scan.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.

    Yields
    ------
    Progress
        After each batch.

    Returns
    -------
    dict of str to ndarray of float32, shape (n_slices, features)
        Encoder depth ("1" the finest) -> mean and standard deviation of each feature
        map over the slice; "grey" -> quantiles of the grey values that the encoder
        gets, channel by channel. A volumetric model gives one row.
    """
    chosen, modality, _ = _choice.choose(
        volume, checkpoint, () if head is None else (head,)
    )
    where = _choice.device_of(device)
    net = networks.network(checkpoint).to(where)
    spec = checkpoint.spec
    conformed = grid.conform(volume, spec, modality=modality, head=chosen[0])
    rows: list[dict[str, Tensor]] = []
    grey = []
    total = len(conformed.data)
    with torch.inference_mode():
        for places, batch in _engine.batches(conformed.data, spec, where):
            padded = networks.padded(batch, net)
            rows.append(summarise(net.features(padded, chosen[0]), padded))
            grey.append(_quantiles(conformed.data[places.start : places.stop]))
            yield Progress(places[-1] + 1, total, "looking at the scan")
    found = {
        depth: torch.cat([row[depth] for row in rows]).cpu().numpy()
        for depth in rows[0]
    }
    return found | {GREY: np.concatenate(grey)}


def _quantiles(data: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey values of each slice or block, from dark to bright, (n, channel * 16)."""
    flat = data.reshape(*data.shape[:2], -1)
    rows = np.quantile(flat, QUANTILES, axis=2)  # (16, n, channel)
    return np.moveaxis(rows, 0, 2).reshape(len(data), -1).astype(np.float32)


def summarise(features: Iterable[Tensor], image: Tensor) -> dict[str, Tensor]:
    """Mean and standard deviation of each feature map: depth -> (n, 2 * channels)."""
    pooled = {}
    for depth, maps in enumerate(features):
        if maps is not image:  # the image itself is no feature
            flat = maps.flatten(2)
            pair = [flat.mean(2), flat.std(2, correction=0)]
            pooled[str(depth)] = torch.cat(pair, 1).float()
    return pooled


def _segment_on(
    volume: Volume,
    checkpoint: Checkpoint,
    heads: tuple[str, ...],
    modality: str,
    device: str,
    overlap: float,
    probabilities: bool,
) -> Steps[tuple[dict[str, _engine.Answer], list[str]]]:
    """Answers in slices of the acquisition plane, or one block."""
    spec = checkpoint.spec
    net = networks.network(checkpoint).to(device)
    if spec.slicewise:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    found: dict[str, _engine.Answer] = {}
    notes: list[str] = []
    groups = _by_spacing(spec, heads, modality)
    for number, group in enumerate(groups):
        data = grid.conform(volume, spec, modality=modality, head=group[0])
        notes += data.notes
        options: dict[str, Any] = {} if spec.slicewise else {"overlap": overlap}
        run = _engine.slicewise if spec.slicewise else _engine.windows
        steps = run(
            net,
            data,
            spec,
            heads=group,
            device=device,
            probabilities=probabilities,
            **options,
        )
        place = partial(_placed, number, len(groups), ", ".join(group))
        found |= yield from relay(steps, place)
        notes += _cut_notes(data.frame, {head: found[head][0] for head in group})
    return found, notes


def _cut_notes(frame: grid.Frame, labels: dict[str, NDArray[np.uint8]]) -> list[str]:
    """Say where a model that looks at the middle alone may have missed something."""
    notes: list[str] = []
    for head, mask in labels.items():
        if frame.cuts and not mask.any():
            notes.append(f"No {head} lies in that middle: is the scan off the centre?")
        elif frame.cuts and frame.reaches_edge(mask):
            notes.append(f"The {head} reaches the edge of that middle: it may be cut.")
    return notes


def _placed(number: int, count: int, note: str, progress: Progress) -> Progress:
    """Place the progress of one group of heads among those of all."""
    done = progress.done + number * progress.total
    return Progress(done, progress.total * count, note)


def _by_spacing(
    spec: ModelSpec, heads: Iterable[str], modality: str
) -> list[tuple[str, ...]]:
    """Group heads that can share one pass of the encoder."""
    groups: dict[str, list[str]] = {}
    for head in heads:
        rule = grid.spacing_rule(spec, modality=modality, head=head)
        key = json.dumps([rule, grid.channels_of(spec, head)])
        groups.setdefault(key, []).append(head)
    return [tuple(group) for group in groups.values()]


def _on_scan(
    found: _engine.Answer,
    volume: Volume,
    checkpoint: Checkpoint,
    head: str,
    made_by: dict[str, Any],
) -> Segmentation:
    """Put an answer on the scan's grid, under the ids that were painted."""
    spec, own = checkpoint.spec, checkpoint.card.get("heads", {}).get(head, {})
    labels = _back(found[0], volume, spec)
    if head in spec.largest:
        labels = keep_largest(labels)
    share = None
    if found[1] is not None:
        channels = np.moveaxis(found[1], 1, 0)  # (class, n, ...)
        share = np.stack([_back(channel, volume, spec) for channel in channels])
    names = dict(enumerate(spec.heads[head]))
    names.pop(0)
    if own.get("ids"):
        ids = [0, *(int(own["ids"][name]) for name in names.values())]
        labels = np.array(ids, np.uint16 if max(ids) > 255 else np.uint8)[labels]
        names = dict(zip(ids[1:], names.values(), strict=True))
    return Segmentation(
        labels=np.ascontiguousarray(labels),
        affine=volume.affine,
        names=names,
        plane=volume.plane,
        probabilities=share,
        grid=volume.grid,
        made_by={**made_by, "head": head},
    )


def _back(array: NDArray[Any], volume: Volume, spec: ModelSpec) -> NDArray[Any]:
    return grid.from_slices(array, volume.plane) if spec.slicewise else array[0]
