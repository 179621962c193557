"""What a training run writes down while it goes: JSON lines, TensorBoard, a profile."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch

from .errors import WrongInput

EVERY = 20  # steps between two lines


class Record:
    """A log of a run; it says nothing where no file is named.

    Parameters
    ----------
    log : Path, optional
        JSON lines; a run that goes on appends to them.
    track : Path, optional
        Folder for TensorBoard (extra ``[track]``).

    Raises
    ------
    WrongInput
        If TensorBoard is wanted and not installed.
    """

    def __init__(self, log: Path | None, track: Path | None) -> None:
        self._file: TextIO | None = log.open("a", encoding="utf-8") if log else None
        self._board = _board(track) if track else None

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note the losses of a step, every `EVERY` steps."""
        if step % EVERY == 0:
            self._write("train", step, values)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Note the Dice of each head."""
        self._write("val", step, values)

    def spread(self, step: int, values: Mapping[str, float]) -> None:
        """Note how far apart slices lie at each encoder level."""
        self._write("spread", step, values)

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def _write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if self._file is not None:
            row = {"kind": kind, "step": step}
            row |= {name: round(float(value), 6) for name, value in values.items()}
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise WrongInput(
            "TensorBoard is not installed.", "pip install 'napari-hydraseg[track]'"
        ) from error
    return SummaryWriter(str(folder))


@contextmanager
def profiled(trace: Path | None) -> Iterator[Any]:
    """Profile steps 4 to 6 into a file for chrome://tracing or Perfetto.

    Yields
    ------
    object or None
        Its ``step()`` is to be called after each training step.
    """
    if trace is None:
        yield None
        return
    profiler = torch.profiler
    with profiler.profile(
        schedule=profiler.schedule(wait=2, warmup=1, active=3, repeat=1),
        on_trace_ready=lambda found: found.export_chrome_trace(str(trace)),
        record_shapes=True,
    ) as running:
        yield running
