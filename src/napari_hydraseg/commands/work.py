"""Running long verbs and batches of them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import click

from napari_hydraseg.core.errors import HydraSegError, JobError, OutOfMemory
from napari_hydraseg.core.types import Progress, Steps, finish

from .session import session

T = TypeVar("T")
SOME_FAILED = 8


def run(steps: Steps[T], title: str) -> T:
    """Run a long verb with a progress bar on stderr.

    Parameters
    ----------
    steps : Steps
        What the verb returned.
    title : str
        Left of the bar.

    Returns
    -------
    object
        The verb's result.

    Raises
    ------
    OutOfMemory, JobError
        For errors of NumPy and PyTorch that no part of the core has named.
    """
    from tqdm import tqdm

    # No bar where nobody looks: in a log file it would be one long line.
    off = session().quiet or not sys.stderr.isatty()
    with (
        contextlib.closing(steps),
        tqdm(desc=title, file=sys.stderr, disable=off, leave=False) as bar,
    ):

        def show(progress: Progress) -> None:
            bar.total = progress.total
            bar.set_postfix_str(_said(progress), refresh=False)
            bar.update(progress.done - bar.n)

        try:
            return finish(steps, show)
        except MemoryError as error:
            raise OutOfMemory(
                "The memory does not suffice.", "Close programs or use a smaller scan."
            ) from error
        except RuntimeError as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise JobError(
                f"The computation failed: {first[:120]}", "Try --device cpu."
            ) from error


def _said(progress: Progress) -> str:
    numbers = (f"{name} {value:.3g}" for name, value in progress.values.items())
    return ", ".join(filter(None, [progress.note, *numbers]))


class Batch:
    """Several items, of which some may fail without stopping the others.

    Parameters
    ----------
    size : int
        How many items there are. A single one fails as itself.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.failed: list[dict[str, str]] = []

    @contextlib.contextmanager
    def item(self, name: str) -> Iterator[None]:
        """Do one item; note its error and go on if it is one of several."""
        try:
            yield
        except HydraSegError as error:
            if self.size == 1:
                raise
            said = error.in_terminal
            self.failed.append({"input": name, "code": error.code, "error": said})
            click.echo(f"{name}: {said}", err=True)

    @property
    def exit_status(self) -> int:
        """0, or 8 if an item failed."""
        return SOME_FAILED if self.failed else 0

    def summary(self) -> dict[str, Any]:
        """For the JSON document: the failed items, if any."""
        return {"failed": self.failed} if self.failed else {}

    def line(self) -> str:
        """For people: how many failed."""
        if not self.failed:
            return ""
        return f"\n{len(self.failed)} of {self.size} failed."
