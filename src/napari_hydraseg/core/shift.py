"""Domain shift: whether a scan is like those a model was trained on, where, and why.

The encoder's features of a scan, and its grey values, are held against those of the
model's training scans, or of scans that the user gives, by their maximum mean
discrepancy and their Mahalanobis distance at every depth. What counts is where the scan
ranks among the reference scans, each left out in turn: slices of one scan are not
independent, so scans are the unit throughout. "Similar" says that the scan looks like
the reference; it never says that a mask of it is right.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from ._encoder import Encoder, device_in_use, labels, pass_of, stated
from ._fingerprint import fingerprint, usual_ranges
from ._mmd import mmd, mmd_test
from ._reference import reference_features
from ._verdict import FEWEST, Case, Comparison, report
from .errors import (
    DimensionMismatch,
    NonFiniteFeatures,
    TooFewSamples,
    UnknownModel,
)
from .types import Checkpoint, ShiftReport, Steps, Volume

__all__ = ["fingerprint", "mmd", "mmd_test", "reference_features", "shift"]


def shift(
    volumes: Volume | Sequence[Volume],
    checkpoint: Checkpoint,
    *,
    reference: Sequence[Volume] | None = None,
    persons: Sequence[Hashable] | None = None,
    head: str | None = None,
    drop_nonfinite: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> Steps[ShiftReport]:
    """Tell how like a model's training scans a scan or a cohort is.

    Parameters
    ----------
    volumes : Volume or sequence of Volume
        Each is judged by itself; several also as a cohort.
    checkpoint : Checkpoint
        The model whose encoder sees the scans.
    reference : sequence of Volume, optional
        Scans to compare with, instead of the features that the checkpoint carries.
    persons : sequence of hashable, optional
        Whose each scan of `reference` is. By default every one is somebody else's.
    head : str, optional
        Whose training scans to compare with. By default the nearest of the heads that
        the model recommends for the first scan's modality, and that have training scans
        of 19 persons or more if any has.
    drop_nonfinite : bool
        Whether scans, also of `reference`, whose features are no numbers are left out,
        which the report then says, instead of ending in an error.
    seed : int
        Seed of the permutations.
    device : str
        "auto", "cpu", "cuda" or "mps".

    Yields
    ------
    Progress
        While scans are encoded and compared.

    Returns
    -------
    ShiftReport
        Verdict, rank, depth profile, slices, causes and advice. One scan: conformal p
        of its largest distance over depths, ``rank / (n + 1)``. Several: the p of a
        test that permutes scans. Fewer than 19 reference persons: "cannot-judge".

    Raises
    ------
    TooFewSamples
        If no scan was given.
    UnknownModel
        If the model has no head of that name.
    WrongInput
        If a picture does not state its modality, and the model knows several.
    DimensionMismatch, NonFiniteFeatures
        If features and reference are not of one encoder, or no numbers; if there is
        not one person for each scan of `reference`.
    """
    scans = [volumes] if isinstance(volumes, Volume) else list(volumes)
    if not scans or (reference is not None and not reference):
        raise TooFewSamples("No scan was given to compare.", "Give at least one.")
    if persons is not None and len(persons) != len(reference or ()):
        raise DimensionMismatch(
            f"{len(persons)} persons were given for {len(reference or ())} scans of "
            "the reference.",
            "Name whose each of them is.",
        )
    scans, notes = stated(scans, checkpoint, head)
    own, guessed = stated(reference or (), checkpoint, head)
    heads = _candidates(checkpoint, scans[0], head, stored=not own)
    passes = len({pass_of(checkpoint, scan, name) for scan in scans for name in heads})
    encoder = Encoder(checkpoint, device, passes * len(scans) + len(own))
    if own:
        kept, lost = yield from _usable(own, heads[:1], encoder, drop_nonfinite)
        whose = [persons[i] for i in kept] if persons is not None else None
        known = [
            (yield from _of_volumes([own[i] for i in kept], whose, heads[0], encoder))
        ]
        notes += [*guessed, *(f"Of the reference: {line}" for line in lost)]
    else:
        known = [_stored(checkpoint, name) for name in heads]
    known = [empty for empty in known if empty.persons >= FEWEST] or known
    known = [empty for empty in known if empty.persons >= 2] or known[:1]
    seen = [empty.head for empty in known if empty.persons >= 2]
    kept, lost = yield from _usable(scans, seen, encoder, drop_nonfinite)
    scans = [scans[i] for i in kept]
    compared = []
    for empty in known if seen else ():
        cases = []
        for scan, label in zip(scans, labels(scans), strict=True):
            features = yield from encoder.features(scan, empty.head)
            yield encoder.progress(f"comparing {label} with {empty.head}")
            cases.append(Case.of(label, features, empty.reference))
        found_it = head is None and not own
        compared.append(replace(empty, cases=cases, nearest=found_it))
    nearest = min(compared, key=lambda found: found.score, default=known[0])
    found = report(nearest, scans, checkpoint, seed=seed)
    basis = {**found.basis, "device": device_in_use(device)}
    told = dict.fromkeys((*lost, *notes, *found.notes))
    return replace(found, basis=basis, notes=tuple(told))


def _usable(
    scans: Sequence[Volume], heads: Sequence[str], encoder: Encoder, drop: bool
) -> Steps[tuple[list[int], list[str]]]:
    """Encode scans; those with finite features, and a note on the others."""
    kept = []
    for index, scan in enumerate(scans):
        try:
            for head in heads:
                yield from encoder.features(scan, head)
        except NonFiniteFeatures:
            if not drop or len(scans) == 1:
                raise
            continue
        kept.append(index)
    if not kept:
        raise NonFiniteFeatures(
            f"None of {len(scans)} scans has features that are all numbers.",
            "Look at these scans, and at the model.",
        )
    lost = len(scans) - len(kept)
    note = f"{lost} scans were left out: their features are no numbers."
    return kept, [note] if lost else []


def _candidates(
    checkpoint: Checkpoint, scan: Volume, head: str | None, *, stored: bool
) -> list[str]:
    """Heads to compare with; never empty."""
    known = list(checkpoint.spec.heads)
    if head is not None:
        if head not in known:
            raise UnknownModel(
                f"{checkpoint.name} has no head {head!r}.",
                f"Choose one of {', '.join(known)}.",
            )
        return [head]
    recommended = checkpoint.card.get("recommended", {}).get(scan.modality, ())
    fitting = [name for name in recommended if name in known] or known
    with_reference = [name for name in fitting if name in checkpoint.reference]
    return (with_reference if stored else None) or fitting


def _of_volumes(
    volumes: Sequence[Volume],
    persons: Sequence[Hashable] | None,
    head: str,
    encoder: Encoder,
) -> Steps[Comparison]:
    """Make a comparison, still without cases, with the user's own scans."""
    found = []
    for volume in volumes:
        found.append((yield from encoder.features(volume, head)))
    entry = reference_features(found, subjects=persons, max_scans=len(found))
    usual = usual_ranges([fingerprint(volume) for volume in volumes])
    modality = sorted({v.modality for v in volumes if v.modality})
    return Comparison(head, entry, usual, tuple(modality), [], given=True)


def _stored(checkpoint: Checkpoint, head: str) -> Comparison:
    """Make a comparison, still without cases, with what the checkpoint keeps."""
    of_head = checkpoint.card.get("heads", {}).get(head, {})
    return Comparison(
        head=head,
        reference=checkpoint.reference.get(head, {}),
        usual=of_head.get("fingerprint", {}),
        modality=tuple(of_head.get("modality", ())),
        cases=[],
    )
