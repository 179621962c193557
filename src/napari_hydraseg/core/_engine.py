"""How a network runs over a scan: batches of slices, or a window that slides."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from . import grid
from .errors import WrongInput
from .networks import MultiHead
from .training import neighbours
from .types import ModelSpec, Progress, Steps

Answer: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.float32] | None]
"""Labels, and the softmax output where it is wanted."""

# pixels of a batch: larger ones gain nothing on a CPU and delay a cancel
BATCH_PIXELS = {"cpu": 2 * 256**2, "cuda": 32 * 256**2}


def batches(
    data: NDArray[np.float32], spec: ModelSpec, device: str
) -> Iterator[tuple[range, Tensor]]:
    """Cut slices (or whole blocks) into batches on a device.

    Yields
    ------
    places : range
        Which slices.
    batch : Tensor, shape (n, channel * slices, h, w) or (1, channel, z, y, x)
    """
    slices = int(spec.options.get("slices", 1))
    pixels = int(np.prod(data.shape[2:]))
    size = max(1, BATCH_PIXELS.get(device, BATCH_PIXELS["cpu"]) // pixels)
    for first in range(0, len(data), size):
        places = range(first, min(first + size, len(data)))
        if spec.slicewise:
            stacked = np.stack([neighbours(data, i, slices) for i in places])
            batch = torch.from_numpy(stacked).to(
                device, memory_format=torch.channels_last
            )
        else:
            batch = torch.from_numpy(data[list(places)]).to(device)
        yield places, batch


def slicewise(
    net: MultiHead,
    data: grid.Conformed,
    spec: ModelSpec,
    *,
    heads: tuple[str, ...],
    device: str,
    probabilities: bool,
) -> Steps[dict[str, Answer]]:
    """Segment whole slices, batch by batch: labels of shape (slice, row, column)."""
    parts: dict[str, list[Answer]] = {head: [] for head in heads}
    for places, batch in batches(data.data, spec, device):
        with torch.inference_mode():
            for head, logits in _seen(net, batch, heads, spec).items():
                part = answer(
                    logits, data.frame, spec, head=head, probabilities=probabilities
                )
                parts[head].append(part)
        yield Progress(places[-1] + 1, len(data.data), "segmenting")
    return {head: _joined(answers) for head, answers in parts.items()}


def windows(
    net: MultiHead,
    data: grid.Conformed,
    spec: ModelSpec,
    *,
    heads: tuple[str, ...],
    device: str,
    overlap: float,
    probabilities: bool,
) -> Steps[dict[str, Answer]]:
    """Segment blocks with Gaussian weights, largest in their middle: (1, z, y, x).

    F. Isensee et al., "nnU-Net", Nature Methods 2021, :doi:`10.1038/s41592-020-01008-z`
    """
    block = torch.from_numpy(data.data)  # (1, c, z, y, x)
    shape = block.shape[2:]
    tile = tuple(min(n, p) for n, p in zip(shape, spec.patch, strict=True))
    weight = _gaussian(tile)
    sums = {head: torch.zeros(len(spec.heads[head]), *shape) for head in heads}
    total = torch.zeros(shape)
    places = list(product(*map(_starts, shape, tile, [overlap] * 3)))
    for done, corner in enumerate(places, 1):
        z, y, x = (slice(c, c + t) for c, t in zip(corner, tile, strict=True))
        with torch.inference_mode():
            answers = _seen(net, block[..., z, y, x].to(device), heads, spec)
        for head, logits in answers.items():
            sums[head][..., z, y, x] += logits[0].float().cpu() * weight
        total[z, y, x] += weight
        yield Progress(done, len(places), "segmenting")
    return {
        head: answer(
            (logits / total)[None],
            data.frame,
            spec,
            head=head,
            probabilities=probabilities,
        )
        for head, logits in sums.items()
    }


def _seen(
    net: MultiHead, batch: Tensor, heads: tuple[str, ...], spec: ModelSpec
) -> dict[str, Tensor]:
    """Logits of each head; those of `ModelSpec.mirror` look twice."""
    found: dict[str, Tensor] = net(batch, heads)
    twice = tuple(head for head in heads if head in spec.mirror)
    if twice:
        mirrored = net(batch.flip(-1), twice)
        found |= {head: (found[head] + mirrored[head].flip(-1)) / 2 for head in twice}
    return found


def _gaussian(tile: tuple[int, ...]) -> Tensor:
    weight = torch.ones(1)
    for size in tile:
        offset = (torch.arange(size) - (size - 1) / 2) / (size / 8)
        weight = weight[..., None] * torch.exp(-(offset**2) / 2)
    return weight[0].clamp_min(1e-4)  # corners must not vanish: they may stand alone


def _starts(size: int, tile: int, overlap: float) -> list[int]:
    """Evenly spread first voxels of the tiles along one axis."""
    step = max(1, int(tile * (1 - overlap)))
    count = max(1, int(np.ceil((size - tile) / step)) + 1)
    return [int(i) for i in np.linspace(0, size - tile, count).round()]


def answer(
    logits: Tensor,
    frame: grid.Frame,
    spec: ModelSpec,
    *,
    head: str,
    probabilities: bool = False,
) -> Answer:
    """Decide for a class at a scan's own size.

    Parameters
    ----------
    logits : Tensor, shape (n, class, *size)
        At the model's size.
    frame : Frame
        From the scan's own slices to what the model saw.
    spec : ModelSpec
        Its threshold, if any, holds for heads of two classes.
    head : str
        Whose answer it is.
    probabilities : bool
        Whether the softmax output is wanted too.

    Returns
    -------
    labels : ndarray of uint8, shape (n, *native)
    share : ndarray of float32, shape (n, class, *native), or None
    """
    if logits.ndim == 2:
        raise WrongInput(
            "This head says one thing about a whole image; it makes no mask.",
            "Choose another head.",
        )
    threshold = _threshold(spec, head) if logits.shape[1] == 2 else None
    if not frame.plain:
        return _answer_in_frame(logits, frame, threshold, probabilities=probabilities)
    native = frame.native
    if logits.shape[2:] != native:
        mode = "bilinear" if len(native) == 2 else "trilinear"
        logits = F.interpolate(logits, size=native, mode=mode, align_corners=False)
    if threshold is not None:
        labels = logits.softmax(1)[:, 1] > threshold
    else:
        labels = logits.argmax(1)
    share = logits.softmax(1).float().cpu().numpy() if probabilities else None
    return labels.cpu().numpy().astype(np.uint8), share


def _threshold(spec: ModelSpec, head: str) -> float | None:
    """Return the probability from which on a head of two classes says yes."""
    said = spec.threshold
    return said.get(head) if isinstance(said, Mapping) else said


def _answer_in_frame(
    logits: Tensor,
    frame: grid.Frame,
    threshold: float | None,
    *,
    probabilities: bool,
) -> Answer:
    """Decide as `answer`, but before the way back where a threshold decides."""
    share = logits.softmax(1).float().cpu().numpy()
    outside = [1.0] + [0.0] * (share.shape[1] - 1)  # around what was cut out: nothing
    labels: NDArray[Any] | None = None
    if threshold is not None:
        above = (share[:, 1:] > threshold).astype(np.float32)
        labels = frame.leave(above, outside[1:])[:, 0] > 0.5
    if probabilities or labels is None:
        share = frame.leave(share, outside)
    if labels is None:
        labels = share.argmax(1)
    return labels.astype(np.uint8), share if probabilities else None


def _joined(parts: Sequence[Answer]) -> Answer:
    shares = [share for _, share in parts if share is not None]
    labels = np.concatenate([labels for labels, _ in parts])
    return labels, np.concatenate(shares) if shares else None
