"""One file, or one DICOM folder, as a volume of one channel.

What a file is, its content tells and not its name.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import NotAVolume
from ..types import SourceGrid, Volume
from . import dicom, frame, images, itk, mgz, nifti
from ._names import short_name
from ._sniff import kind_of, looks_like
from ._stream import ScanFile
from ._voxels import Layout, grid_shape, read_voxels, replace_non_finite

USUAL_MM = (1e-3, 100.0)  # from microscopes to the slice gap of a scout

# voxels (z, y, x), what the header says, digest, what was unusual
Read: TypeAlias = tuple[NDArray[Any], Layout, str, list[str]]


def read_scan(
    path: Path,
    *,
    index: int | None = None,
    series: str | None = None,
    regularise: bool = False,
    ids: bool = False,
    assume_spacing_mm: float | None = None,
) -> Volume:
    """Load one file, or one folder of DICOM, as one channel; see `load_volume`.

    `ids` asks for the numbers of a palette picture (labels) and not its colours.
    """
    if path.is_dir() or _kind(path) == "dicom":
        return dicom.read_series(
            path,
            series=series,
            regularise=regularise,
            index=index,
            assume_spacing_mm=assume_spacing_mm,
        )
    return _as_volume(
        *_scan(path, index=index, ids=ids, assume_spacing_mm=assume_spacing_mm),
        short_name(path),
    )


def _kind(path: Path) -> str:
    with ScanFile(path) as file:
        return kind_of(file.head)


def _scan(
    path: Path, *, index: int | None, ids: bool, assume_spacing_mm: float | None
) -> Read:
    header, voxels = nifti.twin_of(path) or (path, path)
    if not header.exists():
        header = path  # perhaps another format under this ending
    with ScanFile(header) as file:
        kind = kind_of(file.head)
        if kind in ("pair", "analyze"):
            return _pair(file, voxels, index, assume_spacing_mm)
        if header != path:
            raise _no_scan(path, file)
        if kind in ("nifti", "mgh"):
            return _stream(path, file, index, assume_spacing_mm)
        if kind == "picture":
            content = file.rest(images.LARGEST_FILE)
            values, layout = images.read(content, file.name, index=index, ids=ids)
            return _turned(values, layout, file.sha256, file.name)
        if kind == "nrrd" or kind == "meta":
            values, layout, digest = itk.read(path, file, kind, index=index)
            return _turned(values, layout, digest, file.name)
        raise _no_scan(path, file)


def _stream(
    path: Path, file: ScanFile, index: int | None, assume_spacing_mm: float | None
) -> Read:
    """Read voxels that follow their header."""
    if kind_of(file.head) == "mgh":
        layout = mgz.layout_of(file.head, file.name)
    else:
        layout = nifti.layout_of(
            file.head, file.name, single=True, assume_spacing_mm=assume_spacing_mm
        )
    transform = frame.transform_of(layout.affine)
    data, notes = read_voxels(file, layout, transform, index=index)
    return data, layout, file.sha256, [*notes, *_misnamed(path, file)]


def _turned(values: NDArray[Any], layout: Layout, digest: str, name: str) -> Read:
    """Bring voxels that a library read into our order."""
    ours = frame.to_ours(values, frame.transform_of(layout.affine))
    if ours.dtype.kind != "f" or np.isfinite(ours).all():
        return ours, layout, digest, []
    ours, notes = replace_non_finite(ours, name)
    return ours, layout, digest, notes


def _pair(
    file: ScanFile, voxels: Path, index: int | None, assume_spacing_mm: float | None
) -> Read:
    """Read the voxels that lie beside a header."""
    if not nifti.twin_of(voxels):
        why = (
            "says that its voxels lie in a second file"
            if kind_of(file.head) == "pair"
            else "has no NIfTI magic in its header"
        )
        raise NotAVolume(f"{file.name} {why}.", "Export the scan again.")
    layout = nifti.layout_of(
        file.head, file.name, single=False, assume_spacing_mm=assume_spacing_mm
    )
    file.finish()
    if not voxels.exists():
        raise NotAVolume(
            f"{file.name} is one file of two; {short_name(voxels)} is missing.",
            "Copy both into one folder.",
        )
    transform = frame.transform_of(layout.affine)
    with ScanFile(voxels) as other:
        data, notes = read_voxels(other, layout, transform, index=index)
        both = file.sha256 + other.sha256
    return data, layout, hashlib.sha256(both.encode()).hexdigest(), notes


def _no_scan(path: Path, file: ScanFile) -> NotAVolume:
    twins = nifti.twin_of(path)
    if twins is not None and twins[1] == path:
        return NotAVolume(
            f"{file.name} is one file of two; {short_name(twins[0])} is missing.",
            "Copy both into one folder.",
        )
    return NotAVolume(
        f"{file.name} is {looks_like(file.head)}.",
        "Choose a NIfTI, MGZ, NRRD or MHA file, a picture, or a DICOM folder.",
    )


def _misnamed(path: Path, file: ScanFile) -> list[str]:
    named = path.name.lower().endswith((".gz", ".mgz"))
    if named == file.packed:
        return []
    return [
        "The file is packed, though its name does not say so."
        if file.packed
        else "The file is not packed, though its name says so."
    ]


def _as_volume(
    data: NDArray[Any], layout: Layout, digest: str, notes: list[str], name: str
) -> Volume:
    """Put together what was read, and look at what only the whole can tell."""
    transform = frame.transform_of(layout.affine)
    volume = Volume(
        data=data[None],
        affine=frame.affine_to_ours(layout.affine, transform, layout.space),
        known=layout.known,
        grid=SourceGrid(
            shape=grid_shape(layout),
            transform=transform,
            header=layout.header,
            format=layout.format,
            sha256=digest,
        ),
        source=name,
        sha256=digest,
    )
    return replace(
        volume,
        plane=frame.acquisition_plane(volume.shape, volume.spacing_mm),
        notes=(*layout.notes, *notes, *_odd_sizes(volume), *_no_contrast(data)),
    )


def _odd_sizes(volume: Volume) -> list[str]:
    return [
        f"A voxel size of {size:.3g} mm is unusual; check the units in the header."
        for size in dict.fromkeys(volume.spacing_mm)
        if not USUAL_MM[0] <= size <= USUAL_MM[1]
    ]


def _no_contrast(data: NDArray[Any]) -> list[str]:
    first = data.flat[0]
    if any((plane != first).any() for plane in data):  # ends at the first that differs
        return []
    return ["All voxels have the same value: there is no contrast."]
