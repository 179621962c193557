"""Features of changed slices, computed once by a frozen encoder and kept."""

import shutil
import tempfile
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RAM_BYTES = 2**30  # of kept features; more goes to a file
DISK_BYTES = 8 * 2**30

Example: TypeAlias = tuple[list[Tensor], Tensor]
"""Features of one slice or block, and its class indices, shape (1, *size)."""


class Kept:
    """A list of examples in half precision: in memory, and beyond that in a file.

    The file has no name, so that nothing is left behind however a run ends.
    """

    def __init__(self) -> None:
        self._examples: list[Example] = []
        self._file: _File | None = None
        self.bytes = 0
        self.full = False

    def __len__(self) -> int:
        return len(self._examples)

    def add(self, features: Sequence[Tensor], labels: Tensor) -> None:
        """Keep one example; `full` says that neither memory nor disk takes more."""
        halves = [maps.half().cpu() for maps in features]
        size = sum(maps.nbytes for maps in halves)
        if self.bytes + size > RAM_BYTES:
            self._file = self._file or _File()
            halves = [self._file.add(maps) for maps in halves]
            self.full = self._file.left < size
        self.bytes += size
        self._examples.append((halves, labels))

    def pick(self, which: Sequence[int]) -> Example:
        """Stack some examples, in full precision."""
        picked = [self._examples[i] for i in which]
        levels = zip(*(features for features, _ in picked), strict=True)
        stacked = [torch.cat(maps).float() for maps in levels]
        return stacked, torch.cat([labels for _, labels in picked])


class _File:
    """Room on the disk that the system pages in when it is read; maybe none."""

    def __init__(self) -> None:
        self._size = self._used = 0
        self._room: NDArray[np.float16] = np.zeros(0, np.float16)
        try:
            # never more than half of what is free: a full disk would kill the process
            free = shutil.disk_usage(tempfile.gettempdir()).free
            size = max(1, min(DISK_BYTES, free // 2) // 2)
            with tempfile.TemporaryFile() as file:
                self._room = np.memmap(file, np.float16, "w+", shape=(size,))
            self._size = size
        except OSError:
            return  # no folder, or a full disk: what is in memory has to do

    @property
    def left(self) -> int:
        """Bytes that still fit."""
        return 2 * (self._size - self._used)

    def add(self, maps: Tensor) -> Tensor:
        """Move a tensor there; it stays in memory where there is no room."""
        if 2 * maps.numel() > self.left:
            return maps
        part = self._room[self._used : self._used + maps.numel()]
        part[:] = maps.contiguous().view(-1).numpy()
        self._used += maps.numel()
        return torch.from_numpy(part).view(maps.shape)
