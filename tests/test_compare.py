"""``hydraseg compare`` answers with one document, one page, and what it cannot do."""

import json

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from napari_hydraseg import core
from napari_hydraseg.cli import main
from napari_hydraseg.commands.compare import _classes

AFFINE = np.diag([-3.0, -3.0, 5.0, 1.0])
SHAPE = (24, 20, 4)  # x, y, z as a NIfTI file has them
QUICK = ("--modality", "MR", "--epochs", 1, "--repeats", 1, "--rate", 2e-3)


def scan(folder, name, seed):
    """Save a scan with a bright block, and its labels with ids 3 and 7."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[6:12, 4:12, 1:3], labels[12:18, 4:12, 1:3] = 3, 7
    grey = np.random.default_rng(seed).normal(100, 10, SHAPE) + 80 * (labels > 0)
    for part, array in (("images", grey.astype(np.int16)), ("labels", labels)):
        (folder / part).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, AFFINE), folder / part / f"{name}.nii.gz")


@pytest.fixture
def folder(tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.chdir(tmp_path)
    core.save_checkpoint(tiny_checkpoint, tmp_path / "tiny.safetensors")
    for seed, name in enumerate(("anna", "bert_1", "bert_2")):
        scan(tmp_path, name, seed)
    split = {"train": ["anna"], "val": ["bert"], "test": []}
    (tmp_path / "split.json").write_text(json.dumps(split))
    return tmp_path


def compare(*arguments):
    every = ("compare", "--model", "tiny.safetensors", "--head", "block", *arguments)
    return CliRunner().invoke(main, [str(argument) for argument in every])


def test_a_folder_is_compared_by_person_and_told_in_one_document(folder):
    result = compare(
        *("--set", folder, "--class", "block=3,7", "--slices", 1, *QUICK),
        *("--arm", "frozen", "--arm", "scratch", "-o", "report.html", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["verb"] == "compare"
    assert [row["arm"] for row in found["arms"]] == ["frozen", "scratch"]
    assert set(found["arms"][0]["dice"]) == {"mean", "sd", "low", "high", "values"}
    assert found["basis"]["classes"] == ["block"]
    assert found["basis"]["test scans"] == 1  # two scans of one person
    assert found["p_value"] is None
    assert "<svg" not in (folder / "report.html").read_text()  # pictures are embedded
    assert not (folder / "report.runs").exists()


def test_scans_are_named_one_by_one_and_told_in_lines(folder):
    result = compare(
        *("--case", "images/anna.nii.gz", "labels/anna.nii.gz", *QUICK),
        *("--test", "images/bert_1.nii.gz", "labels/bert_1.nii.gz"),
        *("--arm", "frozen", "--class", "left", "--class", "right"),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("No arm was compared with a start from scratch.")
    assert "frozen" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--set"),
        (("--set", ".", "--case", "a", "split.json"), "not both"),
        (("--set", ".", "--arm", "forzen"), "An arm is"),
        (("--set", ".", "--minutes", 1, "--epochs", 1), "not both"),
        (("--set", ".", "--resume"), "--resume needs -o"),
        (("--set", ".", "--repeats", 2, "--repeats", 1), "one for each --slices"),
        (("--set", ".", "-o", "report.pdf"), ".html"),
        (("--set", ".", "--class", "block=x"), "NAME=ID,ID"),
        (("--set", ".", "--class", "a=1", "--class", "b"), "for every --class"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(folder, arguments, word):
    result = compare(*arguments)
    assert result.exit_code == 2
    assert word in result.stderr


def test_classes_take_names_or_ids():
    assert _classes(("a", "b")) == (("a", "b"), {})
    cord, csf = "cord", "csf"
    found = _classes(("cord=1,2", "csf=4"))
    assert found == ((cord, csf), {1: cord, 2: cord, 4: csf})
