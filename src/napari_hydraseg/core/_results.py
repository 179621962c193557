"""What fine-tuning and the comparisons find, and what people read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ._model import Checkpoint

Verdict: TypeAlias = Literal["different", "borderline", "similar", "cannot-judge"]


@dataclass(frozen=True, eq=False)
class Report:
    """A result to be read by people: `core.write_report` makes a file of it.

    Attributes
    ----------
    title, verdict : str
        Headline and one-sentence answer.
    rows : tuple of mapping
        A table, one mapping of column to value per row.
    figures : tuple of mapping
        Data to draw, not pictures: ``{"kind": "line" | "bar" | "scatter" | "image",
        "title": ..., ...}``; see `core.report`.
    basis : mapping
        What was compared: sizes, seed, versions.
    notes : tuple of str
        Paragraphs of plain text.
    """

    title: str
    verdict: str
    rows: tuple[Mapping[str, Any], ...] = ()
    figures: tuple[Mapping[str, Any], ...] = ()
    basis: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """What a fine-tuning run gave.

    Attributes
    ----------
    checkpoint : Checkpoint
        The new model if it was accepted, else the one that went in.
    candidate : Checkpoint
        The trained model, accepted or not.
    head, init, mode : str
        What was trained, where it started from ("random" or a head), and how.
    reason : str
        Why it started there, in plain words.
    before, after : mapping
        ``{"dice", "n", "low", "high"}`` on the same held-out slices; ``n`` counts
        slices, ``low`` and ``high`` bound a 95 % bootstrap interval over them.
    accepted : bool
        Whether after is better than before.
    epochs : int
        Passes over the annotated slices.
    curve : tuple of mapping
        ``{"epoch", "loss", "dice"}``, baseline first.
    frozen : mapping
        ``{"tensors", "sha256_before", "sha256_after"}`` over every frozen parameter
        and buffer.
    train, hold_out : mapping
        ``{"cases", "slices"}``; ``hold_out`` also has ``kind``: "scan", "slab" or
        "none".
    warnings : tuple of str
        What to be careful about, in plain words.
    """

    checkpoint: Checkpoint
    candidate: Checkpoint
    head: str
    init: str
    mode: str
    reason: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    accepted: bool
    epochs: int
    curve: tuple[Mapping[str, float], ...]
    frozen: Mapping[str, Any]
    train: Mapping[str, Any]
    hold_out: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ShiftReport:
    """How like the training scans a scan is.

    Attributes
    ----------
    verdict : {"different", "borderline", "similar", "cannot-judge"}
        By p: at most .05, at most .15, above; too few reference scans.
    p, p_floor : float
        Share of reference scans that lie at least as far out, corrected over
        depths, and the smallest value it could have taken. ``nan``: cannot judge.
    percentile : float
        Share of the reference scans, in percent, that are closer to the rest.
    n_reference : int
        Reference scans compared with.
    by_depth : tuple of mapping
        ``{"depth", "mmd2", "novelty", "percentile"}`` per encoder depth; novelty is the
        Mahalanobis distance in units of that of the median reference scan.
    grey : mapping
        The same of the grey values that the encoder gets, depth "grey"; empty if the
        reference has none.
    per_case : tuple of mapping
        ``{"case", "verdict", "p", "percentile"}`` per scan.
    per_slice : tuple of mapping
        ``{"case", "slice", "witness"}``; above 0: unlike the reference.
    causes : tuple of mapping
        ``{"name", "scan", "reference_low", "reference_high"}``.
    advice : mapping
        ``{"init", "depth", "text"}``.
    basis : mapping
        Model, head, sizes, seed.
    picture : mapping
        ``{"method", "reference", "scans", "note"}``: points (x, y) of all scans by PCA
        or t-SNE. Empty if there is no reference.
    notes : tuple of str
        What to be careful about.
    """

    verdict: Verdict
    p: float
    p_floor: float
    percentile: float
    n_reference: int
    by_depth: tuple[Mapping[str, Any], ...]
    per_case: tuple[Mapping[str, Any], ...] = ()
    per_slice: tuple[Mapping[str, Any], ...] = ()
    causes: tuple[Mapping[str, Any], ...] = ()
    advice: Mapping[str, Any] = field(default_factory=dict)
    basis: Mapping[str, Any] = field(default_factory=dict)
    picture: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    grey: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by_level(self) -> tuple[Mapping[str, Any], ...]:
        """Rows of all that was compared: grey values, if they were, and the depths."""
        return (self.grey, *self.by_depth) if self.grey else self.by_depth


@dataclass(frozen=True, eq=False)
class CohortReport:
    """How far apart cohorts of scans are: sites, scanners, channels of one study.

    Attributes
    ----------
    cohorts : tuple of mapping
        ``{"cohort", "persons", "scans"}``.
    pairs : tuple of mapping
        ``{"a", "b", "verdict", "mmd2", "p", "p_corrected", "p_floor", "both"}`` for
        each two cohorts; ``mmd2`` is the mean over depths, ``p_corrected`` Holm's, and
        ``both`` counts persons who are in both. With a second model also
        ``mmd2_after`` and ``p_after``.
    by_depth : tuple of mapping
        ``{"a", "b", "depth", "mmd2", "p"}``; p is corrected over depths.
    scans : tuple of mapping
        ``{"cohort", "pca", "tsne"}`` per scan: its points in two pictures, ``tsne``
        None where there are too few scans.
    causes : tuple of mapping
        ``{"name"}`` and for each cohort its usual range in words.
    notes : tuple of str
        What to be careful about.
    basis : mapping
        Model, head, sizes, seed.
    """

    cohorts: tuple[Mapping[str, Any], ...]
    pairs: tuple[Mapping[str, Any], ...]
    by_depth: tuple[Mapping[str, Any], ...]
    scans: tuple[Mapping[str, Any], ...] = ()
    causes: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    basis: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TransferReport:
    """Whether a head learns better from a pretrained encoder, and by how much.

    Attributes
    ----------
    head : str
        What was learned.
    arms : tuple of mapping
        ``{"slices", "arm", "dice", "updates", "seconds", "rates"}`` for each number of
        annotated slices and arm. ``dice``: ``mean``; ``sd`` over repeats; ``low`` and
        ``high``, a 95 % bootstrap interval over test scans; ``values``, one for each
        repeat. Updates and seconds are means over repeats; ``slices`` is None where
        every annotated slice was used.
    comparisons : tuple of mapping
        ``{"slices", "arm", "against", "difference", "low", "high", "gain_percent",
        "error_gone_percent", "p_value", "n"}``; ``p_value`` is None below 6 scans.
    runs : tuple of mapping
        ``{"slices", "repeat", "arm", "rate", "updates", "seconds", "choice_seconds",
        "dice"}``; ``dice`` holds one number for each test scan.
    basis : mapping
        Model, sizes, budget, seed, versions.
    notes : tuple of str
        What was left out, and what to be careful about.
    """

    head: str
    arms: tuple[Mapping[str, Any], ...]
    comparisons: tuple[Mapping[str, Any], ...]
    runs: tuple[Mapping[str, Any], ...]
    basis: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
