"""The frame through which a model sees a slice: turned, scaled, cut out, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from skimage.transform import resize

Array = NDArray[np.float32]
Align = Literal["edges", "first"]

OURS = "P,L"
_DIRECTIONS = {"P": (0, False), "A": (0, True), "L": (1, False), "R": (1, True)}


@dataclass(frozen=True)
class Frame:
    """From the slices of a scan to those that a model sees.

    Attributes
    ----------
    native : tuple of int
        Rows and columns (of blocks: z, y, x) of the scan.
    size : tuple of int
        The same after scaling.
    orientation : str
        Directions of the model's rows and columns; ours are "P,L".
    align : {"edges", "first"}
        What stays in place while scaling: the edges of the picture, or the middle of
        its first pixel.
    crop : int or None
        Rows and columns of the middle that are kept; None: all. A picture that is not
        larger in both is kept whole.
    box : tuple of (int, int)
        First and one past the last of rows and columns (of blocks: z, y, x) of the
        scan that are looked at, before all else; (): all.
    """

    native: tuple[int, ...]
    size: tuple[int, ...]
    orientation: str = OURS
    align: Align = "edges"
    crop: int | None = None
    box: tuple[tuple[int, int], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether it only scales, with edges aligned."""
        cut = self.box or self.cuts
        return (self.orientation, self.align) == (OURS, "edges") and not cut

    @property
    def cuts(self) -> bool:
        """Whether only the middle is looked at."""
        return self._window is not None

    def reaches_edge(self, labels: NDArray[Any]) -> bool:
        """Whether labels (slice, row, column) touch the edge of what is looked at."""
        seen = self.enter_labels(labels)
        edges = (seen[..., 0], seen[..., -1], seen[..., 0, :], seen[..., -1, :])
        return any(edge.any() for edge in edges)

    def enter(self, slices: NDArray[Any]) -> Array:
        """Bring grey values (..., row, column) into the frame."""
        turned = self._turned(slices[self._boxed])
        shape = (*turned.shape[: -len(self.size)], *self._size)
        scaled = (
            scale(turned, shape) if self.align == "edges" else _sample(turned, shape, 1)
        )
        return np.ascontiguousarray(scaled[self._kept])

    def enter_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Bring labels (slice, row, column) into the frame, by the nearest voxel."""
        turned = self._turned(labels[self._boxed])
        shape = (len(labels), *self._size)
        scaled = (
            scale_labels(turned, shape)
            if self.align == "edges"
            else _sample(turned, shape, 0)
        )
        return np.ascontiguousarray(scaled[self._kept])

    def leave(self, answer: Array, outside: Sequence[float]) -> Array:
        """Bring an answer back to the scan's own slices.

        Parameters
        ----------
        answer : ndarray of float32, shape (n, k, row, column)
            What the model says inside the frame.
        outside : sequence of float
            What is taken to hold around it, for each of k.

        Returns
        -------
        ndarray of float32, shape (n, k, *native)
        """
        whole = np.empty((*answer.shape[:2], *self._size), np.float32)
        fill = np.asarray(outside, np.float32)
        whole[:] = fill.reshape(-1, *(1,) * len(self._size))
        whole[self._kept] = answer
        inner = tuple(stop - start for start, stop in self.box) or self.native
        shape = (*answer.shape[:2], *self._swapped(inner))
        scaled = (
            scale(whole, shape) if self.align == "edges" else _sample(whole, shape, 1)
        )
        return self._unboxed(self._turned_back(scaled), outside)

    def _unboxed(self, answer: Array, outside: Sequence[float]) -> Array:
        if not self.box:
            return np.ascontiguousarray(answer)
        whole = np.empty((*answer.shape[:2], *self.native), np.float32)
        fill = np.asarray(outside, np.float32)
        whole[:] = fill.reshape(-1, *(1,) * len(self.native))
        whole[self._boxed] = answer
        return whole

    @property
    def _boxed(self) -> tuple[Any, ...]:
        return (..., *(slice(start, stop) for start, stop in self.box))

    @property
    def _size(self) -> tuple[int, ...]:
        """Of the scaled picture in the model's directions."""
        return self._swapped(self.size)

    @property
    def _window(self) -> int | None:
        """Side of what is kept, where something is cut off."""
        fits = self.crop is None or min(self.size) <= self.crop
        return None if fits else self.crop

    @property
    def _kept(self) -> tuple[Any, ...]:
        side = self._window
        if side is None:
            return (...,)
        starts = [n // 2 - side // 2 for n in self._size]
        return (..., *(slice(start, start + side) for start in starts))

    @property
    def _axes(self) -> list[tuple[int, bool]]:
        """Our axis, and whether it runs backwards, of the model's rows and columns."""
        return [_DIRECTIONS[letter] for letter in self.orientation.split(",")]

    def _swapped(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[::-1] if self._axes[0][0] else shape

    def _turned(self, slices: NDArray[Any]) -> NDArray[Any]:
        """From rows towards P and columns towards L to the model's directions."""
        turned = slices.swapaxes(-1, -2) if self._axes[0][0] else slices
        return np.flip(turned, self._backwards)

    def _turned_back(self, slices: Array) -> Array:
        turned = np.flip(slices, self._backwards)
        return turned.swapaxes(-1, -2) if self._axes[0][0] else turned

    @property
    def _backwards(self) -> tuple[int, ...]:
        return tuple(i - 2 for i, (_, back) in enumerate(self._axes) if back)


def scale(data: NDArray[Any], shape: tuple[int, ...]) -> Array:
    """Interpolate linearly to another size, smoothing first where it shrinks."""
    if data.shape == shape:
        return np.ascontiguousarray(data, dtype=np.float32)
    # scikit-image smooths with a Gaussian of (factor - 1) / 2 along shrinking axes
    scaled = resize(
        data.astype(np.float32, copy=False),
        shape,
        order=1,
        mode="edge",
        anti_aliasing=True,
        preserve_range=True,
    )
    return np.ascontiguousarray(scaled, dtype=np.float32)


def scale_labels(labels: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Bring labels to another size by the nearest voxel, edges aligned."""
    for axis, (n, m) in enumerate(zip(labels.shape, shape, strict=True)):
        if n != m:
            places = np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
            labels = labels.take(places, axis)
    return labels


def _sample(data: NDArray[Any], shape: tuple[int, ...], order: int) -> NDArray[Any]:
    """Read values between pixels, the middle of the first one staying in place."""
    steps = [n / m for n, m in zip(data.shape, shape, strict=True)]
    kind = np.float32 if order else data.dtype
    sampled: NDArray[Any] = affine_transform(
        data.astype(kind, copy=False),
        steps,
        output_shape=shape,
        order=order,
        mode="nearest",
    )
    return sampled
