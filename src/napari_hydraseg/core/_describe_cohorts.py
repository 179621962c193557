"""A comparison of cohorts in words, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .types import CohortReport, Report

COLOURS = 7  # series that a figure can tell apart
LIMIT = (
    "A shift says that a model sees the cohorts differently. It does not say that a "
    "mask of one of them is wrong, and no shift does not say that masks are right."
)
PICTURES = (
    "In the pictures each point is a scan. PCA keeps distances; of t-SNE only who lies "
    "beside whom counts, not the gaps."
)
_SAYS = {
    "different": "differ",
    "borderline": "lie at the edge",
    "similar": "look alike",
    "cannot-judge": "have too few scans to judge",
}


def cohort_report(result: CohortReport) -> Report:
    """Put a comparison of cohorts into words, tables and figures."""
    shown = [dict(row) for row in result.pairs]
    return Report(
        title="Domain shift between cohorts",
        verdict=" ".join(map(_said, result.pairs)),
        rows=(
            *map(dict, result.cohorts),
            *shown,
            *map(dict, result.by_depth),
            *map(dict, result.causes),
        ),
        figures=tuple(_figures(result)),
        basis=dict(result.basis),
        notes=(*result.notes, PICTURES, LIMIT),
    )


def _said(row: Mapping[str, Any]) -> str:
    text = (
        f"{row['a']} and {row['b']} {_SAYS[row['verdict']]} (MMD^2 {_amount(row)}, "
        f"p = {row['p_corrected']:.3g}, smallest possible {row['p_floor']:.2g})."
    )
    if "p_after" in row:
        text += f" After: MMD^2 {row['mmd2_after']:.3g}, p = {row['p_after']:.3g}."
    return text


def _amount(row: Mapping[str, Any]) -> str:
    # The unbiased estimate may fall below 0, which no distance does.
    return f"{row['mmd2']:.3g}" if row["mmd2"] > 0 else "at most 0: no evidence"


def _figures(result: CohortReport) -> Iterable[Mapping[str, Any]]:
    names = [row["cohort"] for row in result.cohorts]
    if len(names) > 2:
        yield {
            "kind": "matrix",
            "title": "MMD^2 of every two cohorts, mean over depths",
            "names": names,
            "values": [[_between(result, a, b) for b in names] for a in names],
        }
    every = [(row["a"], row["b"]) for row in result.pairs]
    pairs = every[:COLOURS]
    yield {
        "kind": "line",
        "title": f"MMD^2 by depth of the encoder{_first(every)}",
        "x_label": "depth",
        "y_label": "MMD^2",
        "series": [
            {"name": f"{a}, {b}"}
            | {
                axis: [r[key] for r in result.by_depth if (r["a"], r["b"]) == (a, b)]
                for axis, key in (("x", "depth"), ("y", "mmd2"))
            }
            for a, b in pairs
        ],
    }
    for picture, title in (("pca", "Scans by PCA"), ("tsne", "Scans by t-SNE")):
        if result.scans and all(row[picture] is not None for row in result.scans):
            yield {
                "kind": "scatter",
                "title": f"{title}{_first(names)}",
                "series": [_points(result, name, picture) for name in names[:COLOURS]],
            }


def _first(series: Sequence[object]) -> str:
    """Say in a title if not all are drawn."""
    return f" (the first {COLOURS})" if len(series) > COLOURS else ""


def _between(result: CohortReport, a: str, b: str) -> float:
    for row in result.pairs:
        if {row["a"], row["b"]} == {a, b}:
            return float(row["mmd2"])
    return 0.0


def _points(result: CohortReport, cohort: str, picture: str) -> dict[str, Any]:
    found = [row[picture] for row in result.scans if row["cohort"] == cohort]
    return {
        "name": cohort,
        "x": [point[0] for point in found],
        "y": [point[1] for point in found],
    }
