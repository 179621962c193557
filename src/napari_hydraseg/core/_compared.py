"""A transfer comparison in words, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from .types import Report, TransferReport

COLOURS = 7  # series that a figure can tell apart
PAIRED = (
    "Gain: the difference over the other arm's Dice. Error gone: the difference over "
    "its 1 - Dice. Intervals are 95 % bootstrap intervals over test scans, each the "
    "mean of its repeats; p: two-sided Wilcoxon signed-rank test over the same, not "
    "given below 6 test scans."
)
EQUAL = (
    "All arms learn from the same slices with the same budget. Arms that train the "
    "encoder chose their learning rate by slices kept aside from the drawn ones, each "
    "rate tried for the share of the budget that stands below, in time that is not "
    "counted; they are then taught from all."
)


def transfer_report(result: TransferReport) -> Report:
    """Put a comparison into words, tables and figures."""
    return Report(
        title=f"Does transfer help? {result.head}",
        verdict=_verdict(result),
        rows=(*map(_arm_row, result.arms), *map(_pair_row, result.comparisons)),
        figures=tuple(_figures(result)),
        basis=dict(result.basis),
        notes=(*result.notes, EQUAL, PAIRED),
    )


def headline(result: TransferReport) -> Mapping[str, Any] | None:
    """The comparison that the verdict is about.

    The first arm that keeps the pretrained encoder, else the first pretrained one,
    against scratch, at the fewest slices.
    """
    found = [row for row in result.comparisons if row["against"].startswith("scratch")]
    ours = [row for row in found if not row["arm"].startswith("imagenet")]
    return min(
        ours or found,
        key=lambda row: (row["slices"] or 0, not row["arm"].startswith("frozen")),
        default=None,
    )


def _verdict(result: TransferReport) -> str:
    best = headline(result)
    if best is None:
        return "No arm was compared with a start from scratch."
    ours, theirs = (
        next(
            row["dice"]["mean"]
            for row in result.arms
            if (row["slices"], row["arm"]) == (best["slices"], best[side])
        )
        for side in ("arm", "against")
    )
    said = f"Learned from {_slices(best['slices'])}: {best['arm']} reaches Dice "
    said += f"{ours:.3f}, {best['against']} {theirs:.3f}"
    more = []
    if math.isfinite(best["gain_percent"]):  # over a Dice of 0 there is none
        more.append(f"{best['gain_percent']:+.0f} %")
    if best["difference"] > 0:
        more.append(f"{best['error_gone_percent']:.0f} % of the error gone")
    return f"{said} ({'; '.join(filter(None, [', '.join(more), _sure(best)]))})."


def _sure(row: Mapping[str, Any]) -> str:
    if row["p_value"] is None:
        return f"{row['n']} test scans, too few for a p"
    return f"p = {row['p_value']:.2g}, {row['n']} test scans"


def _slices(count: int | None) -> str:
    if count is None:
        return "all annotated slices"
    return f"{count} annotated slice{'s' * (count > 1)}"


def _arm_row(row: Mapping[str, Any]) -> dict[str, Any]:
    dice = row["dice"]
    return {
        "slices": row["slices"] or "all",
        "arm": row["arm"],
        "Dice": dice["mean"],
        "low": dice["low"],
        "high": dice["high"],
        "sd over repeats": dice["sd"],
        "each repeat": dice["values"],
        "updates": round(row["updates"]),
        "seconds": row["seconds"],
        "learning rates": sorted(set(row["rates"])),
    }


def _pair_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "slices": row["slices"] or "all",
        "arm": row["arm"],
        "against": row["against"],
        "difference": row["difference"],
        "low": row["low"],
        "high": row["high"],
        "gain %": row["gain_percent"],
        "error gone %": row["error_gone_percent"],
        "p": row["p_value"],
        "test scans": row["n"],
    }


def _figures(result: TransferReport) -> Iterable[Mapping[str, Any]]:
    counts = list(dict.fromkeys(row["slices"] for row in result.arms))
    for count in counts:
        rows = [row for row in result.arms if row["slices"] == count]
        yield {
            "kind": "bar",
            "title": f"Dice on the test scans, {_slices(count)}",
            "names": [row["arm"].replace("+", "\n+") for row in rows],
            "values": [row["dice"]["mean"] for row in rows],
            "low": [row["dice"]["low"] for row in rows],
            "high": [row["dice"]["high"] for row in rows],
            "y_label": "Dice",
            "y_range": (0, 1),
        }
    arms = list(dict.fromkeys(row["arm"] for row in result.arms))[:COLOURS]
    if len(counts) > 1:
        yield {
            "kind": "line",
            "title": "Dice by annotated slices",
            "x_label": "annotated slices",
            "y_label": "Dice",
            "y_range": (0, 1.02),
            "series": [_by_slices(result, arm) for arm in arms],
        }
    yield {
        "kind": "scatter",
        "title": f"Dice by test scan, {_slices(counts[0])}, mean of the repeats",
        "x_label": "test scan",
        "y_label": "Dice",
        "y_range": (0, 1.02),
        "series": [_by_scan(result, counts[0], arm) for arm in arms],
    }


def _by_slices(result: TransferReport, arm: str) -> dict[str, Any]:
    rows = [row for row in result.arms if row["arm"] == arm]
    return {
        "name": arm,
        "x": [row["slices"] for row in rows],
        "y": [row["dice"]["mean"] for row in rows],
    }


def _by_scan(result: TransferReport, count: int | None, arm: str) -> dict[str, Any]:
    runs = [
        run["dice"]
        for run in result.runs
        if (run["slices"], run["arm"]) == (count, arm)
    ]
    means = [sum(of) / len(of) for of in zip(*runs, strict=True)]
    shown = [(i, mean) for i, mean in enumerate(means, 1) if not math.isnan(mean)]
    return {
        "name": arm,
        "x": [number for number, _ in shown],
        "y": [mean for _, mean in shown],
    }
