"""Runs that go wrong, and what becomes of them: rows F86 to F97."""

import errno
import io
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from balls import ball, model
from napari_hydraseg.core import _saved, _source, _teach, finetune, finish
from napari_hydraseg.core.checkpoint import digest
from napari_hydraseg.core.errors import (
    CorruptWeights,
    DeviceError,
    DeviceUnavailable,
    IncompatibleWeights,
    NotWritable,
    OutOfMemory,
    TrainingDiverged,
)
from napari_hydraseg.core.io.atomic import _translated

OPTIONS = {"head": "ball", "epochs": 6, "init": "random"}
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from balls import ball, model
from napari_hydraseg.core import _teach, finetune
_teach.SAVE_SECONDS = 0.0
steps = finetune(
    model(), [ball()], head="ball", epochs=6, init="random", state=Path(sys.argv[2])
)
for progress in steps:
    if progress.note == "learning, step 3":
        print("there", flush=True)
        sys.stdin.read()
"""


def run(**options):
    return finish(finetune(model(), [ball()], **{**OPTIONS, **options}))


@pytest.fixture(scope="module")
def whole():
    return run()


def finite(found):
    return all(np.isfinite(v).all() for v in found.candidate.weights.values())


def short_of_memory(monkeypatch, times, error):
    """Let the first computations fail."""
    true, left = _source.Source._logits, [times]

    def logits(source, batch, seed):
        if left[0]:
            left[0] -= 1
            raise error
        return true(source, batch, seed)

    monkeypatch.setattr(_source.Source, "_logits", logits)


def losses_that(monkeypatch, change):
    """Change the loss of each step; `change` takes the call's number and the loss."""
    true, calls = _source.segmentation_loss, []

    def loss(logits, labels):
        calls.append(1)
        return change(len(calls), true(logits, labels))

    monkeypatch.setattr(_source, "segmentation_loss", loss)


def left_by(state, at, **options):
    """Write the state of a run that was dropped after some steps."""
    steps = finetune(model(), [ball()], **{**OPTIONS, **options}, state=state)
    while next(steps).note != f"learning, step {at}":
        pass
    next(steps)  # the state is written after the step was shown
    steps.close()


def test_f86_parts_of_a_batch_make_the_same_update(whole, monkeypatch):
    short_of_memory(monkeypatch, 2, torch.OutOfMemoryError("no room"))
    found = run()
    assert any("4 parts" in text for text in found.warnings)
    for name, value in whole.candidate.weights.items():
        np.testing.assert_allclose(found.candidate.weights[name], value, atol=5e-3)


def test_f87_another_fault_of_a_device_is_not_called_a_lack_of_memory(monkeypatch):
    fault = RuntimeError("CUDA error: device kernel image is invalid")
    short_of_memory(monkeypatch, 1, fault)
    with pytest.raises(DeviceError, match="kernel image") as raised:
        run()
    assert not isinstance(raised.value, OutOfMemory)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_f88_a_device_that_is_not_there_is_refused():
    with pytest.raises(DeviceUnavailable):
        run(device="cuda")


def test_f89_no_room_for_a_single_slice_is_an_error_of_its_own(monkeypatch):
    fault = RuntimeError("DefaultCPUAllocator: not enough memory")
    short_of_memory(monkeypatch, 99, fault)
    with pytest.raises(OutOfMemory):
        run()


def test_f90_a_loss_that_is_no_number_for_a_while_is_mended(monkeypatch):
    losses_that(monkeypatch, lambda n, loss: loss * (math.nan if n < 4 else 1))
    found = run()
    assert any("divided by ten" in text for text in found.warnings)
    assert finite(found)


def test_f90_a_loss_that_stays_no_number_ends_the_run(monkeypatch):
    losses_that(monkeypatch, lambda n, loss: loss * math.nan)
    with pytest.raises(TrainingDiverged):
        run(epochs=20)


