"""The main job from end to end, on the bundled model and a synthetic scan.

Segment, evaluate against the truth, teach the model a structure that it does not know
from five annotated slices, segment that, and ask how like the training scans the scan
is. Everything goes through files, as a user's own work would.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import core
from .commands.doctor import has_display
from .commands.masks import Wanted, save_mask
from .commands.scans import make_folder
from .commands.session import remark, session
from .commands.work import run
from .core._figures import png_of_slice
from .core.io.atomic import atomic_write, ensure_writable
from .core.types import (
    Checkpoint,
    FinetuneResult,
    Report,
    Segmentation,
    ShiftReport,
    SourceGrid,
    Volume,
)

MODEL, HEAD, NEW_HEAD = "hydranet", "heart", "aorta"
SLICES = 5
# Epochs, not minutes: the same answer on a busy machine as on an idle one. 30 take half
# a minute on two idle cores.
BUDGET: dict[str, Any] = {"epochs": 30}
SCAN, TRUTH = "heart_synthetic.nii.gz", "heart_synthetic_truth.nii.gz"
NEW_MODEL = f"{MODEL}_{NEW_HEAD}.safetensors"
REPORTS = ("evaluation.html", "finetune.html", "shift.html", "report.html")


@dataclass
class Demo:
    """What the demo works on and what it has found so far."""

    folder: Path
    overwrite: bool
    volume: Volume
    truth: Segmentation
    rows: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Mapping[str, Any]] = field(default_factory=list)

    def save(self, name: str, content: bytes) -> None:
        """Write one file of the demo's folder."""
        atomic_write(
            self.folder / name,
            lambda file: file.write(content),
            overwrite=self.overwrite,
        )

    def report(self, name: str, report: Report) -> None:
        """Write one report of the demo's folder."""
        core.write_report(report, self.folder / name, overwrite=self.overwrite)


