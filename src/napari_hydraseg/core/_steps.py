"""Long verbs: what they say on their way, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One sign of life of a long verb."""

    done: int
    total: int
    note: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    preview: Any = None


Steps: TypeAlias = Generator[Progress, str | None, T]
"""A long verb: yields `Progress`, returns its result; see `finish`.

One that can end early with what it has takes the message ``"stop"`` (``send``).
"""


def finish(
    steps: Steps[T], on_progress: Callable[[Progress], object] | None = None
) -> T:
    """Run a long verb here and now.

    Parameters
    ----------
    steps : Steps
        What a long verb such as `segment` returned.
    on_progress : callable, optional
        Called with each `Progress`.

    Returns
    -------
    object
        The result of the verb.
    """
    while True:
        try:
            progress = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if on_progress is not None:
            on_progress(progress)


def relay(steps: Steps[T], shown: Callable[[Progress], Progress]) -> Steps[T]:
    """Run another verb as a part of one's own.

    Parameters
    ----------
    steps : Steps
        The other verb; it is closed with this one, and gets what is sent in.
    shown : callable
        Turns its `Progress` into that of the whole.

    Yields
    ------
    Progress
        As `shown` turns it.

    Returns
    -------
    object
        The result of the other verb.
    """
    said: str | None = None
    try:
        while True:
            said = yield shown(steps.send(said))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
