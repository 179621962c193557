"""What comes out of a fine-tuning run: the model, its card, and fair warnings."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import _classes, _holdout, networks
from ._job import Job, modality_of
from .checkpoint import digest
from .errors import JobError
from .types import Checkpoint, FinetuneResult

FEW = 5  # slices below which a warning is due
OWN = "that of the user's own data"
DROP = 0.05  # of the held-out Dice: more is no chance

Score = Mapping[str, float]


class Frozen:
    """Proof that what is frozen does not move.

    Parameters
    ----------
    job : Job
        Before it is trained.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sha = digest(networks.weights_of(job.net.encoder))

    def proof(self) -> dict[str, Any]:
        """Compare the encoder with what it was.

        Raises
        ------
        JobError
            If a frozen tensor or buffer changed.
        """
        now = digest(networks.weights_of(self.job.net.encoder))
        if self.job.frozen and now != self.sha:
            raise JobError("The frozen encoder changed.", "Please report this fault.")
        count = len(self.job.net.encoder.state_dict()) if self.job.frozen else 0
        return {"tensors": count, "sha256_before": self.sha, "sha256_after": now}


def result(
    job: Job,
    frozen: Frozen,
    *,
    init: str,
    reason: str,
    before: Score,
    after: Score,
    curve: tuple[Mapping[str, float], ...],
    epochs: int,
    notes: Sequence[str],
) -> FinetuneResult:
    """Put a run's outcome together, and prove that what was frozen did not move.

    Raises
    ------
    JobError
        If a frozen tensor or buffer changed: nothing is then returned.
    """
    proof = frozen.proof()
    train = _sizes(job.split.train)
    held = {**_sizes(job.split.held), "kind": job.split.kind}
    story = {
        "data": f"{train['slices']} annotated slices of {train['cases']} scans",
        "subjects": {"train": train["cases"], "held_out": held["cases"]},
        "split": f"held-out {held['kind']}",
        "init": init,
        "mode": job.mode,
        "depth": job.depth,
        "before": _plain(before),
        "after": _plain(after),
    }
    candidate = _checkpoint(job, story, proof)
    accepted = after["n"] == 0 or after["dice"] > before["dice"]
    return FinetuneResult(
        checkpoint=candidate if accepted else job.checkpoint,
        candidate=candidate,
        head=job.head,
        init=init,
        mode=job.mode,
        reason=reason,
        before=before,
        after=after,
        accepted=accepted,
        epochs=epochs,
        curve=curve,
        frozen=proof,
        train=train,
        hold_out=held,
        warnings=(*_warnings(job, accepted), *_overfit(curve), *notes),
    )


def _sizes(places: list[list[int]]) -> dict[str, Any]:
    return {"cases": sum(map(bool, places)), "slices": sum(map(len, places))}


def _warnings(job: Job, accepted: bool) -> tuple[str, ...]:
    said = []
    learned = _sizes(job.split.train)["slices"]
    if learned < FEW:
        said.append(f"Learned from only {learned} slices: annotate a few more.")
    if job.split.kind == "none":
        said.append("Nothing was held out: how good the model is, is not known.")
    elif job.split.kind == "slab":
        said.append(
            "Optimistic: the held-out slices belong to the scan that was learned from; "
            "expect less on other scans."
        )
    if job.split.lost:
        lost = ", ".join(job.spec.heads[job.head][cls] for cls in job.split.lost)
        said.append(
            f"Not learned: {lost}. Slices that show it were held out, or lie next to "
            "those that were: annotate it on more."
        )
    if not accepted:
        said.append("Not better on the held-out slices: the old model stays.")
    return tuple(said)


