"""The held-out slices: what the model answers on them, and how good that is."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import _engine, _holdout, grid
from ._job import Job
from .losses import hard_dice_counts
from .types import Progress, Steps, relay

KEPT_BYTES = 2**28  # of held-out features, at most
OVERLAP = 0.25  # of the windows over a block

Place: TypeAlias = tuple[int, int]
"""Case and slice."""

Counts: TypeAlias = NDArray[np.float64]
"""What the Dice of each held-out slice is made of: (slice, 2, class)."""


class Exam:
    """Judges a model by the held-out slices, on the scans' own grid.

    Parameters
    ----------
    job : Job
        The run. Where its encoder is frozen, the features of the slices are computed
        once and kept.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.places: list[Place] = [
            (case, i) for case, held in enumerate(job.split.held) for i in held
        ]
        self._frames = [job.frame(case) for case in range(len(job.pairs))]
        self._kept: dict[Place, list[Tensor]] = {}
        self._bytes = 0

    def sit(self) -> Steps[tuple[Counts, Mapping[str, Any] | None]]:
        """Judge the network as it is.

        Yields
        ------
        Progress
            After each slice or tile.

        Returns
        -------
        counts : ndarray
            Of every held-out slice; see `_holdout.dice_of`.
        preview : mapping or None
            ``{"case", "slice", "labels"}`` of one of them, labels (row, column).
        """
        answers = yield from self._answers()
        if not self.places:
            return np.zeros((0, 2, len(self.job.spec.heads[self.job.head]) - 1)), None
        counts = np.stack([self._counts(place, answers[place]) for place in answers])
        return counts, self._preview(answers)

    def glance(self) -> Mapping[str, Any] | None:
        """Return a preview of one held-out slice, where that is cheap."""
        if not self.places or not self.job.spec.slicewise:
            return None
        place = self._shown()
        return self._preview({place: self._slice(place)})

    def _shown(self) -> Place:
        return self.places[len(self.places) // 2]

    def _preview(self, answers: Mapping[Place, NDArray[np.uint8]]) -> dict[str, Any]:
        case, index = self._shown()
        return {"case": case, "slice": index, "labels": answers[case, index]}

    def _answers(self) -> Steps[dict[Place, NDArray[np.uint8]]]:
        self.job.net.eval()
        note, found = "looking at the held-out slices", {}
        if self.job.spec.slicewise:
            for place in self.places:
                found[place] = self._slice(place)
                yield Progress(len(found), len(self.places), note)
            return found
        for case, held in enumerate(self.job.split.held):
            labels = (yield from self._block(case, note)) if held else None
            if labels is not None:
                found |= {(case, i): labels[i] for i in held}
        return found

    @torch.inference_mode()
    def _slice(self, place: Place) -> NDArray[np.uint8]:
        """Segment one slice: (row, column)."""
        job, case = self.job, place[0]
        job.net.eval()
        rows, columns = job.cases[case].labels.shape[1:]
        logits = job.net.heads[job.head](self._features(place))[..., :rows, :columns]
        labels, _ = _engine.answer(logits, self._frames[case], job.spec, head=job.head)
        return np.asarray(labels[0])

    def _features(self, place: Place) -> list[Tensor]:
        if place in self._kept:
            return self._kept[place]
        case, index = place
        image = self.job.cases[case].triple(index, self.job.slices)[None]
        features = self.job.features(image)
        size = sum(maps.nbytes for maps in features)
        if self.job.frozen and self._bytes + size <= KEPT_BYTES:
            self._kept[place] = features
            self._bytes += size
        return features

    def _block(self, case: int, note: str) -> Steps[NDArray[np.uint8]]:
        """Segment one block, in slices: (slice, row, column)."""
        job, volume = self.job, self.job.pairs[case][0]
        image = job.cases[case].images.astype(np.float32)
        steps = _engine.windows(
            job.net,
            grid.Conformed(image, self._frames[case], volume.plane),
            job.spec,
            heads=(job.head,),
            device=job.device,
            overlap=OVERLAP,
            probabilities=False,
        )
        answers = yield from relay(steps, lambda p: Progress(p.done, p.total, note))
        labels, _ = answers[job.head]
        return grid.to_slices(labels[0], volume.plane)

    def _counts(self, place: Place, answer: NDArray[np.uint8]) -> NDArray[np.float64]:
        case, index = place
        counts = hard_dice_counts(
            torch.from_numpy(np.ascontiguousarray(answer)).long(),
            torch.from_numpy(self.job.truths[case][index]).long(),
            len(self.job.spec.heads[self.job.head]),
        )
        return counts.numpy().astype(np.float64)


def score(counts: Counts, *, seed: int) -> dict[str, float]:
    """Dice over held-out slices with its interval.

    Returns
    -------
    dict
        ``{"dice", "n", "low", "high"}``; nan and 0 if nothing is held out.
    """
    if not len(counts):
        return {"dice": float("nan"), "n": 0, "low": float("nan"), "high": float("nan")}
    low, high = _holdout.interval(counts, seed=seed)
    return {
        "dice": _holdout.dice_of(counts),
        "n": len(counts),
        "low": low,
        "high": high,
    }
