"""Colours for labels: steady from scan to scan, and for the colour-blind too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from napari_hydraseg.core.palette import PALETTE, colours_for

__all__ = ["PALETTE", "colours", "colours_of"]

_UNNAMED = "#FFFFFF"  # an id without a name must still be seen


def colours(
    names: Mapping[int, str], given: Mapping[int, str] | None = None
) -> DirectLabelColormap:
    """Colours for labels: the same names always get the same colours.

    Parameters
    ----------
    names : mapping of int to str
        The first name decides where in the palette the layer starts, so that layers
        of different organs differ.
    given : mapping of int to str, optional
        Colours that are settled, ``#RRGGBB`` by label id.
    """
    # ids without a name yet, that somebody may paint, get the colours that come next
    ids = {**names, **{i: "" for i in range(1, len(PALETTE)) if i not in names}}
    chosen: dict[int | None, str] = {None: _UNNAMED, 0: "transparent"}
    for label, colour in colours_for(ids, given).items():
        chosen[label] = colour
    return DirectLabelColormap(color_dict=chosen, background_value=0)


def colours_of(layer: Any, names: Mapping[int, str]) -> dict[int, str]:
    """Read the colours of named labels from a layer.

    Parameters
    ----------
    layer : napari.layers.Labels
        Of any origin.
    names : mapping of int to str
        The labels that are asked for.

    Returns
    -------
    dict of int to str
        ``#RRGGBB`` by label id, where the layer has a colour for each id; napari's own
        colours repeat and are nobody's choice.
    """
    settled = getattr(layer.colormap, "color_dict", {})
    found = {}
    for label in names:
        if label in settled:
            red, green, blue = np.rint(255 * np.asarray(settled[label])[:3]).astype(int)
            found[label] = f"#{red:02X}{green:02X}{blue:02X}"
    return found


def napari_colour(rgba: Any) -> str:
    """Write a colour of napari (four numbers from 0 to 1) as Qt wants it."""
    red, green, blue = (round(255 * float(part)) for part in rgba[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"
