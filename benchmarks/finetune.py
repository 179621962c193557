"""One training step on kept features, on recomputed ones, and of the whole network.

    python benchmarks/finetune.py            # about a minute on two free cores
    python benchmarks/finetune.py --quick    # and no one-minute run

All ways take turns in one process, so that whatever else the machine does falls on all
of them alike; what counts are ratios of medians of processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace

import numpy as np

from napari_hydraseg.core import (
    Segmentation,
    Volume,
    _source,
    finetune,
    finish,
    get_model,
    optimisation,
)
from napari_hydraseg.core._begin import make_job
from napari_hydraseg.core._job import trained

GOALS = {"frozen, recomputed": 1.6, "full": 2.5}
SECONDS = 90.0  # for a run of one minute on 20 slices, all included


def scan(slices: int = 20, side: int = 192) -> tuple[Volume, Segmentation]:
    """Noise with a bright disc in each slice."""
    y, x = np.mgrid[:side, :side]
    inside = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 8) ** 2
    labels = np.repeat(inside[None].astype(np.uint8), slices, 0)
    data = np.random.default_rng(0).normal(100, 10, labels.shape) + 100 * labels
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    volume = Volume(data[None].astype(np.float32), affine, modality="MR")
    return volume, Segmentation(labels, affine, names={1: "disc"})


class Way:
    """One way to take a step."""

    def __init__(self, mode: str, *, kept: bool) -> None:
        job = make_job(
            get_model("hydranet"), [scan()], head="disc", class_names=(), mode=mode,
            depth=None, hold_out=True, seed=0, device="cpu",
        )  # fmt: skip
        self.source = _source.Source(job, _source.recipe_of(job, augment=True))
        if kept:
            finish(self.source.fill(seconds=0.0, passes=2))
        groups = [{"params": trained(job.net), "lr": 1e-3}]
        self.optimiser = optimisation.adamw(groups)
        self.seconds: list[float] = []

    def step(self) -> None:
        """Take a step and note its processor time."""
        began = time.process_time()
        self.optimiser.zero_grad(set_to_none=True)
        self.source.loss()
        self.optimiser.step()
        self.seconds.append(time.process_time() - began)


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    ways = {
        "frozen, kept": Way("frozen", kept=True),
        "frozen, recomputed": Way("frozen", kept=False),
        "full": Way("full", kept=False),
    }
    for _ in range(given.steps + 1):
        for way in ways.values():
            way.step()
    medians = {n: statistics.median(w.seconds[1:]) for n, w in ways.items()}
    found: dict[str, object] = {"seconds": medians}
    found["ratios"] = {
        name: {"ratio": medians[name] / medians["frozen, kept"], "goal": goal}
        for name, goal in GOALS.items()
    }
    if not given.quick:
        began = time.monotonic()
        volume, truth = scan()
        truth = replace(truth, annotated=np.ones(len(truth.labels), bool))
        finish(finetune(get_model("hydranet"), [(volume, truth)], head="d", minutes=1))
        seconds = time.monotonic() - began
        found["run of one minute"] = {"seconds": seconds, "goal": SECONDS}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
