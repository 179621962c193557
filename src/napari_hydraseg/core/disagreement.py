"""Where a candidate mask is wrong: missed or too much, and on which slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._matching import ensure_same_grid, matched, vouched_voxels
from .errors import WrongInput
from .types import PLANES, Segmentation

MISSED, TOO_MUCH, CONFUSED = 1, 2, 3
NAMES = {
    MISSED: "missed (false negative)",
    TOO_MUCH: "too much (false positive)",
    CONFUSED: "another structure",
}
# Okabe and Ito's palette, told apart with any colour vision; as in a report's pictures
COLOURS = {MISSED: "#0072B2", TOO_MUCH: "#D55E00", CONFUSED: "#009E73"}


def disagreement(
    reference: Segmentation, candidate: Segmentation, *, name: str | None = None
) -> Segmentation:
    """Mark each voxel in which a candidate differs from a reference.

    Parameters
    ----------
    reference, candidate : Segmentation
        On the same grid. Labels belong together as in `evaluate`, and only voxels that
        ``reference.annotated`` vouches for count.
    name : str, optional
        The errors of this structure alone; default: of all of them.

    Returns
    -------
    Segmentation
        1: missed; 2: too much; 3, only where all structures are asked for: found, but
        as another structure. The last has a name only if it occurs.

    Raises
    ------
    GeometryMismatchError
        The grids differ in shape, or by more than 0.001 mm at a corner.
    WrongInput
        Neither mask has a structure of this name.
    """
    ensure_same_grid(reference, candidate)
    found = np.zeros(reference.labels.shape, np.uint8)
    known = name is None
    for _, structure, (true, claimed) in matched(reference, candidate):
        if name not in (None, structure):
            continue
        known = True
        missed, extra = true & ~claimed, claimed & ~true
        confused = (missed & (found == TOO_MUCH)) | (extra & (found == MISSED))
        found[missed], found[extra], found[confused] = MISSED, TOO_MUCH, CONFUSED
    if not known:
        raise WrongInput(
            f"Neither mask has a structure {name!r}.", "Choose one of the table."
        )
    vouched = vouched_voxels(reference)
    if vouched is not None:
        found[~vouched] = 0
    used = (MISSED, TOO_MUCH, *([CONFUSED] if (found == CONFUSED).any() else []))
    return Segmentation(
        found,
        candidate.affine,
        names={label: NAMES[label] for label in used},
        colours={label: COLOURS[label] for label in used},
        plane=candidate.plane,
        grid=candidate.grid,
    )


def worst_slices(errors: Segmentation) -> list[tuple[int, int]]:
    """Rank the slices by the number of wrong voxels in them.

    Parameters
    ----------
    errors : Segmentation
        From `disagreement`; its plane says along which axis slices are counted.

    Returns
    -------
    list of (int, int)
        Slice and number of wrong voxels, worst first; slices without any are left out.
    """
    axis = PLANES.index(errors.plane)
    across = tuple(a for a in range(3) if a != axis)
    counts: NDArray[np.intp] = np.count_nonzero(errors.labels, axis=across)
    order = np.argsort(-counts, kind="stable")
    return [(int(at), int(counts[at])) for at in order if counts[at]]
