"""Several comparisons as one: each scan once, with means and their intervals."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core.types import Segmentation

from .words import number


class Cases:
    """The rows of each scan that was compared.

    A scan is known by its reference: who compares a second candidate with the same
    reference replaces the first, since two tries on one scan are not two scans.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, reference: Segmentation, found: list[dict[str, Any]]) -> None:
        """Add a scan, or replace what was found for it.

        Parameters
        ----------
        reference : Segmentation
            What it was compared with.
        found : list of dict
            As of `core.evaluate`.
        """
        digest = zlib.crc32(np.ascontiguousarray(reference.labels > 0).tobytes())
        key = f"{digest}{reference.labels.shape}{reference.affine.tobytes().hex()}"
        self._found[key] = found

    def clear(self) -> None:
        """Forget all scans."""
        self._found.clear()

    def rows(self) -> list[dict[str, Any]]:
        """Give the rows of all scans, each with its number as "case"."""
        return [
            {"case": str(case), **row}
            for case, found in enumerate(self._found.values(), 1)
            for row in found
        ]

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Give structure, mean Dice, its 95 % bootstrap interval, number of scans."""
        found = core.summarise(self.rows())
        return [
            (name, number(dice["mean"]), _interval(dice["ci95"]), str(dice["n"]))
            for name, dice in ((name, of["dice"]) for name, of in found.items())
        ]


def _interval(ends: list[float]) -> str:
    low, high = (number(end) for end in ends)
    return "—" if "—" in (low, high) else f"{low} to {high}"
