"""From the bytes of a file to voxels in our order, without a second copy.

Slices are unpacked one slab at a time and put where they belong in an array that was
allocated once, in native byte order: nothing larger than a slab is ever held twice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import NonFiniteVolume, UnsupportedDtype, UnsupportedShape
from . import frame
from ._limits import check_size
from ._stream import AFTER_THE_LAST_VOXEL, MOST_AFTER, ScanFile

SLAB_BYTES = 2**20  # stays in the processor's cache


@dataclass(frozen=True, eq=False)
class Layout:
    """What a header says: where the voxels are, what they are, and where in space.

    Attributes
    ----------
    shape : tuple of int
        In the file's own order, the fastest axis first.
    dtype : dtype
        As on the disk; of one sample where a voxel has several.
    offset : int
        Bytes before the first voxel.
    affine : ndarray, shape (4, 4)
        Voxel to mm in RAS.
    format : str
        As in `SourceGrid`.
    header : mapping
        As in `SourceGrid`.
    known : frozenset of str
        As in `Volume`.
    slope, inter : float
        Grey value = slope x stored + inter.
    samples : int
        Interleaved values of one voxel (3 or 4: colours).
    quad : {"", "<", ">"}
        Byte order if the stored values are IEEE 754 binary128 numbers, which NumPy has
        not on every machine; `dtype` is then that of their halves.
    notes : tuple of str
        What was unusual.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    affine: NDArray[np.float64]
    format: str
    header: Mapping[str, Any] = field(default_factory=dict)
    known: frozenset[str] = frozenset({"spacing", "orientation"})
    slope: float = 1.0
    inter: float = 0.0
    samples: int = 1
    quad: Literal["", "<", ">"] = ""
    notes: tuple[str, ...] = ()

    @property
    def scaled(self) -> bool:
        """Whether the stored values are not yet grey values."""
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def space(self) -> tuple[int, int, int]:
        """Voxels along the three axes of the file."""
        i, j, k = self.shape[:3]
        return i, j, k

    @property
    def voxel_bytes(self) -> int:
        """Bytes of one voxel on the disk."""
        return self.dtype.itemsize * self.samples * (2 if self.quad else 1)

    @property
    def target(self) -> np.dtype[Any]:
        """Type of the voxels in memory: as stored, in native order; float if scaled."""
        native = self.dtype.newbyteorder("=")
        if self.quad:
            return np.dtype(np.float64)
        return np.dtype(np.float32) if self.scaled and native.kind != "f" else native


def grid_shape(layout: Layout) -> tuple[int, ...]:
    """Shape of a mask for the scan: trailing axes of one stay, others were picked."""
    rest = layout.shape[3:]
    return (*layout.space, *(rest if all(n == 1 for n in rest) else ()))


def read_voxels(
    file: ScanFile,
    layout: Layout,
    transform: NDArray[np.float64],
    *,
    index: int | None = None,
) -> tuple[NDArray[Any], list[str]]:
    """Read one volume and the rest of its file.

    Parameters
    ----------
    file : ScanFile
        Not read yet.
    layout : Layout
        From the file's header.
    transform : ndarray, shape (3, 2)
        From `frame.transform_of`.
    index : int, optional
        Which volume of a 4-D file or which sample of a colour.

    Returns
    -------
    data : ndarray, shape (z, y, x)
        Finite grey values.
    notes : list of str
        What was unusual.

    Raises
    ------
    UnsupportedShape, UnsupportedDtype
        If there are several volumes or colours and none was picked.
    VolumeTooLarge
        If it cannot be held.
    TruncatedFile
        If the file is damaged.
    NonFiniteVolume
        If there is not one number.
    """
    volume, count, sample = pick(layout, index, file.name)
    one = math.prod(layout.space) * layout.voxel_bytes
    check_size(layout.space, layout.target.itemsize, file.name)
    file.require(one * count, after=layout.offset)
    order = transform[:, 0].astype(int)
    size = [0, 0, 0]
    for axis in range(3):
        size[order[axis]] = layout.space[axis]
    ours = np.empty(size, layout.target)
    file.skip(layout.offset + volume * one)
    finite = _fill(file, layout, frame.to_file(ours, transform), sample)
    file.skip((count - volume - 1) * one)
    notes = _notes_on_rest(file, file.finish(leave=True))
    if not finite:
        ours, more = replace_non_finite(ours, file.name)
        notes += more
    return ours, notes


def _notes_on_rest(file: ScanFile, after: int) -> list[str]:
    if not file.packed or after <= AFTER_THE_LAST_VOXEL:
        return []
    if after > MOST_AFTER:
        return [
            "The file goes on without end after its last voxel: it was left there, and "
            "its checksum was not compared. Do not trust it."
        ]
    return [f"{after / 1e6:.0f} MB follow the last voxel; they were left out."]


