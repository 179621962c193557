"""Colours for labels: steady from scan to scan, and for the colour-blind too."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from napari.utils.colormaps import DirectLabelColormap

# Okabe and Ito (2008) without black, ordered so that neighbours differ in lightness
# too, then two of Paul Tol's "muted" colours: the colour-blind can tell them apart
PALETTE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#CC79A7",
    "#0072B2",
    "#D55E00",
    "#DDCC77",
    "#44AA99",
)
_UNNAMED = "#FFFFFF"  # an id without a name must still be seen


def colours(names: Mapping[int, str]) -> DirectLabelColormap:
    """Colours for labels: the same names always get the same colours.

    Parameters
    ----------
    names : mapping of int to str
        The first name decides where in the palette the layer starts, so that layers
        of different organs differ.
    """
    start = zlib.crc32(next(iter(names.values()), "").encode()) % len(PALETTE)
    chosen: dict[int | None, str] = {None: _UNNAMED, 0: "transparent"}
    # ids without a name yet, that somebody may paint, get the colours that come next
    ids = [*names, *(i for i in range(1, len(PALETTE)) if i not in names)]
    for place, label in enumerate(ids):
        chosen[label] = PALETTE[(start + place) % len(PALETTE)]
    return DirectLabelColormap(color_dict=chosen, background_value=0)
