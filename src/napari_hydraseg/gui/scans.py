"""Scans for a job: snapshots in the main thread, lazy voxels read in the worker's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_hydraseg.core.types import Progress, Steps, Volume

from . import nouns

_KEPT = ("name", "ndim", "scale", "translate", "units", "rgb", "metadata")
_BYTES = 16_000_000  # at once where the data have no blocks: about 50 ms from a disk


def is_lazy(layer: Any) -> bool:
    """Whether the voxels of a layer are yet to be read, as of dask and zarr."""
    return not isinstance(_finest(layer), np.ndarray)


def volume_steps(layer: Any) -> Steps[Volume]:
    """Take a snapshot of a scan now; read voxels that are not in memory later.

    Parameters
    ----------
    layer : napari.layers.Image
        The scan; it is not touched any more once this has returned.

    Returns
    -------
    Steps of Volume
        To be stepped in the worker's thread, block by block.

    Raises
    ------
    WrongInput
        If the layer is neither a grey picture nor a grey volume.
    """
    seen = nouns.volume_of(layer, voxels=False)
    if not is_lazy(layer):
        return _at_hand(seen)
    still = SimpleNamespace(**{key: getattr(layer, key) for key in _KEPT})
    still.metadata, still.multiscale = dict(layer.metadata), False
    return _read(still, _finest(layer))


def _finest(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _at_hand(volume: Volume) -> Steps[Volume]:
    yield from ()
    return volume


def _read(still: SimpleNamespace, data: Any) -> Steps[Volume]:
    """Read block by block, so that Cancel is heard in between."""
    whole = np.empty(data.shape, data.dtype)
    for start, end in _blocks(data):
        yield Progress(start, len(whole), "reading the scan")
        whole[start:end] = np.asarray(data[start:end])
    still.data = whole
    return nouns.volume_of(still)


def _blocks(data: Any) -> list[tuple[int, int]]:
    """First and last of the slices to read at once: whole blocks of the file."""
    each = max(1, data.nbytes // max(1, len(data)))
    size = max(1, _BYTES // each)
    chunks = getattr(data, "chunks", None)
    if chunks:  # of dask a size for each block, of zarr one for all
        first = chunks[0]
        size = int(max(first) if isinstance(first, tuple) else first)
    return [(at, min(at + size, len(data))) for at in range(0, len(data), size)]
