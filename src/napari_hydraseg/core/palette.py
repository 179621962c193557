"""Colours for labels: the same name looks the same in the viewer and in a file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

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


def colours_for(
    names: Mapping[int, str], given: Mapping[int, str] | None = None
) -> dict[int, str]:
    """Choose a colour for each label.

    Parameters
    ----------
    names : mapping of int to str
        The first name decides where in the palette it starts, so that masks of
        different organs differ, and the same mask looks the same everywhere.
    given : mapping of int to str, optional
        Colours that are settled, such as those of a file.

    Returns
    -------
    dict of int to str
        ``#RRGGBB`` for each id of `names`.

    Examples
    --------
    >>> colours_for({1: "cord", 2: "lesion"}, {2: "#FF0000"})[2]
    '#FF0000'
    """
    start = zlib.crc32(next(iter(names.values()), "").encode()) % len(PALETTE)
    chosen = {
        label: PALETTE[(start + place) % len(PALETTE)]
        for place, label in enumerate(names)
    }
    return chosen | {i: c for i, c in (given or {}).items() if i in chosen}
