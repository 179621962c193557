"""Reports for people and for programs: one HTML file, JSON or CSV.

The HTML stands alone: pictures are inside, nothing is loaded from elsewhere (its
content security policy forbids it), and every text from outside is escaped by a
sandboxed template. Nothing in a report names a file or a folder.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg import __version__

from ._describe import describe
from ._figures import data_uri
from ._plain import plain
from .errors import SaveError
from .io.atomic import atomic_write
from .types import Report

__all__ = ["describe", "write_report"]

NOTICE = "Not a medical device: for research and education, not for diagnosis."
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what starts a formula in a spreadsheet


def write_report(
    report: Report, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Save a report; the suffix says how.

    Parameters
    ----------
    report : Report
        From `describe`.
    path : path-like
        ``.html``: one self-contained page; ``.json``: all but the pictures;
        ``.csv``: the rows only, with cells that a spreadsheet would run as a formula
        made text by a leading apostrophe.
    overwrite : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    SaveError
        For another suffix, or where the file cannot be written.
    """
    makers = {".html": _html, ".json": _json, ".csv": _csv}
    suffix = ensure_report(path)
    # Lone surrogates come from text that was no UTF-8; they must not stop a report.
    content = makers[suffix](report).encode("utf-8", errors="replace")
    atomic_write(path, lambda file: file.write(content), overwrite=overwrite)


def ensure_report(path: str | os.PathLike[str]) -> str:
    """Refuse a name that no report can have, best before there is one; its suffix.

    Raises
    ------
    SaveError
        For another suffix than .html, .json or .csv.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".html", ".json", ".csv"):
        raise SaveError(
            f"A report is .html, .json or .csv, not {suffix or 'without suffix'}.",
            "Choose another name.",
        )
    return suffix


def _json(report: Report) -> str:
    content = {
        "schema": 1,
        "version": __version__,
        "notice": NOTICE,
        "title": report.title,
        "verdict": report.verdict,
        "rows": report.rows,
        "figures": [figure for figure in report.figures if figure["kind"] != "image"],
        "basis": report.basis,
        "notes": report.notes,
    }
    return json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False)


def _csv(report: Report) -> str:
    columns = dict.fromkeys(key for row in report.rows for key in row)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_cell(column) for column in columns])
    for row in report.rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    value = plain(value) if not isinstance(value, float) else value
    if isinstance(value, (dict, list)):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, str) and value.lstrip(" \n").startswith(FORMULA):
        return f"'{value}"
    return value


def _html(report: Report) -> str:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    source = resources.files(__package__).joinpath("report.html.j2")
    environment = SandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        report=report,
        notice=NOTICE,
        version=__version__,
        pictures=[
            {"title": figure.get("title", ""), "uri": data_uri(figure)}
            for figure in report.figures
        ],
        tables=list(_tables(report.rows)),
        basis=[(name, _text(value)) for name, value in report.basis.items()],
    )


def _tables(rows: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Give one table per run of rows with the same columns."""
    for columns, run in groupby(rows, key=_columns):
        yield {
            "columns": columns,
            "rows": [
                [
                    {"text": _text(value), "number": isinstance(value, (int, float))}
                    for value in row.values()
                ]
                for row in run
            ],
        }


def _columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row)


def _text(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple, np.ndarray)):
        return ", ".join(map(_text, value))
    return str(value)
