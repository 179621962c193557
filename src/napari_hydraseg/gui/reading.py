"""Long steps of step 1: files and folders to nouns, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from napari_hydraseg import core
from napari_hydraseg.core.types import Progress, Segmentation, Steps, Volume

from . import layers

Found: TypeAlias = list[tuple[str, Volume | Segmentation]]
"""Name and noun of each scan."""


def load_steps(
    paths: list[Path],
    *,
    kind: str,
    channels: bool,
    resample: bool,
    reading: Mapping[str, Any],
) -> Steps[Found]:
    """Read files one after the other.

    Parameters
    ----------
    paths : list of Path
        The files.
    kind : {"auto", "image", "labels"}
        What they hold.
    channels : bool
        Whether all files together are one scan.
    resample : bool
        Whether further channels are brought onto the grid of the first.
    reading : mapping
        Further options of `core.load_volume`.

    Returns
    -------
    list of (str, Volume or Segmentation)
        Name and noun of each.
    """
    yield Progress(0, len(paths), "reading")
    if channels:
        volume = core.load_volume(paths, resample=resample, **reading)
        return [(layers.stem(paths[0].name), volume)]
    found = []
    for at, path in enumerate(paths):
        noun = layers.open_file(path, kind=kind, **reading)
        found.append((layers.stem(path.name), noun))
        yield Progress(at + 1, len(paths), "reading")
    return found


def folder_steps(
    folder: Path, series: str | None, reading: Mapping[str, Any]
) -> Steps[Any]:
    """Read a DICOM series of a folder, or list them if there are several.

    Parameters
    ----------
    folder : Path
        The folder.
    series : str or None
        Series Instance UID; None: the only one.
    reading : mapping
        Further options of `core.load_volume`.

    Returns
    -------
    list
        As of `load_steps`, or the table of series (`core.io.dicom.Series`).
    """
    from napari_hydraseg.core.io.dicom import series_in

    yield Progress(0, 2, "looking into the folder")
    if series is None:
        found = series_in(folder)
        if len(found) > 1:
            return found
    yield Progress(1, 2, "reading")
    return [(folder.name, core.load_volume(folder, series=series, **reading))]
