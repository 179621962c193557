"""What teaching a head asks for, annotated scans and a budget, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from napari_hydraseg.core.types import FinetuneResult

from .scans import INPUT

Function = TypeVar("Function", bound=Callable[..., Any])

PAIR: Any = (str, INPUT)
FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
SLICES = (
    "Slices of the acquisition plane to learn from, counted from 0: axial ones from "
    "inferior to superior, coronal from anterior to posterior, sagittal from right to "
    "left. A list holds for every case."
)


def pair_option(
    name: str, variable: str, help: str, *, required: bool = False
) -> Callable[[Function], Function]:
    """Give a verb scans with labels, as often as wanted."""
    return click.option(
        name,
        variable,
        type=PAIR,
        multiple=True,
        required=required,
        metavar="SCAN LABELS",
        help=f"{help} Repeatable.",
    )


def annotated_option(function: Function) -> Function:
    """Give a verb the option ``--annotated``."""
    return click.option(
        "--annotated",
        "which",
        default="nonempty",
        show_default=True,
        metavar="nonempty|all|Z,Z,...",
        help=SLICES,
    )(function)


def budget_options(function: Function) -> Function:
    """Give a verb the options ``--minutes`` and ``--epochs``."""
    function = click.option(
        "--epochs", type=click.IntRange(1), help="Instead: passes over the slices."
    )(function)
    return click.option(
        "--minutes",
        type=click.FloatRange(0, min_open=True),
        help="Time for each training; 1 by default.",
    )(function)


def only_one_budget(options: dict[str, Any]) -> None:
    """Refuse ``--minutes`` together with ``--epochs``."""
    if options["minutes"] is not None and options["epochs"] is not None:
        raise click.UsageError("Give --minutes or --epochs, not both.")


def result_content(
    result: FinetuneResult, output: Path, *, saved: bool
) -> dict[str, Any]:
    """Put a result into the keys of the JSON document."""
    keys = ("head", "init", "mode", "before", "after", "accepted", "epochs", "curve")
    return {"model": str(output), "saved": saved} | {
        key: getattr(result, key)
        for key in (*keys, "frozen", "train", "hold_out", "reason", "warnings")
    }


def result_lines(result: FinetuneResult, output: Path, *, saved: bool) -> str:
    """Put a result into lines for people."""
    frozen = result.frozen
    lines = [
        f"head      {result.head}, started from {result.init}, {result.mode}",
        f"trained   {_counted(result.train)}, {result.epochs} epochs",
        f"held out  {_counted(result.hold_out)}",
        f"before    Dice {_dice(result.before)}",
        f"after     Dice {_dice(result.after)}",
    ]
    if frozen.get("tensors"):
        lines += [
            f"encoder   {frozen['tensors']} tensors frozen; their sha256",
            f"  before  {frozen.get('sha256_before')}",
            f"  after   {frozen.get('sha256_after')}",
        ]
    where = str(output) if saved else f"nothing: {output} is left as it was"
    return "\n".join([*lines, f"saved     {where}"])


def _counted(part: Any) -> str:
    kind = f" ({part['kind']})" if part.get("kind") else ""
    return f"{part.get('slices', 0)} slices of {part.get('cases', 0)} scans{kind}"


def _dice(side: Any) -> str:
    dice = side.get("dice")
    if dice is None or dice != dice:  # nan: no slice was held out
        return "not known"
    bounds = [side.get(key) for key in ("low", "high")]
    if any(bound is None or bound != bound for bound in bounds):
        return f"{dice:.3f} (n = {side.get('n')})"
    return f"{dice:.3f} (95 % {bounds[0]:.3f} to {bounds[1]:.3f}, n = {side.get('n')})"
