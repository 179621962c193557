"""One encoder learns from several folders; no subject stands in two splits."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_hydraseg.commands.train import _read_config
from napari_hydraseg.core import (
    _evidence,
    _fit,
    finish,
    load_volume,
    networks,
    pretrain,
    save_checkpoint,
    segment,
    shift,
)
from napari_hydraseg.core._datasets import dataset
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.errors import IncompatibleWeights, WrongInput
from napari_hydraseg.core.networks._efficientnet import imagenet_weights
from napari_hydraseg.core.pretrain import _cases as cases_of
from napari_hydraseg.core.types import Volume


def make_set(folder, bright, count=6):
    """Write scans with a disc that is brighter or darker than its surroundings."""
    y, x = np.mgrid[:48, :48]
    for number in range(count):
        rng = np.random.default_rng(number)
        a, b = rng.uniform(18, 30, 2)
        labels = ((y - a) ** 2 + (x - b) ** 2 < 81).astype(np.uint8)
        labels = np.repeat(labels[..., None], 4, 2)
        image = rng.normal(100, 8, labels.shape) + (90.0 if bright else -90.0) * labels
        for name, data in (("images", image.astype(np.int16)), ("labels", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            scan = nib.Nifti1Image(data, np.diag([1.0, 1, 5, 1]))
            nib.save(scan, folder / name / f"s{number}.nii.gz")
    names = [f"s{n}" for n in range(count)]
    split = {"train": names[:-2], "val": [names[-2]], "test": [names[-1]]}
    (folder / "split.json").write_text(json.dumps(split))


def table(name):
    return {
        "folder": name,
        "modality": "MR",
        "heads": {name: {"1": "disc"}},
        "patch": [64, 64],
        "slices_per_step": 3,
        "licence": "CC0-1.0",
        "cite": "nobody",
    }


def config(root, **budget):
    return {
        "name": "two",
        "title": "Two heads",
        "data": str(root),
        "seed": 0,
        "start": "random",
        "average": 0.9,
        "rates": {"encoder": 1e-3, "heads": 3e-3},
        "network": {
            "name": "hydranet",
            "channels": ["image"],
            "patch": [64, 64],
            "options": {"slices": 1},
        },
        "intensity": {"MR": {"kind": "zscore", "low": 0.5, "high": 99.5}},
        "spacing_mm": {"MR": 1.0},
        "recommended": {"MR": ["bright", "dark"]},
        "dataset": [table("bright"), table("dark")],
        **budget,
    }


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    make_set(root / "bright", True)
    make_set(root / "dark", False)
    return root


@pytest.fixture(scope="module")
def taught(sets):
    return finish(pretrain(config(sets, steps=60, validate_every=20))), sets


def test_a_run_that_was_killed_goes_on_to_the_same_bits(sets, tmp_path):
    short = config(sets, steps=4, validate_every=2)
    whole = finish(pretrain(short))
    steps = pretrain(short, state=tmp_path / "run.state")
    while next(steps).note != "step 3":
        pass
    steps.close()
    again = finish(pretrain(short, state=tmp_path / "run.state"))
    assert digest(again.weights) == digest(whole.weights)
    other = config(sets, steps=5, validate_every=2)
    with pytest.raises(WrongInput, match="another configuration"):
        finish(pretrain(other, state=tmp_path / "run.state"))


@pytest.mark.parametrize(("share", "moved"), [(0.5, True), (0.0, False)])
def test_batch_norms_keep_their_statistics_once_they_settle(sets, share, moved):
    plan = config(sets, steps=4, validate_every=4, settle=share)
    norms = {"bright": "batch", "dark": "batch"}
    plan["network"]["options"] = {"slices": 1, "norms": norms}
    weights = finish(pretrain(plan)).weights
    means = [v for k, v in weights.items() if k[:5] == "heads" and "running_mean" in k]
    assert means
    assert any(mean.any() for mean in means) == moved


def test_a_budget_in_minutes_is_kept(sets):
    began = time.monotonic()
    steps = pretrain(config(sets, minutes=0.1, validate_every=1))
    last = ""
    for progress in steps:
        if not progress.note.startswith("step"):
            if last.startswith("step"):
                break
            began = time.monotonic()
        last = progress.note
    assert 5 < time.monotonic() - began < 20


def test_a_run_goes_on_from_a_model_with_its_last_level_made_anew(
    sets, taught, tmp_path
):
    first, _ = taught
    save_checkpoint(first, tmp_path / "first.safetensors")
    plan = config(sets, steps=3, validate_every=3) | {
        "start": str(tmp_path / "first.safetensors"),
        "depth": 5,
        "renew": True,
    }
    further = finish(pretrain(plan))
    assert further.card["trained"]["start"] == "first"
    named = networks.build(first.spec)
    levels = named.encoder.levels()
    deepest = {id(v) for m in levels[-1] for v in m.state_dict(keep_vars=True).values()}
    for name, value in named.state_dict(keep_vars=True).items():
        if not name.startswith("encoder") or value.dtype == torch.int64:
            continue
        same = np.array_equal(first.weights[name], further.weights[name])
        assert same == (id(value) not in deepest), name


def test_levels_made_anew_start_from_imagenet_with_statistics_of_their_own(sets):
    plan = config(sets, steps=1, validate_every=1, renew=True) | {"depth": 5}
    renewed = finish(pretrain(plan)).weights
    start = imagenet_weights()
    last = "_blocks.15._project_conv.weight"
    assert np.allclose(renewed[f"encoder.{last}"], start[last], atol=5e-3)
    mean = "_blocks.15._bn1.running_mean"
    assert not np.allclose(renewed[f"encoder.{mean}"], start[mean], atol=1e-2)
    stem = "_conv_stem.weight"
    assert not np.allclose(renewed[f"encoder.{stem}"], start[stem].sum(1, True))


def test_a_model_with_other_heads_is_no_start(sets, taught, tmp_path):
    first, _ = taught
    save_checkpoint(first, tmp_path / "first.safetensors")
    plan = config(sets, steps=1, validate_every=1)
    plan |= {"start": str(tmp_path / "first.safetensors")}
    plan["dataset"] = plan["dataset"][:1]
    with pytest.raises(IncompatibleWeights, match="do not fit"):
        finish(pretrain(plan))


def test_the_log_shows_which_encoder_level_is_dead(sets, taught):
    first, _ = taught
    data = dataset(table("bright"), sets)
    cases = cases_of(data, first.spec, "train")
    part = _fit.Taught(data, cases, [])

    def spread():
        run = SimpleNamespace(seed=0, averaged=net, ranks=SimpleNamespace(device="cpu"))
        run.format = torch.channels_last
        return _fit._spread(run, [part], first.spec)

    net = networks.network(first)
    alive = spread()
    assert min(alive[level] for level in "0123") > 0.01
    torch.nn.init.zeros_(net.encoder._blocks[3]._project_conv.weight)
    dead = spread()
    assert dead["3"] < 1e-5
    assert dead["2"] == alive["2"]


def test_a_set_teaches_only_the_heads_that_it_knows(sets):
    data = config(sets, steps=1, validate_every=1)
    data["dataset"][0]["heads"] = {"bright": {"1": "disc"}, "other": {"1": "disc"}}
    data["dataset"][1]["heads"] = {"other": {"1": "ring", "2": "disc"}}
    found = finish(pretrain(data))
    assert found.spec.heads == {
        "bright": ("background", "disc"),
        "other": ("background", "disc", "ring"),
    }


def test_both_heads_learn(taught):
    checkpoint, _ = taught
    for head in ("bright", "dark"):
        assert checkpoint.card["heads"][head]["dice"]["disc"]["mean"] > 0.5
        assert checkpoint.card["heads"][head]["dice"]["disc"]["n"] == 1


def test_the_model_carries_what_its_scans_look_like(taught):
    checkpoint, _ = taught
    entry = checkpoint.reference["bright"]
    assert len(np.unique(entry["scan"])) == 5  # four to learn from, one to validate
    assert checkpoint.card["heads"]["bright"]["fingerprint"]["pixel_spacing_mm"]
    assert all(v.dtype != np.float32 for v in checkpoint.weights.values())


def test_a_reference_prefers_scans_that_were_not_learned_from():
    learned = [True] * 100 + [False] * 10
    drawn = _evidence._drawn(learned, seed=0)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == _evidence.REFERENCE_SCANS
    assert set(range(100, 110)) <= set(drawn)
    assert drawn != _evidence._drawn(learned, seed=1)


def test_the_model_segments_and_judges_a_scan(taught):
    checkpoint, root = taught
    data = dataset(table("bright"), root)
    ((_, volume, _),) = data.scans("val")
    assert isinstance(volume, Volume)
    assert set(finish(segment(volume, checkpoint))) == {"bright", "dark"}
    report = finish(shift([volume], checkpoint, head="bright"))
    assert report.verdict == "cannot-judge"  # five scans are too few to say


def test_a_file_belongs_to_the_subject_its_name_begins_with(tmp_path):
    make_set(tmp_path / "set", True, count=12)
    data = dataset(table("set"), tmp_path)
    shown = [subject for subject, _, _ in data.scans("train")]
    assert sorted(shown) == sorted(f"s{n}" for n in range(10))


def test_a_missing_entry_is_named():
    with pytest.raises(WrongInput, match="seed"):
        finish(pretrain({"name": "x", "title": "x", "data": "."}))


def test_an_entry_that_nothing_reads_is_refused(sets):
    wrong = config(sets, steps=1, validate_evry=1)
    with pytest.raises(WrongInput, match="Did you mean validate_every"):
        finish(pretrain(wrong))
    wrong = config(sets, steps=1, validate_every=1)
    wrong["dataset"][0]["flop"] = True
    with pytest.raises(WrongInput, match="Did you mean flip"):
        finish(pretrain(wrong))


def test_heads_of_one_set_see_it_at_one_spacing(sets):
    data = config(sets, steps=1, validate_every=1)
    data["dataset"][0]["heads"]["other"] = {"1": "disc"}
    data["spacing_mm"] = {"MR": 1.0, "other": 2.0}
    with pytest.raises(WrongInput, match="different spacings"):
        finish(pretrain(data))


def test_no_subject_of_the_real_sets_stands_in_two_splits(data_root):
    for file in sorted(data_root.glob("*/split.json")):
        split = json.loads(file.read_text())
        names = [n for part in ("train", "val", "test") for n in split[part]]
        assert len(names) == len(set(names)), file.parent.name


TARGETS = (
    "spinal_cord_gm",
    "fetal_head_us",
    "kidney_tumour_ct_kits",
    "ms_lesion_multimodal",
    "cardiac_mr_mscmr",
    "brain_tumour_brats",
)
EXPERIMENTS = sorted(Path(__file__).parents[1].joinpath("experiments").glob("*.toml"))


def slices_of(path):
    """Digests of the slices of a scan that show more than one grey value."""
    volume = load_volume(path)
    for plane in volume.data[0]:
        if np.ptp(plane) > 0:
            yield hashlib.sha256(repr(plane.shape).encode() + plane.tobytes()).digest()


def trained_on(data_root):
    found = {}
    for file in EXPERIMENTS:
        for entry in _read_config(file)["dataset"]:
            data = dataset(entry, data_root)
            found[data.folder.name] = data
    return found


def test_no_model_is_trained_on_a_transfer_target(data_root):
    assert not {*trained_on(data_root)} & {*TARGETS}


def test_no_slice_stands_in_two_splits_or_in_a_transfer_target(data_root):
    places = {}
    for name, data in trained_on(data_root).items():
        for split in ("train", "val", "test"):
            for _, image, _ in data.files(split):
                for digest_ in slices_of(image):
                    places.setdefault(digest_, set()).add((name, split))
    assert len(places) > 5000
    assert [where for where in places.values() if len(where) > 1] == []
    for name in TARGETS:
        for image in sorted((data_root / name / "images").rglob("*.*")):
            if image.suffix in (".gz", ".png"):
                shared = [d for d in slices_of(image) if d in places]
                assert not shared, image.name


def test_a_person_of_two_spinal_cord_sets_is_in_no_training_set(data_root):
    names = {
        image.name
        for data in trained_on(data_root).values()
        for split in ("train", "val", "test")
        for _, image, _ in data.files(split)
    }
    assert not [name for name in names if "errsm" in name]


def test_a_file_that_extends_another_says_only_what_differs(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "one.toml").write_text(
        'data = "scans"\nstart = "imagenet"\nsteps = 5\n'
        "[rates]\nencoder = 1.0\nheads = 2.0\n[[dataset]]\nfolder = 'a'\n"
    )
    (tmp_path / "two.toml").write_text(
        'extends = "below/one.toml"\nstart = "m.safetensors"\n[rates]\nheads = 3.0\n'
    )
    assert _read_config(tmp_path / "two.toml") == {
        "data": str(tmp_path / "below" / "scans"),
        "start": str(tmp_path / "m.safetensors"),
        "steps": 5,
        "rates": {"encoder": 1.0, "heads": 3.0},
        "dataset": [{"folder": "a"}],
    }
    (tmp_path / "three.toml").write_text('extends = "none.toml"')
    with pytest.raises(WrongInput, match=r"none\.toml cannot be read"):
        _read_config(tmp_path / "three.toml")
    bundled = [_read_config(file) for file in EXPERIMENTS]
    wanted = {"name", "rates", "dataset", "network"}
    assert all(wanted <= one.keys() for one in bundled)


TOML = """
name = "two"
title = "Two heads"
data = "."
steps = 2
validate_every = 2
seed = 0
start = "random"
average = 0.9
rates = { encoder = 1e-3, heads = 3e-3 }
intensity.MR = { kind = "zscore", low = 0.5, high = 99.5 }
spacing_mm = { MR = 1.0 }
recommended = { MR = ["disc"] }

