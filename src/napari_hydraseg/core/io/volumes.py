"""Scans: files to volumes."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    GeometryMismatchError,
    NotAVolume,
    UnsupportedShape,
)
from ..types import Modality, Volume
from . import images, regrid
from .scan import read_scan as read_scan

AnyPath: TypeAlias = str | Path

# of a pair of files, the one with the header
SCAN_SUFFIXES = tuple(".nii .nii.gz .hdr .mgh .mgz .nrrd .nhdr .mha .mhd".split())


def load_volume(
    paths: AnyPath | Iterable[AnyPath],
    *,
    names: Sequence[str] = (),
    modality: Modality | None = None,
    series: str | None = None,
    index: int | None = None,
    regularise: bool = False,
    resample: bool = False,
    assume_spacing_mm: float | None = None,
) -> Volume:
    """Load a scan.

    Parameters
    ----------
    paths : path or iterable of paths
        A file (NIfTI, Analyze, MGZ, NRRD, MetaImage; a PNG, JPEG or TIFF picture) or
        a DICOM folder; several paths are the co-registered channels of one volume.
    names : sequence of str
        Channel names; default: "image", or the ends of the file names.
    modality : {"MR", "CT", "US", "XR"}, optional
        NIfTI files and pictures do not say.
    series : str, optional
        Which of several DICOM series of a folder.
    index : int, optional
        Which volume of a 4-D file or which channel of a colour picture.
    regularise : bool
        Resample a DICOM series of uneven slices.
    resample : bool
        Resample further channels onto the grid of the first.
    assume_spacing_mm : float, optional
        Voxel size in mm to use where the file gives none.

    Returns
    -------
    Volume
        Voxels in the order (channel, z, y, x).

    Raises
    ------
    VolumeReadError
        If a file is damaged, or no grey-value image.
    GeometryMismatchError
        If channels lie on different grids and `resample` is False.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    if not listed:
        raise NotAVolume("No file was given.", "Choose a scan file.")
    if names and len(names) != len(listed):
        raise UnsupportedShape(
            f"{len(listed)} files came with {len(names)} channel names.",
            "Give one name per file.",
        )
    volumes = [
        read_scan(
            Path(path),
            index=index,
            series=series,
            regularise=regularise,
            assume_spacing_mm=assume_spacing_mm,
        )
        for path in listed
    ]
    first = volumes[0]
    channels = [first.data[0]] + [
        _on_grid_of(first, other, resample=resample) for other in volumes[1:]
    ]
    grid = first.grid
    if grid is not None and len(volumes) > 1:  # none of them is written over
        grid = replace(grid, sha256=" ".join(v.sha256 for v in volumes))
    volume = replace(
        first,
        grid=grid,
        data=np.stack(channels) if len(channels) > 1 else first.data,
        names=tuple(names) or _channel_names(listed),
        modality=modality or first.modality,
        sha256=first.sha256
        if len(volumes) == 1
        else hashlib.sha256("".join(v.sha256 for v in volumes).encode()).hexdigest(),
        notes=tuple(dict.fromkeys(note for v in volumes for note in v.notes)),
    )
    return _with_spacing(volume, assume_spacing_mm)


def scans_in(folder: AnyPath) -> list[Path]:
    """List the files of a folder that can be scans, in the order of their names."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.is_file()
        and not path.name.startswith(".")
        and suffix_of(path) in (*SCAN_SUFFIXES, *images.SUFFIXES)
    )


def _on_grid_of(first: Volume, other: Volume, *, resample: bool) -> NDArray[Any]:
    """Voxels of `other` on the grid of `first`, linearly interpolated if need be."""
    voxels: NDArray[Any] = other.data[0]
    if regrid.same_grid(first.shape, first.affine, other.shape, other.affine):
        return voxels
    if not resample:
        raise GeometryMismatchError(
            f"{other.source} lies on another grid than {first.source}.",
            "Let it be resampled onto the first.",
            "--resample",
        )
    return regrid.onto(voxels, other.affine, first.shape, first.affine)


def _with_spacing(volume: Volume, spacing_mm: float | None) -> Volume:
    if spacing_mm is None or "spacing" in volume.known:
        return volume
    scale = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    return replace(
        volume,
        affine=scale @ volume.affine,
        known=volume.known | {"spacing"},
        notes=(*volume.notes, f"A voxel size of {spacing_mm} mm was assumed."),
    )


def _channel_names(paths: list[AnyPath]) -> tuple[str, ...]:
    if len(paths) == 1:
        return ("image",)
    ends = tuple(Path(p).name.split(".")[0].rsplit("_", 1)[-1] for p in paths)
    if len(set(ends)) == len(ends):
        return ends
    return tuple(f"channel {i + 1}" for i in range(len(paths)))


def suffix_of(path: Path) -> str:
    """Return the ending of a file's name in lower case, ``.nii.gz`` as one."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()
