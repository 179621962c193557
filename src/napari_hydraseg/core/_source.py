"""Where batches come from, and how a loss is computed in the memory there is."""

import re
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from . import training
from ._features import Example, Kept
from ._job import Job
from .augment import LIGHT, NONE, Recipe
from .errors import DeviceError, OutOfMemory
from .losses import IGNORE, segmentation_loss
from .types import Progress, Steps

STEP_PIXELS = 4 * 192**2  # of a batch of 2 to 8 slices
CACHED = 160  # changed slices whose features are kept
FEWEST = 40  # of them, or two of each slice, whatever the clock says
LOOKS = 8  # slices or blocks that donors are judged by
GAIN = 0.3  # log of the strongest bias field of an MR scan
SIDES = re.compile(
    r"(?i)(?<![a-z])(?:([lr][vath]?|sinist\w*|dext\w*)(?![a-z])"
    # also within a word, as in "leftlung", but for words that only sound so
    r"|(?!cleft|(?:b|f|w|a|al|up|out)right)[a-z]*(left|right))"
)
HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # "LKidney"


def recipe_of(job: Job, *, augment: bool) -> Recipe:
    """Choose how slices may change.

    Nothing is flipped where names know sides, or where a flip would not be one of left
    and right; a bias field is a thing of MR.
    """
    if not augment:
        return NONE
    names = [job.head, *job.spec.heads[job.head]]
    sided = any(SIDES.search(HUMPS.sub(" ", name)) for name in names)
    sagittal = any(volume.plane == "sagittal" for volume, _ in job.pairs)
    coils = all(volume.modality == "MR" for volume, _ in job.pairs)
    return replace(
        LIGHT,
        flip=0.0 if sided or (sagittal and job.spec.slicewise) else 0.5,
        bend_px=2.0,
        blur=0.1,
        low_resolution=0.1,
        bias=GAIN if coils else 0.0,
    )


def examples(job: Job) -> Steps[list[Example]]:
    """Compute the features of some of what is learned from, unchanged.

    Of slices those that show something, from end to end; of blocks, pieces that do are
    drawn, since whole ones may be too large.
    """
    job.net.eval()
    found: list[Example] = []
    note = "looking at the annotated slices"
    if not job.spec.slicewise:
        rng = np.random.default_rng(0)  # the run's own chance is left alone
        for _ in range(LOOKS):
            found.append(_looked_at(job, *_drawn(job, NONE, 1, rng=rng, painted=1.0)))
            yield Progress(len(found), LOOKS, note)
        return found
    places = [(case, i) for case in job.lessons for i in case.painted]
    places = places or [(case, int(case.annotated[0])) for case in job.lessons]
    spread = np.linspace(0, len(places) - 1, min(LOOKS, len(places))).round()
    places = [places[int(i)] for i in spread]
    for case, index in places:
        rows, columns = _around(case.labels[index], job.patch)
        labels = torch.from_numpy(case.labels[index][rows, columns]).long()[None]
        image = case.triple(index, job.slices)[None, :, rows, columns]
        found.append(_looked_at(job, image, labels))
        yield Progress(len(found), len(places), note)
    return found


def _around(labels: NDArray[np.uint8], size: tuple[int, ...]) -> tuple[slice, ...]:
    """Cut out what is painted, with as much around it as a step takes."""
    painted = np.argwhere((labels > 0) & (labels != IGNORE))
    middle = painted.mean(0) if len(painted) else np.array(labels.shape) / 2
    firsts = [
        int(np.clip(round(m - n / 2), 0, max(0, side - n)))
        for m, n, side in zip(middle, size, labels.shape, strict=True)
    ]
    return tuple(slice(a, a + n) for a, n in zip(firsts, size, strict=True))


@torch.inference_mode()
def _looked_at(job: Job, images: Tensor, labels: Tensor) -> Example:
    pads = [n for size in labels.shape[:0:-1] for n in (0, -size % job.net.stride)]
    padded = F.pad(labels, pads, value=IGNORE)
    return job.features(images), padded.to(job.device)


def _drawn(
    job: Job,
    recipe: Recipe,
    count: int,
    *,
    rng: np.random.Generator | None = None,
    painted: float = 0.7,
) -> tuple[Tensor, Tensor]:
    return training.draw(
        job.lessons,
        count,
        size=job.patch,
        slices=job.slices,
        recipe=recipe,
        rng=job.rng if rng is None else rng,
        painted=painted,
    )


