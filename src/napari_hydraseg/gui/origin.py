"""Which scan labels were made on, so that those of one never go with another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from weakref import ref

from .touch import bare


def remember(metadata: dict[str, Any], image: Any) -> None:
    """Note in the metadata of a labels layer which scan it is made on.

    Parameters
    ----------
    metadata : dict
        Of the layer; before it is added, as forms read it as soon as it is there.
    image : napari.layers.Image
        The scan. It is not kept alive.
    """
    ours = metadata.setdefault("hydraseg", {})
    ours["scan"], ours["scan_files"] = ref(bare(image)), _files(image)


def carry(source: Any, metadata: dict[str, Any]) -> None:
    """Let a copy of labels have the scan of the original, if that is known."""
    known = source.metadata.get("hydraseg", {})
    ours = metadata.setdefault("hydraseg", {})
    ours |= {key: known[key] for key in ("scan", "scan_files") if key in known}


def scan_of(labels: Any, layers: Iterable[Any]) -> Any:
    """Find the scan that labels were made on.

    Parameters
    ----------
    labels : napari.layers.Labels
        The labels.
    layers : iterable of napari layers
        Those of the viewer.

    Returns
    -------
    napari.layers.Image or None
        None if it is not known, or not there any more.
    """
    ours = labels.metadata.get("hydraseg", {})
    made_on = ours["scan"]() if "scan" in ours else None
    layers = list(layers)
    found = [one for one in layers if made_on is not None and bare(one) is made_on]
    files = ours.get("scan_files", "")
    found += [one for one in layers if files and _files(one) == files]
    return found[0] if found else None


def belong(labels: Any, image: Any, layers: Iterable[Any]) -> bool:
    """Whether labels may lie on a scan; not if they are known to be of another.

    Parameters
    ----------
    labels : napari.layers.Labels
        The labels.
    image : napari.layers.Image
        The scan.
    layers : iterable of napari layers
        Those of the viewer.
    """
    made_on = scan_of(labels, layers)
    if made_on is not None:
        volume = _volume(image)
        other_channel = volume is not None and volume is _volume(made_on)
        return other_channel or bare(made_on) is bare(image)
    files = labels.metadata.get("hydraseg", {}).get("scan_files", "")
    return not files or _files(image) in ("", files)


def scan_under(labels: Any, image: Any, layers: Iterable[Any]) -> Any:
    """Give the scan that labels belong to.

    Parameters
    ----------
    labels : napari.layers.Labels
        The labels.
    image : napari.layers.Image or None
        The chosen scan; labels of unknown origin belong to it.
    layers : iterable of napari layers
        Those of the viewer.

    Returns
    -------
    napari.layers.Image or None
        None if that scan is not there.
    """
    layers = list(layers)
    if image is not None and belong(labels, image, layers):
        return image
    return scan_of(labels, layers)


def stranger(labels: Any, image: Any, layers: Iterable[Any]) -> str:
    """Say it if labels are known to be of another scan than the chosen one."""
    layers = list(layers)
    if belong(labels, image, layers):
        return ""
    made_on = scan_of(labels, layers)
    wanted = f"choose {made_on.name}" if made_on is not None else "open that one"
    return (
        f"These labels were made on another scan than {image.name}: {wanted}, or press "
        "New empty labels."
    )


def _volume(layer: Any) -> Any:
    known: Mapping[str, Any] = layer.metadata.get("hydraseg", {})
    return known.get("volume")


def _files(layer: Any) -> str:
    """Digest of the files of a scan; empty if there are none."""
    volume = _volume(layer)
    return volume.sha256 if volume is not None else ""
