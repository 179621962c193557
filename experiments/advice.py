"""Is the advice of the shift report worth following? Paired fine-tuning runs.

    python experiments/advice.py -o advice.csv                    # all cases
    python experiments/advice.py --case cord --repeats 1 --epochs 2 -o tiny.csv

Each case is data that the model never saw, with a real shift (another sequence, another
organ) or a made one (`shift_tables.CHANGES`). The report is asked about the scans to
learn from. Then a new head learns from a few of their slices: as its depth profile has
it (start from the nearest head, freeze up to the deepest level that looks alike), and
by the fixed default (start chosen by the painted slices, the whole encoder frozen), and
once more with the default's start and the profile's depth, where that is another.
All learn from the same slices for equally many passes and are tested on the same scans
of other persons. The last line says what the rule for shipping asks: is the mean over
cases of advised minus default, with its 95 % interval over cases, not below 0?
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shift_tables import CHANGES, entry_of, without

from napari_hydraseg import core
from napari_hydraseg.core.types import Checkpoint, Segmentation, TransferReport, Volume

Pair = tuple[Volume, Segmentation]
Way = tuple[str, int | None]
"""Where a new head starts, and how many encoder levels are frozen; None: all."""
HEART = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
HIPPOCAMPUS = {1: "anterior", 2: "posterior"}
HEAD = "probe"
KNOWN = {"acdc": "heart", "hippocampus": "hippocampus"}
"""Heads whose reference holds validation persons of a set: they are left out of it."""


@dataclass(frozen=True)
class Case:
    """One shift: a set, its labels, what is done to its scans.

    Attributes
    ----------
    folder, modality : str
        The set.
    labels : mapping of int to str
        Label ids that are learned, and their names.
    learn, test : tuple of str
        Splits to learn from and to test on; of one split, half of the persons each.
    change, strength : str, float
        One of `shift_tables.CHANGES`; none by default.
    """

    folder: str
    modality: str
    labels: dict[int, str]
    learn: tuple[str, ...] = ("val",)
    test: tuple[str, ...] = ("val",)
    change: str = ""
    strength: float = 0.0


CASES = {
    "cine to bSSFP": Case(
        "cardiac_mr_mscmr", "MR", HEART, learn=("train",), test=("val",)
    ),
    "cord": Case(
        "spinal_cord_gm",
        "MR",
        {1: "white matter", 2: "grey matter"},
        learn=("train",),
        test=("val",),
    ),
    "fetal head": Case(
        "fetal_head_us", "US", {1: "head"}, learn=("train",), test=("val",)
    ),
    "heart, gamma": Case("acdc", "MR", HEART, change="gamma", strength=1.0),
    "heart, noise": Case("acdc", "MR", HEART, change="noise", strength=0.5),
    "heart, blur": Case("acdc", "MR", HEART, change="blur", strength=0.5),
    "heart, swapped contrast": Case("acdc", "MR", HEART, change="swap", strength=1.0),
    "hippocampus, thick": Case(
        "hippocampus", "MR", HIPPOCAMPUS, change="thick", strength=1.0
    ),
    "hippocampus, noise": Case(
        "hippocampus", "MR", HIPPOCAMPUS, change="noise", strength=0.5
    ),
}


def sides(
    case: Case, data: Path, limit: int, slices: int
) -> tuple[list[Pair], list[Pair]]:
    """Scans to learn from, and `limit` scans of other persons to test on."""
    split = json.loads((data / case.folder / "split.json").read_text())
    learn = [person for name in case.learn for person in split[name]]
    test = [person for name in case.test for person in split[name]]
    if case.learn == case.test:
        learn, test = learn[::2], test[1::2]
    shown, painted = [], 0
    for volume, truth in pairs(case, data, learn):
        shown.append((volume, truth))
        stack = np.moveaxis(truth.labels, volume.plane_axis, 0)
        painted += int(stack.any(axis=(1, 2)).sum())
        if len(shown) >= limit and painted >= 3 * slices:  # draws must differ
            break
    return shown, list(islice(pairs(case, data, test), limit))


def pairs(case: Case, data: Path, persons: list[str]) -> Iterator[Pair]:
    """One scan of each person, with labels, changed as the case says."""
    files = sorted((data / case.folder / "images").iterdir())
    for person in persons:
        start = re.compile(rf"{re.escape(str(person))}(?!\d)")
        image = next(path for path in files if start.match(path.name))
        volume = core.load_volume(image, modality=case.modality)
        drawn = core.load_segmentation(data / case.folder / "labels" / image.name)
        labels = np.where(np.isin(drawn.labels, list(case.labels)), drawn.labels, 0)
        truth = replace(drawn, labels=labels, names=dict(case.labels))
        yield changed(volume, truth, case) if case.change else (volume, truth)


def unknown(model: Checkpoint, case: Case, asked: argparse.Namespace) -> Checkpoint:
    """Leave the persons of a case out of the reference that holds them."""
    head = KNOWN.get(case.folder)
    if head is None:
        return model
    rest = model.reference[head]
    plain, _ = sides(replace(case, change=""), asked.data, asked.scans, asked.slices)
    for volume, _ in plain:
        rest = without(rest, entry_of(volume, model, head))
    return replace(model, reference={**model.reference, head: rest})


def changed(volume: Volume, truth: Segmentation, case: Case) -> Pair:
    """Change a scan; a thick slice keeps the labels of the one in its middle."""
    after = CHANGES[case.change](volume, case.strength)
    if case.change == "thick":
        factor = 1 + round(2 * case.strength)
        kept = [slice(None)] * 3
        kept[volume.plane_axis] = slice(factor // 2, None, factor)
        truth = replace(truth, labels=truth.labels[tuple(kept)], affine=after.affine)
    return after, truth


def race(
    model: Checkpoint, learn: list[Pair], test: list[Pair], asked: argparse.Namespace,
    *, init: str, depth: int | None,
) -> TransferReport:  # fmt: skip
    """One arm: the same draws of slices, seeds and passes whatever the options are."""
    arm = "frozen" if depth is None else f"frozen@{depth}"
    steps = core.compare_transfer(
        model,
        learn,
        test,
        head=HEAD,
        arms=[arm + ("+augment" if asked.augment else "")],
        slices=[asked.slices],
        repeats=asked.repeats,
        epochs=asked.epochs,
        rates=[asked.rate],  # one: no arm gets extra time to choose
        init=init,
    )
    return core.finish(steps)


def rows_of(asked: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row for each case."""
    model = core.get_model(asked.model)
    for name in asked.case or CASES:
        begun = time.monotonic()
        learn, test = sides(CASES[name], asked.data, asked.scans, asked.slices)
        seen = unknown(model, CASES[name], asked)
        report = core.finish(core.shift([volume for volume, _ in learn], seen))
        init, depth = str(report.advice["init"]), report.advice["by_profile"]
        raced: dict[Way, NDArray[np.float64]] = {}
        for way in [("auto", None), ("auto", depth), (init, depth)]:
            if way not in raced:
                found = race(model, learn, test, asked, init=way[0], depth=way[1])
                dice = [np.nanmean(run["dice"]) for run in found.runs]  # per repeat
                raced[way] = np.array(dice)
        default = raced["auto", None]
        gaps = raced[init, depth] - default
        yield {
            "case": name,
            "verdict": report.verdict,
            "start": init,
            "frozen": "all" if depth is None else depth,
            "tests": len(test),
            "repeats": len(gaps),
            "default": round(float(default.mean()), 4),
            "depth_alone": round(float(raced["auto", depth].mean()), 4),
            "advised": round(float(raced[init, depth].mean()), 4),
            "gain_of_depth": round(float((raced["auto", depth] - default).mean()), 4),
            "gain": round(float(gaps.mean()), 4),
            "lowest": round(float(gaps.min()), 4),
            "highest": round(float(gaps.max()), 4),
            "seconds": round(time.monotonic() - begun),
        }


def summary(rows: list[dict[str, object]], gain: str, words: str) -> str:
    """Mean gain over cases, with a 95 % bootstrap interval over cases."""
    gains = np.array([float(str(row[gain])) for row in rows])
    drawn = np.random.default_rng(0).choice(gains, (2000, len(gains))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    return (
        f"{words} minus default: mean {gains.mean():+.4f} ({low:+.4f} to {high:+.4f}) "
        f"over {len(gains)} cases; better in {better}, worse in {worse}"
    )


def main() -> None:
    """Run the cases, write the table, print the mean."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="hydranet")
    parser.add_argument("--case", action="append", choices=list(CASES))
    parser.add_argument("--scans", type=int, default=4, help="on either side, at most")
    parser.add_argument("--slices", type=int, default=4, help="to learn from")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--augment", action="store_true", help="slower")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    rows: list[dict[str, object]] = []
    with asked.output.open("w", newline="") as file:
        for row in rows_of(asked):
            if not rows:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            rows.append(row)
            print(json.dumps(row), flush=True)
    apart = [row for row in rows if row["frozen"] != "all"]
    if apart:
        print(summary(apart, "gain_of_depth", "depth alone"))
    print(summary(rows, "gain", "advised"))


if __name__ == "__main__":
    main()
