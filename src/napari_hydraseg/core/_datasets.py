"""Folders of labelled scans.

Either ``images/``, ``labels/`` and a ``split.json``, or the layout of the Medical
Segmentation Decathlon (`core._decathlon`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import _decathlon
from .errors import NotAVolume
from .io import load_segmentation, load_volume, scans_in
from .types import Segmentation, Volume


@dataclass(frozen=True)
class Dataset:
    """One labelled set, and the heads that learn from it.

    Attributes
    ----------
    folder : Path
        With ``images``, ``labels`` (same file names) and ``split.json``
        (``{"train": [...], "val": [...], "test": [...]}``; a file belongs to a subject
        if its name begins with the subject's); or a folder of the Decathlon.
    modality : str
        Of all its scans.
    heads : mapping of str to mapping of int to str
        Head -> label id -> class name. For a head that stands here, other ids are
        background; a head that does not stand here learns nothing from the set.
    patch : tuple of int
        Rows and columns that training cuts out.
    slices_per_step : int
        Its share of each step.
    flip : bool
        Whether left and right may be exchanged.
    floor : float, optional
        Grey value below which a part of the training slices is cut off (0 HU: as CT
        that was clipped there).
    nominal : bool
        Whether the files' voxel sizes are made up, so that no mm can be reported.
    about : mapping
        Licence, description and citation, for the card.
    """

    folder: Path
    modality: Any
    heads: Mapping[str, Mapping[int, str]]
    patch: tuple[int, int]
    slices_per_step: int
    flip: bool
    floor: float | None
    nominal: bool
    about: Mapping[str, Any]

    @property
    def ids(self) -> set[int]:
        """Label ids that some head knows."""
        return {label for classes in self.heads.values() for label in classes}

    def subjects(self, split: str) -> list[str]:
        """Names of the subjects of a split."""
        return subjects(self.folder, split)

    def scans(self, split: str) -> Iterator[tuple[str, Volume, Segmentation]]:
        """Load the scans of a split with the subject each one shows."""
        for subject, image, labels in self.files(split):
            yield subject, self.volume(image), load_segmentation(labels)

    def files(self, split: str) -> Iterator[tuple[str, Path, Path]]:
        """List subject, image and labels of each scan of a split."""
        return files(self.folder, split)

    def volume(self, path: Path) -> Volume:
        """Load an image; the fourth axis of a Decathlon file holds its channels."""
        if not _decathlon.is_decathlon(self.folder):
            return load_volume(path, modality=self.modality)
        names = _decathlon.channels(self.folder)
        if len(names) == 1:
            return load_volume(path, modality=self.modality)
        volumes = [
            load_volume(path, modality=self.modality, index=i)
            for i in range(len(names))
        ]
        data = np.concatenate([volume.data for volume in volumes])
        return replace(volumes[0], data=data, names=names)


def subjects(folder: Path, split: str) -> list[str]:
    """List the subjects of a split of a folder.

    Raises
    ------
    NotAVolume
        If nothing says who belongs to it.
    """
    if _decathlon.is_decathlon(folder):
        listed = _decathlon.pairs(folder)
        return [name for name in listed if _decathlon.split_of(name) == split]
    file = folder / "split.json"
    if not file.is_file():
        raise NotAVolume(
            f"{folder.name} has no split.json.",
            "Write one: subjects of train, val and test.",
        )
    return list(json.loads(file.read_text("utf-8"))[split])


def files(folder: Path, split: str) -> Iterator[tuple[str, Path, Path]]:
    """List subject, image and labels of each scan of a split of a folder."""
    wanted = subjects(folder, split)
    if _decathlon.is_decathlon(folder):
        listed = _decathlon.pairs(folder)
        yield from ((subject, *listed[subject]) for subject in wanted)
        return
    for path in scans_in(folder / "images"):
        subject = _subject(path.name, wanted)
        if subject is not None:
            yield subject, path, folder / "labels" / path.name


def dataset(table: Mapping[str, Any], root: Path) -> Dataset:
    """Make a `Dataset` of one ``[[dataset]]`` table of a configuration."""
    return Dataset(
        folder=_folder(root, table["folder"]),
        modality=table["modality"],
        heads={
            head: {int(label): name for label, name in classes.items()}
            for head, classes in table["heads"].items()
        },
        patch=tuple(table["patch"]),
        slices_per_step=int(table["slices_per_step"]),
        flip=bool(table.get("flip", False)),
        floor=table.get("floor"),
        nominal=bool(table.get("nominal", False)),
        about={k: table[k] for k in ("licence", "data", "cite") if k in table},
    )


def _folder(root: Path, names: str | Sequence[str]) -> Path:
    """Find a set's folder: the first of its names that is there."""
    listed = [names] if isinstance(names, str) else list(names)
    return next(
        (root / name for name in listed if (root / name).is_dir()), root / listed[0]
    )


def classes_of(sets: Sequence[Dataset]) -> dict[str, tuple[str, ...]]:
    """List the classes of each head over all sets, background first."""
    found: dict[str, dict[str, None]] = {}
    for data in sets:
        for head, classes in data.heads.items():
            found.setdefault(head, {}).update(dict.fromkeys(classes.values()))
    return {head: ("background", *names) for head, names in found.items()}


def _subject(name: str, subjects: list[str]) -> str | None:
    """Find the subject that a file belongs to: its name, then no further digit."""
    for subject in subjects:
        rest = name.removeprefix(subject)
        if rest != name and not rest[:1].isalnum():
            return subject
    return None
