"""Slices that a program changed and for which nobody vouches yet.

A slice stays a proposal as long as it looks as the program left it: whoever paints on
it, or marks it as done, vouches for it; whoever takes it back with undo has it gone.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray


def propose(
    labels: Any, axis: int, found: NDArray[Any], slices: Collection[int]
) -> None:
    """Remember what a program left in some slices.

    Parameters
    ----------
    labels : napari.layers.Labels
        The layer; its metadata keep the proposals.
    axis : int
        Voxel axis along which slices are counted.
    found : ndarray, shape (z, y, x)
        All labels as the program left them.
    slices : collection of int
        Which of them nobody vouches for.
    """
    kept = _kept(labels)
    for at in slices:
        # earlier ones stay: undo may bring them back
        earlier = kept.get((axis, at), ())
        kept[axis, at] = (*earlier, found.take(at, axis).copy())
    labels.metadata.setdefault("hydraseg", {})["proposed"] = kept


def standing(labels: Any, axis: int) -> list[int]:
    """List the slices that still look as a program left them, and are not done.

    Parameters
    ----------
    labels : napari.layers.Labels
        The layer.
    axis : int
        Voxel axis along which slices are counted.
    """
    data = np.asarray(labels.data)
    data = data if data.ndim == 3 else data[None]
    done = labels.metadata.get("hydraseg", {}).get("done", ())
    return sorted(
        at
        for (along, at), left in _kept(labels).items()
        if along == axis and at not in done and at < data.shape[axis]
        if any(np.array_equal(data.take(at, axis), one) for one in left)
    )


def accept(labels: Any, axis: int) -> list[int]:
    """Vouch for all proposals that stand; returns their slices."""
    found = standing(labels, axis)
    ours = labels.metadata.setdefault("hydraseg", {})
    ours["done"] = {*ours.get("done", ()), *found}
    ours["aside"] = set(ours.get("aside", ())).difference(found)
    return found


def start_of(labels: Any) -> NDArray[Any] | None:
    """Give what a layer started with, if a model made it or it is a copy; else None.

    Parameters
    ----------
    labels : napari.layers.Labels
        The layer.
    """
    ours = labels.metadata.get("hydraseg", {})
    noun = ours.get("segmentation")
    if noun is None or not ("model" in noun.made_by or ours.get("copied")):
        return None
    start: NDArray[Any] = noun.labels
    return start


def carry(source: Any, copy: Any) -> None:
    """Let a copy of a layer keep what nobody vouches for in the original."""
    copy.metadata.setdefault("hydraseg", {})["proposed"] = _kept(source)


def _kept(labels: Any) -> dict[tuple[int, int], tuple[NDArray[Any], ...]]:
    """Look up what programs left, by axis and slice."""
    return dict(labels.metadata.get("hydraseg", {}).get("proposed", {}))