[network]
name = "hydranet"
channels = ["image"]
patch = [64, 64]
options = { slices = 3 }

[[dataset]]
folder = "bright"
modality = "MR"
heads.disc = { 1 = "disc" }
patch = [64, 64]
slices_per_step = 2
"""


def test_the_shell_trains_from_a_file_and_writes_the_card(sets, tmp_path):
    file = sets / "two.toml"
    file.write_text(TOML)
    model = tmp_path / "two.safetensors"
    verb = [sys.executable, "-m", "napari_hydraseg.cli", "pretrain", str(file)]
    done = subprocess.run(
        [*verb, "-o", str(model), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["heads"]["disc"]["n"] == 1
    assert "| disc | disc |" in (tmp_path / "two.md").read_text()
    names = {"two.safetensors", "two.md", "two.jsonl"}
    assert {p.name for p in tmp_path.iterdir()} == names
    rows = [
        json.loads(line) for line in (tmp_path / "two.jsonl").read_text().splitlines()
    ]
    assert [row["kind"] for row in rows[-2:]] == ["val", "spread"]
    assert {row["step"] for row in rows[-2:]} == {2}
    assert {"0", "1", "2", "3", "4", "5"} <= rows[-1].keys()
    again = subprocess.run(
        [*verb, "-o", str(model), "--resume", "--overwrite"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 3
    assert "two.state" in again.stderr
