"""How well a candidate mask agrees with a reference: overlap, surfaces, volume.

Where a mask is empty, one rule holds everywhere: a quotient without denominator is
``nan`` (it tells nothing and must not raise or lower a mean), a missed or invented
structure has Dice 0 and infinite surface distance, and `summarise` says how many cases
it could not count. The choice of metrics follows [1]_, [2]_.

References
----------
.. [1] L. Maier-Hein et al., "Metrics reloaded: recommendations for image analysis
   validation", Nature Methods 21, 2024. :doi:`10.1038/s41592-023-02151-z`
.. [2] A. A. Taha and A. Hanbury, "Metrics for evaluating 3D medical image
   segmentation", BMC Medical Imaging 15, 2015. :doi:`10.1186/s12880-015-0068-x`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _overlap, _surfaces
from ._matching import ensure_same_grid, matched, vouched_voxels
from ._overlap import (
    accuracy,
    conformity,
    count,
    dice,
    iou,
    precision,
    sensitivity,
    specificity,
)
from ._surfaces import (
    hausdorff95_mm,
    hausdorff_mm,
    mean_surface_distance_mm,
    surface_dice,
)
from .types import Segmentation

__all__ = [
    "accuracy",
    "conformity",
    "dice",
    "evaluate",
    "hausdorff95_mm",
    "hausdorff_mm",
    "iou",
    "mean_surface_distance_mm",
    "precision",
    "sensitivity",
    "specificity",
    "summarise",
    "surface_dice",
    "volume_difference_ml",
]

Mask = NDArray[np.bool_]
IN_MM = ("hd95_mm", "hausdorff_mm", "assd_mm", "surface_dice", "volume_difference_ml")


def volume_difference_ml(
    reference: Mask, candidate: Mask, *, spacing_mm: tuple[float, ...]
) -> float:
    """Volume of the candidate minus that of the reference, in ml; 0 if both empty."""
    return _volume_ml(count(reference, candidate), spacing_mm)


def evaluate(
    reference: Segmentation, candidate: Segmentation, *, tolerance_mm: float = 1.0
) -> list[dict[str, Any]]:
    """Compare two segmentations label by label.

    Parameters
    ----------
    reference, candidate : Segmentation
        Both on the same grid. Only voxels that ``reference.annotated`` vouches for
        count. Labels are matched by name where both sides have names and share one,
        else by id.
    tolerance_mm : float
        For the surface Dice.

    Returns
    -------
    list of dict
        One row per label that either side names or holds: ``label`` (the reference's
        id), ``name``, ``dice``, ``iou``, ``precision``, ``sensitivity``,
        ``specificity``, ``accuracy``, ``hd95_mm``, ``hausdorff_mm``, ``assd_mm``,
        ``surface_dice``, ``volume_difference_ml``. All that needs millimetres is
        ``nan`` for pictures, which have none.

    Raises
    ------
    GeometryMismatchError
        The grids differ in shape, or by more than 0.001 mm at a corner.
    LabelShape
        ``reference.annotated`` fits neither the slices nor the voxels.
    """
    ensure_same_grid(reference, candidate)
    vouched = vouched_voxels(reference)
    spacing_mm = _spacing_mm(reference, candidate)
    return [
        {"label": label, "name": name}
        | _row(*masks, vouched, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm)
        for label, name, masks in matched(reference, candidate)
    ]


def summarise(
    rows: Iterable[Mapping[str, Any]], *, seed: int = 0, resamples: int = 2000
) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean, median and 95 % interval of every metric of every label over the cases.

    Parameters
    ----------
    rows : iterable of mapping
        Rows of `evaluate` of all cases.
    seed : int
        Of the bootstrap.
    resamples : int
        Bootstrap samples of the cases.

    Returns
    -------
    dict
        ``{name: {metric: {"mean", "median", "ci95": [low, high], "n", "n_empty"}}}``.
        ``n`` cases had a finite value and are counted; ``n_empty`` had none because a
        mask was empty. The interval is ``nan`` for fewer than two cases.

    References
    ----------
    .. [1] B. Efron, "Bootstrap methods: another look at the jackknife", Annals of
       Statistics 7(1), 1979. :doi:`10.1214/aos/1176344552`
    """
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(str(row["name"]), []).append(row)
    return {
        name: {
            metric: _summary(group, metric, seed=seed, resamples=resamples)
            for metric in group[0]
            if metric not in ("case", "label", "name")
        }
        for name, group in by_name.items()
    }


def _summary(
    rows: list[Mapping[str, Any]], metric: str, *, seed: int, resamples: int
) -> dict[str, Any]:
    values = np.array([row[metric] for row in rows], dtype=float)
    finite = values[np.isfinite(values)]
    empty = np.array(
        [np.isnan(row["precision"]) or np.isnan(row["sensitivity"]) for row in rows]
    )
    low = high = float("nan")
    if finite.size > 1:
        drawn = np.random.default_rng(seed).integers(
            finite.size, size=(resamples, finite.size)
        )
        low, high = np.percentile(finite[drawn].mean(axis=1), [2.5, 97.5])
    return {
        "mean": float(finite.mean()) if finite.size else float("nan"),
        "median": float(np.median(finite)) if finite.size else float("nan"),
        "ci95": [float(low), float(high)],
        "n": int(finite.size),
        "n_empty": int((empty & ~np.isfinite(values)).sum()),
    }


def _spacing_mm(
    reference: Segmentation, candidate: Segmentation
) -> tuple[float, float, float] | None:
    """Voxel size, or None for pictures, whose pixels have none."""
    for side in (reference, candidate):
        if side.grid is not None and side.grid.format == "image":
            return None
    return reference.spacing_mm


def _row(
    reference: Mask,
    candidate: Mask,
    vouched: Mask | None,
    *,
    spacing_mm: tuple[float, float, float] | None,
    tolerance_mm: float,
) -> dict[str, float]:
    if vouched is None:
        counts = count(reference, candidate)
    else:
        counts = count(reference[vouched], candidate[vouched])
    row = _overlap.ratios(counts)
    if spacing_mm is None:
        return row | dict.fromkeys(IN_MM, float("nan"))
    distances = _surfaces.surface_distances(
        reference, candidate, spacing_mm=spacing_mm, vouched=vouched
    )
    return row | {
        "hd95_mm": _surfaces.percentile_of(distances, percentile=95),
        "hausdorff_mm": _surfaces.percentile_of(distances),
        "assd_mm": _surfaces.average_of(distances),
        "surface_dice": _surfaces.share_of(distances, tolerance_mm=tolerance_mm),
        "volume_difference_ml": _volume_ml(counts, spacing_mm),
    }


def _volume_ml(counts: _overlap.Counts, spacing_mm: tuple[float, ...]) -> float:
    return (counts.false - counts.missed) * float(np.prod(spacing_mm)) / 1000.0
