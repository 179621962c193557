"""The options of every verb, and how a verb answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from napari_hydraseg import __version__

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class Session:
    """The options that every verb takes, and how scans are to be read."""

    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    device: str = "auto"
    seed: int = 0
    reading: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)


def session() -> Session:
    """Return the options of the call that is running."""
    return click.get_current_context().ensure_object(Session)


def command(name: str) -> Callable[[Function], click.Command]:
    """Make a verb of a function, with the options that every verb takes."""

    def decorate(function: Function) -> click.Command:
        return click.command(name)(common(function))

    return decorate


def common(function: Function) -> Function:
    """Give a command the options that may stand before and after every verb."""
    for option in (
        _option("--seed", type=int, help="Seed of all that is random (default 0)."),
        _option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda", "mps"]),
            help="Processor to compute on (default auto).",
        ),
        _option("--debug", is_flag=True, help="Show the traceback of a failure."),
        _option("--quiet", is_flag=True, help="No progress and no remarks."),
        _option(
            "--json",
            "as_json",
            is_flag=True,
            help="Print one JSON document, and nothing else, on stdout.",
        ),
    ):
        function = option(function)
    return function


def _option(*names: str, **attributes: Any) -> Callable[[Function], Function]:
    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        # Only what was typed: the same option stands before the verb and after it.
        kept = context.ensure_object(Session)
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            setattr(kept, name, value)

    return click.option(*names, expose_value=False, callback=keep, **attributes)


def emit(
    name: str,
    content: Mapping[str, Any],
    *,
    table: str,
    device: str | None = None,
) -> None:
    """Print the answer of a verb: a JSON document or a table.

    Parameters
    ----------
    name : str
        The verb.
    content : mapping
        What the document holds beside schema, verb, version, device and seconds.
    table : str
        The same for people.
    device : str, optional
        Where it was computed; "cpu" if not given.
    """
    from napari_hydraseg.core._plain import plain

    now = session()
    if not now.as_json:
        click.echo(table)
        return
    document = {
        "schema": 1,
        "verb": name,
        "version": __version__,
        "device": device or "cpu",
        "seconds": round(time.monotonic() - now.started, 3),
    } | plain(content)
    click.echo(json.dumps(document, allow_nan=False))


def remark(text: str) -> None:
    """Tell something on stderr, unless quiet is wanted."""
    if not session().quiet:
        click.echo(text, err=True)


def model_option(function: Function) -> Function:
    """Give a verb the option ``--model``."""
    return click.option(
        "--model",
        default="hydranet",
        show_default=True,
        metavar="NAME|FILE",
        help="A name of `hydraseg models list`, or a model file.",
    )(function)


def overwrite_option(function: Function) -> Function:
    """Give a verb the option ``--overwrite``."""
    return click.option(
        "--overwrite", is_flag=True, help="Replace results that are there already."
    )(function)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Lay out rows for people: a heading, columns aligned, numbers to the right."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        any(isinstance(row.get(column), int | float) for row in rows)
        for column in columns
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in [list(columns), *cells]
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
