"""The verb ``hydraseg series``: what DICOM series a folder holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .scans import INPUT
from .session import command, emit
from .session import table as laid_out

COLUMNS = ("number", "description", "modality", "size", "uid")


@command("series")
@click.argument("folder", type=INPUT)
def series(folder: Path) -> None:
    """List the DICOM series of FOLDER, for --series of the other verbs.

    No row tells who the patient is, as far as the scanner's description does not.
    """
    from napari_hydraseg.core.io.dicom import series_in

    rows = [asdict(row) for row in series_in(folder)]
    emit("series", {"series": rows}, table=laid_out(rows, COLUMNS))
