"""What to do about a shift: where to start fine-tuning, and how deep to freeze."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .types import Verdict

INSIDE = 95.0  # percentile up to which a depth counts as like the reference
NO_PROOF = "Likeness does not prove that a mask is right: look at it."


def advise(
    verdict: Verdict, *, head: str, percentiles: Sequence[float]
) -> dict[str, Any]:
    """Turn the depth profile into a start for fine-tuning.

    Parameters
    ----------
    verdict : {"different", "borderline", "similar", "cannot-judge"}
        The report's answer.
    head : str
        The head whose training scans are nearest.
    percentiles : sequence of float
        Per encoder depth, finest first: share of the reference that lies closer.

    Returns
    -------
    dict
        ``init``: the head to start from; ``depth``: how many encoder levels to freeze,
        counted from the finest, None for all of them; ``text``: the same in words.

    Notes
    -----
    A frozen level is right as long as what it computes for the new scan looks as it
    does for the training scans. The deepest such level bounds the frozen part; if it is
    the last one, shallow differences have been absorbed on the way. If there is none,
    no depth stands out, and the default stays: all frozen. A rule of thumb.
    """
    levels = len(percentiles)
    alike = [i for i, value in enumerate(percentiles) if value <= INSIDE]
    frozen = max(alike) + 1 if alike else levels
    if verdict == "cannot-judge" or levels == 0:
        text = (
            f"There are too few reference scans to say anything. To adapt the model, "
            f"start from the head {head} with the whole encoder frozen, which is the "
            f"default. {NO_PROOF}"
        )
        return {"init": head, "depth": None, "text": text}
    depth = None if frozen == levels or verdict == "similar" else frozen
    if depth is None:
        freeze = "keep the whole encoder frozen"
        if not alike:
            freeze += " (the default: no level of it speaks for another depth)"
    else:
        freeze = f"freeze the first {depth} of {levels} encoder levels"
    if verdict == "similar":
        opening = "Nothing in particular to do. If the mask needs correction,"
    else:
        opening = (
            "Check the mask slice by slice. Correct 3 to 5 slices, then fine-tune:"
        )
    text = f"{opening} start from the head {head} and {freeze}. {NO_PROOF}"
    return {"init": head, "depth": depth, "text": text}
