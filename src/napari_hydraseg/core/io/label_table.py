"""The table beside a mask: names and colours of its labels (BIDS ``dseg.tsv``).

https://bids-specification.readthedocs.io: columns ``index``, ``name`` and ``color``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import AnnotationError
from ..palette import colours_for

_LONGEST = 2**20  # bytes; a table of all 65535 labels is shorter
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def table_of(names: Mapping[int, str], colours: Mapping[int, str]) -> bytes:
    """Make the table of a mask.

    Parameters
    ----------
    names : mapping of int to str
        Names by label id; tabs and line breaks in them become spaces.
    colours : mapping of int to str
        ``#RRGGBB`` by label id; the palette's where there is none.

    Returns
    -------
    bytes
        Tab-separated text in UTF-8.
    """
    names = {i: _one_line(name) or f"label {i}" for i, name in sorted(names.items())}
    chosen = colours_for(names, colours)
    rows = [f"{i}\t{name}\t{chosen[i]}\n" for i, name in names.items()]
    return "".join(["index\tname\tcolor\n", *rows]).encode("utf-8", "replace")


def read_table(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Read names and colours of labels.

    Parameters
    ----------
    path : Path
        The table. That there is none, or another kind of table, is no fault.

    Returns
    -------
    names, colours : dict of int to str
        By label id; a colour that is none is left out.

    Raises
    ------
    AnnotationError
        If it is a table of labels but cannot be read.
    """
    if not is_table(path):
        return {}, {}
    try:
        text = path.read_text("utf-8-sig")
        rows = list(
            csv.DictReader(
                text.splitlines(),
                delimiter="\t",
                quoting=csv.QUOTE_NONE,
                restval="",
            )
        )
        names = {int(row["index"]): row["name"] for row in rows if row["name"]}
        found = {int(row["index"]): row.get("color") or "" for row in rows}
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise AnnotationError(
            "The table of label names beside the mask cannot be read.",
            "Remove or mend the .tsv file.",
        ) from error
    colours = {i: c.upper() for i, c in found.items() if _COLOUR.fullmatch(c)}
    return names, colours


def is_table(path: Path) -> bool:
    """Whether a file is a table of labels, by its first line and its size."""
    if not path.is_file() or path.stat().st_size > _LONGEST:
        return False
    with open(path, "rb") as file:
        first = file.readline(_LONGEST).removeprefix(b"\xef\xbb\xbf")
    return {b"index", b"name"} <= set(first.strip().split(b"\t"))


def _one_line(name: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())