def _overfit(curve: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Say so where the loss went on falling while the held-out Dice fell."""
    looks = [row for row in curve[1:] if row["dice"] == row["dice"]]
    if not looks:
        return ()
    best, last = max(looks, key=lambda row: row["dice"]), looks[-1]
    if last["dice"] < best["dice"] - DROP and last["loss"] < best["loss"]:
        return (
            f"It began to learn by heart: after pass {max(1, round(best['epoch']))} "
            "the held-out slices got worse again; that state was kept. Annotate more "
            "slices.",
        )
    return ()


def _checkpoint(
    job: Job, story: Mapping[str, Any], frozen: Mapping[str, Any]
) -> Checkpoint:
    """Make the new model; what was frozen keeps its very bytes."""
    old, new = job.checkpoint, networks.weights_of(job.net)
    own = f"heads.{job.head}."
    if job.frozen:
        weights = {
            k: v if k.startswith(own) else old.weights[k] for k, v in new.items()
        }
        spec, reference = job.spec, old.reference
    else:  # the encoder moved: the other heads no longer fit it
        weights = {k: v for k, v in new.items() if k.startswith(("encoder.", own))}
        spec = replace(job.spec, heads={job.head: job.spec.heads[job.head]})
        reference = {}
    heads = {k: v for k, v in old.card.get("heads", {}).items() if k in spec.heads}
    modalities = sorted({modality_of(v, old, job.head) for v, _ in job.pairs})
    own_name = f"+{job.head}"
    card = {
        **old.card,
        "name": f"{old.name.removesuffix(own_name)}{own_name}",
        "heads": {**heads, job.head: _entry(job, story, modalities)},
        "recommended": _recommended(job, modalities, tuple(spec.heads)),
        "parent": digest(old.weights),
        "taught": job.head,
        "created": time.strftime("%Y-%m-%d"),
        "frozen": dict(frozen),
        "held_out": _ledger(job),
    }
    return Checkpoint(spec, weights, card, reference)


def _entry(
    job: Job, story: Mapping[str, Any], modalities: Sequence[str]
) -> dict[str, Any]:
    """Describe the head: what it knew before, and what it has learned now.

    Data that it was taught with before, their licences, whom to name and the usual
    range of the scans still hold; its scores do not.
    """
    old = dict(job.checkpoint.card.get("heads", {}).get(job.head, {}))
    if job.mode == "scratch":  # nothing of it is left
        old = {}
    known = {k: v for k, v in old.items() if k not in ("scores", "dice", "ids")}
    return {
        **known,
        **_ids(job),
        **story,
        "modality": sorted({*old.get("modality", ()), *modalities}),
        "licence": _joined(old.get("licence"), OWN),
        "data": _joined(old.get("data"), story["data"]),
    }


def _joined(old: Any, new: str) -> str:
    parts = str(old).split("; ") if old else []
    return "; ".join(dict.fromkeys([*parts, new]))


def _ids(job: Job) -> dict[str, Any]:
    """Return the label ids of the classes, where they are not 1, 2, ...; else nothing.

    Of classes that were not painted, or not with one id in all scans, those of an
    earlier round are kept.
    """
    names = job.spec.heads[job.head]
    old = dict(job.checkpoint.card.get("heads", {}).get(job.head, {}).get("ids", {}))
    labels = _classes.agreed(job.classes)
    once = Counter(labels.values())
    new = {names[k]: label for label, k in labels.items() if once[k] == 1}
    ids = old | new
    if len(set(ids.values())) < len(ids):  # an id went over to another class
        ids = old
    if not set(names[1:]) <= set(ids):
        return {}
    usual = all(ids[name] == index for index, name in enumerate(names) if index)
    return {} if usual else {"ids": {name: ids[name] for name in names[1:]}}


def _recommended(
    job: Job, modalities: list[str], heads: tuple[str, ...]
) -> dict[str, list[str]]:
    chosen = {
        modality: [name for name in names if name in heads]
        for modality, names in job.checkpoint.card.get("recommended", {}).items()
    }
    for modality in modalities:
        names = chosen.setdefault(modality, [])
        if job.head not in names:
            names.append(job.head)
    return chosen


def _ledger(job: Job) -> dict[str, list[int]]:
    """Slices held out so far, by scan: never to be learned from in a later round.

    A scan that was held out whole stays so: its other slices are held out, too.
    """
    old = job.checkpoint.card.get("held_out", {})
    ledger = {scan: list(slices) for scan, slices in old.items()}
    scans = [_holdout.identities(volume) for volume, _ in job.pairs]
    pairs = list(zip(scans, job.split.train, strict=True))
    learned = {name for names, slices in pairs if slices for name in names}
    for case, slices in enumerate(job.split.held):
        names, out = scans[case], set(slices)
        if not (learned | set(old)) & set(names):
            out.update(range(len(job.truths[case])))
        for name in names if slices else ():
            ledger[name] = sorted(out.union(ledger.get(name, [])))
    return ledger


def _plain(score: Score) -> dict[str, float | None]:
    """NaN is no JSON."""
    return {k: None if v != v else round(v, 4) for k, v in score.items()}
