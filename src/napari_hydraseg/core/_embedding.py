"""Pictures of many scans: one point each, near one another if they look alike.

PCA keeps distances as far as two axes can [1]_; t-SNE keeps neighbours and nothing
else [2]_: sizes of its groups and gaps between them mean nothing.

References
----------
.. [1] K. Pearson, "On lines and planes of closest fit to systems of points in space",
   Philosophical Magazine 2(11), 1901. :doi:`10.1080/14786440109462720`
.. [2] L. van der Maaten, G. Hinton, "Visualizing data using t-SNE", Journal of Machine
   Learning Research 9, 2579-2605, 2008.
   https://jmlr.org/papers/v9/vandermaaten08a.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._calibration import matched_rows
from ._reference import depths, deviation

Floats = NDArray[np.float64]

FEWEST = 10  # points for t-SNE: with fewer it has no neighbourhoods to keep
PERPLEXITY = 30.0  # neighbours that count, of the many; fewer points have fewer


@dataclass(frozen=True, eq=False)
class Embedding:
    """Two pictures of the same points.

    Attributes
    ----------
    pca : ndarray, shape (n, 2)
        In units of one standard deviation of a feature.
    tsne : ndarray, shape (n, 2), or None
        None where there are too few points, or all coincide.
    note : str
        Why there is no t-SNE; empty where there is one.
    """

    pca: Floats
    tsne: Floats | None
    note: str = ""


def embed(points: Floats, *, seed: int = 0) -> Embedding:
    """Lay points out in two dimensions.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        One row per scan; see `scan_points`.
    seed : int
        Seed of t-SNE.

    Returns
    -------
    Embedding
        PCA, and t-SNE if there are 10 points that differ.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n = len(points)
    pca = np.zeros((n, 2))
    if not n or np.ptp(points, axis=0).max(initial=0) == 0:
        return Embedding(pca, None, "All scans have the same features.")
    axes = min(2, n, points.shape[1])
    pca[:, :axes] = PCA(axes, svd_solver="full").fit_transform(points)
    if n < FEWEST:
        note = f"t-SNE needs at least {FEWEST} scans; {n} are shown by PCA alone."
        return Embedding(pca, None, note)
    # The method asks for fewer neighbours than points; a third leaves groups apart.
    perplexity = min(PERPLEXITY, (n - 1) / 3)
    start = 1e-4 * pca / pca[:, 0].std()  # as its authors start it, but not at random
    tsne = TSNE(2, perplexity=perplexity, init=start, random_state=seed)
    return Embedding(pca, np.asarray(tsne.fit_transform(points), np.float64))


def scan_points(entries: Sequence[Mapping[str, NDArray[Any]]], slices: int) -> Floats:
    """One row per scan: the mean of its slices' features at all depths.

    Parameters
    ----------
    entries : sequence of mapping
        As `reference_features` makes them, each of one or more scans.
    slices : int
        Slices per scan, at evenly spread positions.

    Returns
    -------
    ndarray, shape (scan, features)
        Every feature in standard deviations, and every depth with the same weight,
        however many features it has.
    """
    parts = []
    for name in depths(entries[0]):
        means = np.concatenate(
            [
                entry[name][matched_rows(entry, slices)].mean(axis=1, dtype=np.float64)
                for entry in entries
            ]
        )
        scaled = (means - means.mean(axis=0)) / deviation(means)
        parts.append(scaled / np.sqrt(means.shape[1]))
    return np.concatenate(parts, axis=1)
