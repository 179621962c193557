"""The bar of a job in napari's activity dialog."""

from __future__ import annotations

from typing import Any

from napari.utils import progress as activity

from napari_hydraseg.core.types import Progress


class Activity:
    """The job's bar in napari's activity dialog.

    Napari handles waiting events each time such a bar moves, so that signals of the job
    arrive while an earlier one is still being handled: what comes then is skipped.

    Parameters
    ----------
    title : str
        What the user calls the work.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._moving = self._over = False

    def show(self, progress: Progress) -> None:
        """Move the bar; it appears with the first sign of life."""
        if self._moving or self._over:
            return
        self._moving = True
        if self._bar is None:
            self._bar = activity(total=progress.total, desc=self._title)
        self._bar.update(max(0, progress.done - self._bar.n))
        self._moving = False
        self._shut()

    def close(self) -> None:
        """Take the bar away."""
        self._over = True
        self._shut()

    def _shut(self) -> None:
        if self._over and not self._moving and self._bar is not None:
            self._bar.close()
