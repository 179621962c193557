"""What a file may ask for before a byte of it is believed."""

import math
from collections.abc import Iterable

import psutil

from ..errors import VolumeTooLarge

MAX_VOXELS = 2**31  # of one volume: 1290 along each side
# Deflate packs at most 258 bytes into 2 bits: RFC 1951, section 3.2.5
MOST_PACKED = 1032
_GB = 1e9


def check_size(shape: Iterable[int], itemsize: int, name: str) -> None:
    """Refuse a volume that cannot be held, before anything is allocated.

    Parameters
    ----------
    shape : iterable of int
        Voxels along each axis, as the header promises.
    itemsize : int
        Bytes of a voxel in memory.
    name : str
        Name for messages.

    Raises
    ------
    VolumeTooLarge
        If there are more than `MAX_VOXELS`, or more bytes than memory is free.
    """
    voxels = math.prod(int(n) for n in shape)
    if voxels > MAX_VOXELS:
        raise VolumeTooLarge(
            f"{name} promises {voxels:.3g} voxels; the limit is {MAX_VOXELS:.3g}.",
            "Crop or resample the scan.",
        )
    wanted, free = voxels * itemsize, free_bytes()
    if wanted > free:
        raise VolumeTooLarge(
            f"{name} needs {wanted / _GB:.2f} GB of memory; {free / _GB:.2f} GB are "
            "free.",
            "Close other programs, or crop or resample the scan.",
        )


def free_bytes() -> int:
    """Memory that this process may still take: the system's, or its own limit's."""
    free = int(psutil.virtual_memory().available)
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return free
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return free
    return max(0, min(free, limit - int(psutil.Process().memory_info().vms)))
