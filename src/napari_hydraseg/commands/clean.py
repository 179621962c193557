"""The verb ``hydraseg clean``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core

from .scans import FILE, INPUT, keep_apart
from .session import command, emit, overwrite_option
from .session import table as laid_out
from .work import run

COLUMNS = ("id", "name", "pieces", "removed", "holes", "filled", "left")
SIZE = click.FloatRange(0)


@command("clean")
@click.argument("mask", type=INPUT)
@click.option("-o", "--output", type=FILE, required=True, metavar="MASK")
@click.option("--largest", is_flag=True, help="Keep only the largest part of a label.")
@click.option(
    "--smallest", type=SIZE, default=0, metavar="MM3", help="Drop parts below this."
)
@click.option(
    "--holes", type=SIZE, default=0, metavar="MM3", help="Fill holes up to this."
)
@click.option("--in-slices", is_flag=True, help="Look for holes slice by slice.")
@click.option(
    "--label",
    "labels",
    type=int,
    multiple=True,
    metavar="N",
    help="Clean this label alone. Repeatable.",
)
@overwrite_option
def clean(
    mask: Path,
    output: Path,
    largest: bool,
    smallest: float,
    holes: float,
    in_slices: bool,
    labels: tuple[int, ...],
    overwrite: bool,
) -> None:
    """Drop stray parts of a mask and fill its holes.

    Sizes are in mm3; of a picture's mask, which has no millimetres, in pixels.
    """
    if not (largest or smallest or holes):
        raise click.UsageError("Say what to do: --largest, --smallest or --holes.")
    keep_apart([output], [mask])
    steps = core.clean(
        core.load_segmentation(mask),
        largest=largest,
        smallest_mm3=smallest,
        holes_mm3=holes,
        in_slices=in_slices,
        classes=labels,
    )
    found = run(steps, output.name)
    core.save_segmentation(found, output, overwrite=overwrite)
    report: dict[str, Any] = dict(found.made_by["cleaned"])
    unit = "mm3" if report["unit"] == "mm3" else "pixels"
    table = laid_out(report["classes"], COLUMNS)
    emit(
        "clean",
        {"output": str(output)} | report,
        table=f"{table}\nSizes are in {unit}. Wrote {output.name}.",
    )
