"""Model files that are wrong, and what may never happen when one is opened."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_hydraseg
from napari_hydraseg.core import (
    Segmentation,
    Volume,
    add_model,
    convert,
    finetune,
    finish,
    get_model,
    list_models,
    load_checkpoint,
    network,
    save_checkpoint,
)
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.errors import (
    AnnotationError,
    ChecksumMismatch,
    CorruptWeights,
    FutureFormat,
    IncompatibleWeights,
    NotWritable,
    UnknownModel,
    UnsafeWeights,
    WeightsError,
    WouldOverwrite,
)

SOURCE = Path(napari_hydraseg.__file__).parent
GOLDEN = Path(__file__).parent.parent / "golden" / "model-1.safetensors"


class Trap:
    """Opens a file, were it ever unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (eval, (f"open({self.target!r}, 'w')",))


def packed(header, data=b"\0" * 16) -> bytes:
    """Give a safetensors file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def header_of(path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_metadata(path, **changes):
    """Rewrite the metadata of a model file; None removes an entry."""
    header, data = header_of(path)
    kept = {**header["__metadata__"], **changes}
    kept.pop("sha256_text", None)
    header["__metadata__"] = {k: v for k, v in kept.items() if v is not None}
    path.write_bytes(packed(header, data))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(GOLDEN.read_bytes())
    return path


@pytest.fixture
def sprung(tmp_path):
    return tmp_path / "sprung"


# F52
@pytest.mark.parametrize("name", ["m.pt", "m.ckpt", "m.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_f52_a_pickle_is_never_run(name, zipped, tmp_path, sprung):
    path = tmp_path / name
    torch.save(Trap(sprung), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeWeights, match="hydraseg convert"):
        load_checkpoint(path)
    with pytest.raises(UnsafeWeights):
        convert(path)
    with pytest.raises(UnsafeWeights):
        add_model(path)
    assert not sprung.exists()


# F53
def test_f53_an_object_among_good_tensors_is_never_run(tmp_path, sprung):
    good = {"conv1.weight": torch.zeros(64, 3, 7, 7), "note": Trap(sprung)}
    torch.save({"state_dict": good}, tmp_path / "m.pt")
    with pytest.raises(UnsafeWeights):
        convert(tmp_path / "m.pt")
    assert not sprung.exists()


def test_f52_f53_nothing_in_the_source_unpickles():
    calls, words = [], []
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        calls += re.findall(r"torch\.load\([^)]*\)", text)
        words += re.findall(r"weights_only\s*=\s*False|\ballow_pickle\s*=\s*True", text)
    assert not words
    assert calls
    assert all("weights_only=True" in call for call in calls)


# F54
@pytest.mark.parametrize("kept", [0, 7, 8, 600, -1])
def test_f54_a_file_cut_short_is_refused(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)


def test_f54_a_flipped_bit_is_noticed_wherever_it_is(saved):
    full = load_checkpoint(saved)
    save_checkpoint(full, saved, overwrite=True)  # with a digest of its text
    content, rng = saved.read_bytes(), np.random.default_rng(0)
    anywhere = rng.integers(0, len(content), 150).tolist()
    for place in [*range(12), *anywhere]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        try:
            found = load_checkpoint(saved)
        except (CorruptWeights, FutureFormat, UnsafeWeights):
            continue
        assert digest(found.weights) == digest(full.weights)  # it hit what says nothing
        assert (found.spec.__dict__, found.card) == (full.spec.__dict__, full.card)


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_f54_a_length_field_that_lies_is_refused(saved, length):
    saved.write_bytes(struct.pack("<Q", length) + saved.read_bytes()[8:])
    with pytest.raises((CorruptWeights, UnsafeWeights)):
        load_checkpoint(saved)


# F55
def test_f55_a_bloated_header_is_refused_quickly(saved):
    header, data = header_of(saved)
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    bloated = {f"weights/{i}": entry for i in range(50_000)} | header
    saved.write_bytes(packed(bloated, data))
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)
    spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 5  # seconds of processor time, as for every fault
    assert peak < 100e6


@pytest.mark.parametrize(
    "fault", ["twice", "overlap", "hole", "type", "negative", "huge"]
)
def test_f55_a_header_that_contradicts_itself_is_refused(fault, saved):
    header, data = header_of(saved)
    first, second = [k for k in header if k != "__metadata__" and header[k]["shape"]][
        :2
    ]
    text = None
    if fault == "twice":
        again = json.dumps({first: header[first]})[1:-1]
        text = (json.dumps(header)[:-1] + ", " + again + "}").encode()
    elif fault == "overlap":
        header[second]["data_offsets"] = header[first]["data_offsets"]
    elif fault == "hole":
        del header[first]
    elif fault == "type":
        header[first]["dtype"] = "Q9"
    else:
        header[first]["shape"] = [-4] if fault == "negative" else [2**40, 2**40]
    saved.write_bytes(packed(text or header, data))
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)


# F56
def test_f56_weights_that_do_not_fit_are_refused_whole(saved):
    good = load_checkpoint(saved)
    weights = dict(good.weights)
    weights["encoder.units.conv1.conv.weight"] = np.zeros((9, 1, 3, 3), np.float32)
    del weights["encoder.units.conv2.conv.bias"]
    weights["encoder.more"] = np.zeros(3, np.float32)
    with pytest.raises(IncompatibleWeights, match="3 tensors") as caught:
        network(replace(good, weights=weights))
    words = str(caught.value)
    assert "(9, 1, 3, 3) instead of (2, 1, 3, 3)" in words
    assert "missing instead of (2,)" in words
    assert "(3,) instead of nothing" in words
    network(good)  # what fits still does


def test_f56_nothing_is_loaded_loosely():
    texts = [path.read_text("utf-8") for path in (SOURCE / "core").rglob("*.py")]
    assert not [t for t in texts if re.search(r"load_state_dict\([^)]*strict=False", t)]


# F57
def test_f57_a_decoder_for_other_classes_is_refused_with_a_way_out(saved):
    good = load_checkpoint(saved)
    heads = {"cord": ("background", "white", "grey")}
    with pytest.raises(IncompatibleWeights, match="encoder fits"):
        network(replace(good, spec=replace(good.spec, heads=heads)))


def test_f57_classes_are_not_renamed_in_silence(saved):
    good = load_checkpoint(saved)
    scan = Volume(np.zeros((1, 3, 16, 16), np.float32), np.eye(4), modality="MR")
    labels = np.zeros((3, 16, 16), np.uint8)
    labels[1, 4:8, 4:8] = 1
    painted = Segmentation(labels, np.eye(4))
    with pytest.raises(AnnotationError):
        finish(finetune(good, [(scan, painted)], head="cord", class_names=("liver",)))


# F58
def test_f58_other_tensors_than_were_saved_are_put_aside(saved, own_models):
    add_model(saved, name="mine")
    path = own_models / "mine.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumMismatch, match=r"[0-9a-f]{8} instead of [0-9a-f]{8}"):
        get_model("mine")
    assert [p.name for p in own_models.iterdir()] == ["mine.safetensors.bad"]
    assert "mine" not in [info.name for info in list_models()]


# F59
@pytest.mark.parametrize("version", ["2", "99"])
def test_f59_a_format_of_the_future_says_so(version, saved):
    with_metadata(saved, format_version=version)
    with pytest.raises(FutureFormat, match="Upgrade"):
        load_checkpoint(saved)


@pytest.mark.parametrize("version", [None, "one", "", "0", "-1"])
def test_f59_a_format_without_a_number_is_refused(version, saved):
    with_metadata(saved, format_version=version)
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)


def test_f59_the_first_format_loads_for_ever():
    model = load_checkpoint(GOLDEN)
    assert digest(model.weights) == (
        "80780d09fe01d20cd311a5152b7ed1a9d7eeb69db84764bb53d28c183d7adab0"
    )
    assert model.name == "golden"
    assert model.spec.heads == {"cord": ("background", "cord")}
    assert set(model.reference["cord"]) == {"0", "scan", "position"}
    image = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    with torch.inference_mode():
        found = network(model)(image)["cord"][0, 1]
    assert found.mean().item() == pytest.approx(-0.0436612, abs=1e-5)
    assert found[0, 0].item() == pytest.approx(-0.0368005, abs=1e-5)


# F60
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_f60_weights_that_are_no_numbers_are_named(value, saved):
    good = load_checkpoint(saved)
    name = "heads.cord.classify.weight"
    bad = replace(good, weights={**good.weights, name: np.full((1, 64, 1, 1), value)})
    with pytest.raises(CorruptWeights, match=name):
        network(bad)
    with pytest.raises(CorruptWeights, match=name):
        save_checkpoint(bad, saved, overwrite=True)


def test_f60_half_precision_becomes_single(saved):
    good = load_checkpoint(saved)
    assert good.weights["heads.cord.classify.weight"].dtype == np.float16
    assert {p.dtype for p in network(good).parameters()} == {torch.float32}


def test_f60_bfloat16_becomes_single(saved):
    """Cutting a float32 to its upper half is what bfloat16 is."""
    good = load_checkpoint(saved)
    name = "heads.cord.classify.weight"
    cut = {
        key: (np.float32(value).view(np.uint32) >> 16 << 16).view(np.float32)
        for key, value in good.weights.items()
        if value.dtype.kind == "f"
    }
    save_checkpoint(
        replace(good, weights={**good.weights, **cut}), saved, overwrite=True
    )
    header, data = header_of(saved)
    packed_data, place = b"", 0
    for key in sorted(header, key=lambda k: header[k].get("data_offsets", [-1])[0]):
        if key == "__metadata__":
            continue
        start, stop = header[key]["data_offsets"]
        values = data[start:stop]
        if key.removeprefix("weights/") in cut:
            values = (np.frombuffer(values, "<u4") >> 16).astype("<u2").tobytes()
            header[key]["dtype"] = "BF16"
        header[key]["data_offsets"] = [place, place + len(values)]
        packed_data, place = packed_data + values, place + len(values)
    saved.write_bytes(packed(header, packed_data))
    found = load_checkpoint(saved)
    assert found.weights[name].dtype == np.float32
    np.testing.assert_array_equal(found.weights[name], cut[name])
    assert {p.dtype for p in network(found).parameters()} == {torch.float32}


def test_f60_a_published_file_in_bfloat16_is_read(tmp_path):
    from napari_hydraseg.core._foreign import read_foreign

    torch.save({"a": torch.tensor([1.5, -2.0]).bfloat16()}, tmp_path / "m.pt")
    found = read_foreign(tmp_path / "m.pt")["a"]
    assert (found.dtype, found.tolist()) == (np.float32, [1.5, -2.0])


@pytest.mark.parametrize("part", ["encoder.", "heads.cord."])
def test_f60_an_encoder_or_head_of_zeros_is_named(part, saved):
    good = load_checkpoint(saved)
    blank = {
        name: np.zeros_like(value) if name.startswith(part) else value
        for name, value in good.weights.items()
    }
    with pytest.raises(CorruptWeights, match=rf"weights {part}\S+, and all .* zero"):
        network(replace(good, weights=blank))


# F61
@pytest.mark.parametrize("member", ["../out.txt", "/out.txt", "model.safetensors"])
def test_f61_an_archive_is_refused_and_nothing_of_it_is_written(member, tmp_path):
    for name in ("m.zip", "m.safetensors", "m.pt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"x" * 1000)
        for verb in (load_checkpoint, convert, add_model):
            with pytest.raises(WeightsError):
                verb(path)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert len(list((tmp_path / "in").iterdir())) == 3


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2"])
@pytest.mark.parametrize("member", ["../out.txt", "link", "device", "hard"])
def test_f61_a_tar_is_refused_and_nothing_of_it_is_written(kind, member, tmp_path):
    path = tmp_path / "in" / "m.safetensors"
    path.parent.mkdir()
    with tarfile.open(path, kind) as archive:
        made = tarfile.TarInfo(member)
        made.type = {
            "link": tarfile.SYMTYPE,
            "hard": tarfile.LNKTYPE,
            "device": tarfile.CHRTYPE,
        }.get(member, tarfile.REGTYPE)
        made.linkname = "/etc/passwd"
        archive.addfile(made)
    for verb in (load_checkpoint, convert, add_model):
        with pytest.raises(WeightsError):
            verb(path)
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "m.safetensors"]


def test_f61_no_archive_is_ever_unpacked():
    texts = [path.read_text("utf-8") for path in SOURCE.rglob("*.py")]
    assert not [t for t in texts if re.search(r"\bextractall\(|unpack_archive\(", t)]


# F62
@pytest.mark.parametrize(
    "spec",
    [
        "[" * 1_000_000,
        '{"a": ' * 100_000,
        "!!python/object:os.system {}",
        '{"network": "dilated", "channels": ["a"], "heads": {}, "patch": [8], "x": 1}',
        '{"network": "dilated", "channels": ["a"], "heads": [], "patch": [8]}',
        '{"channels": ["a"], "heads": {}, "patch": [8]}',
        "null",
        "[]",
    ],
    ids=["deep", "deep-keys", "yaml", "unknown", "list", "missing", "null", "array"],
)
def test_f62_a_spec_that_is_none_is_refused(spec, saved):
    with_metadata(saved, spec=spec)
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("word", "meant"), [("chanels", "channels"), ("spacing", "spacing_mm"), ("x", "")]
)
def test_f62_an_unknown_entry_is_named_and_what_may_be_meant(word, meant, saved):
    spec = json.loads(header_of(saved)[0]["__metadata__"]["spec"])
    with_metadata(saved, spec=json.dumps({**spec, word: 1}))
    with pytest.raises(CorruptWeights, match=f"unknown entry, '{word}'") as caught:
        load_checkpoint(saved)
    assert (f"; {meant} is meant?" if meant else f"'{word}'.") in str(caught.value)
    assert len(str(caught.value)) <= 200


def test_f62_a_spec_of_more_than_a_megabyte_is_refused(saved):
    spec = json.loads(header_of(saved)[0]["__metadata__"]["spec"])
    spec["channels"] = ["a" * 2**20]
    with_metadata(saved, spec=json.dumps(spec))
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_f62_a_spec_holds_numbers_of_json_alone(number, saved):
    spec = json.loads(header_of(saved)[0]["__metadata__"]["spec"])
    text = json.dumps({**spec, "threshold": 0.5}).replace("0.5", number)
    with_metadata(saved, spec=text)
    with pytest.raises(CorruptWeights):
        load_checkpoint(saved)


# F63
def test_f63_a_folder_that_cannot_be_made_is_said(saved, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HYDRASEG_WEIGHTS", str(tmp_path / "file" / "models"))
    with pytest.raises(NotWritable):
        add_model(saved)


@pytest.mark.skipif(sys.platform == "win32", reason="rights of a folder are POSIX's")
def test_f63_a_folder_on_a_read_only_share_is_read_and_not_written(saved):
    """As nobody, for root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are root's alone
        folder = Path(name) / "models"
        folder.mkdir()
        (folder / "mine.safetensors").write_bytes(saved.read_bytes())
        (Path(name) / "new.safetensors").write_bytes(saved.read_bytes())
        folder.chmod(0o555)
        Path(name).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", READ_ONLY, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["golden", "True", "NotWritable"], done.stderr
        assert [p.name for p in folder.iterdir()] == ["mine.safetensors"]
        folder.chmod(0o755)


