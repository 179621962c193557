"""Files to nouns and back.

Everything that knows about (x, y, z) order, RAS or LPS is in this package.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    BadSpacing,
    GeometryMismatchError,
    HydraSegError,
    LabelDtype,
    NonFiniteVolume,
    NotAVolume,
    SaveError,
    UnknownLabelId,
    UnsupportedShape,
)
from ..types import Modality, Segmentation, SourceGrid, Volume
from . import frame, images, nifti
from .atomic import atomic_write

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
    volumes = [_load_one(Path(path), index=index) for path in listed]
    first = volumes[0]
    channels = [first.data[0]] + [
        _on_grid_of(first, other, resample=resample) for other in volumes[1:]
    ]
    volume = replace(
        first,
        data=np.stack(channels) if len(channels) > 1 else first.data,
        names=tuple(names) or _channel_names(listed),
        modality=modality,
        sha256=first.sha256
        if len(volumes) == 1
        else hashlib.sha256("".join(v.sha256 for v in volumes).encode()).hexdigest(),
        notes=tuple(dict.fromkeys(note for v in volumes for note in v.notes)),
    )
    return _with_spacing(volume, assume_spacing_mm)


def load_segmentation(
    path: AnyPath, *, names: Mapping[int, str] | None = None
) -> Segmentation:
    """Load labels.

    Parameters
    ----------
    path : path
        A NIfTI file or a PNG of whole numbers.
    names : mapping of int to str, optional
        Label names; default: from the table of label names beside the file, if any.

    Returns
    -------
    Segmentation
        All of it annotated.

    Raises
    ------
    LabelDtype
        If a value is not a whole number.
    UnknownLabelId
        If a value is below 0 or above 65535.
    """
    file = Path(path)
    volume = _load_one(file)
    values = volume.data[0]
    if values.dtype.kind == "f" and not (np.floor(values) == values).all():
        raise LabelDtype(
            f"{file.name} holds values that are no whole numbers.",
            "Choose a file of labels, not an image.",
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise UnknownLabelId(
            f"{file.name} holds label ids from {low} to {high}; 0 to 65535 are used.",
            "Renumber the labels.",
        )
    return Segmentation(
        labels=values.astype(_label_type(high)),
        affine=volume.affine,
        names=dict(names) if names is not None else _read_names(file),
        plane=volume.plane,
        grid=volume.grid,
    )


def save_segmentation(
    segmentation: Segmentation, path: AnyPath, *, overwrite: bool = False
) -> None:
    """Write labels on the grid of the file that the scan came from.

    The header is a fresh one that carries nothing but geometry. Label names are
    written beside it as a table (``index``, ``name``; tab-separated).

    Parameters
    ----------
    segmentation : Segmentation
        Labels of uint8 or uint16.
    path : path
        Ends in ``.nii``, ``.nii.gz`` or, for a picture, ``.png``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    SaveError
        If the file exists, the folder cannot be written, or the disk is full.
    GeometryMismatchError
        If the labels no longer have the shape of the source.
    """
    file = Path(path)
    grid = segmentation.grid or _plain_grid(segmentation)
    highest = int(segmentation.labels.max(initial=0))
    labels = frame.to_file(
        segmentation.labels.astype(_label_type(highest)), grid.transform
    )
    if labels.size != np.prod(grid.shape) or labels.shape != grid.shape[:3]:
        raise GeometryMismatchError(
            f"The labels have {labels.shape} voxels, the scan {grid.shape[:3]}.",
            "Save them on the scan that they were made on.",
        )
    labels = labels.reshape(grid.shape)
    affine_ras = frame.affine_to_file(segmentation.affine, grid.transform, grid.shape)
    suffix = _suffix(file)
    if suffix not in (".nii", ".nii.gz", ".png"):
        raise SaveError(
            f"Masks are written as .nii.gz, .nii or .png, not as {file.name}.",
            "Change the ending of the name.",
        )
    if suffix == ".png" and grid.format != "image":
        raise SaveError(f"{file.name} is one picture.", "Save a volume as .nii.gz.")
    atomic_write(
        file,
        lambda stream: (
            stream.write(images.write(labels))
            if suffix == ".png"
            else nifti.write(
                stream, labels, grid, affine_ras, compress=suffix == ".nii.gz"
            )
        ),
        overwrite=overwrite,
    )
    if segmentation.names:
        _write_names(segmentation.names, file, overwrite=overwrite)


def scans_in(folder: AnyPath) -> list[Path]:
    """List the files of a folder that can be scans, in the order of their names."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.is_file()
        and not path.name.startswith(".")
        and _suffix(path) in (".nii", ".nii.gz", *images.SUFFIXES)
    )


def _load_one(path: Path, *, index: int | None = None) -> Volume:
    if path.is_dir():
        raise NotAVolume(
            f"{path.name} is a folder; DICOM series are not read yet.",
            "Convert the series to NIfTI, for instance with dcm2niix.",
        )
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


def _label_type(highest: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if highest <= np.iinfo(np.uint8).max else np.uint16


def _plain_grid(segmentation: Segmentation) -> SourceGrid:
    """Make up a grid in RAS order for labels that came from no file."""
    transform = np.array([[2, -1], [1, -1], [0, 1]], dtype=np.float64)
    return SourceGrid(shape=segmentation.labels.shape[::-1], transform=transform)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def names_path(path: AnyPath) -> Path:
    """Where the table of label names of a mask lies: the same name, ``.tsv``."""
    file = Path(path)
    return file.with_name(file.name[: -len(_suffix(file)) or None] + ".tsv")


def _write_names(names: Mapping[int, str], mask: Path, *, overwrite: bool) -> None:
    lines = ["index\tname", *(f"{i}\t{name}" for i, name in sorted(names.items()))]
    text = "\n".join(lines) + "\n"
    atomic_write(
        names_path(mask), lambda s: s.write(text.encode()), overwrite=overwrite
    )


def _read_names(mask: Path) -> dict[int, str]:
    table = names_path(mask)
    if not table.is_file():
        return {}
    try:
        rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()[1:]]
        return {int(row[0]): row[1] for row in rows if len(row) > 1}
    except (ValueError, UnicodeDecodeError) as error:
        raise HydraSegError(
            f"{table.name} is no table of label names.", "Remove or mend it."
        ) from error
