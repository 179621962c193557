"""Cohorts against one another: two sites, two scanners, channels of one study.

What is permuted is persons, never slices: slices of one scan are alike, and a test that
permutes them calls any two cohorts different.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ._cohorts import (
    Member,
    cause_rows,
    cautions,
    compare,
    depth_rows,
    pair_rows,
    same_depths,
    scan_rows,
    slices_of,
)
from ._encoder import Encoder, device_in_use, stated
from ._fingerprint import fingerprint
from ._reference import reference_features
from .checkpoint import digest
from .errors import NonFiniteFeatures, TooFewSamples, UnknownModel
from .types import Checkpoint, CohortReport, Steps, Volume

METHOD = (
    "MMD^2 between the persons' mean embeddings, rbf kernel of median width; persons "
    "exchanged at random, largest depth counts"
)


def compare_cohorts(
    cohorts: Mapping[str, Sequence[Volume]],
    checkpoint: Checkpoint,
    *,
    persons: Mapping[str, Sequence[Hashable]] | None = None,
    after: Checkpoint | None = None,
    head: str | None = None,
    permutations: int = 1000,
    drop_nonfinite: bool = False,
    seed: int = 0,
    device: str = "auto",
) -> Steps[CohortReport]:
    """Tell whether cohorts of scans differ, as an encoder sees them.

    Parameters
    ----------
    cohorts : mapping of str to sequence of Volume
        Two or more, each with the scans of at least two persons.
    checkpoint : Checkpoint
        The model whose encoder sees the scans.
    persons : mapping of str to sequence of hashable, optional
        Whose each scan is. A person may give several scans to a cohort, which then
        count as one, and be in several cohorts. By default every scan is somebody
        else's.
    after : Checkpoint, optional
        The same comparison once more with this model: whether fine-tuning brought the
        cohorts nearer.
    head : str, optional
        Whose spacing the scans are seen in; default: the first that the model
        recommends for the modality of the first scan, else its first head.
    permutations : int
        Random exchanges of persons.
    drop_nonfinite : bool
        Whether scans whose features are no numbers are left out, instead of ending in
        an error.
    seed : int
        Seed of exchanges and of t-SNE.
    device : str
        "auto", "cpu", "cuda" or "mps".

    Yields
    ------
    Progress
        While scans are encoded and compared.

    Returns
    -------
    CohortReport
        A verdict for each two cohorts, by depth, and pictures of all scans.

    Raises
    ------
    TooFewSamples
        If there are fewer than two cohorts, or two persons in one of them.
    UnknownModel
        If a model has no head of that name.
    WrongInput
        If a picture does not state its modality, and the model knows several.
    DimensionMismatch, NonFiniteFeatures
        If features are not of one encoder, or no numbers.
    """
    whose = _whose(cohorts, persons)
    models = [checkpoint] if after is None else [checkpoint, after]
    cohorts, guesses = _stated(cohorts, checkpoint, head)
    heads = [_head(model, head, cohorts) for model in models]
    total = len(models) * sum(map(len, cohorts.values()))
    done, seen = 0.0, []
    dropped: set[tuple[str, int]] = set()
    for model, name in zip(models, heads, strict=True):
        encoder = Encoder(model, device, total, done)
        members = []
        for cohort, scans in cohorts.items():
            for at, (scan, person) in enumerate(zip(scans, whose[cohort], strict=True)):
                try:
                    features = yield from encoder.features(scan, name)
                except NonFiniteFeatures:
                    if not drop_nonfinite:
                        raise
                    dropped.add((cohort, at))
                    continue
                members.append(Member(cohort, person, reference_features([features])))
        done = encoder.done
        yield encoder.progress("comparing cohorts")
        seen.append(members)
    options = {"permutations": permutations, "seed": seed}
    kept = {
        name: [scan for at, scan in enumerate(scans) if (name, at) not in dropped]
        for name, scans in cohorts.items()
    }
    found = _report(kept, seen[0], **options)
    if after is not None:
        found = _beside(
            found, seen[1], same=_same_encoder(checkpoint, after), **options
        )
    if dropped:
        left_out = f"{len(dropped)} scans were left out: their features are no numbers."
        guesses = [left_out, *guesses]
    found = replace(found, notes=(*guesses, *found.notes))
    model_names = [model.name for model in models]
    basis = {"models" if after else "model": model_names if after else model_names[0]}
    basis |= {"head": heads[0], "device": device_in_use(device)}
    return replace(found, basis=basis | dict(found.basis))


def _whose(
    cohorts: Mapping[str, Sequence[Volume]],
    persons: Mapping[str, Sequence[Hashable]] | None,
) -> dict[str, list[Hashable]]:
    """Whose each scan is, cohorts of two persons or more."""
    if len(cohorts) < 2:
        raise TooFewSamples(
            f"{len(cohorts)} cohorts were given; at least 2 are needed.",
            "Name a second one.",
        )
    whose: dict[str, list[Hashable]] = {}
    for cohort, scans in cohorts.items():
        given = (persons or {}).get(cohort)
        ids = [(cohort, i) for i in range(len(scans))] if given is None else given
        if len(ids) != len(scans):
            raise ValueError(f"{len(ids)} persons for {len(scans)} scans of {cohort}")
        _enough(cohort, set(ids))
        whose[cohort] = list(ids)
    return whose


def _enough(cohort: str, persons: set[Any]) -> None:
    if len(persons) < 2:
        raise TooFewSamples(
            f"Cohort {cohort} has scans of {len(persons)} persons; at least 2 are "
            "needed.",
            "Add scans, or judge the single scan with shift.",
        )


def _stated(
    cohorts: Mapping[str, Sequence[Volume]], checkpoint: Checkpoint, head: str | None
) -> tuple[dict[str, list[Volume]], list[str]]:
    """Settle the modality of every scan, and say what was guessed."""
    settled = {name: stated(scans, checkpoint, head) for name, scans in cohorts.items()}
    notes = dict.fromkeys(note for _, said in settled.values() for note in said)
    return {name: scans for name, (scans, _) in settled.items()}, list(notes)


def _head(
    checkpoint: Checkpoint, head: str | None, cohorts: Mapping[str, Sequence[Volume]]
) -> str:
    known = list(checkpoint.spec.heads)
    if head is not None and head not in known:
        raise UnknownModel(
            f"{checkpoint.name} has no head {head!r}.",
            f"Choose one of {', '.join(known)}.",
        )
    if head is not None:
        return head
    modality = next(iter(cohorts.values()))[0].modality
    recommended = checkpoint.card.get("recommended", {}).get(modality, ())
    return next((name for name in recommended if name in known), known[0])


def _report(
    cohorts: Mapping[str, Sequence[Volume]],
    members: Sequence[Member],
    *,
    permutations: int,
    seed: int,
) -> CohortReport:
    for cohort in cohorts:
        _enough(cohort, {m.person for m in members if m.cohort == cohort})
    matrix = compare(members, permutations=permutations, seed=seed)
    scans, note = scan_rows(members, seed=seed)
    counts = tuple(
        {
            "cohort": cohort,
            "persons": len({m.person for m in members if m.cohort == cohort}),
            "scans": sum(m.cohort == cohort for m in members),
        }
        for cohort in cohorts
    )
    prints = {name: list(map(fingerprint, scans)) for name, scans in cohorts.items()}
    return CohortReport(
        cohorts=counts,
        pairs=tuple(pair_rows(matrix)),
        by_depth=tuple(depth_rows(matrix, same_depths(members))),
        scans=tuple(scans),
        causes=tuple(cause_rows(prints)),
        notes=tuple(filter(None, [*cautions(members, matrix), note])),
        basis={
            "slices compared per scan": slices_of(members),
            "method": METHOD,
            "permutations": permutations,
            "seed": seed,
        },
    )


def _beside(
    before: CohortReport,
    members: Sequence[Member],
    *,
    same: bool,
    permutations: int,
    seed: int,
) -> CohortReport:
    """Put the comparison with the second model beside that with the first."""
    matrix = compare(members, permutations=permutations, seed=seed)
    rows = tuple(
        dict(row) | {"mmd2_after": new["mmd2"], "p_after": new["p_corrected"]}
        for row, new in zip(before.pairs, pair_rows(matrix), strict=True)
    )
    note = (
        "Both models have the same encoder (it was frozen): what it sees cannot have "
        "come nearer; only the head was adapted."
        if same
        else "MMD^2 before and after are in each encoder's own units, features at mean "
        "0 and standard deviation 1: compare them as shares of 1, and by their p."
    )
    return replace(before, pairs=rows, notes=(*before.notes, note))


def _same_encoder(one: Checkpoint, other: Checkpoint) -> bool:
    encoders = [
        {name: w for name, w in model.weights.items() if name.startswith("encoder.")}
        for model in (one, other)
    ]
    return bool(encoders[0]) and digest(encoders[0]) == digest(encoders[1])
