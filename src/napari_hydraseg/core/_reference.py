"""What a checkpoint keeps of its training scans: encoder features, no voxel.

A reference is a mapping of arrays, one row per stored slice: "0", "1", ... the features
of each encoder depth; "grey" the grey values that it gets; "scan" the scan a row is of;
"position" where in the stack it lies (0 to 1); and "subject" the person, if one person
gave several scans.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._levels import GREY
from .errors import DimensionMismatch, NonFiniteFeatures, TooFewSamples

FLOAT16_END = 65504.0  # the largest float16
ROUNDING = 2.0**-10  # relative: what keeping a feature as float16 may change


def reference_features(
    features_by_scan: Sequence[Mapping[str, NDArray[Any]]],
    *,
    subjects: Sequence[Hashable] | None = None,
    cap: int = 16,
    max_scans: int = 128,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Make the entry ``checkpoint.reference[head]`` of the features of its scans.

    Parameters
    ----------
    features_by_scan : sequence of mapping
        What `core.encode` returns, one per scan: ``{"0": (n_slices, d), ...}``, and
        "grey" in all of them or in none.
    subjects : sequence of hashable, optional
        The person behind each scan, where some gave more than one (two phases of a
        heart): the calibration then leaves out all scans of a person at a time.
    cap : int
        At most so many slices of a scan are kept, evenly spread.
    max_scans : int
        At most so many scans are kept, drawn at random.
    seed : int
        Seed of that draw.

    Returns
    -------
    dict of ndarray
        The depths (slice, feature) as float16, "scan" int32, "position" float32 in
        0 to 1 (the middle of slice i of n is at (i + 0.5) / n) and, if `subjects` were
        given, "subject" int32.

    Raises
    ------
    TooFewSamples
        If there is no scan, or one without a slice.
    DimensionMismatch
        If scans differ in depths, or the depths of a scan in their number of slices.
    NonFiniteFeatures
        If a feature is not a finite number.
    """
    if not features_by_scan:
        raise TooFewSamples("No scan was given to make a reference of.")
    if subjects is not None and len(subjects) != len(features_by_scan):
        raise DimensionMismatch(
            f"{len(subjects)} subjects were given for {len(features_by_scan)} scans."
        )
    chosen = np.arange(len(features_by_scan))
    if len(chosen) > max_scans:
        drawn = np.random.default_rng(seed).choice(
            len(chosen), max_scans, replace=False
        )
        chosen = np.sort(drawn)
    names = levels(features_by_scan[0])
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    scan, position = [], []
    for place, index in enumerate(chosen):
        features = features_by_scan[int(index)]
        count = _slices(features, names, int(index))
        kept = spread(count, min(cap, count))
        for name in names:
            values = np.clip(features[name][kept], -FLOAT16_END, FLOAT16_END)
            rows[name].append(values.astype(np.float16))
        scan += [place] * len(kept)
        position += list((kept + 0.5) / count)
    entry = {name: np.concatenate(parts) for name, parts in rows.items()}
    entry["scan"] = np.array(scan, np.int32)
    entry["position"] = np.array(position, np.float32)
    if subjects is not None:
        known: dict[Hashable, int] = {}
        who = [known.setdefault(subjects[int(i)], len(known)) for i in chosen]
        entry["subject"] = np.array(who, np.int32)[entry["scan"]]
    return entry


def depths(entry: Mapping[str, NDArray[Any]]) -> list[str]:
    """Names of the encoder depths in an entry, finest first."""
    return sorted((name for name in entry if name.isdecimal()), key=int)


def levels(entry: Mapping[str, NDArray[Any]]) -> list[str]:
    """Names of all that scans are compared by: grey values, if kept, and the depths."""
    return [GREY] * (GREY in entry) + depths(entry)


def spread(count: int, wanted: int) -> NDArray[np.intp]:
    """`wanted` of `count` slices, one from the middle of each equal share."""
    return ((np.arange(wanted) + 0.5) * count / wanted).astype(np.intp)


def deviation(table: NDArray[Any]) -> NDArray[np.float64]:
    """Standard deviation of each feature, to divide by.

    Parameters
    ----------
    table : ndarray, shape (n, d)
        One row per slice or scan.

    Returns
    -------
    ndarray, shape (d,)
        Infinite where only rounding moves a feature: it says nothing, and becomes 0.
    """
    values = table.astype(np.float64)
    sd = values.std(axis=0)
    varies = sd > ROUNDING * np.abs(values.mean(axis=0)) + 1e-12
    return np.where(varies, sd, np.inf)


def stilled(
    entry: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Give features that never move in a reference their value there.

    A unit that died in training answers to the size of a picture, if to anything.

    Parameters
    ----------
    entry, reference : mapping of ndarray
        As `reference_features` makes them, by one encoder.
    """
    found = dict(entry)
    for name in levels(reference):
        if name not in entry:
            continue  # grey values, of which only the reference tells
        still = np.isinf(deviation(reference[name]))
        usual = reference[name].mean(axis=0, dtype=np.float64)
        found[name] = np.where(still, usual.astype(np.float16), entry[name])
    return found


def _slices(features: Mapping[str, NDArray[Any]], names: list[str], scan: int) -> int:
    """Check the features of a scan, and count its slices."""
    if levels(features) != names:
        raise DimensionMismatch(
            f"Scan {scan} has encoder depths {', '.join(levels(features)) or 'none'}; "
            f"the first scan has {', '.join(names) or 'none'}.",
            "Encode all scans with one model.",
        )
    counts = {len(features[name]) for name in names}
    if len(counts) > 1:
        raise DimensionMismatch(
            f"The depths of scan {scan} have {sorted(counts)} slices."
        )
    if counts in (set(), {0}):
        raise TooFewSamples(f"Scan {scan} has no slice.")
    for name in names:
        if not np.isfinite(features[name]).all():
            raise NonFiniteFeatures(
                f"Scan {scan} has features at depth {name} that are no numbers.",
                "Look at this scan, and leave it out.",
            )
    return counts.pop()
