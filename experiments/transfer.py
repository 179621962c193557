r"""What transfer is worth on targets that no pre-training saw: the tables of the docs.

    python experiments/transfer.py --data DATA --to RUNS [TARGET ...]
    python experiments/transfer.py --data DATA --to RUNS --tables val

Every model is tested on validation and test subjects at once, so that nothing is taught
twice; only the split that ``--tables`` names is put into words. Finished runs are kept:
a killed run goes on where it was. Times are those of the clock: the machine should do
nothing else.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core import _outcome
from napari_hydraseg.core._arms import arms_of
from napari_hydraseg.core._datasets import files
from napari_hydraseg.core._few import Pair
from napari_hydraseg.core._scores import as_classes
from napari_hydraseg.core.types import TransferReport

ARMS = ("frozen+augment", "imagenet+augment", "full+augment", "scratch+augment")
PLAIN = (*ARMS, "frozen")
DEPTHS = ("frozen@4+augment", "frozen@2+augment")
FROZEN = "frozen+augment"
SCRATCH = "scratch+augment"
SPLITS = ("val", "test")
POOR = 0.2  # Dice under which a percentage says little

Case = tuple[str, str, Pair]
"""Split, subject, and scan with labels."""


@dataclass(frozen=True)
class Target:
    """A comparison.

    Attributes
    ----------
    folder : str
        Of the set.
    modality : str
        Of its scans.
    ids : mapping of int to str
        Label id -> class; other ids are background.
    seconds : float
        Budget of each training.
    slices, repeats : tuple of int
        Numbers of annotated slices, and draws of each.
    arms : tuple of str
        As `core.compare_transfer` names them.
    """

    folder: str
    modality: str
    ids: Mapping[int, str]
    seconds: float = 12.0
    slices: tuple[int, ...] = (5, 10, 20)
    repeats: tuple[int, ...] = (5, 3, 3)
    arms: tuple[str, ...] = ARMS


TARGETS = {
    "fetal_head": Target("fetal_head_us", "US", {1: "head"}, arms=PLAIN),
    "kidney_tumour": Target(
        "kidney_tumour_ct_kits", "CT", {1: "tumour"}, seconds=20, arms=PLAIN
    ),
    "cord": Target(
        "spinal_cord_gm",
        "MR",
        {1: "cord", 2: "cord"},
        seconds=10,
        slices=(5, 20),
        repeats=(5, 3),
    ),
    "grey_matter": Target(
        "spinal_cord_gm",
        "MR",
        {2: "grey matter"},
        seconds=10,
        slices=(5, 20),
        repeats=(5, 3),
    ),
    "ms_lesion": Target(
        "ms_lesion_multimodal",
        "MR",
        {1: "lesion"},
        seconds=10,
        slices=(5, 20),
        repeats=(5, 3),
    ),
    "depth": Target(
        "fetal_head_us",
        "US",
        {1: "head"},
        slices=(5,),
        repeats=(3,),
        arms=(ARMS[0], *DEPTHS, *ARMS[2:]),
    ),
}


def main() -> int:
    """Run targets, or write the tables of those that were run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="hydranet")
    parser.add_argument("--to", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--tables", choices=SPLITS, help="write tables, run nothing")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    for name in given.targets or TARGETS:
        kept = given.to / f"{name}.json"
        donor = given.to / f"{name}_donor.json"
        if given.tables is None:
            run(name, given, kept)
            run(name, given, donor, arms=(FROZEN,), init="auto")
        elif kept.is_file():
            content = [json.loads(p.read_text()) for p in (kept, donor) if p.is_file()]
            print("\n".join(lines(name, content, given.tables)))
    return 0


def run(
    name: str,
    given: argparse.Namespace,
    kept: Path,
    *,
    arms: Sequence[str] = (),
    init: str = "random",
) -> None:
    """Teach and test one target; keep what was found, of both splits."""
    if kept.is_file():
        return
    target = TARGETS[name]
    cases = list(loaded(given.data / target.folder, target))
    train, tested = [
        [c for c in cases if (c[0] == "train") is w] for w in (True, False)
    ]
    people = [subject for _, subject, _ in tested]
    result = core.finish(
        core.compare_transfer(
            core.get_model(given.model),
            [pair for *_, pair in train],
            [pair for *_, pair in tested],
            head=name,
            arms=arms or target.arms,
            init=init,
            slices=target.slices,
            repeats=target.repeats,
            minutes=target.seconds / 60,
            try_share=0.5,
            subjects=people,
            state=kept.with_suffix(".runs"),
        ),
        told(name),
    )
    splits = {subject: split for split, subject, _ in tested}  # as runs count them
    found = {"splits": [*splits.values()], "runs": result.runs, "basis": result.basis}
    kept.write_text(json.dumps(found, indent=1, default=str))


def told(name: str) -> Callable[[core.Progress], None]:
    """Say what is finished."""
    last = [-1]

    def say(progress: core.Progress) -> None:
        if progress.done != last[0]:
            last[0] = progress.done
            print(name, f"{progress.done} of {progress.total}", flush=True)

    return say


def loaded(folder: Path, target: Target) -> Iterator[Case]:
    """Load the scans of all splits; labels become class indices."""
    names = ("background", *dict.fromkeys(target.ids.values()))
    if target.folder == "ms_lesion_multimodal":
        # two patients: one to learn from, one to test on
        of = {"train": "patient07", "test": "patient19"}
        listed = [
            (split, who, folder / f"images/{who}_FLAIR.nii.gz", f"{who}.nii.gz")
            for split, who in of.items()
        ]
        scans = [(s, who, i, folder / "labels" / label) for s, who, i, label in listed]
    else:
        scans = [(s, *one) for s in ("train", *SPLITS) for one in files(folder, s)]
    for split, subject, image, labels in scans:
        volume = core.load_volume(image, modality=target.modality)
        truth = as_classes(core.load_segmentation(labels), target.ids, names)
        if split == "train":  # what shows nothing teaches nothing
            marks = np.moveaxis(truth.labels, volume.plane_axis, 0).any(axis=(1, 2))
            truth = replace(truth, annotated=marks, plane=volume.plane)
        if split != "train" or truth.labels.any():
            yield split, subject, (volume, truth)


def lines(name: str, kept: Sequence[Mapping[str, Any]], split: str) -> Iterator[str]:
    """Write the table of one split, and what it says about the goals.

    The second of what was kept is the frozen arm with heads that start from a donor.
    """
    target = TARGETS[name]
    runs = [on(content, split) for content in kept]
    if not runs[0]:
        return
    results = [outcome_of(runs[0], kept[0], name)]
    if len(runs) > 1:  # in the place of the frozen arm with random heads
        rest = [run for run in runs[0] if run["arm"] != FROZEN]
        results.append(outcome_of([*runs[1], *rest], kept[0], name))
    count = kept[0]["splits"].count(split)
    persons = f"{count} {split} subject{'s' if count > 1 else ''}"
    yield f"### {name}, {persons}, {target.seconds:g} s a training"
    yield ""
    yield "| slices | arm | Dice | 95 % | updates | over scratch | error gone | p |"
    yield "|---|---|---|---|---|---|---|---|"
    pairs = [versus(result) for result in results]
    donors = {}
    if len(results) > 1:
        donors = {r["slices"]: r for r in results[1].arms if r["arm"] == FROZEN}
    for row in results[0].arms:
        place = row["slices"], row["arm"], SCRATCH
        yield row_of(row, pairs[0].get(place))
        if row["arm"] == FROZEN and row["slices"] in donors:
            yield row_of(donors[row["slices"]], pairs[1].get(place), ", from a donor")
    yield ""
    starts = ("", "from a donor, ")[: len(results)]
    for result, found, start in zip(results, pairs, starts, strict=True):
        yield from verdicts(result, found, target, start)
    rates = {row["arm"]: sorted(set(row["rates"])) for row in results[0].arms}
    chosen: Sequence[str] = [
        f"{arm.removesuffix('+augment')} {', '.join(f'{rate:g}' for rate in some)}"
        for arm, some in rates.items()
        if arm not in ("frozen", FROZEN, "imagenet+augment")
    ]
    yield f"* Learning rates chosen: {'; '.join(chosen)}."
    yield ""


def on(content: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Return runs with the Dice of the subjects of one split."""
    here = [i for i, one in enumerate(content["splits"]) if one == split]
    if not here:
        return []
    return [
        run | {"dice": [number(run["dice"][i]) for i in here]}
        for run in content["runs"]
    ]


def outcome_of(
    runs: Sequence[Mapping[str, Any]], content: Mapping[str, Any], name: str
) -> TransferReport:
    """Compare the arms that were run."""
    ran = {run["arm"] for run in runs}
    arms = arms_of([arm for arm in TARGETS[name].arms if arm in ran])
    return _outcome.outcome(arms, runs, content["basis"], [], head=name, seed=0)


def versus(result: TransferReport) -> dict[tuple[int, str, str], Mapping[str, Any]]:
    """Return comparisons by number of slices, arm, and the arm held against it."""
    return {(r["slices"], r["arm"], r["against"]): r for r in result.comparisons}


def number(value: Any) -> float:
    """Read a Dice value as it was kept."""
    return float("nan") if value is None else float(value)


def row_of(
    row: Mapping[str, Any], against: Mapping[str, Any] | None, start: str = ""
) -> str:
    """Write one arm."""
    dice = row["dice"]
    gain = gone = p = "-"
    if against is not None:
        more = against["gain_percent"]
        gain = f"{more:+.0f} %" if more < 1000 else "tenfold or more"
        gone = f"{against['error_gone_percent']:+.0f} %"
        p = against["p_value"]
        p = "-" if p is None else f"{max(p, 5e-4):.3f}"
    arm, augmented, _ = row["arm"].partition("+augment")
    cells = (
        row["slices"],
        (arm if augmented else f"{arm}, as drawn") + start,
        f"{dice['mean']:.3f}",
        interval(dice, "{:.2f} to {:.2f}") or "-",
        f"{row['updates']:.0f}",
        gain,
        gone,
        p,
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def interval(found: Mapping[str, Any], form: str) -> str:
    """Write an interval; nothing where there is none."""
    low, high = number(found["low"]), number(found["high"])
    return form.format(low, high) if low == low else ""


def verdicts(
    result: TransferReport,
    pairs: Mapping[tuple[int, str, str], Mapping[str, Any]],
    target: Target,
    start: str,
) -> Iterator[str]:
    """Hold frozen against scratch and against ImageNet."""
    dice = {(row["slices"], row["arm"]): row["dice"]["mean"] for row in result.arms}
    for count in target.slices:
        ours = (count, FROZEN)
        scratch = pairs[*ours, SCRATCH]
        said = f"* {count} slices, {start}{scratch['difference']:+.3f} over scratch"
        imagenet = pairs.get((*ours, "imagenet+augment"))
        if imagenet is not None:
            said += f", {imagenet['difference']:+.3f} over ImageNet only"
            said += interval(imagenet, " ({:+.3f} to {:+.3f})")
        if count == min(target.slices):
            said += f"; {goal(dice[ours], dice[count, SCRATCH])}"
        elif count == max(target.slices):
            met = scratch["difference"] >= 0
            said += f"; never worse than scratch: {'met' if met else 'missed'}"
        yield said + "."


def goal(ours: float, scratch: float) -> str:
    """Say whether 25 % were gained, or half of the error is gone above .7."""
    if scratch > 0.7:
        gone = (ours - scratch) / (1 - scratch)
        return f"half of scratch's error gone: {'met' if gone >= 0.5 else 'missed'}"
    gain = ours / scratch - 1 if scratch else float("inf")
    said = f"a quarter more than scratch: {'met' if gain >= 0.25 else 'missed'}"
    return f"{said}, at a Dice that is of no use" if ours < POOR else said


if __name__ == "__main__":
    sys.exit(main())
