"""Names of files as they stand in messages."""

from __future__ import annotations

from pathlib import Path


def short_name(path: Path) -> str:
    """Name of a file, fit for one line of a message: no folder, at most 60 letters."""
    name = path.name
    if not name.isprintable():  # nor is what stands for bytes that are no text
        name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= 60 else f"{name[:40]}...{name[-17:]}"
