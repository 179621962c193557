"""The verbs ``hydraseg models ...``: the library of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.types import ModelInfo

from .scans import FILE
from .session import common, emit
from .session import table as laid_out

COLUMNS = ("name", "network", "heads", "modality", "licence", "size_mb", "source")


@click.group()
@common
def models() -> None:
    """List, inspect, add, remove and export models."""


@models.command("list")
@common
def list_() -> None:
    """List the bundled models and your own."""
    rows = [_row(info) for info in core.list_models()]
    _emit(rows, table=laid_out(rows, COLUMNS))


@models.command("info")
@common
@click.argument("name", metavar="NAME|FILE")
def info(name: str) -> None:
    """Show a model's card: data, licences, limits, how well it does."""
    found = _find(name)
    lines = [f"{key}: {value}" for key, value in _row(found).items()]
    lines += _card_lines(found.card)
    _emit([_row(found) | {"card": found.card}], table="\n".join(lines))


@models.command("add")
@common
@click.argument("file", type=FILE)
@click.option("--name", help="Its name here; default: the name in its card.")
@click.option("--overwrite", is_flag=True, help="Replace your model of that name.")
def add(file: Path, name: str | None, overwrite: bool) -> None:
    """Copy a model file into your library, after checking it."""
    added = core.add_model(file, name=name, overwrite=overwrite)
    _emit([_row(added)], table=f"Added {added.name}.")


@models.command("remove")
@common
@click.argument("name")
def remove(name: str) -> None:
    """Delete one of your own models."""
    removed = [_row(info) for info in core.list_models() if info.name == name]
    core.remove_model(name)
    _emit(removed, table=f"Removed {name}.")


@models.command("export")
@common
@click.argument("name")
@click.argument("file", type=FILE)
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
def export(name: str, file: Path, overwrite: bool) -> None:
    """Write a model to a file, to be given to others."""
    core.export_model(name, file, overwrite=overwrite)
    _emit([_row(_find(str(file)))], table=f"Wrote {file}.")


def _find(name: str) -> ModelInfo:
    from napari_hydraseg.core.models import model_info, model_path

    known = {info.name: info for info in core.list_models()}
    return known[name] if name in known else model_info(model_path(name))


def _row(info: ModelInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "network": info.network,
        "heads": {head: list(names) for head, names in info.heads.items()},
        "modality": list(info.modality),
        "licence": info.licence,
        "size_mb": info.size_mb,
        "path": str(info.path),
        "source": info.source,
    }


def _card_lines(card: Any, indent: str = "") -> list[str]:
    lines = []
    for key, value in card.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_card_lines(value, f"{indent}  ")]
        elif isinstance(value, list | tuple):
            lines.append(f"{indent}{key}: {', '.join(map(str, value)) or '-'}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines


def _emit(rows: list[dict[str, Any]], *, table: str) -> None:
    verb_name = click.get_current_context().info_name
    emit(f"models {verb_name}", {"models": rows}, table=table)