class Source:
    """Draws batches and back-propagates their loss.

    Parameters
    ----------
    job : Job
        The run. Where its encoder is frozen, its features are kept (`fill`).
    recipe : Recipe
        How slices change.
    """

    def __init__(self, job: Job, recipe: Recipe) -> None:
        self.job, self.recipe = job, recipe
        self.count = int(np.clip(STEP_PIXELS // np.prod(job.patch), 2, 8))
        self.pieces = 1  # in which a batch is computed
        self.kept: Kept | None = None
        self.notes: list[str] = []

    def fill(
        self, *, seconds: float, passes: int | None, exactly: int | None = None
    ) -> Steps[None]:
        """Draw changed slices and keep their features, if the encoder is frozen.

        Parameters
        ----------
        seconds : float
            A slow machine learns from fewer changes rather than too late: from two of
            each slice if these are few, else from `CACHED`, or from what it sees in
            twice this time, but `FEWEST` at least.
        passes : int or None
            Passes over the slices, where their number is known: more changes of a
            slice than these would never be seen.
        exactly : int, optional
            How many, whatever it takes: as in the run that goes on.
        """
        if not self.job.frozen:
            return
        began, kept = time.monotonic(), Kept()
        slices = sum(len(case.annotated) for case in self.job.lessons)
        most = min(16, max(2, passes or 16)) * slices
        wanted = exactly or int(np.clip(CACHED, 2 * slices, most))
        self.job.net.eval()
        while len(kept) < wanted:
            spent = time.monotonic() - began
            late = spent > seconds and len(kept) >= min(2 * slices, CACHED)
            if spent > 2 * seconds:
                late = len(kept) >= min(2 * slices, FEWEST)
            if not exactly and (late or kept.full):
                break
            images, labels = _drawn(self.job, self.recipe, 1)
            with torch.inference_mode():
                kept.add(self.job.features(images), labels)
            said = yield Progress(len(kept), wanted, "looking at changed slices")
            if said == "stop" and not exactly:
                break
        if kept.full:
            text = f"Room was short: {len(kept)} changed slices are learned from."
            self.notes.append(text)
        self.kept = kept

    def loss(self) -> Tensor:
        """Draw a batch, back-propagate its loss and return it.

        Raises
        ------
        OutOfMemory
            If not even one slice at a time fits.
        DeviceError
            If the device fails otherwise.
        """
        rng = self.job.rng
        if self.kept is None:
            images, labels = _drawn(self.job, self.recipe, self.count)
            batch = [images]
        else:
            which = rng.integers(len(self.kept), size=self.count)
            batch, labels = self.kept.pick([int(i) for i in which])
        seed = int(rng.integers(2**62))
        self.job.learn()
        with torch.random.fork_rng(devices=[]):  # dropout draws from the global state
            while True:
                try:
                    return self._back(batch, labels.to(self.job.device), seed)
                except (MemoryError, RuntimeError) as error:
                    self._shrink(error)

    def _back(self, batch: list[Tensor], labels: Tensor, seed: int) -> Tensor:
        """Back-propagate, in as many pieces as it takes.

        The loss of a batch is no sum over its slices (its Dice is pooled): its slope
        at the logits is found first, and every piece is then computed again.
        """
        if self.pieces == 1:
            loss = segmentation_loss(self._logits(batch, seed), labels)
            if torch.isfinite(loss):
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return loss.detach()
        parts = [
            list(part)
            for part in zip(*(one.chunk(self.pieces) for one in batch), strict=True)
        ]
        with torch.no_grad():
            found = [self._logits(part, seed + i) for i, part in enumerate(parts)]
        logits = torch.cat(found).requires_grad_()
        loss = segmentation_loss(logits, labels)
        if torch.isfinite(loss):
            (slope,) = torch.autograd.grad(loss, logits)
            pulls = torch.split(slope, [len(part) for part in found])
            for i, (part, pull) in enumerate(zip(parts, pulls, strict=True)):
                self._logits(part, seed + i).backward(pull)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()

    def _logits(self, batch: list[Tensor], seed: int) -> Tensor:
        job = self.job
        torch.default_generator.manual_seed(seed)
        inputs = [maps.to(job.device, memory_format=job.format) for maps in batch]
        kind = job.device.split(":")[0]
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            logits: Tensor
            if self.kept is None:
                logits = job.net(inputs[0], (job.head,))[job.head]
            else:
                logits = job.net.heads[job.head](inputs)
                inside = tuple(slice(n) for n in job.patch)
                logits = logits[(slice(None), slice(None), *inside)]
        return logits.float()

    def _shrink(self, error: MemoryError | RuntimeError) -> None:
        """Take smaller pieces after a lack of memory; anything else is raised."""
        if not out_of_memory(error):
            if "CUDA" not in str(error):
                raise error
            raise DeviceError(
                f"The device failed: {str(error)[:100]}", "Try the device cpu."
            ) from error
        if self.pieces >= self.count:
            raise OutOfMemory(
                "The memory does not suffice for a single slice.",
                "Use the device cpu, or a smaller scan.",
            ) from error
        self.pieces = min(2 * self.pieces, self.count)
        for group in self.job.net.parameters():
            group.grad = None
        self.notes.append(f"Memory was short: batches in {self.pieces} parts.")


def out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory from other faults of a device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(
        words in str(error).lower() for words in ("out of memory", "not enough memory")
    )
