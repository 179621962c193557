"""How far a scan lies from all others in directions in which they hardly vary.

MMD with one kernel width asks whether a scan is where the others are. A small, bare
image can lie in their very middle and still be unlike each of them: its features do not
go together as theirs do. The Mahalanobis distance measures every direction by the
variance that the other scans have in it. With fewer scans than features it needs a
shrunk covariance [1]_; leaving each person out in turn needs no further matrix to be
solved, by the identity behind deleted residuals in regression [2]_.

References
----------
.. [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional
   covariance matrices", Journal of Multivariate Analysis 88(2), 365-411, 2004.
   :doi:`10.1016/S0047-259X(03)00096-4`
.. [2] R. D. Cook, "Detection of influential observation in linear regression",
   Technometrics 19(1), 15-18, 1977. :doi:`10.1080/00401706.1977.10489493`
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RIDGE = 1.0  # of a feature's variance, added to the covariance; see docs/shift.md
LEAST = 1e-12  # distance of slices that are all alike


def novelty(
    rows: NDArray[Any], persons: NDArray[Any], *, ridge: float = RIDGE
) -> NDArray[np.float64]:
    """Squared Mahalanobis distance of each slice to the slices of all other persons.

    Parameters
    ----------
    rows : ndarray, shape (n, d)
        One slice per row, features at mean 0 and standard deviation 1.
    persons : ndarray, shape (n,)
        Whose each row is. A person's rows are left out together.
    ridge : float
        Variance that is added to every feature before the covariance is inverted.

    Returns
    -------
    ndarray, shape (n,)
        At least `LEAST`, so that it has a logarithm even if all rows are alike.

    Notes
    -----
    With ``H = X (X'X + r I)^-1 X'`` and ``B`` the rows of a person,
    ``X_B (X'X - X_B'X_B + r I)^-1 X_B' = (I - H_BB)^-1 - I``.
    """
    table = rows.astype(np.float64)
    solved = _solved(table, table, ridge)
    found = np.empty(len(table))
    for person in np.unique(persons):
        own = np.flatnonzero(persons == person)
        one = np.eye(len(own))
        deleted = np.linalg.inv(one - table[own] @ solved[:, own]) - one
        found[own] = np.diag(deleted)
    result: NDArray[np.float64] = np.maximum(found * len(table), LEAST)
    return result


def novelty_to(
    known: NDArray[Any], rows: NDArray[Any], *, ridge: float = RIDGE
) -> NDArray[np.float64]:
    """Squared Mahalanobis distance of new slices to known ones.

    Parameters
    ----------
    known, rows : ndarray, shape (n, d) and (m, d)
        One slice per row, scaled together.
    ridge : float
        As for `novelty`.

    Returns
    -------
    ndarray, shape (m,)
        At least `LEAST`.
    """
    table, fresh = known.astype(np.float64), rows.astype(np.float64)
    distances = (fresh.T * _solved(table, fresh, ridge)).sum(axis=0)
    result: NDArray[np.float64] = np.maximum(distances * len(table), LEAST)
    return result


def _solved(
    table: NDArray[np.float64], rows: NDArray[np.float64], ridge: float
) -> NDArray[np.float64]:
    """Rows times the inverse of the shrunk covariance of the table, shape (d, m)."""
    inner = table.T @ table
    inner[np.diag_indices(len(inner))] += ridge * len(table)
    return np.linalg.solve(inner, rows.T).astype(np.float64, copy=False)
