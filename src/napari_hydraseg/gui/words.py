"""Results in plain words: what was found, how sure it is, and what it does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from napari_hydraseg.core.types import FinetuneResult, Segmentation, ShiftReport

HONEST = "Looking alike does not prove that a mask is right: check every slice."
COLOURS = {
    "similar": "#009E73",
    "borderline": "#B8860B",
    "different": "#D55E00",
    "cannot-judge": "#777777",
}
_SAYS = {
    "similar": "✓ This scan looks like the model's training scans.",
    "borderline": "? This scan lies at the edge of the model's training scans.",
    "different": "✗ This scan differs from the model's training scans.",
    "cannot-judge": "? There are too few training scans to judge this by.",
}


def how_made(found: Mapping[str, Segmentation]) -> str:
    """Tell time and processor of each head, then the fall-backs that were taken."""
    heads: dict[str, list[str]] = {}
    notes: dict[str, None] = {}
    for head, segmentation in found.items():
        made_by = segmentation.made_by
        where = f" on {made_by['device']}" if made_by.get("device") else ""
        seconds = made_by.get("seconds")
        took = f"{float(seconds):.1f} s{where}" if seconds is not None else where
        heads.setdefault(took.strip(), []).append(head)
        notes.update(dict.fromkeys(str(note) for note in made_by.get("fallbacks", ())))
    lines = [
        f"{', '.join(names)}: {took}" if took else ", ".join(names)
        for took, names in heads.items()
    ]
    return "\n".join([*lines, *notes])


def story(result: FinetuneResult) -> str:
    """Tell before, after and what was frozen, in plain words."""
    lines = [_change(result.before, result.after)]
    n, kind = int(result.after.get("n", 0)), result.hold_out.get("kind", "none")
    if kind == "none" or not n:
        lines.append("No slice was kept aside, so nothing says if it got better.")
    else:
        small = " Few slices: take it as a hint." if n < 5 else ""
        low, high = (result.after.get(k, math.nan) for k in ("low", "high"))
        band = f", 95 % interval {low:.2f} to {high:.2f}" if low == low else ""
        plural = "slice" if n == 1 else "slices"
        lines.append(f"Dice on {n} {plural} kept aside{band}.{small}")
    passes = "1 pass" if result.epochs == 1 else f"{result.epochs} passes"
    lines.append(f"{passes}. {result.reason}".strip())
    before = str(result.frozen.get("sha256_before", ""))
    if before:
        same = before == result.frozen.get("sha256_after")
        state = "identical before and after" if same else "CHANGED"
        lines.append(
            f"Encoder: {result.frozen.get('tensors')} frozen tensors, {state} "
            f"(sha256 {before[:12]}…)."
        )
    return "\n".join([*lines, *result.warnings])


def score(found: Mapping[str, float], digits: int = 2) -> str:
    """Write a Dice in two digits, or a dash."""
    dice = found.get("dice", math.nan)
    return f"{dice:.{digits}f}" if math.isfinite(dice) else "—"


def _change(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Write two Dice in as many digits as tell them apart."""
    pairs = [(score(before, n), score(after, n)) for n in (2, 3, 4)]
    one, other = next((p for p in pairs if p[0] != p[1]), pairs[0])
    return f"{one} → {other}"


def verdict_text(report: ShiftReport) -> str:
    """Tell the verdict with its numbers and its limits, in plain words."""
    lines = [_SAYS[report.verdict]]
    if math.isfinite(report.p):
        lines.append(
            f"{report.percentile:.0f} % of the {report.n_reference} training scans lie "
            f"closer to the rest than this one (p = {report.p:.2g}; the smallest "
            f"possible here is {report.p_floor:.2g})."
        )
    else:
        lines.append(f"{report.n_reference} training scans; 19 are needed.")
    honest = "" if "not prove" in str(report.advice.get("text")) else HONEST
    return "\n".join(filter(None, [*lines, honest]))


def number(value: Any, digits: int = 3) -> str:
    """Write a number for a table; a dash where there is none."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, Mapping) or not math.isfinite(float(value)):
        return "—"
    return f"{float(value):.{digits}g}" if digits else f"{float(value):.0f}"
