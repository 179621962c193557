"""The demo does the main job and leaves every result in its folder."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from napari_hydraseg import core, demo
from napari_hydraseg.cli import main


@pytest.fixture
def bundled(tiny_checkpoint, monkeypatch):
    """Stand in for the bundled model: a heart head with random weights."""
    from napari_hydraseg.core.networks import weights_of

    classes = ("background", "right ventricle", "myocardium", "left ventricle")
    spec = replace(tiny_checkpoint.spec, heads={"heart": classes})
    card = dict(tiny_checkpoint.card) | {
        "heads": {"heart": {"modality": ["MR"], "licence": "CC0-1.0"}},
        "recommended": {"MR": ["heart"]},
    }
    weights = weights_of(core.build(spec, seed=0))
    model = core.Checkpoint(spec, weights, card)
    monkeypatch.setattr(core, "get_model", lambda name: model, raising=False)
    monkeypatch.setattr(demo, "BUDGET", {"epochs": 1})


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_demo_leaves_masks_a_model_reports_and_pictures(bundled, tmp_path):
    arguments = ["demo", "-o", str(tmp_path), "--headless", "--json", "--quiet"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    names = set(found["files"])
    assert {demo.SCAN, demo.TRUTH, demo.NEW_MODEL, *demo.REPORTS} <= names
    for head in ("heart", "aorta"):
        assert f"masks/heart_synthetic_{head}.nii.gz" in names
        assert f"masks/heart_synthetic_{head}.json" in names
    assert set(found["dice"]) == {
        "right ventricle",
        "myocardium",
        "left ventricle",
        "aorta",
    }
    frozen = found["frozen"]
    assert frozen["sha256_before"] == frozen["sha256_after"]
    heads = core.load_checkpoint(tmp_path / demo.NEW_MODEL).spec.heads
    assert set(heads) == {"heart", "aorta"}


def test_the_demo_never_overwrites_unasked(bundled, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path), "--headless"])
    assert result.exit_code == 7
    assert (tmp_path / "report.html").read_text() == "mine"


def test_the_sample_comes_back_from_its_file_as_it_was_drawn(tmp_path):
    volume, truth = core.heart_phantom()
    with CliRunner().isolation(), main.make_context("hydraseg", ["demo"]):
        sample = demo._sample(tmp_path, overwrite=False)
    np.testing.assert_array_equal(sample.volume.data, volume.data)
    np.testing.assert_array_equal(sample.truth.labels, truth.labels)
    assert sample.truth.names == truth.names
    assert sample.volume.spacing_mm == pytest.approx(volume.spacing_mm)
    assert sample.volume.known == volume.known
