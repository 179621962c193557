"""``hydraseg shift --cohort`` and ``--channels``: cohorts against one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.errors import WrongInput
from napari_hydraseg.core.types import Volume

from .scans import Scan, scans
from .session import emit, session
from .session import table as laid_out
from .work import run

SHOWN = ("cohorts", "pairs", "by_depth", "scans", "causes", "notes")
PAIR = ("a", "b", "verdict", "mmd2", "p", "p_corrected", "p_floor")


@dataclass(frozen=True)
class Groups:
    """Scans by cohort, not read yet; or the channels that make cohorts of them."""

    scans: dict[str, list[Scan]]
    taken: dict[str, tuple[str, ...]]

    @classmethod
    def typed(cls, pairs: Sequence[tuple[str, str]]) -> Groups:
        """Of ``--cohort NAME SCAN``."""
        named: dict[str, list[str]] = {}
        for name, text in pairs:
            named.setdefault(name, []).append(text)
        return cls({name: scans(texts) for name, texts in named.items()}, {})

    @classmethod
    def channels(cls, arguments: Sequence[str], options: Sequence[str]) -> Groups:
        """Of scans of several channels, and ``--channels NAME=CHANNEL+CHANNEL``."""
        taken = {}
        for option in options:
            name, _, names = option.partition("=")
            if not name or not all(names.split("+")):
                raise click.UsageError(
                    f"--channels is NAME=CHANNEL+CHANNEL, not {option}."
                )
            taken[name] = tuple(names.split("+"))
        if not arguments:
            raise click.UsageError("Name the scans whose channels are compared.")
        return cls(dict.fromkeys(taken, scans(arguments)), taken)

    @property
    def paths(self) -> list[Path]:
        """All files that are read."""
        return [
            p for found in self.scans.values() for scan in found for p in scan.paths
        ]

    def load(self) -> tuple[dict[str, list[Volume]], dict[str, list[Any]] | None]:
        """Read the scans; and whose each is, if one person is in several cohorts."""
        if not self.taken:
            read = {name: [s.load() for s in some] for name, some in self.scans.items()}
            return read, None
        volumes = [scan.load() for scan in next(iter(self.scans.values()))]
        cohorts: dict[str, list[Volume]] = {}
        persons: dict[str, list[Any]] = {}
        for name, wanted in self.taken.items():
            picked = [(i, c) for i in range(len(volumes)) for c in wanted]
            cohorts[name] = [channel_of(volumes[i], c) for i, c in picked]
            persons[name] = [i for i, _ in picked]
        return cohorts, persons


def channel_of(volume: Volume, name: str) -> Volume:
    """One channel of a scan, as a scan of its own.

    Raises
    ------
    WrongInput
        If the scan has no channel of that name.
    """
    if name not in volume.names:
        raise WrongInput(
            f"{volume.source} has channels {', '.join(volume.names)}, not {name}.",
            "Name files by channel: FLAIR=a.nii.gz,T1=b.nii.gz.",
        )
    at = volume.names.index(name)
    return replace(volume, data=volume.data[at : at + 1], names=("image",))


def compare_groups(
    groups: Groups,
    *,
    model: str,
    after: str | None,
    head: str | None,
    drop_nonfinite: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Compare, print, and write the report that is wanted."""
    cohorts, persons = groups.load()
    now = session()
    steps = core.compare_cohorts(
        cohorts,
        core.get_model(model),
        persons=persons,
        after=core.get_model(after) if after is not None else None,
        head=head,
        drop_nonfinite=drop_nonfinite,
        seed=now.seed,
        device=now.device,
    )
    result = run(steps, "comparing")
    if output is not None:
        core.write_report(core.describe(result), output, overwrite=overwrite)
    pairs = [dict(row) for row in result.pairs]
    columns = PAIR + (("mmd2_after", "p_after") if after is not None else ())
    causes = [dict(row) for row in result.causes]
    parts = [
        laid_out(pairs, columns),
        laid_out(causes, tuple(causes[0])) if causes else "",
        *result.notes,
    ]
    content = {key: getattr(result, key) for key in SHOWN}
    emit(
        "shift",
        content,
        table="\n\n".join(filter(None, parts)),
        device=result.basis["device"],
    )
