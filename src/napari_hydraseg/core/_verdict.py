"""From distances to a verdict: one scan by its rank, several as a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._advice import advise
from ._calibration import (
    Entry,
    Judgement,
    judge,
    matched_rows,
    same_encoder,
    scaled,
    subject_of_rows,
    witness,
)
from ._embedding import embed, scan_points
from ._fingerprint import Range, fingerprint, outside
from ._levels import GREY, flat_notes, verdict_of
from ._mmd import mmd_test
from ._reference import deviation, reference_features, stilled
from .types import Checkpoint, ShiftReport, Verdict, Volume

FEWEST = 19  # persons in the reference: with fewer, p could not reach .05
PERMUTATIONS = 1000  # of scans, when a cohort is judged
ALONE = (
    "MMD^2 (rbf kernel of median width) and Mahalanobis distance (shrunk covariance) "
    "of grey values and encoder features; each reference scan left out in turn, the "
    "largest over both and over levels counts"
)
ALL = (
    "All together: MMD^2 between the mean embeddings of the scans and of the reference "
    "persons, all levels in one, scans and persons exchanged at random"
)


@dataclass(frozen=True, eq=False)
class Case:
    """One scan held against one reference."""

    label: str
    entry: Entry
    judgement: Judgement
    witness: NDArray[np.float64]

    @classmethod
    def of(
        cls, label: str, features: Mapping[str, NDArray[Any]], reference: Entry
    ) -> Case:
        entry = reference_features([features])
        every = reference_features([features], cap=max(map(len, features.values())))
        judgement, unlike = judge(reference, entry), witness(reference, every)
        return cls(label, stilled(entry, reference), judgement, unlike)


@dataclass(frozen=True, eq=False)
class Comparison:
    """All scans held against the reference of one head, or against given scans.

    `nearest`: the head was not asked for, but found.
    """

    head: str
    reference: Entry
    usual: Mapping[str, Range]
    modality: tuple[str, ...]
    cases: Sequence[Case]
    given: bool = False
    nearest: bool = False

    @property
    def score(self) -> float:
        """How far out the scans lie; comparable between heads."""
        return float(np.mean([case.judgement.by_features for case in self.cases]))

    @property
    def persons(self) -> int:
        return persons(self.reference)


def persons(entry: Entry | None) -> int:
    """Count the persons that the scans of a reference are of."""
    return len(np.unique(subject_of_rows(entry))) if entry else 0


def report(
    found: Comparison, scans: Sequence[Volume], checkpoint: Checkpoint, *, seed: int
) -> ShiftReport:
    """Put together what was found; see `core.shift`."""
    judged = found.persons >= FEWEST
    verdict, p, p_floor, percentile = _overall(found, seed)
    by_level, flat = _by_level(found.cases), _flat(found)
    grey = [row for row in by_level if row["depth"] == GREY]
    by_depth = by_level[len(grey) :]
    return ShiftReport(
        verdict=verdict,
        p=p,
        p_floor=p_floor,
        percentile=percentile,
        n_reference=int(found.reference["scan"].max()) + 1 if judged else found.persons,
        by_depth=by_depth,
        grey=grey[0] if grey else {},
        per_case=tuple(_case_row(case, judged=judged) for case in found.cases),
        per_slice=tuple(
            {"case": case.label, "slice": index, "witness": float(value)}
            for case in found.cases
            for index, value in enumerate(case.witness)
        ),
        causes=tuple(_causes(found, scans)),
        advice=advise(
            verdict,
            head=found.head,
            nearest=found.nearest,
            percentiles=[
                nan if str(row["depth"]) in flat else row["percentile"]
                for row in by_depth
            ],
        ),
        basis={
            "model": checkpoint.name,
            "head": found.head,
            "reference": "given scans" if found.given else "training scans",
            "scans": len(scans),
            "reference persons": found.persons,
            "slices compared per scan": [c.judgement.slices for c in found.cases],
            "method": ALONE if len(found.cases) < 2 else f"Each scan: {ALONE}. {ALL}",
            "seed": seed,
        },
        picture=_picture(found, seed),
        notes=tuple(flat_notes(flat)),
    )


def _picture(found: Comparison, seed: int) -> Mapping[str, Any]:
    """Reference scans and the new ones as points, by t-SNE or, of few, by PCA."""
    if not found.cases:
        return {}
    slices = min(case.judgement.slices for case in found.cases)
    entries = [found.reference, *(case.entry for case in found.cases)]
    drawn = embed(scan_points(entries, slices), seed=seed)
    points = drawn.pca if drawn.tsne is None else drawn.tsne
    known = int(found.reference["scan"].max()) + 1
    return {
        "method": "PCA" if drawn.tsne is None else "t-SNE",
        "reference": points[:known].tolist(),
        "scans": points[known:].tolist(),
        "note": drawn.note,
    }


def _flat(found: Comparison) -> list[str]:
    """Name the depths that can show nothing."""
    if not found.cases:
        return []
    entries = [found.reference, *(case.entry for case in found.cases)]
    return [
        name
        for name in found.cases[0].judgement.levels
        if not any(table.any() for table in scaled(*[entry[name] for entry in entries]))
    ]


def _overall(found: Comparison, seed: int) -> tuple[Verdict, float, float, float]:
    """Verdict, p, smallest possible p and percentile of all scans together."""
    if found.persons < FEWEST or not found.cases:
        return "cannot-judge", nan, 1 / (found.persons + 1), nan
    percentile = float(np.median([case.judgement.percentile for case in found.cases]))
    if len(found.cases) == 1:
        p, p_floor = found.cases[0].judgement.p, 1 / (found.persons + 1)
    else:
        p = _cohort_p(found, seed)
        splits = comb(found.persons + len(found.cases), len(found.cases))
        p_floor = max(1 / (1 + PERMUTATIONS), 1 / splits)
        p = max(p, p_floor)  # exchanges are drawn, not counted
    return verdict_of(p), p, p_floor, percentile


def _cohort_p(found: Comparison, seed: int) -> float:
    """Permute persons between cohort and reference; a scan is its mean embedding."""
    slices = min(case.judgement.slices for case in found.cases)
    stored = matched_rows(found.reference, slices)
    own = [matched_rows(case.entry, slices)[0] for case in found.cases]
    old, new = [], []
    for name in same_encoder(found.reference, found.cases[0].entry):
        features = found.reference[name].astype(np.float64)
        means = features[stored].mean(axis=1)  # (scan, d)
        fresh = np.stack(
            [
                case.entry[name][rows].mean(axis=0, dtype=np.float64)
                for case, rows in zip(found.cases, own, strict=True)
            ]
        )
        both = np.concatenate((means, fresh))
        # every level has the same say, however many features it has
        scale = deviation(both) * np.sqrt(means.shape[1])
        old.append(means / scale)
        new.append(fresh / scale)
    person = subject_of_rows(found.reference)[stored[:, 0]]
    _, p = mmd_test(
        np.concatenate(old, axis=1),
        np.concatenate(new, axis=1),
        groups_x=person,
        permutations=PERMUTATIONS,
        seed=seed,
    )
    return p


def _by_level(cases: Sequence[Case]) -> tuple[Mapping[str, Any], ...]:
    """Mean distances and median percentile of the scans at each level."""
    if not cases:
        return ()
    mmd2 = np.mean([case.judgement.mmd2 for case in cases], axis=0)
    novelty = np.mean([case.judgement.novelty for case in cases], axis=0)
    percentiles = np.median([case.judgement.percentiles for case in cases], axis=0)
    return tuple(
        {
            "depth": GREY if name == GREY else int(name),
            "mmd2": float(distance),
            "novelty": float(far),
            "percentile": float(percentile),
        }
        for name, distance, far, percentile in zip(
            cases[0].judgement.levels, mmd2, novelty, percentiles, strict=True
        )
    )


def _case_row(case: Case, *, judged: bool) -> Mapping[str, Any]:
    p = case.judgement.p if judged else nan
    return {
        "case": case.label,
        "verdict": verdict_of(p) if judged else "cannot-judge",
        "p": p,
        "percentile": case.judgement.percentile if judged else nan,
    }


def _causes(found: Comparison, scans: Sequence[Volume]) -> list[dict[str, Any]]:
    """What is unusual about the scans, in plain words; of a cohort, the median scan."""
    causes: list[dict[str, Any]] = []
    came = sorted({s.modality for s in scans if s.modality} - set(found.modality))
    if found.modality and came:
        usual, unusual = ", ".join(found.modality), ", ".join(came)
        causes.append(
            {
                "name": "modality",
                "scan": unusual,
                "reference_low": usual,
                "reference_high": usual,
                "text": f"The scan is {unusual}; the reference scans are {usual}.",
            }
        )
    prints = [fingerprint(scan) for scan in scans]
    shared = set.intersection(*(set(measured) for measured in prints))
    median = {
        name: float(np.median([measured[name] for measured in prints]))
        for name in sorted(shared)
    }
    return causes + outside(median, found.usual)
