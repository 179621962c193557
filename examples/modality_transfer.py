"""From FLAIR and T1CE to T2 and T1: what carries over from one pair to the other?

    python examples/modality_transfer.py --data ../shared/data -o modality_transfer.html

A head learns lesions on FLAIR and T1CE, encoder included. That encoder is then frozen,
and a new head, which starts from the old one, learns from a few slices of T2 and T1: of
a patient whose FLAIR and T1CE it has seen, and of one that it has never seen. Training
everything and starting from scratch are held against it. PCA, t-SNE and MMD show how
far apart the two pairs of modalities lie for the encoder.

Few patients: a worked example, not evidence. Nothing here has a p value.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core import Checkpoint, Report, Segmentation, Volume

SOURCE, TARGET = ("FLAIR", "T1CE"), ("T2", "T1")  # T2 comes in the place of FLAIR
TUMOURS = ("pat0004", "pat0006")  # FLAIR and T1CE is all that there is of them
SEEN, UNSEEN = "patient07", "patient19"
ARMS = ("frozen+augment", "full+augment", "scratch+augment")
GAP = 3  # slices of 1 mm between those that are learned from and those tested on
TISSUE = 0.05  # share of a slice that must not be air, to be a point in the pictures
STILL = 1e-3  # of a feature's mean: a smaller deviation is no information

Pair = tuple[Volume, Segmentation]


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="hydranet")
    parser.add_argument("--minutes", type=float, default=0.25, help="of each training")
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    name = Path("modality_transfer.html")
    parser.add_argument("-o", "--output", type=Path, default=name)
    given = parser.parse_args()
    sclerosis = given.data / "ms_lesion_multimodal"
    source = learn_source(given)
    parts = []
    for patient in (SEEN, UNSEEN):
        pair = load(sclerosis, patient, TARGET)
        found = compare(source, pair, given)
        name = "seen patient" if patient == SEEN else "unseen patient"
        as_is = untaught(source, pair)
        parts.append((name, as_is, core.describe(found)))
        print(f"{name}: as it is {as_is:.3f}. {parts[-1][2].verdict}", flush=True)
    drawn = features(source, sclerosis)
    core.write_report(join(parts, drawn, given), given.output, overwrite=True)
    picture = given.output.with_suffix(".png")
    save_picture([figure for figure in drawn if figure["kind"] == "scatter"], picture)
    print(f"saved {given.output} and {picture}")


def load(folder: Path, patient: str, channels: Sequence[str]) -> Pair:
    """Load one patient; whatever is labelled is a lesion."""
    paths = [folder / "images" / f"{patient}_{name}.nii.gz" for name in channels]
    volume = core.load_volume(paths, names=channels, modality="MR")
    labels = core.load_segmentation(folder / "labels" / f"{patient}.nii.gz")
    lesion = (labels.labels > 0).astype(np.uint8)
    return volume, replace(labels, labels=lesion, names={1: "lesion"})


def learn_source(given: argparse.Namespace) -> Checkpoint:
    """Teach a head, and the encoder with it, on FLAIR and T1CE."""
    cases = [load(given.data / "brain_tumour_brats", p, SOURCE) for p in TUMOURS]
    cases.append(load(given.data / "ms_lesion_multimodal", SEEN, SOURCE))
    steps = core.finetune(
        core.get_model(given.model),
        cases,
        head="lesion",
        init="random",
        mode="full",
        minutes=4 * given.minutes,
        hold_out="none",
    )
    print("learning on FLAIR and T1CE", flush=True)
    return core.finish(steps).candidate


def halves(pair: Pair) -> tuple[Pair, Pair]:
    """Part a patient's slices: learn from both ends of the lesions, test between.

    Neighbouring slices show nearly the same; hence the gap.
    """
    volume, truth = pair
    axis = volume.plane_axis
    rest = tuple(a for a in range(3) if a != axis)
    shown = np.flatnonzero(truth.labels.any(axis=rest))
    low, high = np.quantile(shown, (1 / 3, 2 / 3))
    index = np.arange(volume.shape[axis])
    test = (index >= low) & (index <= high)
    learn = (index < low - GAP) | (index > high + GAP)
    sides = (
        replace(truth, annotated=marks, plane=volume.plane) for marks in (learn, test)
    )
    first, second = ((volume, side) for side in sides)
    return first, second


def compare(source: Checkpoint, pair: Pair, given: argparse.Namespace) -> Any:
    """Teach T2 and T1 from a few slices of a patient; test on others of the same."""
    learn, test = halves(pair)
    return core.finish(
        core.compare_transfer(
            source,
            [learn],
            [test],
            head="lesion on T2 and T1",
            arms=ARMS,
            slices=(given.slices,),
            repeats=given.repeats,
            minutes=given.minutes,
            rates=(2e-3,),  # no choice: this is to end in minutes
            init="lesion",
        )
    )


def in_place(volume: Volume) -> Volume:
    """Show T2 and T1 to the source head, which asks for FLAIR and T1CE."""
    return replace(volume, names=SOURCE)


def untaught(source: Checkpoint, pair: Pair) -> float:
    """Dice of the source head on T2 and T1 as it is, on the test slices."""
    volume, truth = halves(pair)[1]
    steps = core.segment(in_place(volume), source, heads=("lesion",))
    (row,) = core.evaluate(truth, core.finish(steps)["lesion"])
    return float(row["dice"])


def features(source: Checkpoint, folder: Path) -> list[dict[str, Any]]:
    """Draw what the encoder makes of both pairs: PCA, t-SNE, and MMD by depth."""
    groups = {
        f"{patient} {'+'.join(channels)}": encoded(source, folder, patient, channels)
        for patient in (SEEN, UNSEEN)
        for channels in (SOURCE, TARGET)
    }
    depths = [depth for depth in next(iter(groups.values())) if tells(groups, depth)]
    distances = [distance(groups, depth) for depth in depths]
    return [
        *pictures(groups, depths[-1]),
        {
            "kind": "bar",
            "title": "MMD² between FLAIR+T1CE and T2+T1, by depth of the encoder",
            "names": [f"depth {depth}" for depth in depths],
            "values": distances,
            "y_label": "MMD²",
        },
    ]


def encoded(
    source: Checkpoint, folder: Path, patient: str, channels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Features of the slices that are not air, by depth."""
    volume, _ = load(folder, patient, channels)
    steps = core.encode(in_place(volume), source, head="lesion")
    rest = tuple(a for a in range(3) if a != volume.plane_axis)
    kept = (volume.data[0] > 0).mean(axis=rest) > TISSUE
    found = core.finish(steps).items()
    return {depth: rows[kept] for depth, rows in found if depth.isdecimal()}