READ_ONLY = """
import os, sys
os.environ["HYDRASEG_WEIGHTS"] = sys.argv[1]
from napari_hydraseg.core import add_model, errors, get_model, list_models
import safetensors.numpy, numpy
if os.geteuid() == 0:
    os.setuid(65534)
(mine,) = [info for info in list_models() if info.source == "user"]
print(mine.name)
print(bool(get_model("golden").weights))
try:
    add_model(sys.argv[1] + "/../new.safetensors", name="new")
except errors.NotWritable as error:
    print(type(error).__name__)
"""


def test_f63_a_file_that_goes_after_listing_is_missed(saved, own_models):
    add_model(saved, name="mine")
    listed = next(info for info in list_models() if info.name == "mine")
    listed.path.unlink()
    with pytest.raises(UnknownModel, match="mine"):
        get_model("mine")
    with pytest.raises(UnknownModel):
        get_model(listed.path)


def test_f63_two_processes_that_save_at_once_leave_whole_files(saved, own_models):
    code = (
        "import sys; from napari_hydraseg.core import add_model\n"
        f"add_model({str(saved)!r}, name=sys.argv[1])\n"
        "try:\n    add_model(sys.argv[2], name='both')\n"
        "except Exception as error:\n    print(type(error).__name__)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, name, str(saved)], stdout=subprocess.PIPE
        )
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=120)[0].decode().strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert set(said) <= {"", WouldOverwrite.__name__}
    names = {info.name for info in list_models() if info.source == "user"}
    assert names == {"one", "two", "both"}
    assert all(get_model(name).name == name for name in names)
    assert not [p for p in own_models.iterdir() if p.suffix != ".safetensors"]


