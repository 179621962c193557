"""Several processes train one model; a run writes down how it goes."""

import json
import os
import subprocess
import sys

import pytest

from napari_hydraseg.core._record import Record, profiled

SCRIPT = """
import json
import sys
from pathlib import Path

import torch
from napari_hydraseg.core._ranks import join
from napari_hydraseg.core.optimisation import adamw, optimise

ranks = join("cpu")
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
data = torch.randn(8, 4)
own = data if ranks.world == 1 else data[ranks.rank::ranks.world]
unused = torch.nn.Linear(2, 2)
optimiser = adamw([{"params": [*net.parameters(), *unused.parameters()], "lr": 0.1}])
for _ in optimise(
    optimiser,
    lambda: (net(own) - 1).square().mean(),
    lambda step: ranks.agree(step / 5 + ranks.rank),
    gather=ranks.average,
):
    pass
ranks.wait()
weights = [round(v, 4) for v in net.weight[0].tolist()]
Path(sys.argv[1], f"{ranks.rank}.json").write_text(json.dumps(weights))
"""


def weights_of(folder):
    """What each process wrote, in a file of its own: their prints may mix."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


@pytest.mark.timeout(300)
def test_two_processes_learn_what_one_learns(tmp_path):
    script = tmp_path / "learn.py"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    # the processes of torchrun talk over the loopback, which the suite blocks too
    open_ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, how in ((alone, []), (together, launch)):
        folder.mkdir()
        subprocess.run(
            [sys.executable, *how, script, folder],
            check=True,
            env=open_ if how else None,
        )
    (one,) = weights_of(alone)
    assert weights_of(together) == [one, one]


def test_a_log_is_appended_to(tmp_path):
    log = tmp_path / "log.jsonl"
    for start in (0, 40):
        record = Record(log, None)
        for step in range(start, start + 40):
            record.step(step, {"loss": 1 / (step + 1)})
        record.validation(start + 40, {"heart": 0.5})
        record.close()
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    assert steps == [0, 20, 40, 60]
    assert rows[-1] == {"kind": "val", "step": 80, "heart": 0.5}


def test_tensorboard_gets_the_same_numbers(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed",
    )
    record = Record(None, tmp_path / "board")
    record.step(20, {"loss": 0.25})
    record.close()
    events = accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    (event,) = events.Scalars("train/loss")
    assert (event.step, event.value) == (20, 0.25)


def test_a_profile_names_the_operations(tmp_path):
    import torch

    with profiled(tmp_path / "trace.json") as profiler:
        for _ in range(8):
            torch.ones(4, 4) @ torch.ones(4, 4)
            profiler.step()
    names = {
        event.get("name")
        for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    }
    assert "aten::matmul" in names
