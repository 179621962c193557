"""What fine-tuning and pre-training share: prepared cases and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import augment, grid
from ._matching import vouched_voxels
from .losses import IGNORE
from .types import ModelSpec, Segmentation, Volume

ALONE = 0.15  # share of 2.5-D slices that are shown without their neighbours


@dataclass(frozen=True, eq=False)
class Case:
    """A scan with labels, as a model wants it.

    A volumetric model sees one block: where slices are spoken of, there is one.

    Attributes
    ----------
    images : ndarray of float16, shape (slice, channel, h, w) or (1, channel, z, y, x)
        Normalised and scaled.
    labels : ndarray of uint8, shape (slice, h, w) or (1, z, y, x)
        Class indices; `IGNORE` where nobody vouches.
    classes : mapping of int to ndarray of int
        Painted class -> the slices that show it.
    annotated : ndarray of int
        Slices on which something is vouched for.
    name : str
        For logs; never saved.
    voxel_mm : tuple of float
        Size of what the model sees along each axis; empty: not known.
    """

    images: NDArray[np.float16]
    labels: NDArray[np.uint8]
    classes: Mapping[int, NDArray[np.int64]]
    annotated: NDArray[np.int64]
    name: str = ""
    voxel_mm: tuple[float, ...] = ()

    @property
    def painted(self) -> list[int]:
        """Slices on which some class is painted."""
        return sorted({int(i) for shown in self.classes.values() for i in shown})

    def triple(self, index: int, slices: int, *, alone: bool = False) -> Tensor:
        """Return slice `index`, with its neighbours as further channels (2.5-D).

        `alone`: it stands in for them, as in a scan of one slice.
        """
        if self.images.ndim == 5:
            return torch.from_numpy(self.images[index].astype(np.float32))
        if alone:
            return torch.from_numpy(neighbours(self.images[index, None], 0, slices))
        return torch.from_numpy(neighbours(self.images, index, slices))


def neighbours(images: NDArray[Any], index: int, slices: int) -> NDArray[np.float32]:
    """Stack a slice and its neighbours: (channel * slices, h, w), channel by channel.

    The first and last slices stand in for neighbours that are not there.
    """
    reach = slices // 2
    picked = np.clip(np.arange(index - reach, index + reach + 1), 0, len(images) - 1)
    stack = images[picked].astype(np.float32).swapaxes(0, 1)  # (channel, slices, h, w)
    return np.ascontiguousarray(stack.reshape(-1, *images.shape[2:]))


def prepare(
    volume: Volume,
    segmentation: Segmentation,
    spec: ModelSpec,
    *,
    head: str,
    modality: str,
    classes: Mapping[int, int],
) -> Case:
    """Conform a labelled scan for training.

    Parameters
    ----------
    volume : Volume
        The scan.
    segmentation : Segmentation
        Its labels, on the same grid.
    spec : ModelSpec
        The model.
    head : str
        Whose spacing rule counts.
    modality : str
        Whose intensity rule counts.
    classes : mapping of int to int
        Label id -> class index. Ids that are not named are background.

    Returns
    -------
    Case
        With `IGNORE` wherever `segmentation.annotated` does not vouch.
    """
    conformed = grid.conform(volume, spec, modality=modality, head=head)
    labels = class_slices(segmentation, volume, classes)
    if not spec.slicewise:
        labels = grid.from_slices(labels, volume.plane)[None]
    scaled = conformed.frame.enter_labels(labels)
    inside = tuple(range(1, scaled.ndim))
    known = (scaled != IGNORE).any(inside)
    painted = sorted({*np.unique(scaled).tolist()} - {0, IGNORE})
    return Case(
        images=conformed.data.astype(np.float16),
        labels=np.ascontiguousarray(scaled),
        classes={cls: np.flatnonzero((scaled == cls).any(inside)) for cls in painted},
        annotated=np.flatnonzero(known),
        name=volume.source,
        voxel_mm=_voxel_mm(volume, spec, conformed),
    )


def _voxel_mm(
    volume: Volume, spec: ModelSpec, conformed: grid.Conformed
) -> tuple[float, ...]:
    if "spacing" not in volume.known or not conformed.frame.plain:
        return ()
    spacing = list(volume.spacing_mm)
    if spec.slicewise:
        del spacing[volume.plane_axis]
    sizes = zip(spacing, conformed.native, conformed.data.shape[2:], strict=True)
    return tuple(mm * n / m for mm, n, m in sizes)


def class_slices(
    segmentation: Segmentation, volume: Volume, classes: Mapping[int, int]
) -> NDArray[np.uint8]:
    """Class indices in slices of the acquisition plane; `IGNORE` where not vouched for.

    Parameters
    ----------
    segmentation : Segmentation
        Labels on the grid of `volume`.
    volume : Volume
        The scan.
    classes : mapping of int to int
        Label id -> class index; other ids are background.

    Returns
    -------
    ndarray of uint8, shape (slice, row, column)
    """
    table = np.zeros(int(segmentation.labels.max(initial=0)) + 1, np.uint8)
    for label, index in classes.items():
        if label < len(table):
            table[label] = index
    labels = grid.to_slices(table[segmentation.labels], volume.plane).copy()
    labels[~vouched(segmentation, volume)] = IGNORE
    return labels


def vouched(segmentation: Segmentation, volume: Volume) -> NDArray[np.bool_]:
    """Voxels that the annotator vouches for, in slices of the acquisition plane.

    Returns
    -------
    ndarray of bool, shape (slice, row, column)
        All True where `segmentation.annotated` is None.

    Raises
    ------
    LabelShape
        ``segmentation.annotated`` fits neither the slices of its plane nor the voxels.
    """
    voxels = vouched_voxels(segmentation)
    if voxels is None:
        voxels = np.ones(segmentation.labels.shape, bool)
    return grid.to_slices(voxels, volume.plane)


def draw(
    cases: Sequence[Case],
    count: int,
    *,
    size: tuple[int, ...],
    slices: int,
    recipe: augment.Recipe,
    rng: np.random.Generator,
    painted: float = 0.7,
) -> tuple[Tensor, Tensor]:
    """Draw a batch of changed slices, scans and painted slices balanced.

    Parameters
    ----------
    cases : sequence of Case
        To draw from, each as often as any other.
    count : int
        Slices.
    size : tuple of int
        Rows and columns, or z, y, x.
    slices : {1, 3}
        Neighbouring slices as channels.
    recipe : Recipe
        How they are changed.
    rng : numpy.random.Generator
        Source of all chance.
    painted : float
        Share of the slices that are drawn to show a class, as far as there are any:
        each class of the scan as often as any other.

    Returns
    -------
    images : Tensor, shape (count, channel, *size)
    labels : Tensor of int64, shape (count, *size)
    """
    images, labels = [], []
    for _ in range(count):
        case = cases[int(rng.integers(len(cases)))]
        wanted = case.classes and rng.random() < painted
        cls = int(rng.choice(list(case.classes))) if wanted else None
        index = int(rng.choice(case.annotated if cls is None else case.classes[cls]))
        alone = slices > 1 and rng.random() < ALONE
        image, truth = augment.change(
            case.triple(index, slices, alone=alone),
            torch.from_numpy(case.labels[index]),
            size=size,
            centre=_centre(case.labels[index], size, rng, cls),
            recipe=recipe,
            rng=rng,
            voxel_mm=case.voxel_mm,
        )
        images.append(image)
        labels.append(truth)
    return torch.stack(images), torch.stack(labels)


def _centre(
    labels: NDArray[np.uint8],
    size: tuple[int, ...],
    rng: np.random.Generator,
    cls: int | None,
) -> tuple[float, ...]:
    """Where to cut: around a voxel of a class, or anywhere; never far over the edge.

    An image smaller than the piece lies anywhere in it, so that nothing is learned from
    how far away the edges are: at inference the padding is another.
    """
    centre = [(n - 1) / 2 for n in labels.shape]
    target = [rng.uniform(0, n - 1) for n in labels.shape]
    cut = any(n > m for n, m in zip(labels.shape, size, strict=True))
    where = np.argwhere(labels == cls) if cut and cls is not None else ()
    if len(where):
        target = where[rng.integers(len(where))]
    for axis, (n, m) in enumerate(zip(labels.shape, size, strict=True)):
        slack = abs(n - m) / 2
        if n > m:
            offset = np.clip(target[axis] - centre[axis], -slack, slack)
        else:
            offset = rng.uniform(-slack, slack)
        centre[axis] += float(offset)
    return tuple(centre)
