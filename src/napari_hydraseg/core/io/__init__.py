"""Files to nouns and back.

Everything that knows about (x, y, z) order, RAS or LPS is in this package. What reads
scans is imported when it is used: who only saves a model or a draft needs none of it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .labels import load_segmentation, names_path, save_segmentation
    from .saving import save_volume
    from .volumes import load_volume, scans_in

__all__ = [
    "load_segmentation",
    "load_volume",
    "names_path",
    "save_segmentation",
    "save_volume",
    "scans_in",
]

_ROOMS = {"load_volume": "volumes", "scans_in": "volumes", "save_volume": "saving"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = _ROOMS.get(name, "labels")
    value = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value