def tells(groups: dict[str, dict[str, np.ndarray]], depth: str) -> bool:
    """Whether most features at a depth differ between the slices of each group."""
    tables = [group[depth] for group in groups.values()]
    return all(
        float(np.mean(rows.std(0) > STILL * abs(rows.mean(0)))) > 0.5 for rows in tables
    )


def scaled(groups: dict[str, dict[str, np.ndarray]], depth: str) -> np.ndarray:
    """All slices at one depth, on one scale: what differs between groups stays.

    A feature that hardly moves says nothing and is 0.
    """
    rows = np.concatenate([group[depth] for group in groups.values()]).astype(float)
    mean, sd = rows.mean(0), rows.std(0)
    return (rows - mean) / np.where(sd > STILL * abs(mean) + 1e-9, sd, np.inf)


def pictures(
    groups: dict[str, dict[str, np.ndarray]], depth: str
) -> list[dict[str, Any]]:
    """PCA and t-SNE of all slices, one colour for each patient and pair."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = scaled(groups, depth)
    sizes = [len(group[depth]) for group in groups.values()]
    ends = np.cumsum(sizes)[:-1]
    flat = {
        "PCA": PCA(2, random_state=0).fit_transform(rows),
        "t-SNE": TSNE(2, init="pca", random_state=0).fit_transform(rows),
    }
    return [
        {
            "kind": "scatter",
            "title": f"{name} of the slices, depth {depth} of the encoder",
            "series": [
                {"name": group, "x": part[:, 0], "y": part[:, 1]}
                for group, part in zip(groups, np.split(points, ends), strict=True)
            ],
        }
        for name, points in flat.items()
    ]


def save_picture(figures: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw PCA and t-SNE side by side, for a page that is no report."""
    from matplotlib.figure import Figure

    drawn = Figure((11, 4.5), layout="constrained")
    for axes, figure in zip(drawn.subplots(1, len(figures)), figures, strict=True):
        for series in figure["series"]:
            axes.scatter(series["x"], series["y"], s=6, label=series["name"])
        axes.set_title(figure["title"], fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    drawn.axes[0].legend(fontsize=8, markerscale=2)
    drawn.savefig(path, dpi=100, metadata={"Software": None})


def distance(groups: dict[str, dict[str, np.ndarray]], depth: str) -> float:
    """MMD² between all slices of one pair of modalities and all of the other."""
    rows = scaled(groups, depth)
    names = np.repeat(list(groups), [len(group[depth]) for group in groups.values()])
    first = np.array([name.endswith("+".join(SOURCE)) for name in names])
    return float(core.mmd(rows[first], rows[~first]))


def join(
    parts: Sequence[tuple[str, float, Report]],
    drawn: list[dict[str, Any]],
    given: argparse.Namespace,
) -> Report:
    """Put both patients and the features onto one page."""
    as_is = [
        {"patient": name, "source head, as it is": dice} for name, dice, _ in parts
    ]
    rows = [{"patient": name} | row for name, _, part in parts for row in part.rows]
    rows.sort(key=lambda row: "against" in row)  # one table of arms, one of pairs
    return Report(
        title="From FLAIR and T1CE to T2 and T1: a worked example",
        verdict=" ".join(f"{name}: {part.verdict}" for name, _, part in parts),
        rows=(*as_is, *rows),
        figures=(
            *(
                figure | {"title": f"{name}: {figure['title']}"}
                for name, _, part in parts
                for figure in part.figures[:1]
            ),
            *drawn,
        ),
        basis={
            "source": f"{', '.join((*TUMOURS, SEEN))}: {' and '.join(SOURCE)}",
            "target": f"{SEEN} and {UNSEEN}: {' and '.join(TARGET)}",
            "minutes of each training": given.minutes,
            "annotated slices": given.slices,
            "repeats": given.repeats,
        },
        notes=(
            "Two patients, and test slices of the very scan that was learned from, "
            f"{GAP} mm away: this shows how it is done, and proves nothing.",
            *parts[0][2].notes,
        ),
    )


if __name__ == "__main__":
    main()
