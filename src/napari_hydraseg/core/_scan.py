"""Scans and masks; see `core.types` for the order and direction of their axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Modality: TypeAlias = Literal["MR", "CT", "US", "XR"]
Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]

MODALITIES: tuple[Modality, ...] = ("MR", "CT", "US", "XR")
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")  # slices along z, y, x


@dataclass(frozen=True, eq=False)
class SourceGrid:
    """The grid of the file that a scan came from: enough to write back on it.

    Attributes
    ----------
    shape : tuple of int
        Shape in the file's own order, trailing single dimensions included.
    transform : ndarray, shape (3, 2)
        For each spatial axis of the file: our axis and the direction (nibabel's
        orientation convention).
    header : mapping
        Raw geometry fields of the header, by the names of the NIfTI standard.
    format : str
        "nifti1", "nifti2", "mgh", "nrrd", "meta", or "image" (2-D picture without
        geometry).
    sha256 : str
        Digests of the scan's files, spaces between, so that no mask is written over
        one of them.
    """

    shape: tuple[int, ...]
    transform: NDArray[np.float64]
    header: Mapping[str, Any] = field(default_factory=dict)
    format: str = "nifti1"
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan of one or more co-registered channels.

    Attributes
    ----------
    data : ndarray, shape (channel, z, y, x)
        Grey values in native byte order.
    affine : ndarray, shape (4, 4)
        Index (z, y, x, 1) to millimetres in (S, P, L).
    names : tuple of str
        One name per channel.
    modality : {"MR", "CT", "US", "XR"} or None
        None where the file does not say and the user did not.
    known : frozenset of str
        Which of "spacing" and "orientation" the file really gave.
    plane : {"axial", "coronal", "sagittal"}
        The acquisition plane.
    grid : SourceGrid or None
        The file's own grid.
    source : str
        A short name for messages. Never written inside a result.
    sha256 : str
        Digest of the file(s), for provenance. Empty if not from a file.
    notes : tuple of str
        What was unusual about the file and how it was read.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    names: tuple[str, ...] = ("image",)
    modality: Modality | None = None
    known: frozenset[str] = frozenset({"spacing", "orientation"})
    plane: Plane = "axial"
    grid: SourceGrid | None = None
    source: str = "scan"
    sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        _, z, y, x = self.data.shape
        return z, y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along z, y, x (1 where the file gave none)."""
        z, y, x = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(z), float(y), float(x)

    @property
    def plane_axis(self) -> int:
        """The voxel axis (0 = z, 1 = y, 2 = x) along which the slices are stacked."""
        return PLANES.index(self.plane)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels on the grid of a scan.

    Attributes
    ----------
    labels : ndarray of uint8 or uint16, shape (z, y, x)
        0 is background.
    affine : ndarray, shape (4, 4)
        As in `Volume`.
    names : mapping of int to str
        Name of each label id.
    annotated : ndarray of bool or None
        What the annotator vouches for: one value per slice of `plane`, or one per
        voxel, or None for all.
    plane : {"axial", "coronal", "sagittal"}
        The plane that a per-slice `annotated` counts in.
    probabilities : ndarray of float32, shape (class, z, y, x), or None
        Softmax output, background first.
    grid : SourceGrid or None
        The grid of the scan's file, so that the mask can be written on it.
    made_by : mapping
        Provenance: model, versions, parameters, fall-backs. Empty for hand-made ones.
    colours : mapping of int to str
        ``#RRGGBB`` by label id, where a file or a person chose one.
    """

    labels: NDArray[Any]
    affine: NDArray[np.float64]
    names: Mapping[int, str] = field(default_factory=dict)
    annotated: NDArray[np.bool_] | None = None
    plane: Plane = "axial"
    probabilities: NDArray[np.float32] | None = None
    grid: SourceGrid | None = None
    made_by: Mapping[str, Any] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along z, y, x."""
        z, y, x = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(z), float(y), float(x)
