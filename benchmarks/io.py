"""Reading scans and writing masks: time and memory against nibabel and SimpleITK.

    python benchmarks/io.py            # about a minute; --quick: a few seconds

All ways are timed in one process, in turns, so that whatever else the machine does
falls on all of them alike; what counts are ratios of medians of processor time. Peak
memory is that of a fresh child process each, above what it held before it read. Before
anything is timed, all ways must have given the same voxels.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_hydraseg.core import Segmentation, load_volume, save_segmentation

Ways = dict[str, Callable[[], object]]

# claims: who is compared with whom, what, and by how much
GOALS = (
    ("NIfTI load", "nibabel get_fdata", "time", 1.7),
    ("NIfTI load", "nibabel get_fdata", "memory", 2.0),
    ("mask save", "nibabel, its default", "time", 5.0),
    ("mask save", "nibabel, gzip level 9", "time", 5.0),
    ("mask save", "nibabel, of our array", "time", 1.0),
    ("DICOM load", "SimpleITK", "time", 1.5),
)
OURS = "HydraSeg"
AFFINE = np.array([[-1.0, 0, 0, 90], [0, -1, 0, 126], [0, 0, 1.2, -72], [0, 0, 0, 1]])


def brain(shape: tuple[int, int, int]) -> np.ndarray:
    """A smooth, noisy ball in air, as int16: about a fifth of it is no air."""
    i, j, k = np.ogrid[tuple(slice(-1, 1, complex(0, n)) for n in shape)]
    inside = i**2 / 0.55 + j**2 / 0.75 + k**2 / 0.5 < 0.55
    noise = np.random.default_rng(0).normal(0, 25, shape)
    return np.where(inside, 600 + 200 * np.sin(4 * i) + noise, 0).astype(np.int16)


def regions(shape: tuple[int, int, int]) -> np.ndarray:
    """Labels 0 to 4 as a model gives them, (z, y, x) in C order."""
    grey = brain(shape)
    return np.ascontiguousarray(np.digitize(grey, (450, 550, 650, 750)).T, np.uint8)


def write_series(folder: Path, slices: int, size: int) -> None:
    volume = np.random.default_rng(0).normal(1024, 200, (slices, size, size))
    series, study, frame = (generate_uid() for _ in range(3))
    for k, pixels in enumerate(np.clip(volume, 0, 4095).astype(np.uint16)):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = generate_uid()
        one.SeriesInstanceUID, one.StudyInstanceUID = series, study
        one.FrameOfReferenceUID, one.Modality = frame, "CT"
        one.Rows = one.Columns = size
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 12, 11
        one.PixelRepresentation, one.InstanceNumber = 0, k + 1
        one.PixelSpacing, one.SliceThickness = [0.7, 0.7], 2.0
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [-180.0, -180.0, 2.0 * k]
        one.RescaleSlope, one.RescaleIntercept = 1, -1024
        one.PixelData = pixels.tobytes()
        one.save_as(folder / f"{k:04}.dcm", enforce_file_format=True)


def itk_series(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def loading(folder: Path) -> Ways:
    path = folder / "scan.nii.gz"
    return {
        OURS: lambda: load_volume(path).data,
        "nibabel get_fdata": lambda: nib.load(path).get_fdata(),
        "nibabel int16": lambda: np.asanyarray(nib.load(path).dataobj),
        "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.ReadImage(str(path))),
    }


def saving(folder: Path) -> Ways:
    labels = regions(nib.load(folder / "scan.nii.gz").shape)
    volume = load_volume(folder / "scan.nii.gz")
    ours = Segmentation(labels, volume.affine, grid=volume.grid)
    usual = np.ascontiguousarray(labels.T)  # (x, y, z) in C order, as most arrays are

    def level_9() -> None:
        with gzip.open(folder / "nine.nii.gz", "wb", compresslevel=9) as file:
            nib.Nifti1Image(usual, AFFINE).to_stream(file)

    return {
        OURS: lambda: save_segmentation(ours, folder / "ours.nii.gz", overwrite=True),
        "nibabel, its default": lambda: nib.save(
            nib.Nifti1Image(usual, AFFINE), folder / "nibabel.nii.gz"
        ),
        "nibabel, of our array": lambda: nib.save(
            nib.Nifti1Image(labels.T, AFFINE), folder / "turned.nii.gz"
        ),
        "nibabel, gzip level 9": level_9,
        "SimpleITK": lambda: sitk.WriteImage(
            sitk.GetImageFromArray(labels), str(folder / "itk.nii.gz")
        ),
    }


def series(folder: Path) -> Ways:
    return {
        OURS: lambda: load_volume(folder / "series").data,
        "SimpleITK": lambda: itk_series(folder / "series"),
    }


JOBS = {"NIfTI load": loading, "mask save": saving, "DICOM load": series}


def prepare(folder: Path, *, quick: bool) -> None:
    shape, slices = ((96, 96, 60), 12) if quick else ((240, 240, 155), 60)
    nib.save(nib.Nifti1Image(brain(shape), AFFINE), folder / "scan.nii.gz")
    (folder / "series").mkdir()
    write_series(folder / "series", slices, 128 if quick else 512)


def check(folder: Path) -> None:
    """All ways give the same voxels, or nothing is compared."""
    ways = loading(folder)
    truth = np.asanyarray(nib.load(folder / "scan.nii.gz").dataobj)
    # columns run to the left, rows to the back: our own order, so that .T is enough
    np.testing.assert_array_equal(ways[OURS]()[0].T, truth)
    for way in saving(folder).values():
        way()
    masks = [
        np.asanyarray(nib.load(folder / f"{name}.nii.gz").dataobj)
        for name in ("ours", "nibabel", "nine")
    ]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
    found = [way() for way in series(folder).values()]
    np.testing.assert_array_equal(found[0][0], found[1])


def timed(ways: Ways, repeats: int) -> dict[str, tuple[float, float]]:
    """Median processor and wall time in ms of each way, taken in turns."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            way()
            times = time.process_time() - cpu, time.perf_counter() - wall
            if turn:  # the first warms caches
                spent[name].append(times)
    return {
        name: tuple(1e3 * statistics.median(t) for t in zip(*times, strict=True))
        for name, times in spent.items()
    }


