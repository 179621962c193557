"""Scans: files to volumes."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    BadSpacing,
    GeometryMismatchError,
    NonFiniteVolume,
    NotAVolume,
    UnsupportedShape,
)
from ..types import Modality, SourceGrid, Volume
from . import frame, images, nifti

AnyPath: TypeAlias = str | Path

# two files share a grid if no corner differs by more; float32 headers round to 1e-5
SAME_GRID_MM = 1e-2


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
        A NIfTI file or a picture (PNG, JPEG, TIFF); several paths are the
        co-registered channels of one volume.
    names : sequence of str
        Channel names; default: "image", or the ends of the file names.
    modality : {"MR", "CT", "US", "XR"}, optional
        NIfTI files and pictures do not say.
    series : str, optional
        For DICOM folders, which are not read yet.
    index : int, optional
        Which volume of a 4-D file or which channel of a colour picture.
    regularise : bool
        For DICOM folders.
    resample : bool
        Resample further channels onto the grid of the first.
    assume_spacing_mm : float, optional
        Voxel size in mm to use for a picture.

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
        read_scan(Path(path), index=index, series=series, regularise=regularise)
        for path in listed
    ]
    first = volumes[0]
    channels = [first.data[0]] + [
        _on_grid_of(first, other, resample=resample) for other in volumes[1:]
    ]
    volume = replace(
        first,
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
        and suffix_of(path) in (".nii", ".nii.gz", *images.SUFFIXES)
    )


def read_scan(
    path: Path,
    *,
    index: int | None = None,
    series: str | None = None,
    regularise: bool = False,
) -> Volume:
    """Load one file, or one folder of DICOM, as one channel; see `load_volume`."""
    if path.is_dir():
        return _dicom_series(path, series=series, regularise=regularise)
    content, digest = nifti.read_bytes(path)
    if content.startswith(images.MAGIC):
        data, affine, grid, notes = images.parse(content, path.name, index=index)
    else:
        data, affine, grid, notes = nifti.parse(content, path.name)
    data = _three_axes(data, path.name, index)
    data, more = _finite(data, path.name)
    transform = frame.transform_of(affine)
    grid = replace(grid, transform=transform)
    ours = frame.to_ours(data, transform)
    volume = Volume(
        data=ours[None],
        affine=frame.affine_to_ours(affine, transform, data.shape),
        known=_known(grid),
        grid=grid,
        source=path.name,
        sha256=digest,
        notes=(*notes, *more),
    )
    _check_spacing(volume)
    return replace(
        volume, plane=frame.acquisition_plane(volume.shape, volume.spacing_mm)
    )


def _dicom_series(path: Path, *, series: str | None, regularise: bool) -> Volume:
    try:
        dicom = import_module(".dicom", __package__)
    except ModuleNotFoundError as error:
        raise NotAVolume(
            f"{path.name} is a folder; DICOM series cannot be read here.",
            "Convert the series to NIfTI, for instance with dcm2niix.",
        ) from error
    volume: Volume = dicom.read_series(path, series=series, regularise=regularise)
    return volume


def _three_axes(data: NDArray[Any], name: str, index: int | None) -> NDArray[Any]:
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim == 4 and index is not None and 0 <= index < data.shape[3]:
        return data[..., index]
    if data.ndim == 3:
        return data
    hint = "Choose one of them (index)." if data.ndim == 4 else "Save one 3-D volume."
    raise UnsupportedShape(f"{name} has shape {data.shape}; 3-D is needed.", hint)


def _finite(data: NDArray[Any], name: str) -> tuple[NDArray[Any], list[str]]:
    """Replace NaN by the smallest and infinities by the extreme finite values."""
    if data.dtype.kind != "f":
        return data, []
    finite = np.isfinite(data)
    if finite.all():
        return data, []
    if not finite.any():
        raise NonFiniteVolume(f"{name} holds not one finite value.")
    low, high = data[finite].min(), data[finite].max()
    count = int(data.size - finite.sum())
    return np.nan_to_num(data, nan=low, posinf=high, neginf=low), [
        f"{count} voxels were no finite numbers and were replaced."
    ]


def _known(grid: SourceGrid) -> frozenset[str]:
    if grid.format == "image":
        return frozenset()
    if grid.header["qform_code"] == 0 and grid.header["sform_code"] == 0:
        return frozenset({"spacing"})
    return frozenset({"spacing", "orientation"})


def _check_spacing(volume: Volume) -> None:
    for size in volume.spacing_mm:
        # outside of these no scanner works; units are then wrong
        if not 1e-4 <= size <= 1e3:
            raise BadSpacing(
                f"{volume.source} has a voxel size of {size:.3g} mm.",
                "Check the units in its header.",
            )


def _on_grid_of(first: Volume, other: Volume, *, resample: bool) -> NDArray[Any]:
    """Voxels of `other` on the grid of `first`, linearly interpolated if need be."""
    if other.shape == first.shape:
        corner = np.array([*first.shape, 1.0])
        apart = np.abs((first.affine - other.affine) @ corner).max()
        if apart <= SAME_GRID_MM:
            voxels: NDArray[Any] = other.data[0]
            return voxels
    if not resample:
        raise GeometryMismatchError(
            f"{other.source} lies on another grid than {first.source}.",
            "Resample it onto the first (--resample).",
        )
    from scipy import ndimage

    matrix = np.linalg.inv(other.affine) @ first.affine
    return np.asarray(
        ndimage.affine_transform(
            other.data[0].astype(np.float32),
            matrix[:3, :3],
            matrix[:3, 3],
            output_shape=first.shape,
            order=1,
        )
    )


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
