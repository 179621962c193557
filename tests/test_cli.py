"""The command line keeps its promises: documents, exit codes, files, signals."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

from napari_hydraseg import core
from napari_hydraseg.cli import main

AFFINE = np.diag([-3.0, -3.0, 5.0, 1.0])
SHAPE = (24, 20, 6)  # x, y, z as a NIfTI file has them


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder, tiny_checkpoint):
    core.save_checkpoint(tiny_checkpoint, folder / "tiny.safetensors")
    return "tiny.safetensors"


def hydraseg(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def document(*arguments, status=0):
    result = hydraseg(*arguments, "--json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)


def save(path, array, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def scan(path, seed=0):
    grey = np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.int16)
    return save(path, grey)


def mask(path, start=4, ids=(1,)):
    labels = np.zeros(SHAPE, np.uint8)
    for id in ids:
        labels[start : start + 8, 4:12, 1:5] = id
        start += 8
    return save(path, labels)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fails(result, status, *words):
    """One line on stderr, nothing on stdout, the status of the family."""
    assert result.exit_code == status, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["models", "list"],
        ["models", "info", "tiny.safetensors"],
        ["doctor", "--help"],
        ["segment", "--help"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_imports_none(arguments, model):
    code = (
        "import sys\n"
        "from napari_hydraseg.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'matplotlib', 'sklearn', 'napari', 'qtpy', 'skimage'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_document_tells_schema_verb_version_device_and_seconds():
    found = document("models", "list")
    keys = {"schema", "verb", "version", "device", "seconds", "models"}
    assert set(found) == keys
    assert (found["schema"], found["verb"]) == (1, "models list")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "models", "list"],
        ["models", "--json", "list"],
        ["models", "list", "--json"],
    ],
    ids=" ".join,
)
def test_options_stand_before_or_after_the_verb(arguments):
    assert json.loads(hydraseg(*arguments).stdout)["verb"] == "models list"


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment"],
        ["segment", "a.nii.gz", "--nonsense"],
        ["nonsense"],
        ["finetune", "--minutes", "1"],
        ["segment", "a.nii.gz", "--device", "abacus"],
    ],
    ids=" ".join,
)
def test_a_slip_of_the_pen_is_status_2(arguments):
    fails(hydraseg(*arguments), 2, "--help")


def test_a_scan_that_is_none_is_status_3(folder, model):
    fails(hydraseg("segment", "none.nii.gz", "--model", model), 3, "none.nii.gz")
    (folder / "empty").mkdir()
    fails(hydraseg("segment", "empty", "--model", model), 3, "no scan")


def test_masks_on_two_grids_are_status_4(folder):
    mask(folder / "a.nii.gz")
    save(folder / "b.nii.gz", np.zeros((3, 3, 3), np.uint8))
    fails(hydraseg("evaluate", "--pair", "a.nii.gz", "b.nii.gz"), 4, "6 x 20 x 24")


def test_an_unknown_model_is_status_5(folder):
    scan(folder / "a.nii.gz")
    fails(hydraseg("segment", "a.nii.gz", "--model", "nobody"), 5, "nobody")


def test_a_result_that_is_there_is_status_7_and_stays(folder):
    mask(folder / "a.nii.gz")
    (folder / "r.csv").write_text("old")
    pair = ("evaluate", "--pair", "a.nii.gz", "a.nii.gz", "-o", "r.csv")
    fails(hydraseg(*pair), 7, "r.csv")
    assert (folder / "r.csv").read_text() == "old"
    assert hydraseg(*pair, "--overwrite").exit_code == 0
    assert (folder / "r.csv").read_text() != "old"


def test_a_traceback_is_shown_only_when_asked(folder):
    wanted = ("models", "info", "nobody")
    assert "Traceback" not in hydraseg(*wanted).stderr
    assert "Traceback" in hydraseg(*wanted, "--debug").stderr


def test_what_nobody_foresaw_is_one_line_too(folder, monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(core, "list_models", broken, raising=False)
    fails(hydraseg("models", "list"), 1, "ZeroDivisionError", "--debug")


# evaluate


def test_evaluate_measures_every_label_and_sums_up(folder):
    mask(folder / "truth.nii.gz", ids=(1, 2))
    mask(folder / "found.nii.gz", start=6, ids=(1, 2))
    found = document("evaluate", "--pair", "truth.nii.gz", "found.nii.gz")
    assert [row["case"] for row in found["cases"]] == ["found", "found"]
    assert found["cases"][0]["dice"] == pytest.approx(6 * 2 / 16)
    assert found["cases"][0]["hausdorff_mm"] == pytest.approx(6.0)
    assert found["summary"]["label 1"]["dice"]["n"] == 1
    assert found["summary"]["label 1"]["dice"]["ci95"] == [None, None]


def test_evaluate_writes_a_report_without_the_names_of_files(folder):
    mask(folder / "DOE^JOHN.nii.gz")
    pair = ("--pair", "DOE^JOHN.nii.gz", "DOE^JOHN.nii.gz")
    result = hydraseg("evaluate", *pair, "-o", "r.html")
    assert "DOE^JOHN" in result.stdout
    assert b"DOE" not in (folder / "r.html").read_bytes()


def test_evaluate_goes_on_after_a_bad_pair_and_says_so(folder):
    mask(folder / "a.nii.gz")
    (folder / "bad.nii.gz").write_text("no scan")
    pairs = ("--pair", "a.nii.gz", "bad.nii.gz", "--pair", "a.nii.gz", "a.nii.gz")
    found = document("evaluate", *pairs, status=8)
    assert [row["dice"] for row in found["cases"]] == [1.0]
    assert [row["input"] for row in found["failed"]] == ["bad.nii.gz"]


# segment


def test_segment_gives_a_mask_on_the_grid_of_the_scan_and_its_provenance(folder, model):
    source = scan(folder / "DOE^JOHN.nii.gz")
    arguments = ("segment", source.name, "-o", "out", "--model", model)
    found = document(*arguments, "--modality", "MR", "--device", "cpu")
    (case,) = found["cases"]
    assert (case["input"], case["head"]) == (source.name, "blob")
    assert case["classes"][0]["name"] == "blob"
    written = nib.load(folder / case["output"])
    assert written.shape == SHAPE
    np.testing.assert_array_equal(written.affine, AFFINE)
    voxels = int((np.asarray(written.dataobj) == 1).sum())
    assert case["classes"][0]["volume_ml"] == pytest.approx(voxels * 45 / 1000)
    text = (folder / "out" / "DOE^JOHN_blob.json").read_text()
    made = json.loads(text)
    assert made["input"]["sha256"] == sha256(source)
    assert made["made_by"]["head"] == "blob"
    assert len(made["made_by"]["sha256"]) == 64
    assert "DOE" not in text


def test_segment_and_the_core_write_identical_bytes(folder, model):
    scan(folder / "a.nii.gz")
    arguments = ("segment", "a.nii.gz", "--model", model, "--modality", "MR")
    document(*arguments, "--device", "cpu")
    volume = core.load_volume(folder / "a.nii.gz", modality="MR")
    steps = core.segment(volume, core.get_model(model), device="cpu")
    core.save_segmentation(core.finish(steps)["blob"], folder / "b.nii.gz")
    assert sha256(folder / "a_blob.nii.gz") == sha256(folder / "b.nii.gz")


def test_segment_never_overwrites_unasked(folder, model):
    scan(folder / "a.nii.gz")
    arguments = ("segment", "a.nii.gz", "--model", model, "--modality", "MR")
    document(*arguments)
    before = sha256(folder / "a_blob.nii.gz")
    fails(hydraseg(*arguments, "--quiet"), 7, "a_blob.nii.gz")
    assert sha256(folder / "a_blob.nii.gz") == before
    document(*arguments, "--overwrite")


def test_segment_never_overwrites_an_input_even_if_asked(folder, model):
    scan(folder / "a.nii.gz")
    other = scan(folder / "a_blob.nii.gz")
    before = sha256(other)
    arguments = ("segment", "a.nii.gz", "a_blob.nii.gz", "--model", model)
    found = document(*arguments, "--overwrite", "--modality", "MR", status=8)
    assert found["failed"][0]["code"] == "HS-703"
    assert sha256(other) == before


def test_segment_takes_every_scan_of_a_folder_and_goes_on_after_a_bad_one(
    folder, model
):
    for name in ("a", "b"):
        scan(folder / "in" / f"{name}.nii.gz")
    (folder / "in" / "bad.nii.gz").write_text("no scan")
    arguments = ("segment", "in", "-o", "out", "--model", model, "--modality", "MR")
    found = document(*arguments, status=8)
    assert len(found["cases"]) == 2
    assert found["failed"][0]["input"].endswith("bad.nii.gz")
    masks = sorted(path.name for path in (folder / "out").glob("*.nii.gz"))
    assert masks == ["a_blob.nii.gz", "b_blob.nii.gz"]


def test_scans_of_one_name_are_told_apart_by_their_folders(folder, model):
    for name in ("x", "y"):
        scan(folder / name / "a.nii.gz")
    arguments = ("segment", "x/a.nii.gz", "y/a.nii.gz", "-o", "out", "--model", model)
    found = document(*arguments, "--modality", "MR")
    names = [os.path.basename(case["output"]) for case in found["cases"]]
    assert names == ["x_a_blob.nii.gz", "y_a_blob.nii.gz"]


def test_channels_are_written_as_name_and_file(folder):
    from napari_hydraseg.commands.scans import scans

    (found,) = scans(["FLAIR=a.nii.gz,T1=b.nii.gz"])
    assert found.channels == ("FLAIR", "T1")
    assert [path.name for path in found.paths] == ["a.nii.gz", "b.nii.gz"]
    fails(hydraseg("segment", "FLAIR=,T1=b"), 2, "NAME=FILE")


def test_probabilities_lie_on_the_grid_of_the_scan_and_agree_with_the_mask(
    folder, model
):
    scan(folder / "a.nii.gz")
    arguments = ("segment", "a.nii.gz", "--model", model, "--modality", "MR")
    (case,) = document(*arguments, "--probabilities")["cases"]
    soft = nib.load(folder / "a_blob_probabilities.nii.gz")
    assert soft.shape == (*SHAPE, 2)
    np.testing.assert_array_equal(soft.affine, AFFINE)
    labels = np.asarray(nib.load(folder / case["output"]).dataobj)
    found = np.asarray(soft.dataobj)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert (found.argmax(axis=-1) == labels).mean() > 0.999


# finetune


def test_finetune_adds_a_head_and_proves_the_encoder_frozen(folder, model):
    scan(folder / "a.nii.gz")
    mask(folder / "t.nii.gz")
    case = ("finetune", "--case", "a.nii.gz", "t.nii.gz", "--model", model)
    options = ("--head", "cord", "--class", "cord", "--epochs", 1, "--modality", "MR")
    found = document(*case, *options, "-o", "new.safetensors")
    keys = {"model", "head", "init", "mode", "before", "after", "accepted", "epochs"}
    assert keys | {"curve", "frozen", "train", "hold_out"} <= set(found)
    assert {"dice", "n"} <= set(found["before"]) & set(found["after"])
    assert {"epoch", "loss", "dice"} <= set(found["curve"][0])
    assert len(found["frozen"]["sha256_before"]) == 64
    assert found["frozen"]["sha256_before"] == found["frozen"]["sha256_after"]
    heads = core.load_checkpoint(folder / "new.safetensors").spec.heads
    assert heads["cord"] == ("background", "cord")
    assert "blob" in heads


def test_finetune_prints_before_and_after_for_people(folder, model):
    scan(folder / "a.nii.gz")
    mask(folder / "t.nii.gz")
    case = ("finetune", "--case", "a.nii.gz", "t.nii.gz", "--model", model)
    options = ("--head", "cord", "--epochs", 1, "--modality", "MR")
    result = hydraseg(*case, *options, "-o", "new.safetensors")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("before") == result.stdout.count("after") == 2


def test_finetune_goes_on_with_the_model_it_made(folder, model):
    scan(folder / "a.nii.gz")
    mask(folder / "t.nii.gz")
    case = ("finetune", "--case", "a.nii.gz", "t.nii.gz", "--model", model)
    options = ("--head", "cord", "--epochs", 1, "--modality", "MR", "--quiet")
    output = ("-o", "new.safetensors")
    fails(hydraseg(*case, *options, *output, "--resume"), 5, "new.safetensors")
    document(*case, *options, *output)
    fails(hydraseg(*case, *options, *output), 7, "new.safetensors")
    found = document(*case, *options, *output, "--resume")
    assert found["init"] == "cord"


@pytest.mark.parametrize(
    ("which", "marks"),
    [
        ("nonempty", [0, 1, 1, 1, 1, 0]),
        ("1,4", [0, 1, 0, 0, 1, 0]),
        ("all", None),
    ],
)
def test_annotated_names_slices_from_inferior_to_superior(folder, which, marks):
    from napari_hydraseg.commands.scans import annotated

    scan(folder / "a.nii.gz")
    mask(folder / "t.nii.gz")
    labels = core.load_segmentation(folder / "t.nii.gz")
    found = annotated(labels, core.load_volume(folder / "a.nii.gz"), which).annotated
    assert found is None if marks is None else found.tolist() == [*map(bool, marks)]


def test_a_slice_that_does_not_exist_is_status_2(folder, model):
    scan(folder / "a.nii.gz")
    mask(folder / "t.nii.gz")
    case = ("finetune", "--case", "a.nii.gz", "t.nii.gz", "--model", model)
    options = ("--head", "cord", "-o", "new.safetensors", "--annotated")
    fails(hydraseg(*case, *options, "6"), 2, "0 to 5")
    fails(hydraseg(*case, *options, "some"), 2, "some")


def test_a_model_file_has_its_ending(folder, model):
    scan(folder / "a.nii.gz")
    mask(folder / "t.nii.gz")
    case = ("finetune", "--case", "a.nii.gz", "t.nii.gz", "--model", model)
    fails(hydraseg(*case, "--head", "cord", "-o", "new.pt"), 2, "safetensors")


# shift


def test_shift_gives_a_verdict_or_says_that_it_cannot(folder, model):
    scan(folder / "a.nii.gz")
    arguments = ("shift", "a.nii.gz", "--model", model, "--modality", "MR")
    found = document(*arguments, "-o", "r.html")
    assert found["verdict"] == "cannot-judge"
    keys = {"verdict", "p", "p_floor", "percentile", "n_reference", "by_depth"}
    assert keys | {"per_case", "causes", "advice"} <= set(found)
    assert b"does not prove" in (folder / "r.html").read_bytes()


# models


def test_models_are_added_shown_exported_and_removed(folder, model):
    assert document("models", "add", model, "--name", "mine")["models"][0]["name"]
    (shown,) = document("models", "info", "mine")["models"]
    keys = "name network heads modality licence size_mb path source".split()
    assert set(keys) <= set(shown)
    assert shown["source"] == "user"
    document("models", "export", "mine", "copy.safetensors")
    assert (folder / "copy.safetensors").is_file()
    document("models", "remove", "mine")
    names = [row["name"] for row in document("models", "list")["models"]]
    assert "mine" not in names


# doctor


def test_doctor_tries_every_processor_and_folder():
    found = document("doctor")
    keys = {"python", "torch", "devices", "memory", "qt", "napari", "folders", "models"}
    assert keys <= set(found)
    cpu = next(row for row in found["devices"] if row["device"] == "cpu")
    assert cpu["works"]
    assert all(isinstance(row["writable"], bool) for row in found["folders"])


# signals

WAITING = """
    import sys, time
    from napari_hydraseg import core
    from napari_hydraseg.cli import main
    from napari_hydraseg.core.types import Progress

    def endless(*args, **options):
        try:
            while True:
                yield Progress(0, 1)
                print("working", file=sys.stderr, flush=True)
                time.sleep(0.05)
        finally:
            print("closed", file=sys.stderr, flush=True)

    core.get_model = core.load_volume = lambda *args, **options: None
    core.shift = endless
    main(["shift", sys.argv[1]])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_the_work_cleanly_with_its_own_status(folder, number, status):
    source = scan(folder / "a.nii.gz")
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITING), str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr.readline() == "working\n"
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert child.returncode == status
    assert out == ""
    assert err.splitlines()[-2:] == ["closed", "Error: Cancelled."]
    assert "Traceback" not in err
