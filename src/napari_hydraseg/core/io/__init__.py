"""Files to nouns and back.

Everything that knows about (x, y, z) order, RAS or LPS is in this package.
"""

from .labels import load_segmentation, names_path, save_segmentation
from .volumes import load_volume, scans_in

__all__ = [
    "load_segmentation",
    "load_volume",
    "names_path",
    "save_segmentation",
    "scans_in",
]
