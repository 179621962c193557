"""The verb ``hydraseg segment``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.errors import NotAVolume

from .scans import FILE, Scan, keep_apart, make_folder, reading, scans
from .session import command, emit, model_option, overwrite_option, remark, session
from .session import table as laid_out
from .work import Batch, run

if TYPE_CHECKING:
    from .masks import Wanted


@command("segment")
@click.argument("scan", nargs=-1, required=True)
@click.option("-o", "--output", type=FILE, default=Path("."), metavar="DIR")
@model_option
@click.option("--head", "heads", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--probabilities", is_flag=True, help="Save the soft answer too.")
@click.option("--overlap", type=click.FloatRange(0, 0.9), default=0.5)
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice(["seg.nrrd", "dicom-seg"]),
    help="Write the mask for 3D Slicer or an archive too. Repeatable.",
)
@overwrite_option
@reading
def segment(scan: tuple[str, ...], output: Path, model: str, **options: Any) -> int:
    """Segment scans: a mask per scan and head, and how it was made beside it.

    SCAN is a file, a folder (one DICOM series, or every scan in it), or channels of
    one scan as in FLAIR=a.nii.gz,T1=b.nii.gz. Pictures give a PNG mask, scans NIfTI.
    """
    from .masks import Wanted

    listed, checkpoint = scans(scan), core.get_model(model)
    make_folder(output)
    now = session()
    wanted = Wanted(output, device=now.device, reading=now.reading, **options)
    batch, rows, devices = Batch(len(listed)), [], []
    for one in listed:
        with batch.item(one.text):
            for row, device in _segment_one(one, checkpoint, wanted, listed):
                rows.append(row)
                devices.append(device)
    shown = [
        {"case": row["input"], "head": row["head"], "class": found["name"]}
        | {"ml": found["volume_ml"]}
        for row in rows
        for found in row["classes"]
    ]
    emit(
        "segment",
        {"cases": rows} | batch.summary(),
        table=laid_out(shown, ("case", "head", "class", "ml")) + batch.line(),
        device=devices[0] if devices else None,
    )
    return batch.exit_status


def _is_dicom(volume: core.Volume) -> bool:
    return volume.grid is not None and volume.grid.format == "dicom"


def _segment_one(
    scan: Scan, checkpoint: core.Checkpoint, wanted: Wanted, listed: list[Scan]
) -> list[tuple[dict[str, Any], str]]:
    from .masks import class_rows, save_exports, save_mask

    volume = scan.load()
    if "dicom-seg" in wanted.exports and not _is_dicom(volume):
        raise NotAVolume(
            f"{volume.source} is no DICOM series: there is none to refer to.",
            "Leave --export dicom-seg out.",
        )
    targets = wanted.all_files(scan.case, volume, checkpoint)
    keep_apart(targets, [path for other in listed for path in other.paths])
    wanted.ensure_writable(targets)
    rows, notes = [], [*volume.notes]
    for head, found in run(wanted.steps(volume, checkpoint), scan.case).items():
        files = wanted.files(scan.case, head, volume)
        save_mask(found, volume, files, wanted)
        save_exports(found, files, scan.paths[0], wanted)
        fallbacks = [str(text) for text in found.made_by.get("fallbacks", ())]
        notes += fallbacks
        row = {
            "input": scan.text,
            "head": head,
            "output": str(files["mask"]),
            "classes": class_rows(found),
            "seconds": found.made_by.get("seconds"),
            "fallbacks": fallbacks,
        }
        rows.append((row, str(found.made_by.get("device", "cpu"))))
    for note in dict.fromkeys(notes):
        remark(f"{scan.case}: {note}")
    return rows
