"""Encoding many scans: each pass only once, and always telling how far it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import NonFiniteFeatures
from .grid import spacing_rule
from .types import Checkpoint, Progress, Steps, Volume, relay

Features: TypeAlias = Mapping[str, NDArray[Any]]
"""Encoder depth -> (slice, feature)."""


@dataclass(eq=False)
class Encoder:
    """Encodes scans, each pass only once, and tells how far it is."""

    checkpoint: Checkpoint
    device: str
    total: int
    done: float = 0
    kept: dict[tuple[int, str], Features] = field(default_factory=dict)

    def features(self, scan: Volume, head: str) -> Steps[Features]:
        """Features of every slice of a scan as the head's training scans were seen."""
        key = (id(scan), pass_of(self.checkpoint, scan, head))
        if key not in self.kept:
            self.kept[key] = yield from self._encode(scan, head)
        return self.kept[key]

    def progress(self, note: str) -> Progress:
        """Say how many scans are encoded, in hundredths."""
        return Progress(round(100 * min(self.done, self.total)), 100 * self.total, note)

    def _encode(self, scan: Volume, head: str) -> Steps[Features]:
        from .inference import encode  # here, as the statistic alone needs no torch

        begun = self.done

        def placed(step: Progress) -> Progress:
            self.done = begun + step.done / max(step.total, 1)
            return self.progress(f"encoding {scan.source}")

        steps = encode(scan, self.checkpoint, head=head, device=self.device)
        found: Features = yield from relay(steps, placed)
        self.done = begun + 1
        for depth, values in found.items():
            if not np.isfinite(values).all():
                raise NonFiniteFeatures(
                    f"{scan.source} has features at depth {depth} that are no numbers.",
                    "Look at this scan, and leave it out.",
                )
        return found


def pass_of(checkpoint: Checkpoint, scan: Volume, head: str) -> str:
    """Name the encoder pass of a head: heads of one spacing share it."""
    if scan.modality is None:  # then each head may fall back on a modality of its own
        return head
    return repr(spacing_rule(checkpoint.spec, modality=scan.modality, head=head))


def stated(
    scans: Sequence[Volume], checkpoint: Checkpoint, head: str | None
) -> tuple[list[Volume], list[str]]:
    """Settle as what scans count that do not state their modality, and say so.

    Raises
    ------
    WrongInput
        If a picture may be of several modalities that the model, or the head, knows.
    """
    from ._choice import modality_of  # here, as the statistic alone needs no torch

    heads = () if head is None else (head,)
    found = [modality_of(scan, checkpoint, heads) for scan in scans]
    notes = dict.fromkeys(note for _, said in found for note in said)
    settled = [
        replace(scan, modality=modality) if said else scan
        for scan, (modality, said) in zip(scans, found, strict=True)
    ]
    return settled, list(notes)


def device_in_use(device: str) -> str:
    """Name the device that a wish such as "auto" gives."""
    from ._choice import device_of

    return device_of(device)


def labels(scans: Sequence[Volume]) -> list[str]:
    """Tell scans of one name apart."""
    often = Counter(scan.source for scan in scans)
    return [
        f"{scan.source} ({i})" if often[scan.source] > 1 else scan.source
        for i, scan in enumerate(scans, 1)
    ]