def pick(layout: Layout, index: int | None, name: str) -> tuple[int, int, int]:
    """Find the volume of several, and the colour, that the user picked.

    Returns
    -------
    volume, count, sample : int
        Number of the volume, how many there are, and which sample of a voxel.

    Raises
    ------
    UnsupportedShape, UnsupportedDtype
        If there is a choice and none was made.
    """
    shape = layout.shape
    if len(shape) < 3:
        raise UnsupportedShape(
            f"{name} has shape {shape}; 3-D is needed.",
            "Save it with a third axis of one, or as a PNG picture.",
        )
    many = [n for n in shape[3:] if n > 1]
    if len(many) > 1 or (many and layout.samples > 1):
        raise UnsupportedShape(
            f"{name} has shape {shape}; 3-D is needed.", "Save one 3-D volume."
        )
    choices = many[0] if many else layout.samples
    if choices == 1:
        return 0, 1, 0
    if index is not None and 0 <= index < choices:
        return (index, choices, 0) if many else (0, 1, index)
    hint = f"Choose one of them: index 0 to {choices - 1}."
    if many:
        raise UnsupportedShape(f"{name} holds {choices} volumes.", hint)
    raise UnsupportedDtype(
        f"{name} is a colour image of {choices} channels; grey is needed.",
        f"Choose a channel: index 0 to {choices - 1}.",
    )


def _fill(file: ScanFile, layout: Layout, target: NDArray[Any], sample: int) -> bool:
    """Read slab by slab into `target` (i, j, k); tell whether all of it is finite."""
    i, j, k = layout.space
    slice_bytes = i * j * layout.voxel_bytes
    step = min(k, max(1, SLAB_BYTES // slice_bytes))
    buffer = np.empty(step * slice_bytes, np.uint8)
    finite = True
    for start in range(0, k, step):
        n = min(step, k - start)
        block = buffer[: n * slice_bytes]
        file.fill(memoryview(block.data))
        values = _values(block, layout, sample).reshape((i, j, n), order="F")
        place = target[:, :, start : start + n]
        with np.errstate(over="ignore"):
            place[...] = values
        if target.dtype.kind == "f":
            finite = finite and bool(np.isfinite(place).all())
    return finite


def _values(block: NDArray[np.uint8], layout: Layout, sample: int) -> NDArray[Any]:
    """Grey values of a block of bytes, flat."""
    stored: NDArray[Any] = block.view(layout.dtype)
    if layout.quad:
        stored = _from_quad(stored.reshape(-1, 2), layout.quad)
    if layout.samples > 1:
        stored = stored.reshape(-1, layout.samples)[:, sample]
    if not layout.scaled:
        return stored
    # in float64, as the standard's C code: CT offsets cancel large numbers
    with np.errstate(over="ignore", invalid="ignore"):
        return stored * np.float64(layout.slope) + np.float64(layout.inter)


def _from_quad(halves: NDArray[Any], order: str) -> NDArray[np.float64]:
    """Round IEEE 754 binary128 numbers to float64, from (n, 2) unsigned halves."""
    lower, upper = halves.astype(np.uint64).T[:: 1 if order == "<" else -1]
    exponent = ((upper >> np.uint64(48)) & np.uint64(0x7FFF)).astype(np.int64)
    fraction = (upper & np.uint64(2**48 - 1)).astype(np.float64) * 2.0**-48
    fraction += lower.astype(np.float64) * 2.0**-112
    with np.errstate(over="ignore", under="ignore"):
        size = np.ldexp(1 + fraction, np.clip(exponent - 16383, -2000, 2000))
    size[exponent == 0] = 0  # their subnormals are below anything of float64
    special = exponent == 0x7FFF
    size[special] = np.where(fraction[special] > 0, np.nan, np.inf)
    value: NDArray[np.float64] = np.where(upper >> np.uint64(63), -size, size)
    return value


def replace_non_finite(data: NDArray[Any], name: str) -> tuple[NDArray[Any], list[str]]:
    """Replace NaN by the smallest and infinities by the extreme finite values.

    Parameters
    ----------
    data : ndarray of float
        Changed in place.
    name : str
        Name for messages.

    Raises
    ------
    NonFiniteVolume
        If there is no finite value.
    """
    low, high, count = np.inf, -np.inf, 0
    for plane in data:  # by planes: no mask of the whole volume is held
        good = plane[np.isfinite(plane)]
        count += plane.size - good.size
        if good.size:
            low, high = min(low, good.min()), max(high, good.max())
    if low > high:
        raise NonFiniteVolume(
            f"{name} holds not one finite value.", "Export the scan again."
        )
    for plane in data:
        np.nan_to_num(plane, copy=False, nan=low, posinf=high, neginf=low)
    return data, [f"{count} voxels were no finite numbers and were replaced."]
