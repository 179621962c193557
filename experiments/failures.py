r"""Draw where the bundled models fail: the test scans with the lowest Dice.

    python experiments/failures.py weights/hydranet.safetensors \
        experiments/hydranet.toml -o failures.png

Only scans whose licence allows a picture are drawn. Each row shows, of one scan, the
slice on which reference (green) and answer (red) differ most, and the same slice bare.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from napari_hydraseg import core
from napari_hydraseg.core import grid
from napari_hydraseg.core._datasets import Dataset, dataset
from napari_hydraseg.core._scores import as_classes

ALLOWED = {  # folder of the set -> heads that are shown
    "liver_ct_msd": ("liver",),
    "abdomen_mr_chaos": ("spleen", "kidneys"),
    "hippocampus": ("hippocampus",),
    "lung_xray_shenzhen": ("lungs",),
}
SIDE = 220  # pixels of a picture
GREEN, RED = (80, 220, 80), (255, 60, 60)


def main() -> int:
    """Draw one picture of all sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("failures.png"))
    given = parser.parse_args()
    config = tomllib.loads(given.config.read_text("utf-8"))
    root = given.config.parent / config["data"]
    checkpoint = core.load_checkpoint(given.model)
    rows = []
    for table in config["dataset"]:
        data = dataset(table, root)
        for head in ALLOWED.get(data.folder.name, ()):
            pair, said = worst(checkpoint, data, head)
            rows.append(pair)
            print(said, flush=True)
    Image.fromarray(np.concatenate(rows)).save(given.output)
    return 0


def worst(
    checkpoint: core.Checkpoint, data: Dataset, head: str
) -> tuple[NDArray[np.uint8], str]:
    """Find the test scan with the lowest mean Dice, and draw it."""
    found = []
    for name, volume, answer, truth in answers(checkpoint, data, head):
        rows = core.evaluate(truth, answer)
        dice = float(np.nanmean([row["dice"] for row in rows]))
        found.append((dice, name, volume, answer, truth))
    dice, name, volume, answer, truth = min(found, key=lambda one: one[0])
    grey = grid.to_slices(volume.data[0], volume.plane).astype(np.float32)
    ours = grid.to_slices(answer.labels, volume.plane)
    theirs = grid.to_slices(truth.labels, volume.plane)
    index = int((ours != theirs).sum((1, 2)).argmax())
    bare = drawn(grey[index])
    marked = bare.copy()
    for labels, colour in ((theirs[index], GREEN), (ours[index], RED)):
        marked[outline(labels)] = colour
    said = f"{data.folder.name}, {head}: {name}, Dice {dice:.2f}, slice {index}"
    return np.concatenate([bare, marked], 1), said


def answers(
    checkpoint: core.Checkpoint, data: Dataset, head: str
) -> Iterator[tuple[str, core.Volume, core.Segmentation, core.Segmentation]]:
    """Segment the test scans of a set."""
    for _, volume, labels in data.scans("test"):
        truth = as_classes(labels, data.heads[head], checkpoint.spec.heads[head])
        steps = core.segment(volume, checkpoint, heads=(head,))
        yield volume.source, volume, core.finish(steps)[head], truth


def drawn(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretch a slice to a square picture, padded with black."""
    low, high = np.percentile(grey, (0.5, 99.5))
    share = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    picture = fitted(share, order=1)
    return np.repeat((255 * picture).astype(np.uint8)[..., None], 3, 2)


def outline(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Border of the classes on the picture."""
    return find_boundaries(fitted(labels.astype(np.float32), order=0), mode="inner")


def fitted(plane: NDArray[np.float32], *, order: int) -> NDArray[np.float32]:
    """Scale the longer side to `SIDE`, and centre it on a square."""
    factor = SIDE / max(plane.shape)
    size = tuple(round(n * factor) for n in plane.shape)
    scaled = resize(plane, size, order=order, anti_aliasing=False)
    before = [(SIDE - n) // 2 for n in size]
    pads = [(b, SIDE - n - b) for b, n in zip(before, size, strict=True)]
    return np.pad(scaled, pads)


if __name__ == "__main__":
    sys.exit(main())
