"""What a segmentation found, made ready to be shown in the thread that found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from napari_hydraseg.core.types import Progress, Segmentation, Steps

from . import layers
from .libraries import load_pandas

Found: TypeAlias = tuple[Segmentation, layers.LayerData]
"""What was found for a head, and the layer that shows it."""


def layer_steps(
    steps: Steps[dict[str, Segmentation]], geometry: Mapping[str, Any]
) -> Steps[dict[str, Found]]:
    """Copy and count what a verb finds in its own thread: a large scan takes a while.

    Parameters
    ----------
    steps : Steps
        What `core.segment` returned.
    geometry : mapping
        Of the scan's layer.
    """
    load_pandas()
    results = {}
    for head, segmentation in (yield from steps).items():
        yield Progress(1, 1, "counting")
        results[head] = (
            segmentation,
            layers.labels_layer(
                replace(segmentation, probabilities=None),
                name=head,
                geometry=geometry or None,
            ),
        )
    return results
