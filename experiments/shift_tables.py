"""Tables of the shift report on real scans: false alarms, and what is detected.

    python experiments/shift_tables.py alarms -o alarms.csv                 # 3 minutes
    python experiments/shift_tables.py other --limit 12 -o other.csv        # 3 minutes
    python experiments/shift_tables.py made --limit 2 -o made.csv           # 4 minutes
    python experiments/shift_tables.py alarms --split test -o test.csv      # once

``alarms`` judges scans of each head's own population, ``other`` those of another organ
or modality, ``made`` scans that were changed on purpose in growing strength. ``--set
FOLDER:HEAD:MODALITY`` asks for others than the usual sets. Whatever is tuned is tuned
on ``--split val``, each of whose persons is left out of the reference when judged;
``test`` is looked at once. One row a scan goes to the file; the table of docs/shift.md
is printed.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.stats import binomtest

from napari_hydraseg import core
from napari_hydraseg.core import grid
from napari_hydraseg.core._calibration import Entry, judge, scaled, subject_of_rows
from napari_hydraseg.core._datasets import files
from napari_hydraseg.core._kernels import median_gamma
from napari_hydraseg.core._levels import verdict_of
from napari_hydraseg.core._reference import depths, levels, reference_features
from napari_hydraseg.core._verdict import FEWEST
from napari_hydraseg.core.inference import encode
from napari_hydraseg.core.types import Checkpoint, Volume

Change = Callable[[Volume, float], Volume]

SETS = {
    "alarms": (
        "abdomen_ct_btcv:liver:CT",
        "liver_ct_msd:liver:CT",
        "abdomen_mr_chaos:liver:MR",
        "hippocampus:hippocampus:MR",
        "acdc:heart:MR",
        "brain_tumour_lgg:brain_tumour:MR",
        "breast_us:breast_lesion:US",
        "lung_xray_shenzhen:lungs:XR",
    ),
    "other": (
        "acdc:hippocampus:MR",
        "abdomen_mr_chaos:hippocampus:MR",
        "hippocampus:heart:MR",
        "abdomen_mr_chaos:heart:MR",
        "brain_tumour_lgg:heart:MR",
        "abdomen_ct_btcv:heart:CT",
        "breast_us:lungs:US",
        "lung_xray_shenzhen:breast_lesion:XR",
        "acdc:liver:MR",
        "hippocampus:liver:MR",
        "acdc:brain_tumour:MR",
        "hippocampus:brain_tumour:MR",
    ),
    "made": ("hippocampus:hippocampus:MR", "acdc:heart:MR", "abdomen_ct_btcv:liver:CT"),
}
COLUMNS, WORDS = ("mmd2", "distance", "moved"), ("MMD²", "distance", "way")
SAME = 1e-2  # of the spread of features: other threads round otherwise
VERDICTS = ("different", "borderline", "similar", "cannot-judge")


def _data(volume: Volume, change: Callable[[np.ndarray], np.ndarray]) -> Volume:
    return replace(volume, data=change(volume.data.astype(np.float32)))


def gamma(volume: Volume, strength: float) -> Volume:
    """Bend the grey scale: 0 leaves it, 1 squares it."""

    def bent(grey: np.ndarray) -> np.ndarray:
        low, high = np.percentile(grey, [0.5, 99.5])
        inside = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
        return low + (high - low) * inside ** (1 + strength)

    return _data(volume, bent)


def noise(volume: Volume, strength: float) -> Volume:
    """Add noise of `strength` standard deviations of the scan."""
    rng = np.random.default_rng(0)
    return _data(
        volume, lambda g: g + strength * g.std() * rng.standard_normal(g.shape, "f4")
    )


def blur(volume: Volume, strength: float) -> Volume:
    """Blur within slices, 4 voxels of standard deviation at strength 1."""
    sigma = [4 * strength] * 3
    sigma[volume.plane_axis] = 0
    return _data(volume, lambda g: ndimage.gaussian_filter(g, (0, *sigma)))


def thick(volume: Volume, strength: float) -> Volume:
    """Slices up to three times as thick: neighbours averaged, fewer of them kept."""
    factor = 1 + round(2 * strength)
    axis = volume.plane_axis + 1
    kept = [slice(None)] * 4
    kept[axis] = slice(factor // 2, None, factor)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, axis - 1] * (factor // 2)
    affine[:3, axis - 1] *= factor
    thicker = _data(volume, lambda g: ndimage.uniform_filter1d(g, factor, axis=axis))
    return replace(thicker, data=thicker.data[tuple(kept)], affine=affine)


def half(volume: Volume, strength: float) -> Volume:
    """Cut the field of view within slices, to a half at strength 1."""
    kept, affine = [slice(None)] * 4, volume.affine.copy()
    for axis in range(3):
        if axis != volume.plane_axis:
            size = volume.data.shape[axis + 1]
            cut = round(size * strength / 4)
            kept[axis + 1] = slice(cut, size - cut)
            affine[:3, 3] += affine[:3, axis] * cut
    return replace(volume, data=volume.data[tuple(kept)], affine=affine)


def swap(volume: Volume, strength: float) -> Volume:
    """Fold the grey scale: what was brightest becomes dark, at strength 1 from half on.

    A mixture with the negative would be grey in its middle, and a low contrast is no
    change where grey values are standardised.
    """
    fold = 1 - strength / 2

    def folded(grey: np.ndarray) -> np.ndarray:
        low, high = np.percentile(grey, [0.5, 99.5])
        inside = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
        return low + (high - low) * np.minimum(inside, 2 * fold - inside)

    return _data(volume, folded)


CHANGES: dict[str, Change] = {
    found.__name__: found for found in (gamma, noise, blur, thick, half, swap)
}


def scans(data: Path, asked: str, split: str, limit: int | None) -> Iterator[tuple]:
    """Scans of one part of a set, one after the other: (set, head, volume)."""
    folder, head, modality = asked.split(":")
    for _, path, _ in islice(files(data / folder, split), limit):
        yield folder, head, _in_units(core.load_volume(path, modality=modality))


def _in_units(volume: Volume) -> Volume:
    """Read a CT that is an 8-bit copy: changed, it would not be known as one."""
    if volume.modality != "CT":
        return volume
    return replace(volume, data=grid.hounsfield(volume.data, {"kind": "window"})[0])


def entry_of(volume: Volume, model: Checkpoint, head: str) -> Entry:
    """Encode a scan."""
    return reference_features([core.finish(encode(volume, model, head=head))])


def judged(entry: Entry, reference: Entry) -> dict[str, object]:
    """What the report says of one scan, without its pictures, which take longest."""
    found = judge(reference, entry)
    few = found.persons < FEWEST
    return {
        "verdict": "cannot-judge" if few else verdict_of(found.p),
        "p": round(found.p, 4),
        "percentile": round(found.percentile, 1),
        "mmd2": round(float(found.mmd2.mean()), 4),
        "distance": round(float(np.exp(np.log(found.novelty).mean())), 3),
        "persons": found.persons,
    }


def without(reference: Entry, entry: Entry) -> Entry:
    """Leave out the person of a scan that the reference holds: validation scans do."""
    near = np.ones((len(reference["scan"]), len(entry["scan"])), bool)
    for name in depths(entry):
        kept, own = (np.float32(table[name]) for table in (reference, entry))
        near &= np.abs(kept[:, None] - own).max(axis=2) < SAME * own.std()
    scans = reference["scan"]
    same = [s for s in np.unique(scans) if near[scans == s].any(axis=1).all()]
    subject = subject_of_rows(reference)
    stays = ~np.isin(subject, np.unique(subject[np.isin(scans, same)]))
    rest = {name: table[stays] for name, table in reference.items()}
    rest["scan"] = np.unique(rest["scan"], return_inverse=True)[1].astype(np.int32)
    return rest


def moved(before: Entry, after: Entry, reference: Entry) -> dict[str, float]:
    """How far a change took a scan: MMD^2 of its slices, before and after.

    Features are scaled, and the kernel is as wide, as among the reference scans.
    """
    found = []
    for name in levels(reference):
        tables = scaled(reference[name], before[name], after[name])
        width = median_gamma(tables[0])
        found.append(core.mmd(*tables[1:], gamma=width, unbiased=False))
    return {"moved": round(float(np.mean(found)), 4)}


def rows_of(asked: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One row for each scan, or each change of it."""
    model = core.get_model(asked.model)
    for each in asked.set or SETS[asked.table]:
        found = scans(asked.data, each, asked.split, asked.limit)
        for number, (name, head, volume) in enumerate(found):
            about = {"set": name, "head": head, "scan": number}
            entry = entry_of(volume, model, head)
            rest = without(model.reference[head], entry)
            plain = judged(entry, rest)
            if asked.table != "made":
                yield about | plain
                continue
            for kind in asked.change or CHANGES:
                still = {"change": kind, "strength": 0.0, "moved": 0.0}
                yield about | still | plain
                for strength in asked.strengths:
                    row = about | {"change": kind, "strength": strength}
                    changed = entry_of(CHANGES[kind](volume, strength), model, head)
                    row |= moved(entry, changed, rest)
                    yield row | judged(changed, rest)


