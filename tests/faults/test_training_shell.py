"""What happens around a training: processes, signals, folders. Rows F95, F96, F98."""

import json
import multiprocessing.process
import os
import signal
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

import napari_hydraseg
from balls import ball, model
from napari_hydraseg import core
from napari_hydraseg.cli import main
from napari_hydraseg.core import (
    _features,
    _teach,
    finetune,
    finish,
    load_checkpoint,
    save_checkpoint,
)
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.errors import NoSpace

PACKAGE = Path(napari_hydraseg.__file__).parent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    volume, truth = ball()
    for name, array in (("scan", volume.data[0]), ("labels", truth.labels)):
        nib.save(nib.Nifti1Image(array.T, np.eye(4)), tmp_path / f"{name}.nii.gz")
    save_checkpoint(model(), tmp_path / "small.safetensors")
    return tmp_path


def command(*more, output="new.safetensors"):
    return CliRunner().invoke(
        main,
        [
            *("finetune", "--model", "small.safetensors", "--modality", "MR"),
            *("--case", "scan.nii.gz", "labels.nii.gz", "--head", "ball"),
            *("--init", "random", "--epochs", "12", "-o", output, *more),
        ],
    )


def test_f95_a_training_starts_no_other_process(monkeypatch):
    def refused(*args, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(os, "fork", refused)
    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refused)
    found = finish(finetune(model(), [ball()], head="ball", epochs=1))
    assert found.epochs >= 1


def test_f95_no_part_of_the_core_has_workers_that_could_die():
    for path in (PACKAGE / "core").rglob("*.py"):
        text = path.read_text("utf-8")
        assert "DataLoader" not in text, path.name
        assert "multiprocessing" not in text, path.name


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_f96_a_signal_leaves_a_run_that_goes_on_to_the_bit(
    folder, monkeypatch, number, status
):
    true = _teach.Run.loss

    def loss(run):
        if run.step == 2:
            os.kill(os.getpid(), number)
        return true(run)

    assert command(output="whole.safetensors").exit_code == 0
    monkeypatch.setattr(_teach, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(_teach.Run, "loss", loss)
        stopped = command()
    assert stopped.exit_code == status
    assert stopped.stderr.splitlines()[-1] == "Error: Cancelled."
    assert not (folder / "new.safetensors").exists()
    assert (folder / "new.state").exists()
    assert command().exit_code == 7  # it is not thrown away unasked
    again = command("--resume")
    assert again.exit_code == 0, again.stderr
    one, other = (load_checkpoint(f"{n}.safetensors") for n in ("new", "whole"))
    assert digest(one.weights) == digest(other.weights)
    assert not (folder / "new.state").exists()


def test_what_was_learned_outlives_a_disk_that_takes_no_model(folder, monkeypatch):
    def full(*args, **options):
        raise NoSpace("The disk is full.", "Free some space.")

    assert command(output="whole.safetensors").exit_code == 0
    assert not (folder / "whole.state").exists()
    with monkeypatch.context() as patch:
        patch.setattr(core, "save_checkpoint", full)
        failed = command()
    assert failed.exit_code == 7
    assert "new.state: --resume" in failed.stderr
    again = command("--resume")
    assert again.exit_code == 0, again.stderr
    one, other = (load_checkpoint(f"{n}.safetensors") for n in ("new", "whole"))
    assert digest(one.weights) == digest(other.weights)
    assert not (folder / "new.state").exists()


@pytest.mark.parametrize("more", [("--resume",), ("--overwrite",)])
def test_a_model_taught_further_stays_where_that_makes_it_no_better(
    folder, monkeypatch, more
):
    assert command().exit_code == 0
    before = (folder / "new.safetensors").read_bytes()
    monkeypatch.setattr(import_module("napari_hydraseg.core.finetune"), "RATE", 0.0)
    model_of = ("--model", "new.safetensors", "--epochs", "1", *more)
    found = command(*model_of, "--json")
    assert found.exit_code == 0, found.stderr
    content = json.loads(found.stdout)
    assert not content["accepted"]
    assert not content["saved"]
    assert "new.safetensors is left as it was" in found.stderr
    assert "nothing: new.safetensors is left as it was" in command(*model_of).stdout
    assert (folder / "new.safetensors").read_bytes() == before


def test_a_model_that_is_no_better_is_saved_where_nothing_is_lost(folder, monkeypatch):
    monkeypatch.setattr(import_module("napari_hydraseg.core.finetune"), "RATE", 0.0)
    content = json.loads(command("--epochs", "1", "--json").stdout)
    assert not content["accepted"]
    assert content["saved"]
    assert (folder / "new.safetensors").exists()


def test_f98_no_home_and_no_folder_for_temporary_files_hinder_a_training(
    folder, monkeypatch
):
    def refused(*args, **options):
        raise FileNotFoundError(2, "No usable temporary directory found")

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, "/dev/null/nowhere")
    for name in ("gettempdir", "TemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refused)
    monkeypatch.setattr(_features, "RAM_BYTES", 0)  # features would go to a file
    found = command()
    assert found.exit_code == 0, found.stderr
    assert (folder / "new.safetensors").exists()


def test_f98_a_full_disk_ends_the_keeping_of_features_not_the_run(monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(_features, "RAM_BYTES", 0)
    found = finish(finetune(model(), [ball()], head="ball", epochs=1, init="random"))
    assert any("Room was short" in text for text in found.warnings)
    assert all(np.isfinite(v).all() for v in found.candidate.weights.values())
