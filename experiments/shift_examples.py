"""The worked examples of docs/shift.md: pictures of sites, and of channels.

    python experiments/shift_examples.py -o docs/images

Sites: spinal cords from five sites, one person each, most of them scanned twice. With
one person a site nothing can be tested, as persons differ, too: the picture shows how
much less two scans of one person differ. Channels: two patients with multiple sclerosis
in four modalities; a channel is a cohort, and persons are swapped between them.

Left, a slice of each group; in the middle, one point for each of 16 slices of a scan
(PCA of the encoder's features at all depths); right, MMD^2, mean over depths, all
features at mean 0 and standard deviation 1 over all groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

from napari_hydraseg import core
from napari_hydraseg.core._cohorts import Member, compare, pair_rows
from napari_hydraseg.core._reference import deviation
from napari_hydraseg.core.inference import encode
from napari_hydraseg.core.shift import reference_features
from napari_hydraseg.core.types import Checkpoint, Volume

SITES = {
    "UCL 3 T": ("sub-9418",),
    "NWU 3 T": ("sub-9584",),
    "Philips 3 T": ("sub-9604",),
    "Milan 1.5 T": ("sub-9709Ses1", "sub-9709Ses2"),
    "CEITEC 3 T": ("sub-10062Ses1", "sub-10062Ses2"),
}
CHANNELS = ("FLAIR", "T1CE", "T1", "T2")
PATIENTS = ("patient07", "patient19")
MARKS = "osD^"  # one for each scan of a group
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe, Ito


@dataclass(frozen=True)
class Scan:
    """A scan of a group, and what the encoder sees of 16 slices of it."""

    group: str
    volume: Volume
    features: Mapping[str, Any]


def sites(data: Path) -> Iterator[tuple[str, Volume]]:
    """First and second run of each session."""
    for site, sessions in SITES.items():
        for session in sessions:
            for folder in ("images", "unlabelled"):
                found = sorted((data / "spinal_cord_gm" / folder).glob(f"{session}_*"))
                for path in found:
                    yield site, core.load_volume(path, modality="MR")


def channels(data: Path) -> Iterator[tuple[str, Volume]]:
    """Each channel of each patient."""
    for channel in CHANNELS:
        for patient in PATIENTS:
            path = data / "ms_lesion_multimodal/images" / f"{patient}_{channel}.nii.gz"
            yield channel, core.load_volume(path, modality="MR")


def thinned(volume: Volume, slices: int = 16) -> Volume:
    """About so many slices of a scan; of a tall stack without its ends, nearly air."""
    count = volume.data.shape[volume.plane_axis + 1]
    step = max(1, round(0.8 * count / slices))
    ends = count // 10 if step > 1 else 0
    kept = [slice(None)] * 4
    kept[volume.plane_axis + 1] = slice(ends, count - ends, step)
    affine = volume.affine.copy()
    affine[:3, volume.plane_axis] *= step
    return replace(volume, data=volume.data[tuple(kept)], affine=affine)


def looked_at(
    groups: Iterator[tuple[str, Volume]], model: Checkpoint, head: str
) -> list[Scan]:
    """Encode all scans."""
    found = []
    for group, volume in groups:
        features = core.finish(encode(thinned(volume), model, head=head))
        found.append(Scan(group, volume, reference_features([features])))
        print(group, volume.source, flush=True)
    return found


def rows_of(scans: Sequence[Scan]) -> tuple[np.ndarray, list[slice]]:
    """One row per slice, every depth with one weight, and where each depth lies."""
    names = sorted((n for n in scans[0].features if n.isdecimal()), key=int)
    parts, ends = [], np.zeros(1, int)
    for name in names:
        table = np.concatenate([s.features[name] for s in scans]).astype(float)
        spread = deviation(table) * np.sqrt(table.shape[1])
        parts.append((table - table.mean(axis=0)) / spread)
        ends = np.append(ends, ends[-1] + table.shape[1])
    return np.hstack(parts), [slice(a, b) for a, b in pairwise(ends)]


def matrix(
    rows: np.ndarray, depths: list[slice], groups: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """MMD^2 between all groups, mean over depths."""
    names = list(dict.fromkeys(groups))
    table = np.zeros((len(names), len(names)))
    for i, a in enumerate(names):
        for j, b in enumerate(names[:i]):
            pair = rows[groups == a], rows[groups == b]
            found = [core.mmd(pair[0][:, d], pair[1][:, d]) for d in depths]
            table[i, j] = table[j, i] = np.mean(found)
    return names, table


def picture(scans: list[Scan], title: str, credit: str) -> mpl.figure.Figure:
    """Slices, points and matrix side by side."""
    rows, depths = rows_of(scans)
    count = [len(s.features["scan"]) for s in scans]
    groups = np.repeat([s.group for s in scans], count)
    names, table = matrix(rows, depths, groups)
    drawn = plt.figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = drawn.subfigures(1, 3, width_ratios=(4, 5, 4.4))
    middle_slices(left, scans, names)
    points = PCA(2, svd_solver="full").fit_transform(rows)
    axis, place = middle.subplots(), 0
    seen: dict[str, int] = {}
    for scan, size in zip(scans, count, strict=True):
        number = seen[scan.group] = seen.get(scan.group, -1) + 1
        axis.scatter(
            *points[place : place + size].T,
            s=18,
            marker=MARKS[number % len(MARKS)],
            color=COLOURS[names.index(scan.group)],
            label=scan.group if number == 0 else None,
            alpha=0.8,
            linewidths=0,
        )
        place += size
    axis.set(xlabel="first axis", ylabel="second axis", title="slices, by PCA")
    axis.legend(fontsize=8, frameon=False)
    heat(right, names, table)
    drawn.suptitle(title)
    drawn.text(0.345, 0.005, credit, va="bottom", fontsize=6, color="#666")
    return drawn


def middle_slices(side: Any, scans: list[Scan], names: list[str]) -> None:
    """The middle slice of the first scan of each group."""
    axes = np.ravel(side.subplots(2, -(-len(names) // 2)))
    for axis in axes:
        axis.axis("off")
    for axis, name in zip(axes, names, strict=False):
        volume = next(scan.volume for scan in scans if scan.group == name)
        stack = np.moveaxis(volume.data[0], volume.plane_axis, 0)
        grey = np.asarray(stack[len(stack) // 2], float)
        axis.imshow(grey, cmap="gray", vmin=grey.min(), vmax=np.percentile(grey, 99.5))
        axis.set_title(name, fontsize=8, color=COLOURS[names.index(name)])


def heat(side: Any, names: list[str], table: np.ndarray) -> None:
    """The matrix with its numbers."""
    axis = side.subplots()
    shown = np.where(np.eye(len(names), dtype=bool), np.nan, table)
    axis.imshow(shown, cmap="Blues", vmin=0)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    for i, j in np.ndindex(table.shape):
        if i != j:
            dark = table[i, j] > 0.6 * table.max()
            colour = "white" if dark else "black"
            axis.text(
                j, i, f"{table[i, j]:.2f}", ha="center", va="center", color=colour,
                fontsize=8,
            )  # fmt: skip
    axis.set_title("MMD²")


def scan_and_rescan(scans: list[Scan]) -> str:
    """Mean MMD^2 of two scans of one person, and of two persons."""
    rows, depths = rows_of(scans)
    count = [len(s.features["scan"]) for s in scans]
    which = np.repeat(np.arange(len(scans)), count)
    same, other = [], []
    for i, a in enumerate(scans):
        for j, b in enumerate(scans[:i]):
            pair = rows[which == i], rows[which == j]
            value = np.mean([core.mmd(pair[0][:, d], pair[1][:, d]) for d in depths])
            (same if a.group == b.group else other).append(value)
    return (
        f"two scans of one person and site: {np.mean(same):.3f} (n = {len(same)}); "
        f"of two: {np.mean(other):.3f} (n = {len(other)})"
    )


def main() -> None:
    """Draw both pictures, print what the docs say of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="hydranet")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    asked = parser.parse_args()
    mpl.use("Agg")
    model = core.get_model(asked.model)
    cords = looked_at(sites(asked.data), model, "brain_tumour")
    print(scan_and_rescan(cords))
    picture(
        cords,
        "Cervical cords, T2*: five sites, one person each",
        "gm-challenge-data (sct-pipeline), CC0",
    ).savefig(asked.output / "shift-sites.png", dpi=90)
    brains = looked_at(channels(asked.data), model, "brain_tumour")
    picture(
        brains,
        "Multiple sclerosis: two patients, four channels",
        "Lesjak et al., doi 10.1007/s12021-017-9348-7, CC BY",
    ).savefig(asked.output / "shift-channels.png", dpi=90)
    alone = [scan.group for scan in brains]
    joint = ["FLAIR + T1CE" if c in CHANNELS[:2] else "T1 + T2" for c in alone]
    for row in (*tested(brains, alone), *tested(brains, joint)):
        print({k: row[k] for k in ("a", "b", "verdict", "mmd2", "p", "p_floor")})


def tested(scans: Sequence[Scan], cohorts: Sequence[str]) -> list[dict[str, Any]]:
    """Compare cohorts of the patients' channels; persons are swapped between them."""
    members = [
        Member(cohort, PATIENTS[number % len(PATIENTS)], scan.features)
        for number, (cohort, scan) in enumerate(zip(cohorts, scans, strict=True))
    ]
    return pair_rows(compare(members, permutations=1000, seed=0))


if __name__ == "__main__":
    main()