def counts(rows: list[dict[str, object]]) -> list[str]:
    """Verdicts by set, and over all sets with 95 % binomial intervals."""
    lines = ["| scans | judged as | n | different | borderline | similar |"]
    lines.append("|---|---|---|---|---|---|")
    groups: dict[tuple, Counter] = {}
    for row in rows:
        key = (row["set"], row["head"])
        groups.setdefault(key, Counter())[row["verdict"]] += 1
    for (name, head), count in groups.items():
        cells = [str(count[verdict]) for verdict in VERDICTS[:3]]
        lines.append(f"| {name} | {head} | {count.total()} | {' | '.join(cells)} |")
    every = sum(groups.values(), Counter())
    shares = [share(every[verdict], every.total()) for verdict in VERDICTS[:3]]
    lines.append(f"| **all** | | {every.total()} | {' | '.join(shares)} |")
    return lines


def share(count: int, total: int) -> str:
    """Write a share with its interval."""
    ends = binomtest(count, total).proportion_ci()
    return f"{count / total:.0%} ({ends.low:.0%} to {ends.high:.0%})"


def growth(rows: list[dict[str, object]]) -> list[str]:
    """By change and strength: how many are different, MMD^2, distance, and the way."""
    strengths = sorted({float(str(row["strength"])) for row in rows})
    titles = " | ".join(f"{strength:g}" for strength in strengths)
    lines = [f"| scans | change | {titles} | grows |"]
    lines.append("|---" * (3 + len(strengths)) + "|")
    keys = dict.fromkeys((row["set"], row["change"]) for row in rows)
    for name, change in keys:
        own = [row for row in rows if (row["set"], row["change"]) == (name, change)]
        cells, means = [], []
        for strength in strengths:
            at = [row for row in own if row["strength"] == strength]
            far = sum(row["verdict"] == "different" for row in at)
            mean = [np.mean([float(str(r[k])) for r in at]) for k in COLUMNS]
            means.append(mean)
            cells.append(f"{far}; {mean[1]:.1f}; {mean[0]:.2f}; {mean[2]:.2f}")
        steps = np.diff(np.array(means), axis=0) >= -1e-3  # (strength - 1, 3)
        said = [word for word, up in zip(WORDS, steps.all(axis=0), strict=True) if up]
        lines.append(f"| {name} | {change} | {' | '.join(cells)} | {', '.join(said)} |")
    return lines


def main() -> None:
    """Write the table, print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("table", choices=("alarms", "other", "made"))
    parser.add_argument("--set", action="append", metavar="FOLDER:HEAD:MODALITY")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--model", default="hydranet")
    parser.add_argument("--limit", type=int, help="scans of each set")
    parser.add_argument("--change", action="append", choices=sorted(CHANGES))
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    rows = []
    with asked.output.open("w", newline="") as file:
        writer = None
        for row in rows_of(asked):
            writer = writer or csv.DictWriter(file, list(row))
            if not rows:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            rows.append(row)
    print("\n".join(growth(rows) if asked.table == "made" else counts(rows)))


if __name__ == "__main__":
    main()
