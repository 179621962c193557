"""Annotations kept aside while they are made, so that no crash takes them.

A draft lies in the user's own data folder, readable by nobody else, never beside the
scan. Its name is drawn by lot and inside stand labels, geometry and the ledger of
slices: neither a file's name nor a layer's, which may be a patient's. The scan is known
again by a digest.
"""

from __future__ import annotations

import json
import secrets
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
from numpy.typing import NDArray
from platformdirs import user_data_path

from . import _holdout
from .errors import AnnotationError, NotWritable
from .io.atomic import atomic_write, sweep_temporaries
from .types import Segmentation, SourceGrid, Volume

SUFFIX = ".npz"
_FORMAT = 1
_ABOUT = "about"
_MADE_BY = ("model", "sha256", "head")  # the rest may quote what a file's header said
_BROKEN = (
    zipfile.BadZipFile,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class Draft:
    """What a person painted, as it was at some moment.

    Attributes
    ----------
    painted : Segmentation
        The labels.
    start : ndarray of uint8 or uint16, shape (z, y, x), or None
        What the layer started with, where a model had made it.
    done, aside : frozenset of int
        Slices marked as done, and those set aside.
    scan : str
        Digest of the scan; see `identity`. Empty if it is not known.
    slices : int
        How many slices are annotated.
    """

    painted: Segmentation
    start: NDArray[Any] | None = None
    done: frozenset[int] = frozenset()
    aside: frozenset[int] = frozenset()
    scan: str = ""
    slices: int = 0


@dataclass(frozen=True)
class DraftInfo:
    """One draft of the folder, without its voxels."""

    path: Path
    saved: float
    slices: int
    shape: tuple[int, ...]
    scan: str


def folder() -> Path:
    """Return the folder of the user's drafts; it need not exist yet."""
    return user_data_path("napari-hydraseg") / "drafts"


def new_path() -> Path:
    """Draw a name for a draft that is yet to be written."""
    return folder() / f"{secrets.token_hex(8)}{SUFFIX}"


def identity(volume: Volume) -> str:
    """Name a scan so that its drafts find it again: by its files, else its voxels."""
    # the digest of the files is there already, and a draft is saved every minute
    whole = volume.sha256 or _holdout.identity(volume)
    return f"{whole} {volume.shape}"


def save_draft(draft: Draft, path: Path) -> None:
    """Write a draft; the disk holds the earlier state or this one, never half of it.

    Parameters
    ----------
    draft : Draft
        What to keep.
    path : Path
        From `new_path`, the same one for each state of one layer.

    Raises
    ------
    SaveError
        If the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            "The folder for unsaved annotations cannot be made.",
            "Save your labels yourself, often: File > Save Selected Layers.",
        ) from error
    arrays = {"labels": draft.painted.labels, _ABOUT: _packed(_about(draft))}
    if draft.start is not None:
        arrays["start"] = draft.start

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, allow_pickle=False, **arrays)

    atomic_write(path, write, overwrite=True, check=open_draft)
    sweep_temporaries(path.parent)  # of a process that was killed while writing


def list_drafts() -> list[DraftInfo]:
    """List what earlier sessions left, the newest first.

    Returns
    -------
    list of DraftInfo
        Without those of a process that is still running, this one included, and
        without files that cannot be read.
    """
    found = []
    for path in sorted(folder().glob(f"*{SUFFIX}")):
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                about = _unpacked(file[_ABOUT])
            info = DraftInfo(
                path,
                float(about["saved"]),
                int(about["slices"]),
                tuple(int(n) for n in about["shape"]),
                str(about["scan"]),
            )
            living = _lives(about)
        except _BROKEN:
            continue  # a damaged file must not hide the others
        if not living:
            found.append(info)
    return sorted(found, key=lambda info: -info.saved)


def open_draft(path: Path) -> Draft:
    """Read a draft.

    Raises
    ------
    AnnotationError
        If the file is damaged or of a later version.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = _unpacked(file[_ABOUT])
            labels = file["labels"]
            start = file.get("start")
        return _draft(about, labels, start)
    except _BROKEN as error:
        raise AnnotationError(
            "These unsaved annotations cannot be read.",
            "If they were made by a newer version, upgrade; else discard them.",
        ) from error


def discard_draft(path: Path) -> None:
    """Delete a draft; no fault if it is gone already."""
    path.unlink(missing_ok=True)


def _about(draft: Draft) -> dict[str, Any]:
    painted, process = draft.painted, psutil.Process()
    made_by = {k: painted.made_by[k] for k in _MADE_BY if k in painted.made_by}
    return {
        "format": _FORMAT,
        "saved": time.time(),
        "process": [process.pid, process.create_time()],
        "scan": draft.scan,
        "slices": draft.slices,
        "shape": painted.labels.shape,
        "affine": painted.affine.tolist(),
        "plane": painted.plane,
        "names": {str(k): str(v) for k, v in painted.names.items()},
        "colours": {str(k): str(v) for k, v in painted.colours.items()},
        "made_by": made_by,
        "done": sorted(draft.done),
        "aside": sorted(draft.aside),
        "grid": _of_grid(painted.grid),
    }


def _draft(
    about: Mapping[str, Any], labels: NDArray[Any], start: NDArray[Any] | None
) -> Draft:
    if about["format"] != _FORMAT or labels.ndim != 3 or labels.dtype.kind != "u":
        raise ValueError("This is no draft of this version.")
    if start is not None and start.shape != labels.shape:
        raise ValueError("The start has another shape than the labels.")
    painted = Segmentation(
        labels,
        np.array(about["affine"], dtype=np.float64).reshape(4, 4),
        {int(k): v for k, v in about["names"].items()},
        plane=about["plane"],
        grid=_to_grid(about["grid"]),
        made_by=about["made_by"],
        colours={int(k): v for k, v in about["colours"].items()},
    )
    return Draft(
        painted,
        start,
        frozenset(about["done"]),
        frozenset(about["aside"]),
        about["scan"],
        about["slices"],
    )


def _of_grid(grid: SourceGrid | None) -> dict[str, Any] | None:
    if grid is None:
        return None
    return {
        "shape": [int(n) for n in grid.shape],
        "transform": np.asarray(grid.transform).tolist(),
        "header": {
            key: np.asarray(value).tolist() for key, value in grid.header.items()
        },
        "format": grid.format,
        "sha256": grid.sha256,
    }


def _to_grid(about: Mapping[str, Any] | None) -> SourceGrid | None:
    if about is None:
        return None
    grid = SourceGrid(**{**about, "shape": tuple(about["shape"])})
    return replace(grid, transform=np.array(about["transform"], dtype=np.float64))


def _lives(about: Mapping[str, Any]) -> bool:
    """Tell whether the process that wrote a draft still runs."""
    number, created = about["process"]
    try:
        return bool(abs(psutil.Process(number).create_time() - created) < 1)
    except psutil.Error:
        return False


def _packed(about: Mapping[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(about).encode(), np.uint8)


def _unpacked(packed: NDArray[np.uint8]) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(packed.tobytes())
    return about
