"""Domain shift: whether a scan is like those a model was trained on, where, and why.

The encoder's features of a scan are held against those of the model's training scans,
or of scans that the user gives, by their maximum mean discrepancy at every depth. What
counts is where the scan ranks among the reference scans, each left out in turn: slices
of one scan are not independent, so scans are the unit throughout. "Similar" says that
the scan looks like the reference; it never says that a mask of it is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from ._fingerprint import fingerprint, usual_ranges
from ._mmd import mmd, mmd_test
from ._reference import reference_features
from ._verdict import Case, Comparison, report
from .errors import TooFewSamples, UnknownModel
from .grid import spacing_rule
from .types import Checkpoint, Progress, ShiftReport, Steps, Volume

__all__ = ["fingerprint", "mmd", "mmd_test", "reference_features", "shift"]

Features = Mapping[str, NDArray[Any]]


def shift(
    volumes: Volume | Sequence[Volume],
    checkpoint: Checkpoint,
    *,
    reference: Sequence[Volume] | None = None,
    head: str | None = None,
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
    head : str, optional
        Whose training scans to compare with. By default the nearest of the heads that
        the model recommends for the first scan's modality.
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
    DimensionMismatch, NonFiniteFeatures
        If features and reference are not of one encoder, or no numbers.
    """
    scans = [volumes] if isinstance(volumes, Volume) else list(volumes)
    if not scans or (reference is not None and not reference):
        raise TooFewSamples("No scan was given to compare.", "Give at least one.")
    heads = _candidates(checkpoint, scans[0], head, stored=reference is None)
    passes = len({_pass(checkpoint, scan, name) for scan in scans for name in heads})
    encoder = _Encoder(checkpoint, device, passes * len(scans) + len(reference or ()))
    if reference is None:
        known = [_stored(checkpoint, name) for name in heads]
    else:
        known = [(yield from encoder.reference(reference, heads[0]))]
    compared = []
    for empty in known:
        if empty.persons < 2:
            continue
        cases = []
        for scan, label in zip(scans, _labels(scans), strict=True):
            features = yield from encoder.features(scan, empty.head)
            yield encoder.progress(f"comparing {label} with {empty.head}")
            cases.append(Case.of(label, features, empty.reference))
        compared.append(replace(empty, cases=cases))
    nearest = min(compared, key=lambda found: found.score, default=known[0])
    return report(nearest, scans, checkpoint, seed=seed)


@dataclass(eq=False)
class _Encoder:
    """Encodes scans, each pass only once, and tells how far it is."""

    checkpoint: Checkpoint
    device: str
    total: int
    done: float = 0
    kept: dict[tuple[int, str], Features] = field(default_factory=dict)

    def features(self, scan: Volume, head: str) -> Steps[Features]:
        """Features of every slice of a scan as the head's training scans were seen."""
        key = (id(scan), _pass(self.checkpoint, scan, head))
        if key not in self.kept:
            self.kept[key] = yield from self._encode(scan, head)
        return self.kept[key]

    def reference(self, volumes: Sequence[Volume], head: str) -> Steps[Comparison]:
        """Make a comparison, still without cases, with the user's own scans."""
        found = []
        for volume in volumes:
            found.append((yield from self.features(volume, head)))
        entry = reference_features(found, max_scans=len(found))
        usual = usual_ranges([fingerprint(volume) for volume in volumes])
        modality = sorted({v.modality for v in volumes if v.modality})
        return Comparison(head, entry, usual, tuple(modality), [])

    def progress(self, note: str) -> Progress:
        """Say how many scans are encoded, in hundredths."""
        return Progress(round(100 * min(self.done, self.total)), 100 * self.total, note)

    def _encode(self, scan: Volume, head: str) -> Steps[Features]:
        from .inference import encode  # here, as the statistic alone needs no torch

        steps = encode(scan, self.checkpoint, head=head, device=self.device)
        begun = self.done
        try:
            while True:
                step = next(steps)
                self.done = begun + step.done / max(step.total, 1)
                yield self.progress(f"encoding {scan.source}")
        except StopIteration as stop:
            found: Features = stop.value
        finally:
            steps.close()
        self.done = begun + 1
        return found


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


def _pass(checkpoint: Checkpoint, scan: Volume, head: str) -> str:
    """Name the encoder pass of a head: heads of one spacing share it."""
    if scan.modality is None:  # then each head may fall back on a modality of its own
        return head
    return repr(spacing_rule(checkpoint.spec, modality=scan.modality, head=head))


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


def _labels(scans: Sequence[Volume]) -> list[str]:
    """Tell scans of one name apart."""
    often = Counter(scan.source for scan in scans)
    return [
        f"{scan.source} ({i})" if often[scan.source] > 1 else scan.source
        for i, scan in enumerate(scans, 1)
    ]