def test_f90_a_wild_rate_never_gives_weights_that_are_no_numbers():
    try:
        found = run(rate=1e30)
    except TrainingDiverged:
        return
    assert finite(found)


def test_f91_a_run_that_was_killed_goes_on_to_the_bit(whole, tmp_path, request):
    state = tmp_path / "run.state"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(request.path.parents[1]), str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert child.stdout.readline() == "there\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    notes = []
    steps = finetune(model(), [ball()], **OPTIONS, state=state)
    again = finish(steps, lambda progress: notes.append(progress.note))
    assert "learning, step 2" not in notes
    assert "learning, step 3" in notes
    assert digest(again.candidate.weights) == digest(whole.candidate.weights)
    assert repr(again.curve) == repr(whole.curve)
    assert again.after == whole.after
    assert not state.exists()


def test_f91_a_full_disk_costs_the_state_and_not_the_run(whole, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def atomic(path, write, **options):
        with _translated(path):
            write(Full())

    monkeypatch.setattr(_saved, "atomic_write", atomic)
    monkeypatch.setattr(_teach, "SAVE_SECONDS", 0.0)
    found = run(state=tmp_path / "run.state")
    said = [text for text in found.warnings if "run.state" in text]
    assert said == ["run.state could not be saved: the disk is full. The run went on."]
    assert digest(found.candidate.weights) == digest(whole.candidate.weights)


def test_f91_a_state_that_can_never_be_written_is_told_at_once(tmp_path):
    steps = finetune(model(), [ball()], **OPTIONS, state=tmp_path / "none" / "a.state")
    with pytest.raises(NotWritable, match="folder"):
        next(steps)


def test_f91_a_state_stays_for_who_saves_the_model(tmp_path):
    state = tmp_path / "run.state"
    run(state=state, keep_state=True)
    assert state.exists()
    run(state=state)
    assert not state.exists()


def test_f92_a_state_of_another_run_is_refused_by_the_name_of_what_differs(tmp_path):
    state = tmp_path / "run.state"
    left_by(state, at=1)
    volume, truth = ball()
    moved = replace(truth, labels=np.roll(truth.labels, 1, 2))
    wide = np.diag([1.0, 3.0, 3.0, 1.0])
    wider = (replace(volume, affine=wide), replace(truth, affine=wide))
    for field, pair, changes in (
        ("seed", (volume, truth), {"seed": 1}),
        ("mode", (volume, truth), {"mode": "full"}),
        ("labels", (volume, moved), {}),
        ("scans", (replace(volume, data=volume.data + 1), truth), {}),
        ("modality", (replace(volume, modality=None), truth), {}),
        ("channels", (replace(volume, names=("T1",)), truth), {}),
        ("plane", (replace(volume, plane="sagittal"), truth), {}),
        ("grid", wider, {}),
        ("known", (replace(volume, known=frozenset()), truth), {}),
    ):
        steps = finetune(model(), [pair], **{**OPTIONS, **changes}, state=state)
        with pytest.raises(IncompatibleWeights, match=field):
            finish(steps)
    state.write_bytes(b"nothing")
    with pytest.raises(CorruptWeights, match=r"run\.state"):
        run(state=state)


def test_f93_statistics_of_frozen_norms_do_not_drift(whole):
    parent = model()
    assert whole.frozen["sha256_before"] == whole.frozen["sha256_after"]
    kept = [name for name in parent.weights if "running" in name]
    assert kept
    for name in kept:
        np.testing.assert_array_equal(
            whole.candidate.weights[name], parent.weights[name]
        )


def test_f94_the_same_seed_gives_the_same_bits(whole):
    assert digest(run().candidate.weights) == digest(whole.candidate.weights)


def test_f97_a_clock_that_jumps_back_does_not_lengthen_a_run(monkeypatch):
    monkeypatch.setattr(_teach.time, "time", lambda: -1e9)
    found = finish(finetune(model(), [ball()], head="ball", minutes=1e-6))
    assert found.epochs >= 1
