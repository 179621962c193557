"""Where the draft of a layer lies, and when it is no longer needed."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg.core import drafts


def path_of(metadata: dict[str, Any]) -> Path:
    """Where the drafts of a labels layer go; the same file each time.

    Parameters
    ----------
    metadata : dict
        Of the layer; they keep the name.
    """
    ours = metadata.setdefault("hydraseg", {})
    return drafts.folder() / str(ours.setdefault("draft", drafts.new_path().name))


def settle(metadata: dict[str, Any], data: Any) -> None:
    """Forget the draft of labels that the user has saved as a file.

    Parameters
    ----------
    metadata : dict
        Of the layer.
    data : ndarray of int
        What was saved.
    """
    ours = metadata.setdefault("hydraseg", {})
    ours["on_disk"] = _sum(data)
    if "draft" in ours:
        drafts.discard_draft(path_of(metadata))


def is_settled(metadata: dict[str, Any], data: Any) -> bool:
    """Tell whether the file that the user saved last holds the same labels."""
    ours = metadata.get("hydraseg", {})
    return "on_disk" in ours and bool(ours["on_disk"] == _sum(data))


def _sum(data: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(data).astype(np.uint16).tobytes())
