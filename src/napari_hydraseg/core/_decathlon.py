"""Folders as the Medical Segmentation Decathlon lays them out.

``dataset.json`` lists pairs of ``imagesTr`` and ``labelsTr``; the images of
``imagesTs`` have no labels and are not used. There is no split: each scan falls into
train, val or test by a digest of its name, so that it falls alike everywhere.
M. Antonelli et al., Nat Commun 2022;13:4128, :doi:`10.1038/s41467-022-30695-9`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import NotAVolume

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


def is_decathlon(folder: Path) -> bool:
    """Whether a folder has that layout and no split of its own."""
    split = folder / "split.json"
    return (folder / "dataset.json").is_file() and not split.is_file()


def channels(folder: Path) -> tuple[str, ...]:
    """Names of the image channels, in the order of the files' fourth axis."""
    listed: dict[str, str] = _content(folder).get("modality", {"0": "image"})
    return tuple(listed[key] for key in sorted(listed, key=int))


def pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Map each subject to its image and labels.

    Raises
    ------
    NotAVolume
        If a file that is listed is not there.
    """
    found = {}
    for entry in _content(folder)["training"]:
        image, labels = (folder / entry[key] for key in ("image", "label"))
        for path in (image, labels):
            if not path.is_file():
                raise NotAVolume(
                    f"dataset.json of {folder.name} lists {path.name}, which is not "
                    "there.",
                    "Unpack the archive again.",
                )
        found[image.name.split(".")[0]] = (image, labels)
    return found


def split_of(subject: str) -> str:
    """Return the split that a subject falls into."""
    digest = hashlib.sha256(subject.encode()).digest()
    place, reached = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    for split, share in SHARES.items():
        reached += share
        if place < reached:
            return split
    return "test"


def _content(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "dataset.json").read_text("utf-8"))
    return content