def run_demo(folder: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Do the main job and leave its results in a folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Gets the scan, its truth, ``masks/``, ``pictures/``,
        the new model and four reports.
    overwrite : bool
        Whether results that are there may be replaced.

    Returns
    -------
    dict
        ``folder``, ``files``, ``dice`` by structure, ``before``, ``after``,
        ``accepted``, ``frozen``, ``verdict``; plain values.

    Raises
    ------
    HydraSegError
        If there is no bundled model, or a file cannot be written.
    """
    for part in (folder, folder / "masks", folder / "pictures"):
        make_folder(part)
    for name in (SCAN, TRUTH, NEW_MODEL, *REPORTS):
        ensure_writable(folder / name, overwrite=overwrite)
    model = core.get_model(MODEL)
    demo = _sample(folder, overwrite=overwrite)
    remark(f"1/4 segment: {HEAD}")
    known = _only(demo.truth, model.spec.heads[HEAD])
    _segment_and_judge(demo, model, HEAD, known)
    remark(f"2/4 fine-tune: {NEW_HEAD}, from {SLICES} annotated slices")
    marks, tuned = _finetune(demo, model)
    remark(f"3/4 segment: {NEW_HEAD}, judged on the other slices")
    others = replace(_only(demo.truth, (NEW_HEAD,)), annotated=~marks)
    _segment_and_judge(demo, tuned.candidate, NEW_HEAD, others)
    remark("4/4 domain shift")
    now = session()
    steps = core.shift(
        [demo.volume], model, head=HEAD, seed=now.seed, device=now.device
    )
    shifted = run(steps, "comparing")
    _write_reports(demo, tuned, shifted)
    return _content(demo, tuned, shifted)


def open_window(folder: Path) -> None:
    """Show the scan and its masks in napari, if it is installed, until it is closed."""
    if find_spec("napari") is None or not has_display():
        remark("No window: napari or a display is missing.")
        return
    masks = sorted((folder / "masks").glob("*.nii.gz"))
    files = [str(path) for path in (folder / SCAN, *masks)]
    # A process of its own: the window needs the main thread and its own event loop.
    command = [sys.executable, "-m", "napari", *files, "--plugin", "napari-hydraseg"]
    subprocess.run([*command, "-w", "napari-hydraseg", "HydraSeg"], check=False)


def lines(content: Mapping[str, Any]) -> str:
    """Put what the demo found into lines for people."""
    dices = [f"Dice      {name} {dice:.3f}" for name, dice in content["dice"].items()]
    return "\n".join(
        [
            *dices,
            f"new head  Dice {content['before']['dice']:.3f} before, "
            f"{content['after']['dice']:.3f} after, on held-out slices",
            f"encoder   sha256 {content['frozen']['sha256_before']} before",
            f"                 {content['frozen']['sha256_after']} after",
            f"shift     {content['verdict']}",
            f"results   {content['folder']}",
        ]
    )


def _sample(folder: Path, *, overwrite: bool) -> Demo:
    """Write the synthetic scan and its truth, and read them as any other scan."""
    volume, truth = core.heart_phantom(seed=session().seed)
    grid = _grid(volume)
    core.save_segmentation(
        replace(truth, grid=grid), folder / TRUTH, overwrite=overwrite
    )
    core.save_volume(replace(volume, grid=grid), folder / SCAN, overwrite=overwrite)
    return Demo(
        folder,
        overwrite,
        core.load_volume(folder / SCAN, modality=volume.modality),
        core.load_segmentation(folder / TRUTH),
    )


def _grid(volume: Volume) -> SourceGrid:
    """Lay out a file that tells its voxel size but not its orientation (codes 0).

    Its first axis then runs to the left, the second to the front, the third up.
    """
    z, y, x = volume.spacing_mm
    return SourceGrid(
        shape=volume.shape[::-1],
        transform=np.array([[2, 1], [1, -1], [0, 1]], dtype=np.float64),
        header={
            "pixdim": [1.0, x, y, z, 1.0, 1.0, 1.0, 1.0],
            "qform_code": 0,
            "sform_code": 0,
            "xyzt_units": 2,  # millimetres
        },
    )


def _only(truth: Segmentation, names: Sequence[str]) -> Segmentation:
    """Keep the structures that a head knows, numbered as they were."""
    kept = {id: name for id, name in truth.names.items() if name in names}
    kept = kept or {id: truth.names[id] for id in range(1, len(names))}
    labels = np.where(np.isin(truth.labels, list(kept)), truth.labels, 0)
    return replace(truth, labels=labels.astype(truth.labels.dtype), names=kept)


def _segment_and_judge(
    demo: Demo, model: Checkpoint, head: str, truth: Segmentation
) -> None:
    now = session()
    wanted = Wanted(
        demo.folder / "masks", (head,), device=now.device, overwrite=demo.overwrite
    )
    found = run(wanted.steps(demo.volume, model), head)[head]
    files = wanted.files("heart_synthetic", head, demo.volume)
    save_mask(found, demo.volume, files, wanted)
    if not set(found.names.values()) & set(truth.names.values()):
        # Other words for the same structures, in the same order.
        found = replace(found, names=dict(enumerate(truth.names.values(), start=1)))
    rows = core.evaluate(truth, found)
    demo.rows += [{"case": "synthetic heart"} | row for row in rows]
    _draw(demo, found, head)


def _draw(demo: Demo, found: Segmentation, head: str) -> None:
    slices = np.flatnonzero(found.labels.any(axis=(1, 2)))
    chosen = (
        slices[np.linspace(0, len(slices) - 1, 3).astype(int)] if len(slices) else []
    )
    aspect = demo.volume.spacing_mm[1] / demo.volume.spacing_mm[2]
    for number in map(int, chosen):
        picture = {
            "title": f"{head}, slice {number} (synthetic scan)",
            "image": demo.volume.data[0, number],
            "labels": found.labels[number],
            "names": dict(found.names),
            "aspect": aspect,
        }
        demo.save(f"pictures/{head}_{number:02d}.png", png_of_slice(**picture))
        demo.pictures.append({"kind": "image"} | picture)


def _finetune(demo: Demo, model: Checkpoint) -> tuple[NDArray[Any], FinetuneResult]:
    """Give the model a new head; tell which slices it saw."""
    truth = _only(demo.truth, (NEW_HEAD,))
    labels = (truth.labels > 0).astype(np.uint8)
    slices = np.flatnonzero(labels.any(axis=(1, 2)))
    marks = np.zeros(len(labels), bool)
    marks[slices[np.linspace(0, len(slices) - 1, SLICES).astype(int)]] = True
    annotation = replace(
        truth, labels=labels, names={1: NEW_HEAD}, annotated=marks, plane="axial"
    )
    now = session()
    steps = core.finetune(
        model,
        [(demo.volume, annotation)],
        head=NEW_HEAD,
        class_names=(NEW_HEAD,),
        **BUDGET,
        seed=now.seed,
        device=now.device,
    )
    tuned = run(steps, "fine-tuning")
    core.save_checkpoint(
        tuned.candidate, demo.folder / NEW_MODEL, overwrite=demo.overwrite
    )
    return marks, tuned


def _write_reports(demo: Demo, tuned: FinetuneResult, shifted: ShiftReport) -> None:
    parts = {
        "evaluation.html": core.describe(demo.rows, figures=demo.pictures),
        "finetune.html": core.describe(tuned),
        "shift.html": core.describe(shifted),
    }
    for name, report in parts.items():
        demo.report(name, report)
    reports = list(parts.values())
    demo.report(
        "report.html",
        Report(
            title="The main job on a synthetic scan",
            verdict=" ".join(report.verdict for report in reports),
            rows=tuple(row for report in reports for row in report.rows),
            figures=tuple(figure for report in reports for figure in report.figures),
            basis={
                f"{report.title}: {key}": value
                for report in reports
                for key, value in report.basis.items()
            },
            notes=(
                "The scan was drawn by a program; no person was scanned. What a model "
                "does on it tells little about real scans.",
                *dict.fromkeys(note for report in reports for note in report.notes),
            ),
        ),
    )


def _content(demo: Demo, tuned: FinetuneResult, shifted: ShiftReport) -> dict[str, Any]:
    files = sorted(path for path in demo.folder.rglob("*") if path.is_file())
    return {
        "folder": str(demo.folder),
        "files": [str(path.relative_to(demo.folder)) for path in files],
        "dice": {row["name"]: row["dice"] for row in demo.rows},
        "before": dict(tuned.before),
        "after": dict(tuned.after),
        "accepted": tuned.accepted,
        "frozen": dict(tuned.frozen),
        "verdict": shifted.verdict,
    }