# F64: nothing is downloaded; tests/test_offline.py proves it for every verb
@pytest.mark.parametrize("name", ["https://example.org/m.safetensors", "s3://a/b"])
def test_f64_a_web_address_is_no_model_and_says_what_to_do(name):
    with pytest.raises(UnknownModel, match=r"not fetched .* models add FILE"):
        get_model(name)


@pytest.mark.parametrize("kept", ["page", "part"])
def test_f64_what_a_failed_download_left_is_no_model(kept, saved, own_models):
    """A page that says 404, and the first half, under the name of the model."""
    content = saved.read_bytes()
    page = b"<!DOCTYPE html><html><title>404 Not Found</title></html>" * 9
    saved.write_bytes(page if kept == "page" else content[: len(content) // 2])
    for verb in (load_checkpoint, add_model):
        with pytest.raises(CorruptWeights, match="Get the model file again"):
            verb(saved)
    assert not own_models.exists() or not any(own_models.iterdir())


def test_f64_nothing_is_asked_of_the_network_when_it_is_imported():
    """Python itself says when a name is looked up or a line is opened."""
    code = (
        "import importlib, os, pkgutil, sys\n"
        "asked = ('socket.getaddrinfo', 'socket.connect', 'urllib.Request')\n"
        "sys.addaudithook(lambda event, _: event in asked and os._exit(9))\n"
        "from napari_hydraseg import core\n"
        "for m in pkgutil.walk_packages(core.__path__, core.__name__ + '.'):\n"
        "    importlib.import_module(m.name)\n"
        "print(len(core.list_models()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
