"""Does the encoder transfer? A probe on pre-training sets only.

    python experiments/probe.py CONFIG --leave-out acdc --steps 300 -o probe.json

One set is left out of a short pre-training. Then a few slices of its training subjects,
drawn across the organ, teach a new head, and its validation scans are segmented. Arms:
the encoder of that pre-training and the ImageNet one it started from, both frozen, and
the whole network from random weights. All arms see the same slices and take the same
number of updates. The rows are the mean Dice over validation scans of each repeat.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core import grid
from napari_hydraseg.core._datasets import Dataset, dataset
from napari_hydraseg.core._run import _start
from napari_hydraseg.core._scores import as_classes
from napari_hydraseg.core.pretrain import halved
from napari_hydraseg.core.types import Checkpoint, Segmentation, Volume

ARMS = ("ours, frozen", "ImageNet, frozen", "scratch")
UPDATES, BATCH = 150, 4
Pair = tuple[Volume, Segmentation]


def main() -> int:
    """Run the probe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--leave-out", required=True, help="folder of a set")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--slices", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text("utf-8"))
    config["data"] = str(given.config.parent / config["data"])
    left_out, trained = pretrained(config, given.leave_out, given.steps, given.output)
    starts = {"ours, frozen": trained, "ImageNet, frozen": imagenet(config, trained)}
    rows: list[dict[str, Any]] = []
    for count in given.slices:
        for repeat in range(given.repeats):
            cases = drawn(left_out, count, seed=1000 * count + repeat)
            for arm in ARMS:
                start = starts.get(arm, trained)
                mode = "scratch" if arm == "scratch" else "frozen"
                dice = taught(start, cases, left_out, mode=mode, count=count)
                rows.append(
                    {"slices": count, "repeat": repeat, "arm": arm, "dice": dice}
                )
                print(rows[-1], flush=True)
            given.output.write_text(json.dumps(summary(rows, given), indent=1))
    return 0


def pretrained(
    config: dict[str, Any], name: str, steps: int, output: Path
) -> tuple[Dataset, Checkpoint]:
    """Train on all sets but one."""
    tables = config["dataset"]
    (table,) = [one for one in tables if one["folder"] == name]
    rest = [one for one in tables if one["folder"] != name]
    short = {k: v for k, v in config.items() if k != "minutes"}
    short |= {"dataset": rest, "steps": steps, "validate_every": steps}
    taught_heads = {head for one in rest for head in one["heads"]}
    short["recommended"] = {
        kind: [head for head in heads if head in taught_heads]
        for kind, heads in config["recommended"].items()
    }
    made = core.finish(core.pretrain(short, state=output.with_suffix(".state")))
    return dataset(table, Path(config["data"])), made


def imagenet(config: dict[str, Any], trained: Checkpoint) -> Checkpoint:
    """Return the network that the pre-training started from."""
    return replace(trained, weights=halved(_start(config, trained.spec)))


def drawn(data: Dataset, count: int, *, seed: int) -> list[Pair]:
    """Annotate a few slices of training scans, spread across the organ."""
    rng = np.random.default_rng(seed)
    scans = list(data.scans("train"))
    (ids,) = data.heads.values()
    names = ("background", *ids.values())
    found = []
    for place, pick in enumerate(rng.permutation(len(scans))[:count]):
        _, volume, labels = scans[pick]
        truth = as_classes(labels, ids, names)
        shown = np.flatnonzero(grid.to_slices(truth.labels, volume.plane).any((1, 2)))
        if not len(shown):
            continue
        # from one end of the organ in the first scan to the other in the last
        index = shown[int((place + rng.random()) / count * len(shown))]
        annotated = np.zeros(volume.shape[volume.plane_axis], bool)
        annotated[index] = True
        found.append((volume, replace(truth, annotated=annotated, plane=volume.plane)))
    return found


def taught(
    start: Checkpoint, cases: Sequence[Pair], data: Dataset, *, mode: str, count: int
) -> float:
    """Teach a head and return its mean Dice over the validation scans."""
    (ids,) = data.heads.values()
    names = tuple(ids.values())
    result = core.finish(
        core.finetune(
            start,
            cases,
            head="probe",
            class_names=names,
            init="random",
            mode=mode,
            epochs=max(1, round(UPDATES * BATCH / count)),
            hold_out="none",
        )
    )
    dice = []
    for _, volume, labels in data.scans("val"):
        truth = as_classes(labels, ids, ("background", *names))
        answer = core.finish(core.segment(volume, result.candidate, heads=("probe",)))
        rows = core.evaluate(truth, answer["probe"])
        dice.append(np.nanmean([row["dice"] for row in rows]))
    return float(np.nanmean(dice))


def summary(rows: list[dict[str, Any]], given: argparse.Namespace) -> dict[str, Any]:
    """Means of the arms, and ours against the others with a bootstrap interval."""
    table = []
    for count in sorted({row["slices"] for row in rows}):
        of = {
            arm: np.array(
                [r["dice"] for r in rows if (r["slices"], r["arm"]) == (count, arm)]
            )
            for arm in ARMS
        }
        entry: dict[str, Any] = {"slices": count, "n": len(of[ARMS[0]])}
        entry |= {arm: round(float(of[arm].mean()), 4) for arm in ARMS}
        for other in ARMS[1:]:
            gain = of[ARMS[0]] - of[other]
            pick = np.random.default_rng(0).integers(len(gain), size=(2000, len(gain)))
            low, high = np.percentile(gain[pick].mean(1), (2.5, 97.5))
            entry[f"gain over {other}"] = [
                round(float(v), 4) for v in (gain.mean(), low, high)
            ]
        table.append(entry)
    return {
        "left out": given.leave_out,
        "steps": given.steps,
        "table": table,
        "rows": rows,
    }


if __name__ == "__main__":
    sys.exit(main())
