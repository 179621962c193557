r"""Does the encoder transfer? A probe on pre-training sets only.

    python experiments/probe.py CONFIG --leave-out acdc --steps 300 -o probe.json
    python experiments/probe.py CONFIG --leave-out abdomen_ct_btcv --model hydranet \
        --classes 7=stomach -o stomach.json

One set is left out of a short pre-training (or ``--model`` names a model that never saw
it). Then a few slices of its training subjects, drawn across the organ, teach a new
head, and its validation subjects are segmented (`core.compare_transfer`): by the
encoder of that pre-training and by the ImageNet one that it started from, both frozen,
and by the whole network from random weights. With ``--classes`` the set may be one that
the model knows, but the organs are ones that no head learned.
"""

import argparse
import sys
import tomllib
from pathlib import Path
from typing import Any

from napari_hydraseg import core
from napari_hydraseg.core._datasets import Dataset, dataset
from napari_hydraseg.core._fit import Files
from napari_hydraseg.core._scores import as_classes
from napari_hydraseg.core.pretrain import train

ARMS = ("frozen", "imagenet", "scratch")


def main() -> int:
    """Run the probe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--leave-out", required=True, help="folder of a set")
    parser.add_argument("--model", help="one that never saw the set")
    parser.add_argument("--classes", nargs="+", metavar="ID=NAME", type=named)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--slices", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60, help="passes of each arm")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text("utf-8"))
    config["data"] = str(given.config.parent / config["data"])
    trained = model_of(given, config)
    (table,) = (t for t in config["dataset"] if t["folder"] == given.leave_out)
    if given.classes:
        table = table | {"heads": {"probe": dict(given.classes)}}
    left_out = dataset(table, Path(config["data"]))
    tests = labelled(left_out, "val")
    result = core.finish(
        core.compare_transfer(
            trained,
            [pair for _, pair in labelled(left_out, "train")],
            [pair for _, pair in tests],
            head="probe",
            arms=ARMS,
            slices=given.slices,
            repeats=given.repeats,
            epochs=given.epochs,
            subjects=[subject for subject, _ in tests],
            state=given.output.with_suffix(".runs"),
        ),
        lambda progress: print(progress.note, flush=True),
    )
    core.write_report(core.describe(result), given.output, overwrite=True)
    for row in result.comparisons:
        if row["arm"] == ARMS[0]:
            ends = f"{row['difference']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
            print(row["slices"], "slices, gain over", row["against"], ends)
    return 0


def named(text: str) -> tuple[int, str]:
    """Read ``7=stomach``."""
    label, name = text.split("=", 1)
    return int(label), name


def model_of(given: argparse.Namespace, config: dict[str, Any]) -> core.Checkpoint:
    """Load the model that is named, or train one without the set."""
    if given.model:
        return core.get_model(given.model)
    state = given.output.with_suffix(".state")
    short = without(config, given.leave_out, given.steps)
    return core.finish(train(short, files=Files(state=state)))[0]


def without(config: dict[str, Any], name: str, steps: int) -> dict[str, Any]:
    """Return the configuration of a short run on all sets but one."""
    rest = [table for table in config["dataset"] if table["folder"] != name]
    heads = {head for table in rest for head in table["heads"]}
    known = {
        kind: [head for head in listed if head in heads]
        for kind, listed in config["recommended"].items()
    }
    short = {key: value for key, value in config.items() if key != "minutes"}
    budget = {"steps": steps, "validate_every": steps}
    return short | budget | {"dataset": rest, "recommended": known}


def labelled(data: Dataset, split: str) -> list[tuple[str, Any]]:
    """List subject and (scan, labels) of a split, labels numbered as classes."""
    (ids,) = data.heads.values()
    names = ("background", *ids.values())
    return [
        (subject, (volume, as_classes(labels, ids, names)))
        for subject, volume, labels in data.scans(split)
    ]


if __name__ == "__main__":
    sys.exit(main())
