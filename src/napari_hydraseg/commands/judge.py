"""The verbs that judge: ``hydraseg shift`` and ``hydraseg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.types import ShiftReport

from .cohorts import Groups, compare_groups
from .scans import FILE, INPUT, keep_apart, reading, scans, stem
from .session import command, emit, model_option, overwrite_option, session
from .session import table as laid_out
from .work import Batch, run

METRICS = ("case", "name", "dice", "hd95_mm", "surface_dice", "volume_difference_ml")
SHIFT = (
    "verdict",
    "p",
    "p_floor",
    "percentile",
    "n_reference",
    "by_depth",
    "grey",
    "per_case",
    "causes",
    "advice",
    "notes",
)


@command("shift")
@click.argument("scan", nargs=-1)
@model_option
@click.option("--head", metavar="NAME", help="Whose training scans to compare with.")
@click.option(
    "--reference",
    multiple=True,
    metavar="SCAN",
    help="Compare with these scans instead. Repeatable.",
)
@click.option(
    "--cohort",
    "cohorts",
    type=(str, str),
    multiple=True,
    metavar="NAME SCAN",
    help="Compare cohorts with one another instead. SCAN may be a folder. Repeatable.",
)
@click.option(
    "--channels",
    multiple=True,
    metavar="NAME=CHANNEL+CHANNEL",
    help="A cohort of channels of the scans, as in source=FLAIR+T1CE. Repeatable.",
)
@click.option(
    "--after",
    metavar="NAME|FILE",
    help="Compare the cohorts once more as this (fine-tuned) model sees them.",
)
@click.option(
    "--drop-nonfinite",
    is_flag=True,
    help="Leave out scans whose features are no numbers.",
)
@click.option("-o", "--output", type=FILE, metavar="REPORT.html")
@overwrite_option
@reading
def shift(
    scan: tuple[str, ...],
    model: str,
    head: str | None,
    reference: tuple[str, ...],
    cohorts: tuple[tuple[str, str], ...],
    channels: tuple[str, ...],
    after: str | None,
    drop_nonfinite: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Tell how like scans are to those that a model was trained on.

    Or, with --cohort or --channels, whether cohorts of scans differ from one another.
    That does not prove a mask right or wrong.
    """
    if cohorts or channels:
        if (cohorts and (scan or channels)) or reference:
            raise click.UsageError(
                "Give --cohort alone, or scans with --channels; neither --reference."
            )
        groups = Groups.typed(cohorts) if cohorts else Groups.channels(scan, channels)
        _ready(output, groups.paths, overwrite)
        compare_groups(
            groups,
            model=model,
            after=after,
            head=head,
            drop_nonfinite=drop_nonfinite,
            output=output,
            overwrite=overwrite,
        )
        return
    if not scan or after is not None:
        raise click.UsageError(
            "--after needs cohorts." if scan else "Name a scan, or cohorts."
        )
    listed, known = scans(scan), scans(reference)
    _ready(output, [p for one in (*listed, *known) for p in one.paths], overwrite)
    now = session()
    steps = core.shift(
        [one.load() for one in listed],
        core.get_model(model),
        reference=[one.load() for one in known] or None,
        head=head,
        drop_nonfinite=drop_nonfinite,
        seed=now.seed,
        device=now.device,
    )
    result = run(steps, "comparing")
    report = core.describe(result)
    if output is not None:
        core.write_report(report, output, overwrite=overwrite)
    emit(
        "shift",
        {key: getattr(result, key) for key in SHIFT},
        table=_shift_lines(result, report.verdict),
        device=result.basis["device"],
    )


def _shift_lines(result: ShiftReport, verdict: str) -> str:
    """Put a judgement into lines for people."""
    parts = [
        verdict,
        _rows(result.per_case if len(result.per_case) > 1 else ()),
        _rows(result.causes),
        str(result.advice.get("text", "")),
        *result.notes,
    ]
    return "\n\n".join(filter(None, parts))


@command("evaluate")
@click.option(
    "--pair",
    "pairs",
    type=(INPUT, INPUT),
    multiple=True,
    required=True,
    metavar="REFERENCE CANDIDATE",
    help="Two masks of one scan. Repeatable.",
)
@click.option("--tolerance-mm", type=click.FloatRange(0), default=1.0)
@click.option("-o", "--output", type=FILE, metavar="REPORT.html|.csv|.json")
@overwrite_option
def evaluate(
    pairs: tuple[tuple[Path, Path], ...],
    tolerance_mm: float,
    output: Path | None,
    overwrite: bool,
) -> int:
    """Compare masks with reference masks: overlap, surface distances, volume."""
    _ready(output, [path for pair in pairs for path in pair], overwrite)
    batch = Batch(len(pairs))
    rows: list[dict[str, Any]] = []
    for reference, candidate in pairs:
        with batch.item(str(candidate)):
            found = core.evaluate(
                core.load_segmentation(reference),
                core.load_segmentation(candidate),
                tolerance_mm=tolerance_mm,
            )
            rows += [{"case": stem(candidate)} | row for row in found]
    if output is not None and rows:
        core.write_report(core.describe(rows), output, overwrite=overwrite)
    summary = core.summarise(rows, seed=session().seed)
    means = [
        {"case": f"mean of {found['dice']['n']}", "name": name}
        | {metric: found[metric]["mean"] for metric in METRICS[2:]}
        for name, found in summary.items()
    ]
    emit(
        "evaluate",
        {"cases": rows, "summary": summary} | batch.summary(),
        table=laid_out([*rows, *means], METRICS) + batch.line(),
    )
    return batch.exit_status


def _ready(output: Path | None, inputs: list[Path], overwrite: bool) -> None:
    from napari_hydraseg.core.io.atomic import ensure_writable
    from napari_hydraseg.core.report import ensure_report

    if output is not None:
        ensure_report(output)
        keep_apart([output], inputs)
        ensure_writable(output, overwrite=overwrite)


def _rows(rows: Any) -> str:
    listed = [dict(row) for row in rows]
    return laid_out(listed, tuple(listed[0])) if listed else ""
