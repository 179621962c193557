"""Putting results into words: one headline, one sentence, tables and figures.

Names of files do not travel into a report: cases are numbered in the order in which
they came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ._compared import transfer_report
from ._describe_cohorts import COLOURS, cohort_report
from ._levels import level_name
from .metrics import summarise
from .types import (
    CohortReport,
    FinetuneResult,
    Report,
    ShiftReport,
    TransferReport,
)

NO_PROOF = "That does not prove the mask right or wrong."
TRAINED_ON, GIVEN = (
    "the scans this model was trained on",
    "the scans given as reference",
)
NUMBERED = (
    "Cases are numbered in the order in which they were given; names of files are not "
    "written into reports."
)


def describe(
    result: FinetuneResult
    | ShiftReport
    | CohortReport
    | TransferReport
    | Sequence[Mapping[str, Any]],
    *,
    figures: Iterable[Mapping[str, Any]] = (),
) -> Report:
    """Put a result into words, tables and figures.

    Parameters
    ----------
    result : FinetuneResult, ShiftReport, CohortReport, TransferReport or rows
        A result; or rows of `evaluate`, each with a "case" beside.
    figures : iterable of mapping
        More figures to show, e.g. slices with their masks; see `core._figures`.

    Returns
    -------
    Report
        To be saved with `write_report`.
    """
    if isinstance(result, FinetuneResult):
        report = _finetune(result)
    elif isinstance(result, ShiftReport):
        report = _shift(result)
    elif isinstance(result, CohortReport):
        report = cohort_report(result)
    elif isinstance(result, TransferReport):
        report = transfer_report(result)
    else:
        report = _evaluation(result)
    return replace(report, figures=(*report.figures, *figures))


def _finetune(result: FinetuneResult) -> Report:
    shown = [
        {"model": name} | {key: values.get(key) for key in ("dice", "low", "high", "n")}
        for name, values in (("before", result.before), ("after", result.after))
    ]
    return Report(
        title=f"Fine-tuning: {result.head}",
        verdict=_finetune_verdict(result),
        rows=tuple(shown),
        figures=tuple(_finetune_figures(result)),
        basis={
            "model": result.checkpoint.name,
            "head": result.head,
            "started from": result.init,
            "mode": result.mode,
            "epochs": result.epochs,
            "trained on": dict(result.train),
            "held out": dict(result.hold_out),
            "frozen tensors": result.frozen.get("tensors"),
            "sha256 of the frozen encoder before": result.frozen.get("sha256_before"),
            "sha256 of the frozen encoder after": result.frozen.get("sha256_after"),
        },
        notes=(result.reason, *result.warnings),
    )


def _finetune_verdict(result: FinetuneResult) -> str:
    before, after = result.before.get("dice", math.nan), result.after.get("dice", 0.0)
    if result.hold_out.get("kind") == "none":
        return "No slice was held out: whether the new model is better is not known."
    found = (
        f"Dice on {result.after.get('n', 0):.0f} held-out slices: "
        f"{before:.2f} before, {after:.2f} after."
    )
    if result.accepted:
        return f"The new model is better. {found}"
    return f"The new model is not better and was not kept. {found}"


def _finetune_figures(result: FinetuneResult) -> Iterable[Mapping[str, Any]]:
    sides = (result.before, result.after)
    yield {
        "kind": "bar",
        "title": "Dice on the held-out slices, with 95 % intervals",
        "names": ["before", "after"],
        "values": [side.get("dice", math.nan) for side in sides],
        "low": [side.get("low", math.nan) for side in sides],
        "high": [side.get("high", math.nan) for side in sides],
        "y_label": "Dice",
        "y_range": (0, 1),
    }
    for key, title in (("dice", "Dice on the held-out slices"), ("loss", "Loss")):
        points = [point for point in result.curve if _is_number(point.get(key))]
        if points:
            yield {
                "kind": "line",
                "title": f"{title} by epoch",
                "x_label": "epoch",
                "y_label": "Dice" if key == "dice" else key,
                "y_range": (0, 1.02) if key == "dice" else (0, None),
                "series": [
                    {
                        "name": key,
                        "x": [point["epoch"] for point in points],
                        "y": [point[key] for point in points],
                    }
                ],
            }


def _shift(result: ShiftReport) -> Report:
    numbers = _numbered(row.get("case") for row in result.per_case)
    cases = [dict(row) | {"case": numbers[row.get("case")]} for row in result.per_case]
    return Report(
        title="Domain shift",
        verdict=_shift_verdict(result, scans=max(len(cases), 1)),
        rows=(*cases, *map(dict, result.causes)),
        figures=tuple(_shift_figures(result)),
        basis={
            "p": result.p,
            "smallest p possible": result.p_floor,
            "percentile": result.percentile,
            "reference scans": result.n_reference,
        }
        | dict(result.basis),
        notes=tuple(
            filter(None, [result.advice.get("text", ""), *result.notes, NUMBERED])
        ),
    )


def _shift_verdict(result: ShiftReport, *, scans: int) -> str:
    if result.verdict == "cannot-judge":
        return (
            f"There are {result.n_reference} reference scans, too few to judge: at "
            f"least 19 are needed. {NO_PROOF}"
        )
    subject, s = ("The scan", "s") if scans == 1 else ("The scans", "")
    usual = GIVEN if result.basis.get("reference") == "given scans" else TRAINED_ON
    said = {
        "different": f"differ{s} from {usual}",
        "borderline": f"lie{s} at the edge of {usual}",
        "similar": f"look{s} like {usual}",
    }[result.verdict]
    return (
        f"{subject} {said} (farther out than {result.percentile:.0f} % of "
        f"{result.n_reference} reference scans, p = {result.p:.3g}). {NO_PROOF}"
    )


def _shift_figures(result: ShiftReport) -> Iterable[Mapping[str, Any]]:
    if result.by_level:
        yield {
            "kind": "bar",
            "title": "Reference scans that are closer, by depth of the encoder",
            "names": [level_name(str(row["depth"])) for row in result.by_level],
            "values": [row["percentile"] for row in result.by_level],
            "y_label": "%",
            "y_range": (0, 100),
        }
    if result.picture:
        yield {
            "kind": "scatter",
            "title": f"All scans by {result.picture['method']}",
            "series": [
                {
                    "name": name,
                    "x": [point[0] for point in result.picture[key]],
                    "y": [point[1] for point in result.picture[key]],
                }
                for key, name in (("reference", "reference"), ("scans", "here"))
            ],
        }
    numbers = _numbered(row["case"] for row in result.per_slice)
    lines = [
        {
            "name": number,
            "x": [row["slice"] for row in result.per_slice if row["case"] == case],
            "y": [row["witness"] for row in result.per_slice if row["case"] == case],
        }
        for case, number in numbers.items()
    ]
    lines = [line for line in lines if len(line["x"]) > 1]  # one point is no course
    if lines:
        yield {
            "kind": "line",
            "title": "Where it differs: above 0, unlike the reference"
            + (f" (the first {COLOURS})" if len(lines) > COLOURS else ""),
            "x_label": "slice",
            "y_label": "witness",
            "series": lines[:COLOURS],
        }


def _evaluation(rows: Sequence[Mapping[str, Any]]) -> Report:
    summary = summarise(rows)
    numbers = _numbered(row.get("case") for row in rows)
    dices = {name: found["dice"] for name, found in summary.items()}
    return Report(
        title="Evaluation",
        verdict=" ".join(_dice_line(name, dice) for name, dice in dices.items()),
        rows=tuple({"case": numbers[row.get("case")]} | _other(row) for row in rows),
        figures=(
            {
                "kind": "scatter",
                "title": "Dice by case",
                "x_label": "case",
                "y_label": "Dice",
                "y_range": (0, 1.02),
                "series": [_dices(rows, name, list(numbers)) for name in summary],
            },
        ),
        basis={"cases": len(numbers)} | _summary_lines(summary),
        notes=(
            NUMBERED,
            "An empty cell (n/a) means that a mask was empty, so that the number does "
            "not exist; such cases are counted apart and raise or lower no mean. A "
            "missed structure has Dice 0 and infinite (inf) distances.",
            "Intervals are 95 % bootstrap intervals of the mean over cases.",
        ),
    )


def _dice_line(name: str, dice: Mapping[str, Any]) -> str:
    return f"{name}: {_interval('Dice', dice)}."


def _summary_lines(summary: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"{name}, {metric}": _interval("mean", found)
        + f", median {_number(found['median'])}"
        for name, metrics in summary.items()
        for metric, found in metrics.items()
        if metric in ("dice", "hd95_mm", "surface_dice", "volume_difference_ml")
    }


def _interval(what: str, found: Mapping[str, Any]) -> str:
    low, high = found["ci95"]
    interval = "" if math.isnan(low) else f"95 % CI {_number(low)} to {_number(high)}, "
    empty = f", {found['n_empty']} empty" if found["n_empty"] else ""
    return f"{what} {_number(found['mean'])} ({interval}n = {found['n']}{empty})"


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3g}"


def _dices(
    rows: Sequence[Mapping[str, Any]], name: str, cases: list[Any]
) -> dict[str, Any]:
    found = [row for row in rows if str(row["name"]) == name]
    return {
        "name": name,
        "x": [cases.index(row.get("case")) + 1 for row in found],
        "y": [row["dice"] for row in found],
    }


def _other(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "case"}


def _numbered(cases: Iterable[Any]) -> dict[Any, str]:
    return {
        case: f"case {number}"
        for number, case in enumerate(dict.fromkeys(cases), start=1)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