def peak_mib(job: str, way: str, folder: Path) -> float | None:
    """Peak memory of one way in a child process, above what it held before."""
    if not sys.platform.startswith("linux"):
        return None
    child = [sys.executable, __file__, "--child", job, way, str(folder)]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["mib"])


def run_child(job: str, way: str, folder: Path) -> None:
    call = JOBS[job](folder)[way]
    gc.collect()

    def status(word: str) -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.split(f"{word}:")[1].split()[0])

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before = status("VmRSS")
    kept = call()
    print(json.dumps({"mib": (status("VmHWM") - before) / 1024}))
    del kept


def compare(folder: Path, repeats: int, *, quick: bool) -> list[str]:
    measured: dict[tuple[str, str], tuple[float, float, float | None]] = {}
    print(f"{'':13}{'':24}{'CPU ms':>9}{'wall ms':>9}{'peak MiB':>10}")
    for job, make in JOBS.items():
        times = timed(make(folder), repeats)
        for way, (cpu, wall) in times.items():
            memory = peak_mib(job, way, folder)
            measured[job, way] = cpu, wall, memory
            shown = "-" if memory is None else f"{memory:.0f}"
            print(f"{job:13}{way:24}{cpu:9.1f}{wall:9.1f}{shown:>10}")
    lines = []
    for job, other, what, goal in GOALS:
        at = 0 if what == "time" else 2
        mine, theirs = measured[job, OURS][at], measured[job, other][at]
        if mine is None or theirs is None:
            continue
        ratio = theirs / max(mine, 0.1)
        line = f"{job}, {what}: {ratio:.1f}x that of ours for {other}"
        met = "met" if ratio >= goal else "MISSED"
        lines.append(line if quick else f"{line} (goal {goal}x: {met})")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--quick", action="store_true", help="small files, three turns, no goals"
    )
    parser.add_argument("--child", nargs=3, metavar="X", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        run_child(asked.child[0], asked.child[1], Path(asked.child[2]))
        return
    names = ("numpy", "nibabel", "SimpleITK", "pydicom", "isal")
    print(*(f"{name} {metadata.version(name)}" for name in names), sep=" · ")
    fast = "with" if _has("indexed_gzip") else "without"
    print(f"nibabel reads {fast} indexed_gzip · {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, quick=asked.quick)
        check(folder)
        repeats = 3 if asked.quick else asked.repeats
        lines = compare(folder, repeats, quick=asked.quick)
    print(*lines, sep="\n")


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
