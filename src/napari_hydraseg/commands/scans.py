"""From what was typed to scans, and from scans to safe names for their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.errors import NotAVolume, NotWritable, WouldOverwrite
from napari_hydraseg.core.types import MODALITIES, Segmentation, Volume

from .session import Function, Session, session

FILE = click.Path(path_type=Path)
INPUT = click.Path(path_type=Path, exists=True)
SERIES_PROBE = 20  # files of a folder to look at; a series has nothing else in front


@dataclass(frozen=True)
class Scan:
    """One scan on the command line, not read yet."""

    text: str  # as it was typed or found
    case: str  # for the names of results
    paths: tuple[Path, ...]
    channels: tuple[str, ...] = ()

    def load(self) -> Volume:
        """Read it with the options for reading that were given."""
        paths = list(self.paths) if len(self.paths) > 1 else self.paths[0]
        volume: Volume = core.load_volume(
            paths, names=self.channels, **session().reading
        )
        return volume


def reading(function: Function) -> Function:
    """Give a command the options that say how scans are read."""
    for names, attributes in (
        (
            ("--assume-spacing", "assume_spacing_mm"),
            {"type": float, "metavar": "MM", "help": "Voxel size of a picture."},
        ),
        (
            ("--resample",),
            {"is_flag": True, "help": "Resample channels onto the first one's grid."},
        ),
        (
            ("--regularise",),
            {"is_flag": True, "help": "Resample uneven DICOM slices evenly."},
        ),
        (
            ("--index",),
            {"type": int, "metavar": "N", "help": "Volume of a 4-D file, from 0."},
        ),
        (
            ("--series",),
            {
                "metavar": "UID|NUMBER",
                "help": "DICOM series to read; see `hydraseg series`.",
            },
        ),
        (
            ("--modality",),
            {"type": click.Choice(MODALITIES), "help": "What NIfTI does not tell."},
        ),
    ):
        option = click.option(*names, expose_value=False, callback=_keep, **attributes)
        function = option(function)
    return function


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and value is not False:
        context.ensure_object(Session).reading[str(parameter.name)] = value


def scans(arguments: Iterable[str]) -> list[Scan]:
    """Find the scans that the arguments name.

    Parameters
    ----------
    arguments : iterable of str
        A file; a folder, which means every scan in it, or one series if DICOM files
        lie in it; or channels, as in ``FLAIR=a.nii.gz,T1=b.nii.gz``.

    Returns
    -------
    list of Scan
        Each with a case name of its own.

    Raises
    ------
    NotAVolume
        If a folder holds no scan.
    click.UsageError
        If two scans cannot be told apart by file and folder name.
    """
    found = [scan for argument in arguments for scan in _scans_of(argument)]
    found = _told_apart(found)
    double = [name for name, n in Counter(s.case for s in found).items() if n > 1]
    if double:
        raise click.UsageError(f"Two scans are called {double[0]}.")
    return found


def _scans_of(argument: str) -> list[Scan]:
    path = Path(argument)
    if "=" in argument and not path.exists():
        return [_channels(argument)]
    if not path.is_dir() or _is_series(path):
        return [Scan(argument, stem(path), (path,))]
    from napari_hydraseg.core.io import scans_in

    inside = scans_in(path)
    if not inside:
        raise NotAVolume(
            f"The folder {path.name} holds no scan.",
            "Name a folder with NIfTI files or pictures.",
        )
    return [Scan(str(file), stem(file), (file,)) for file in inside]


def _channels(argument: str) -> Scan:
    pairs = [part.partition("=") for part in argument.split(",")]
    if not all(name and file for name, _, file in pairs):
        raise click.UsageError(f"Channels are NAME=FILE,NAME=FILE, not {argument}.")
    paths = tuple(Path(file) for _, _, file in pairs)
    return Scan(argument, stem(paths[0]), paths, tuple(name for name, _, _ in pairs))


def _told_apart(found: Sequence[Scan]) -> list[Scan]:
    count = Counter(scan.case for scan in found)
    return [
        replace(scan, case=f"{scan.paths[0].resolve().parent.name}_{scan.case}")
        if count[scan.case] > 1
        else scan
        for scan in found
    ]


def _is_series(folder: Path) -> bool:
    if (folder / "DICOMDIR").is_file():
        return True
    from napari_hydraseg.core.io.dicom import is_dicom

    files = sorted(file for file in folder.iterdir() if file.is_file())
    return any(is_dicom(file) for file in files[:SERIES_PROBE])


def stem(path: Path) -> str:
    """Name of a file without its suffix, ``.nii.gz`` counting as one."""
    name = path.name or path.resolve().name
    return name[:-7] if name.lower().endswith(".nii.gz") else Path(name).stem


def annotated(labels: Segmentation, volume: Volume, which: str) -> Segmentation:
    """Mark the slices that the annotator vouches for.

    Parameters
    ----------
    labels : Segmentation
        Labels of `volume`.
    volume : Volume
        Its acquisition plane is the one that slices are counted in.
    which : str
        "nonempty", "all", or indices from 0 parted by commas: along z from inferior to
        superior (axial slices), y from anterior to posterior (coronal), x from right to
        left (sagittal).

    Returns
    -------
    Segmentation
        With ``annotated`` per slice, in the volume's plane.

    Raises
    ------
    click.UsageError
        If `which` is none of these, or a slice does not exist.
    """
    import numpy as np

    if which == "all":
        return replace(labels, annotated=None, plane=volume.plane)
    slices = np.moveaxis(labels.labels, volume.plane_axis, 0)
    if which == "nonempty":
        marks = np.asarray(slices.any(axis=(1, 2)))
        return replace(labels, annotated=marks, plane=volume.plane)
    try:
        wanted = [int(number) for number in which.split(",")]
    except ValueError:
        raise click.UsageError(
            f"--annotated is nonempty, all or numbers of slices, not {which}."
        ) from None
    if not all(0 <= number < len(slices) for number in wanted):
        raise click.UsageError(
            f"The {volume.plane} slices are 0 to {len(slices) - 1}, not {which}."
        )
    marks = np.isin(np.arange(len(slices)), wanted)
    return replace(labels, annotated=marks, plane=volume.plane)


def make_folder(path: Path) -> None:
    """Make a folder for results, and clear what a killed process left in it.

    Raises
    ------
    NotWritable
        If it cannot be made.
    """
    from napari_hydraseg.core.io.atomic import sweep_temporaries

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            f"The folder {path.name} cannot be made: {error.strerror}.",
            "Choose another folder.",
        ) from error
    sweep_temporaries(path)


def keep_apart(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse results that would replace an input, whatever else is allowed.

    Raises
    ------
    WouldOverwrite
        If a target is one of the inputs.
    """
    sources = {os.path.realpath(path) for path in inputs}
    for target in targets:
        if os.path.realpath(target) in sources:
            raise WouldOverwrite(
                f"{target.name} is an input and would be overwritten.",
                "Choose another name or folder for the result.",
            )
