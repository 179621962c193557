"""What to do about a shift: where to start fine-tuning, and how deep to freeze."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from .types import Verdict

INSIDE = 95.0  # percentile up to which a depth counts as like the reference
DEFAULT = (
    "correct 3 to 5 slices and fine-tune as by default: the whole encoder frozen, a "
    "new head started from the one that fits the painted slices best."
)
NEAREST = (
    "correct 3 to 5 slices and fine-tune with the whole encoder frozen; let a new head "
    "start from {head}, whose training scans are nearest."
)
NO_PROOF = "Likeness does not prove that a mask is right: look at it."


def advise(
    verdict: Verdict,
    *,
    head: str,
    percentiles: Sequence[float],
    nearest: bool = False,
) -> dict[str, Any]:
    """Turn the depth profile into a start for fine-tuning.

    Parameters
    ----------
    verdict : {"different", "borderline", "similar", "cannot-judge"}
        The report's answer.
    head : str
        The head whose training scans the scan was compared with.
    percentiles : sequence of float
        Per encoder depth, finest first: share of the reference that lies closer; nan
        where all scans look alike, which speaks for no depth.
    nearest : bool
        Whether it is the nearest of the heads that the model recommends.

    Returns
    -------
    dict
        What is advised: ``init``, the head that goes on learning, ``donor``, where a
        new head starts ("auto": from the one that fits the painted slices best), and
        ``depth``, how many encoder levels to freeze, counted from the finest, None for
        all of them; ``text``: the same in words; ``by_profile``: the depth that the
        profile speaks for, None for all.

    Notes
    -----
    A frozen level is right as long as what it computes for the new scan looks as it
    does for the training scans. The deepest such level would bound the frozen part; if
    it is the last one, shallow differences have been absorbed on the way; if there is
    none, no depth stands out. Advised is what ``experiments/advice.py`` has shown to be
    at least as good as the default of fine-tuning on scans that differ: a new head
    starts from the nearest one. Another depth was not shown to be, so that the whole
    encoder stays frozen.
    """
    told = [i for i, value in enumerate(percentiles) if not isnan(value)]
    alike = [i for i in told if percentiles[i] <= INSIDE]
    levels = max(told, default=-1) + 1
    frozen = max(alike) + 1 if alike else levels
    near = nearest and verdict in ("different", "borderline")
    advice: dict[str, Any] = {
        "init": head,
        "donor": head if near else "auto",
        "depth": None,
        "by_profile": None if frozen == levels or verdict == "similar" else frozen,
    }
    if verdict == "cannot-judge" or levels == 0:
        text = "There are too few reference scans to say anything. To adapt the model,"
        return advice | {"by_profile": None, "text": f"{text} {DEFAULT} {NO_PROOF}"}
    if verdict == "similar":
        opening = "Nothing in particular to do. If the mask needs correction,"
    else:
        opening = "Check the mask slice by slice. If it needs correction,"
    how = NEAREST.format(head=head) if near else DEFAULT
    return advice | {"text": f"{opening} {how} {NO_PROOF}"}
