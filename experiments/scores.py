"""Measure a model on a split, from the original files.

    python experiments/scores.py weights/hydranet.safetensors experiments/hydranet.toml

Every scan goes through ``hydraseg segment``, its mask is compared with the reference
mask, and the mean Dice of each class is set beside the figure in the model's card: they
agree to 0.005, or the script fails. ``--write`` measures the split instead and writes
the figures into the card (done once, when a model is finished).
"""

import argparse
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_hydraseg import core
from napari_hydraseg.core import _evidence, _scores
from napari_hydraseg.core._datasets import Dataset, dataset

TOLERANCE = 0.005


def main() -> int:
    """Compare, or measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--data", type=Path, help="folder of the sets")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text("utf-8"))
    root = given.data or given.config.parent / config["data"]
    sets = [dataset(table, root) for table in config["dataset"]]
    if given.write:
        return write(given.model, sets, given.split)
    return compare(given.model, sets, given.split)


def write(model: Path, sets: list[Dataset], split: str) -> int:
    """Measure a split and put it into the model's card, and the page beside it.

    What the sets are called is taken from the configuration.
    """
    checkpoint = core.load_checkpoint(model)
    heads = {name: dict(entry) for name, entry in checkpoint.card["heads"].items()}
    found = core.finish(_scores.score(checkpoint, sets, split), show)
    for head, entry in heads.items():
        own = [data.about["data"] for data in sets if head in data.heads]
        entry["data"] = "; ".join(dict.fromkeys(own))
        known = entry.get("scores", {})
        entry |= _evidence.scored(found[head], split)
        entry["scores"] = known | entry["scores"]
    measured = replace(checkpoint, card={**checkpoint.card, "heads": heads})
    core.save_checkpoint(measured, model, overwrite=True)
    model.with_suffix(".md").write_text(core.model_card(measured), "utf-8")
    return 0


def compare(model: Path, sets: list[Dataset], split: str) -> int:
    """Segment all scans with the command line and compare with the card."""
    card = core.load_checkpoint(model).card["heads"]
    dice: dict[tuple[str, str], list[float]] = {}
    for data in sets:
        with tempfile.TemporaryDirectory() as folder:
            for head, name, value in from_shell(model, data, split, Path(folder)):
                dice.setdefault((head, name), []).append(value)
    worst = 0.0
    print(f"{'head':18} {'class':26} {'n':>4} {'now':>7} {'card':>7}")
    for (head, name), values in dice.items():
        known = [value for value in values if np.isfinite(value)]
        now, said = float(np.mean(known)), card[head]["scores"][split][name]["mean"]
        worst = max(worst, abs(now - said))
        print(f"{head:18} {name:26} {len(known):4} {now:7.4f} {said:7.4f}")
    print(f"largest difference {worst:.4f}")
    return int(worst > TOLERANCE)


def from_shell(
    model: Path, data: Dataset, split: str, folder: Path
) -> list[tuple[str, str, float]]:
    """Segment a set's scans with ``hydraseg segment``: head, class, Dice."""
    files = list(data.files(split))
    heads = [word for head in data.heads for word in ("--head", head)]
    subprocess.run(
        [
            *(sys.executable, "-m", "napari_hydraseg.cli", "segment"),
            *(str(image) for _, image, _ in files),
            *("--model", str(model), "--modality", data.modality, *heads),
            *("-o", str(folder), "--quiet"),
        ],
        check=True,
    )
    spec = core.load_checkpoint(model).spec
    found = []
    for _, image, labels in files:
        for head, ids in data.heads.items():
            stem = image.name.split(".")[0]
            masks = [folder / f"{stem}_{head}{end}" for end in (".nii.gz", ".png")]
            mask = next(path for path in masks if path.is_file())
            reference = core.load_segmentation(labels)
            truth = _scores.as_classes(reference, ids, spec.heads[head])
            for row in core.evaluate(truth, core.load_segmentation(mask)):
                if row["name"] in ids.values():
                    found.append((head, row["name"], row["dice"]))
    return found


def show(progress: core.Progress) -> None:
    """Say what is measured."""
    print(progress.note, flush=True)


if __name__ == "__main__":
    sys.exit(main())
