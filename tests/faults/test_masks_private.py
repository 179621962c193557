"""F29, F43: nothing that could tell who the patient is leaves with a result.

Markers are planted wherever a NIfTI file can carry text, and in the names of file and
folder. Every byte of every file that a verb writes is searched, packed ones unpacked.
"""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from napari_hydraseg import core
from napari_hydraseg.cli import main
from napari_hydraseg.core import Segmentation

WHO = "DOE^JOHN"
MARKERS = {
    "descrip": "MRN-4711",
    "aux_file": "BORN-1950",
    "db_name": "WARD-SEVEN",
    "intent_name": "DR-HOUSE",
}
EXTENSION = "ACCESSION-0815"
SHAPE = (24, 20, 6)
AFFINE = np.diag([-3.0, -3.0, 5.0, 1.0])


def everything() -> list[bytes]:
    texts = [WHO, *MARKERS.values(), EXTENSION]
    plain = [text.encode() for text in texts]
    wide = [text.encode("utf-16-le") for text in texts]
    return [*plain, *wide, b"DOE%5EJOHN", b"DOE_JOHN"]


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) + raw if raw[:2] == b"\x1f\x8b" else raw


def tell(folder: Path) -> dict[str, list[bytes]]:
    """Which files below a folder hold which marker."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = {
        path.name: [marker for marker in everything() if marker in content(path)]
        for path in files
    }
    return {name: markers for name, markers in found.items() if markers}


def planted(path: Path, data: np.ndarray) -> Path:
    image = nib.Nifti1Image(data, AFFINE)
    for field, text in MARKERS.items():
        image.header[field] = text
    image.header.extensions.append(
        nib.nifti1.Nifti1Extension("comment", EXTENSION.encode())
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


@pytest.fixture
def patient(tmp_path):
    """A scan and a painted mask with markers all over, in a folder of that name."""
    grey = np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.int16)
    painted = np.zeros(SHAPE, np.uint8)
    painted[4:12, 4:12, 1:5] = 1
    folder = tmp_path / "in" / WHO
    return (
        planted(folder / f"{WHO}.nii.gz", grey),
        planted(folder / f"{WHO}_seg.nii.gz", painted),
    )


@pytest.fixture
def model(tmp_path, tiny_checkpoint):
    core.save_checkpoint(tiny_checkpoint, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def hydraseg(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return result


def test_f29_the_markers_are_found_where_they_were_planted(patient):
    """The search sees what there is to see."""
    (found,) = {tuple(markers) for markers in tell(patient[0].parent).values()}
    planted_texts = [text.encode() for text in (*MARKERS.values(), EXTENSION)]
    assert sorted(found) == sorted(planted_texts)


def test_f29_a_mask_its_table_and_its_provenance_tell_nothing(patient, model, out):
    hydraseg("segment", patient[0], "--model", model, "--modality", "MR", "-o", out)
    assert {path.suffix for path in out.iterdir()} == {".gz", ".tsv", ".json"}
    assert tell(out) == {}


def test_f29_a_mask_that_was_read_and_saved_again_tells_nothing(patient, out):
    for suffix in (".nii", ".nii.gz"):
        mask = core.load_segmentation(patient[1], names={1: "cord"})
        core.save_segmentation(mask, out / f"mask{len(suffix)}{suffix}")
    assert tell(out) == {}


def test_f29_a_packed_mask_carries_no_name_and_no_time(out):
    mask = Segmentation(np.ones((2, 2, 2), np.uint8), np.eye(4))
    core.save_segmentation(mask, out / "DOE.nii.gz")
    head = (out / "DOE.nii.gz").read_bytes()[:10]
    assert head[3] == 0  # no flag: neither name nor comment follows
    assert head[4:8] == bytes(4)  # no time


@pytest.mark.parametrize("suffix", [".html", ".json", ".csv"])
def test_f29_a_report_tells_nothing(patient, out, suffix):
    hydraseg(
        "evaluate", "--pair", patient[1], patient[1], "-o", out / f"report{suffix}"
    )
    assert tell(out) == {}


def test_f29_a_shift_report_tells_nothing(patient, model, out):
    scan = (patient[0], "--model", model, "--modality", "MR")
    hydraseg("shift", *scan, "-o", out / "report.html")
    assert tell(out) == {}


def test_f29_a_model_that_learned_from_the_scan_tells_nothing(patient, model, out):
    case = ("finetune", "--case", *patient, "--model", model, "--modality", "MR")
    made = ("--head", "cord", "--class", "cord", "--epochs", 1)
    hydraseg(*case, *made, "-o", out / "new.safetensors")
    assert (out / "new.safetensors").is_file()
    assert tell(out) == {}


def test_f29_nothing_is_kept_in_the_home_of_the_user(
    patient, model, out, tmp_path, monkeypatch
):
    """Settings, caches, logs and states, wherever a program may keep them."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    for kind in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    monkeypatch.delenv("HYDRASEG_WEIGHTS", raising=False)
    hydraseg("segment", patient[0], "--model", model, "--modality", "MR", "-o", out)
    hydraseg("models", "add", model)
    hydraseg("evaluate", "--pair", patient[1], patient[1], "-o", out / "report.html")
    assert any(home.rglob("*.safetensors"))  # the home was the one that is used
    assert tell(home) == {}
    assert not [path for path in home.rglob("*") if WHO in path.name]


def test_f29_the_log_tells_nothing(patient, caplog, out):
    caplog.set_level(logging.DEBUG)
    core.load_volume(patient[0])
    mask = core.load_segmentation(patient[1])
    core.save_segmentation(mask, out / "mask.nii.gz")
    said = "\n".join(record.getMessage() for record in caplog.records).encode()
    assert not [marker for marker in everything() if marker in said]


def test_f43_nothing_that_is_written_begins_like_a_program(patient, model, out):
    hydraseg("segment", patient[0], "--model", model, "--modality", "MR", "-o", out)
    programs = (b"MZ", b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"#!")
    for path in out.iterdir():
        assert not path.read_bytes().startswith(programs)
        assert not content(path).startswith(programs)


def test_f29_provenance_names_the_input_by_its_digest_alone(patient, model, out):
    hydraseg("segment", patient[0], "--model", model, "--modality", "MR", "-o", out)
    (path,) = out.glob("*.json")
    made = json.loads(path.read_text())
    assert made["input"] == {
        "sha256": core.load_volume(patient[0]).sha256,
        "modality": "MR",
    }
