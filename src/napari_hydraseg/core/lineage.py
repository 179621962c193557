"""Which model was taught from which: the versions that lead to one, and beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .checkpoint import digest, load_checkpoint
from .errors import WeightsError
from .types import ModelInfo


@dataclass(frozen=True, eq=False)
class Version:
    """One model among those that it descends from, and those taught from it.

    Attributes
    ----------
    model : ModelInfo
        The model.
    depth : int
        Rounds of teaching since the first model of the family that is there.
    parent : str
        Name of the model that it was taught from; empty if there is none here.
    """

    model: ModelInfo
    depth: int = 0
    parent: str = ""

    @property
    def taught(self) -> dict[str, Any]:
        """What the last round taught: head, Dice before and after; {} of a first."""
        heads = self.model.card.get("heads", {})
        ours = self.model.card.get("taught") or next(
            (head for head in reversed(list(heads)) if "after" in heads[head]), ""
        )
        if not self.model.card.get("parent") or "after" not in heads.get(ours, {}):
            return {}
        about = heads[ours]
        return {
            "head": ours,
            "before": dict(about.get("before", {})).get("dice"),
            "after": dict(about["after"]).get("dice"),
            "created": str(self.model.card.get("created", "")),
        }


def family(name: str, models: Sequence[ModelInfo]) -> list[Version]:
    """List the versions of a model: its ancestors, itself, and all taught from them.

    Parameters
    ----------
    name : str
        The model.
    models : sequence of ModelInfo
        Of `core.list_models`.

    Returns
    -------
    list of Version
        Parents before their children, those in the order in which they were made; only
        the model itself if it has no relatives here. Empty if there is no such model.
    """
    known = {info.name: info for info in models}
    if name not in known:
        return []
    parents = _parents(models)
    first, seen = name, {name}
    while parents.get(first) and parents[first] not in seen:
        first = parents[first]
        seen.add(first)
    found: list[Version] = []
    _add(known[first], 0, known, parents, found)
    return found


def before(name: str, models: Sequence[ModelInfo]) -> str:
    """Name the model that one was taught from; empty if it is not here."""
    return _parents(models).get(name, "")


def _add(
    info: ModelInfo,
    depth: int,
    known: dict[str, ModelInfo],
    parents: dict[str, str],
    found: list[Version],
) -> None:
    if any(version.model.name == info.name for version in found):
        return
    found.append(Version(info, depth, parents.get(info.name, "")))
    children = [known[n] for n, parent in parents.items() if parent == info.name]
    for child in sorted(children, key=_made):
        _add(child, depth + 1, known, parents, found)


def _parents(models: Sequence[ModelInfo]) -> dict[str, str]:
    """Name of each taught model -> name of the one that it was taught from."""
    taught = {i.name: str(i.card["parent"]) for i in models if i.card.get("parent")}
    if not taught:
        return {}  # nothing to read: the digests of large files take their time
    names: dict[str, str] = {}
    for info in models:
        names.setdefault(_digest(info), info.name)
    found = {name: names.get(parent, "") for name, parent in taught.items()}
    return {name: parent for name, parent in found.items() if parent and parent != name}


def _digest(info: ModelInfo) -> str:
    try:
        state = info.path.stat()
    except OSError:
        return ""
    return _digest_of(info.path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _digest_of(path: Path, changed: int, size: int) -> str:
    """Digest of the weights, as a child's card names its parent."""
    try:
        return digest(load_checkpoint(path).weights)
    except (WeightsError, OSError):
        return ""  # a damaged model has no children


def _made(info: ModelInfo) -> tuple[str, float]:
    try:
        return str(info.card.get("created", "")), info.path.stat().st_mtime
    except OSError:
        return str(info.card.get("created", "")), 0.0
