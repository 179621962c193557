"""A part of a form that is folded away until somebody wants it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QIcon, QPixmap
from superqt import QCollapsible

_NO_LIMIT = 16_777_215  # Qt's own largest height of a widget


class Fold(QCollapsible):
    """A collapsible part that is always as high as what is in it.

    Superqt's own sets the height once, before the layout knows how high wrapped texts
    are, and squeezes what appears later; and its arrow is a picture in the colour of
    the moment, black in napari's dark theme.

    Parameters
    ----------
    title : str
        What stands beside the arrow.
    """

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self._title = title
        nothing = QPixmap(1, 1)
        nothing.fill(Qt.GlobalColor.transparent)
        self.setExpandedIcon(QIcon(nothing))
        self.setCollapsedIcon(QIcon(nothing))
        self.setText(f"▸  {title}")
        self.toggleButton().setAccessibleName(title)
        self.toggleButton().setToolTip(f"Show or hide: {title}")

    def eventFilter(self, a0: Any, a1: Any) -> bool:
        """Leave the height alone: once open, it grows with what is inside."""
        return False

    def expand(self, animate: bool = True) -> None:
        """Open it at once: an animation would end at the height of its start."""
        super().expand(animate=False)
        self.content().setMaximumHeight(_NO_LIMIT)
        self.setText(f"▾  {self._title}")

    def collapse(self, animate: bool = True) -> None:
        """Close it at once."""
        super().collapse(animate=False)
        self.setText(f"▸  {self._title}")
