"""What both shift reports, of a scan and of cohorts, say alike."""

from __future__ import annotations

from collections.abc import Iterable

from .types import Verdict

GREY = "grey"  # quantiles of a slice as the encoder gets it: a level above its depths
DIFFERENT, BORDERLINE = 0.05, 0.15  # largest p of each verdict


def verdict_of(p: float, *, p_floor: float = 0.0) -> Verdict:
    """Turn a p-value into a verdict.

    Parameters
    ----------
    p : float
        0 to 1.
    p_floor : float
        The smallest p that was possible. Where it is above .05 nothing could be called
        different, so nothing may be called similar either.

    Returns
    -------
    {"different", "borderline", "similar", "cannot-judge"}
        p <= .05, p <= .15, above, or `p_floor` above .05.
    """
    if p_floor > DIFFERENT:
        return "cannot-judge"
    if p <= DIFFERENT:
        return "different"
    return "borderline" if p <= BORDERLINE else "similar"


def level_name(level: str) -> str:
    """Name an encoder depth, or the grey values, in a sentence."""
    return "grey values" if level == GREY else f"depth {level}"


def flat_notes(levels: Iterable[str]) -> list[str]:
    """Name the levels that show nothing, as all scans look alike there."""
    return [
        f"At {level_name(level)} all scans are the same: nothing can be seen there."
        for level in levels
    ]
