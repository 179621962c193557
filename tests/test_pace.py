"""The time that a segmentation will take, from its first two steps."""

from __future__ import annotations

import time

import pytest

from napari_hydraseg import core
from napari_hydraseg.core import pace
from napari_hydraseg.core.types import Progress


def steps_of(total, first, each, log):
    def play(volume, checkpoint, *, heads, device):
        try:
            time.sleep(first)
            for at in range(1, total + 1):
                log.append(at)
                yield Progress(at, total)
                time.sleep(each)
        finally:
            log.append("closed")

    return play


def test_the_estimate_counts_preparation_once_and_every_step(monkeypatch):
    log = []
    monkeypatch.setattr(pace, "segment", steps_of(50, 0.1, 0.1, log))
    found = pace.measure_pace(None, None, device="cpu")
    assert found.seconds == pytest.approx(0.1 + 49 * 0.1, rel=0.5)
    assert log == [1, 2, "closed"]


def test_a_scan_of_one_step_is_its_own_measure(monkeypatch):
    monkeypatch.setattr(pace, "segment", steps_of(1, 0.1, 9, []))
    assert pace.measure_pace(None, None, device="cpu").seconds < 2


def test_a_real_scan_gets_a_device_and_a_time(tiny_checkpoint):
    volume, _ = core.heart_phantom()
    found = core.measure_pace(volume, tiny_checkpoint, heads=["blob"], device="cpu")
    assert found.device.startswith("CPU, ")
    assert found.seconds > 0


def test_what_segment_would_refuse_is_refused(tiny_checkpoint):
    volume, _ = core.heart_phantom()
    with pytest.raises(core.HydraSegError, match="no head"):
        core.measure_pace(volume, tiny_checkpoint, heads=["none"])
