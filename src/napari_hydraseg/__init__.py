"""Segment, correct, fine-tune and check medical scans in napari, or without it.

Importing this package imports nothing heavy; the work is in `napari_hydraseg.core`.
"""

__version__ = "0.1.0"
