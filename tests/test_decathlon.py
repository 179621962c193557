"""Folders of the Medical Segmentation Decathlon, and the 3-D experiment on one."""

import json
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import finish, load_checkpoint, pretrain
from napari_hydraseg.core._datasets import dataset
from napari_hydraseg.core._decathlon import split_of
from napari_hydraseg.core.errors import NotAVolume

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "hippocampus3d.toml"


def two_parts(number):
    """A dark ellipsoid in noise whose front is one class and whose back another."""
    rng = np.random.default_rng(number)
    shape = rng.integers((30, 40, 26), (38, 50, 34))
    centre = shape / 2 + rng.uniform(-3, 3, 3)
    x, y, z = np.indices(shape)
    far = (
        ((x - centre[0]) / 7) ** 2
        + ((y - centre[1]) / 13) ** 2
        + ((z - centre[2]) / 7) ** 2
    )
    labels = np.where(far < 1, np.where(y > centre[1], 1, 2), 0).astype(np.uint8)
    image = rng.normal(300, 25, shape) - 120 * (labels > 0)
    return image.astype(np.float32), labels


def make_task(folder, count=24, channels=1):
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    listed = []
    for number in range(count):
        image, labels = two_parts(number)
        if channels > 1:
            image = np.stack([image + 1000 * c for c in range(channels)], -1)
        name = f"hippocampus_{number:03}.nii.gz"
        for part, data in (("imagesTr", image), ("labelsTr", labels)):
            nib.save(nib.Nifti1Image(data, np.eye(4)), folder / part / name)
        listed.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "modality": {str(c): f"channel {c}" for c in range(channels)},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": listed,
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("decathlon")
    make_task(root / "Task04_Hippocampus")
    return root


def experiment(root, **changes):
    config = tomllib.loads(EXPERIMENT.read_text())
    config["network"]["options"]["width"] = 4
    config["dataset"][0]["slices_per_step"] = 2
    return config | {"data": str(root), **changes}


def test_each_scan_falls_into_one_split(task):
    data = dataset(experiment(task)["dataset"][0], task)
    splits = {split: data.subjects(split) for split in ("train", "val", "test")}
    every = [name for names in splits.values() for name in names]
    assert len(every) == len(set(every)) == 24
    shares = Counter(split_of(f"scan {n}") for n in range(5000))
    assert shares["train"] / 5000 == pytest.approx(0.7, abs=0.03)
    assert shares["val"] / 5000 == pytest.approx(0.15, abs=0.02)


def test_the_fourth_axis_holds_the_channels(tmp_path):
    make_task(tmp_path / "Task", count=3, channels=2)
    table = experiment(tmp_path)["dataset"][0] | {"folder": "Task"}
    data = dataset(table, tmp_path)
    for split in ("train", "val", "test"):
        for _, volume, labels in data.scans(split):
            assert volume.names == ("channel 0", "channel 1")
            apart = volume.data[1].astype(float) - volume.data[0]
            np.testing.assert_allclose(apart, 1000, atol=1e-3)
            assert labels.labels.shape == volume.shape


def test_a_file_that_is_listed_and_not_there_is_named(tmp_path):
    make_task(tmp_path / "Task", count=2)
    (tmp_path / "Task" / "labelsTr" / "hippocampus_001.nii.gz").unlink()
    data = dataset(experiment(tmp_path)["dataset"][0] | {"folder": "Task"}, tmp_path)
    with pytest.raises(NotAVolume, match=r"hippocampus_001\.nii\.gz"):
        data.subjects("train")


def test_the_3d_experiment_learns_from_a_decathlon_folder(task, tmp_path):
    found = finish(
        pretrain(
            experiment(task, steps=60, validate_every=20, average=0.9),
            log=tmp_path / "log.jsonl",
        )
    )
    curve = [row["dice"] for row in found.card["trained"]["curve"]]
    assert curve[-1] > 0.75
    assert curve[-1] > curve[0]
    dice = found.card["heads"]["hippocampus"]["dice"]
    assert min(one["mean"] for one in dice.values()) > 0.6
    rows = [
        json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    losses = [row["hippocampus"] for row in rows if row["kind"] == "train"]
    assert losses[-1] < losses[0]


def test_the_shell_runs_the_experiment_on_another_folder(task, tmp_path):
    text = EXPERIMENT.read_text().replace("steps = 1400 ", "steps = 2 ")
    text = text.replace("width = 8", "width = 2")
    (tmp_path / "short.toml").write_text(text)
    model = tmp_path / "short.safetensors"
    words = ["pretrain", str(tmp_path / "short.toml"), "--data", str(task)]
    done = subprocess.run(
        [sys.executable, "-m", "napari_hydraseg.cli", *words, "-o", str(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(model).spec.patch == (40, 56, 40)
