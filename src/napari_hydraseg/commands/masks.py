"""From a scan to masks on the disk, with their provenance beside them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg import __version__, core
from napari_hydraseg.core._plain import plain
from napari_hydraseg.core.io import names_path
from napari_hydraseg.core.io.atomic import atomic_write, ensure_writable
from napari_hydraseg.core.types import Checkpoint, Segmentation, Steps, Volume

EXPORTS = {"seg.nrrd": ".seg.nrrd", "dicom-seg": "_seg.dcm"}


@dataclass(frozen=True)
class Wanted:
    """What to segment, and where the masks go."""

    folder: Path
    heads: tuple[str, ...] = ()
    overlap: float = 0.5
    probabilities: bool = False
    device: str = "auto"
    overwrite: bool = False
    exports: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def steps(
        self, volume: Volume, checkpoint: Checkpoint
    ) -> Steps[dict[str, Segmentation]]:
        """Return the long verb that answers it for one scan."""
        steps: Steps[dict[str, Segmentation]] = core.segment(
            volume,
            checkpoint,
            heads=self.heads,
            overlap=self.overlap,
            device=self.device,
            probabilities=self.probabilities,
        )
        return steps

    def files(self, case: str, head: str, volume: Volume) -> dict[str, Path]:
        """Name every file that one head of one case gives."""
        image = volume.grid is not None and volume.grid.format == "image"
        mask = self.folder / f"{case}_{head}{'.png' if image else '.nii.gz'}"
        files = {
            "mask": mask,
            "names": names_path(mask),
            "provenance": self.folder / f"{case}_{head}.json",
        }
        if self.probabilities:
            files["probabilities"] = self.folder / f"{case}_{head}_probabilities.nii.gz"
        for kind in self.exports:
            files[kind] = self.folder / f"{case}_{head}{EXPORTS[kind]}"
        return files

    def all_files(
        self, case: str, volume: Volume, checkpoint: Checkpoint
    ) -> list[Path]:
        """Name every file that one case gives."""
        from napari_hydraseg.core._choice import choose  # it imports torch

        heads, _, _ = choose(volume, checkpoint, self.heads)
        return [
            path for head in heads for path in self.files(case, head, volume).values()
        ]

    def ensure_writable(self, paths: Sequence[Path]) -> None:
        """Find out before the work whether its results can be saved."""
        for path in paths:
            ensure_writable(path, overwrite=self.overwrite)


def save_mask(
    found: Segmentation,
    volume: Volume,
    files: Mapping[str, Path],
    wanted: Wanted,
) -> None:
    """Write a mask on the scan's own grid, and beside it how it was made.

    Parameters
    ----------
    found : Segmentation
        One head's answer.
    volume : Volume
        The scan, of which only the digest is written.
    files : mapping of str to Path
        From `Wanted.files`.
    wanted : Wanted
        What was asked for.
    """
    core.save_segmentation(found, files["mask"], overwrite=wanted.overwrite)
    if "probabilities" in files and found.probabilities is not None:
        _save_probabilities(found, files["probabilities"], overwrite=wanted.overwrite)
    text = json.dumps(provenance(found, volume, wanted), indent=1, allow_nan=False)
    atomic_write(
        files["provenance"],
        lambda file: file.write(text.encode()),
        overwrite=wanted.overwrite,
    )


def save_exports(
    found: Segmentation, files: Mapping[str, Path], source: Path, wanted: Wanted
) -> None:
    """Write a mask for 3D Slicer or for an archive, where that was asked for.

    Parameters
    ----------
    found : Segmentation
        One head's answer.
    files : mapping of str to Path
        From `Wanted.files`.
    source : Path
        The scan; of a DICOM series its folder.
    wanted : Wanted
        What was asked for.
    """
    if not wanted.exports:
        return
    from napari_hydraseg.core.io import export

    if "seg.nrrd" in files:
        export.save_seg_nrrd(found, files["seg.nrrd"], overwrite=wanted.overwrite)
    if "dicom-seg" in files:
        export.save_dicom_seg(
            found,
            files["dicom-seg"],
            source=source,
            series=wanted.reading.get("series"),
            index=wanted.reading.get("index"),
            overwrite=wanted.overwrite,
        )


def provenance(found: Segmentation, volume: Volume, wanted: Wanted) -> dict[str, Any]:
    """Tell how a mask was made, without any name of a file or a person.

    Parameters
    ----------
    found : Segmentation
        One head's answer.
    volume : Volume
        The scan.
    wanted : Wanted
        What was asked for.

    Returns
    -------
    dict
        Plain JSON: versions, model, parameters, device, time, digest of the input.
    """
    # A series is named by an identifier of the patient's study; it stays out.
    reading = {key: wanted.reading[key] for key in wanted.reading if key != "series"}
    content = {
        "schema": 1,
        "verb": "segment",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "napari-hydraseg": __version__,
            "python": platform.python_version(),
            "torch": metadata.version("torch"),
            "numpy": np.__version__,
        },
        "input": {"sha256": volume.sha256, "modality": volume.modality},
        "parameters": {
            "overlap": wanted.overlap,
            "probabilities": wanted.probabilities,
            "device": wanted.device,
        }
        | reading,
        "classes": found.names,
        "notice": "Not a medical device.",
    }
    made: dict[str, Any] = plain(content | {"made_by": found.made_by})
    return made


def class_rows(found: Segmentation) -> list[dict[str, Any]]:
    """List id, name and volume of every class of a mask; pictures have no volume."""
    image = found.grid is not None and found.grid.format == "image"
    voxel_ml = None if image else float(np.prod(found.spacing_mm)) / 1000.0
    counts = np.bincount(
        found.labels.ravel(), minlength=max(found.names, default=0) + 1
    )
    return [
        {
            "id": id,
            "name": name,
            "volume_ml": None if voxel_ml is None else int(counts[id]) * voxel_ml,
        }
        for id, name in sorted(found.names.items())
        if id
    ]


def _save_probabilities(found: Segmentation, path: Path, *, overwrite: bool) -> None:
    """Write one float volume per class, background first, on the scan's own grid."""
    if found.probabilities is None:
        return
    maps = core.Volume(found.probabilities, found.affine, grid=found.grid)
    core.save_volume(maps, path, overwrite=overwrite)
