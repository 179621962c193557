"""What the verbs that teach a head share: annotated scans and a budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

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
