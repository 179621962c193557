"""Finished runs of a comparison, in a file: what was killed goes on from there."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import JobError
from .io.atomic import atomic_write

KEY = ("slices", "repeat", "arm")


class State:
    """The finished runs.

    Parameters
    ----------
    path : path-like or None
        Where they are kept; None: in memory alone.
    fingerprint : mapping
        What they depend on.

    Raises
    ------
    JobError
        If the file is of another comparison, or none.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, fingerprint: Mapping[str, Any]
    ) -> None:
        self._path = None if path is None else Path(path)
        self._fingerprint = fingerprint
        self.runs: list[dict[str, Any]] = []
        if self._path is not None and self._path.is_file():
            self.runs = self._read(self._path)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether a run is finished."""
        return any(all(run[k] == key[k] for k in KEY) for run in self.runs)

    def add(self, run: dict[str, Any]) -> None:
        """Keep a finished run."""
        self.runs.append(run)
        if self._path is not None:
            content = {"fingerprint": self._fingerprint, "runs": self.runs}
            data = json.dumps(content, indent=1).encode()
            atomic_write(self._path, lambda file: file.write(data), overwrite=True)

    def _read(self, path: Path) -> list[dict[str, Any]]:
        try:
            content = json.loads(path.read_text("utf-8"))
            fingerprint, runs = content["fingerprint"], list(content["runs"])
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(
                f"{path.name} holds no finished runs.", "Delete it and start anew."
            ) from error
        if fingerprint != self._fingerprint:
            raise JobError(
                f"{path.name} belongs to another comparison.",
                "Delete it, or give the same scans, model and budget.",
            )
        return runs
