"""Two arms of a comparison on the same test scans: the gain, and whether it is one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 6  # test scans; below, the exact two-sided p can never fall under .05
RESAMPLES = 2000

Scores = NDArray[np.float64]


def spread(scores: Scores, *, seed: int = 0) -> dict[str, Any]:
    """Summarise the scores of one arm.

    Parameters
    ----------
    scores : ndarray, shape (repeat, scan)
        Dice; nan where the structure is not there.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``mean``; ``sd`` over repeats (nan for one); ``low`` and ``high``, a 95 %
        bootstrap interval over test scans (nan for one); ``values``, the mean of each
        repeat.
    """
    values = np.nanmean(scores, axis=1)
    low, high = _interval(np.nanmean(scores, axis=0), seed=seed)
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
        "low": low,
        "high": high,
        "values": [float(value) for value in values],
    }


def versus(ours: Scores, theirs: Scores, *, seed: int = 0) -> dict[str, Any]:
    """Hold one arm against another on the same test scans.

    Parameters
    ----------
    ours, theirs : ndarray, shape (repeat, scan)
        Dice on the same scans, learned from the same slices.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``difference`` of the means with its 95 % bootstrap interval over scans
        (``low``, ``high``); ``gain_percent``, the difference over their mean;
        ``error_gone_percent``, the difference over their error, 1 - Dice; ``p_value``
        of a two-sided Wilcoxon signed-rank test [1]_ over scans, each the mean of its
        repeats, None below 6 scans; ``n`` scans.

    References
    ----------
    .. [1] F. Wilcoxon, "Individual comparisons by ranking methods", Biometrics
       Bulletin 1(6), 1945. :doi:`10.2307/3001968`
    """
    ours, theirs = np.nanmean(ours, axis=0), np.nanmean(theirs, axis=0)  # (scan,)
    gaps = ours - theirs
    low, high = _interval(gaps, seed=seed)
    mean, base = float(gaps.mean()), float(theirs.mean())
    return {
        "difference": mean,
        "low": low,
        "high": high,
        "gain_percent": 100 * mean / base if base > 0 else float("nan"),
        "error_gone_percent": 100 * mean / (1 - base) if base < 1 else float("nan"),
        "p_value": _wilcoxon(gaps) if len(gaps) >= FEWEST else None,
        "n": len(gaps),
    }


def _wilcoxon(gaps: Scores) -> float:
    from scipy.stats import wilcoxon

    if not gaps.any():
        return 1.0  # no scan speaks for either arm
    return float(wilcoxon(gaps).pvalue)


def _interval(values: Scores, *, seed: int) -> tuple[float, float]:
    if len(values) < 2:
        return float("nan"), float("nan")
    draws = np.random.default_rng(seed).integers(
        len(values), size=(RESAMPLES, len(values))
    )
    low, high = np.percentile(values[draws].mean(1), (2.5, 97.5))
    return float(low), float(high)
