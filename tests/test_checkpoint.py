"""One file, one model: what goes in comes out, and nothing else."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg.core import (
    add_model,
    export_model,
    get_model,
    list_models,
    load_checkpoint,
    remove_model,
    save_checkpoint,
)
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.errors import (
    ChecksumMismatch,
    CorruptWeights,
    FutureFormat,
    UnknownModel,
    UnsafeWeights,
    WouldOverwrite,
)


@pytest.fixture
def saved(tiny_checkpoint, tmp_path):
    reference = {"blob": {"1": np.ones((3, 4), np.float16), "scan": np.arange(3)}}
    full = replace(tiny_checkpoint, reference=reference)
    save_checkpoint(full, tmp_path / "m.safetensors")
    return full, tmp_path / "m.safetensors"


def with_metadata(path, **changes):
    """Rewrite the metadata of a model file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"].update(changes)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_everything_comes_back(saved):
    full, path = saved
    again = load_checkpoint(path)
    assert again.spec.__dict__ == full.spec.__dict__
    assert again.card == full.card
    assert digest(again.weights) == digest(full.weights)
    np.testing.assert_array_equal(again.reference["blob"]["1"], np.ones((3, 4)))


def test_types_are_kept_and_scalars_stay_scalars(tiny_checkpoint, tmp_path):
    weights = {
        "half": np.ones((2, 3), np.float16),
        "whole": np.ones(4, np.float32),
        "count": np.array(7),
    }
    save_checkpoint(
        replace(tiny_checkpoint, weights=weights), tmp_path / "m.safetensors"
    )
    again = load_checkpoint(tmp_path / "m.safetensors").weights
    assert {k: (v.dtype, v.shape) for k, v in again.items()} == {
        k: (v.dtype, v.shape) for k, v in weights.items()
    }


def test_a_flipped_bit_in_a_weight_is_noticed(saved):
    _, path = saved
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumMismatch):
        load_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 7, 500, -1])
def test_a_file_that_ends_early_is_refused(saved, kept):
    _, path = saved
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptWeights):
        load_checkpoint(path)


def test_a_length_field_that_lies_is_refused(saved):
    _, path = saved
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])
    with pytest.raises(CorruptWeights):
        load_checkpoint(path)


def test_a_pickle_is_never_opened(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "m.safetensors"
    path.write_bytes(pickle.dumps({"w": Trap()}, protocol=4))
    with pytest.raises(UnsafeWeights):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_a_newer_format_says_so(saved):
    _, path = saved
    with_metadata(path, format_version="99")
    with pytest.raises(FutureFormat, match="99"):
        load_checkpoint(path)


def test_weights_that_are_no_numbers_are_not_saved(tiny_checkpoint, tmp_path):
    weights = {"w": np.array([1.0, np.nan], np.float32)}
    with pytest.raises(CorruptWeights, match="w"):
        save_checkpoint(replace(tiny_checkpoint, weights=weights), tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_model_is_added_listed_exported_and_removed(saved, own_models, tmp_path):
    _, path = saved
    assert add_model(path, name="mine").source == "user"
    assert "mine" in [info.name for info in list_models()]
    assert get_model("mine").name == "mine"
    with pytest.raises(WouldOverwrite):
        add_model(path, name="mine")
    export_model("mine", tmp_path / "out.safetensors")
    assert load_checkpoint(tmp_path / "out.safetensors").name == "mine"
    remove_model("mine")
    with pytest.raises(UnknownModel, match="mine"):
        get_model("mine")
    assert not list(own_models.iterdir())


def test_a_damaged_file_does_not_hide_the_others(saved, own_models):
    _, path = saved
    add_model(path, name="mine")
    (own_models / "bad.safetensors").write_bytes(b"x" * 100)
    assert "mine" in [info.name for info in list_models()]


def test_bundled_models_can_be_read_and_stay():
    bundled = [info for info in list_models() if info.source == "bundled"]
    assert "hydranet" in [info.name for info in bundled]
    for info in bundled:
        assert info.size_mb < 25
        assert info.licence
        assert load_checkpoint(info.path).reference
        with pytest.raises(UnknownModel):
            remove_model(info.name)
