"""How long the window does not answer: with no job, while segmenting, while learning.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/gui_heartbeat.py
    ... python benchmarks/gui_heartbeat.py --scan SCAN.nii.gz --modality CT --head liver

A timer of 10 ms beats in a real napari window, worked by mouse and keys. What counts is
the longest gap between two beats, beside that without a job in the same run; where the
main thread was in each gap of more than 50 ms is written along. Also: how long a job
takes to end once Cancel is pressed, and how long the first dock takes to open.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
DATA = Path(os.environ.get("HYDRASEG_DATA", ROOT.parent / "shared" / "data"))
GOAL_MS, MARGIN_MS = 150, 50
GOAL_CANCEL_S, GOAL_DOCK_S = 1.0, 0.5

DOCK = """
import json, sys, time
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
def settle():
    for _ in range(20):
        QApplication.processEvents()
        time.sleep(0.01)
settle()
start, worked = time.monotonic(), time.process_time()
_, panel = viewer.window.add_plugin_dock_widget("napari-hydraseg", "HydraSeg")
made = time.monotonic()
while not panel.isVisible() or panel.visibleRegion().isEmpty():
    QApplication.processEvents()
QApplication.processEvents()
shown = time.monotonic()
print(json.dumps({"made_s": made - start, "shown_s": shown - start,
                  "cpu_s": time.process_time() - worked,
                  "torch_loaded": "torch" in sys.modules}))
viewer.close()
"""


FIRST = "no job, first layer of a session"  # measured in a fresh process


class Bench:
    """A window, a hand, and what was measured."""

    def __init__(self, given: argparse.Namespace) -> None:
        import napari
        from qtpy.QtWidgets import QApplication

        from hand import Hand
        from napari_hydraseg.gui import worker
        from napari_hydraseg.gui.panel import Panel

        self.given, self.worker = given, worker
        self.application = QApplication
        self.viewer = napari.Viewer(show=True)
        self.viewer.window.resize(1280, 900)
        self.panel = Panel(self.viewer)
        self.viewer.window.add_dock_widget(self.panel, name="HydraSeg", area="right")
        self.settle()
        self.hand = Hand(self.viewer)
        self.phases: dict[str, Any] = {}

    def settle(self, seconds: float = 1.0) -> None:
        """Let the window do what it has to do."""
        self.until(lambda: False, seconds)

    def until(self, holds: Callable[[], bool], seconds: float = 600.0) -> float:
        """Handle events until something holds; returns the seconds it took."""
        start = time.monotonic()
        while not holds() and time.monotonic() - start < seconds:
            self.application.processEvents()
            time.sleep(0.001)
        return time.monotonic() - start

    def rest(self) -> None:
        """Wait for the end of the job, and of what comes after it."""
        self.until(lambda: self.worker.running() is None)
        self.settle(0.7)

    def measure(self, name: str, act: Callable[[], object]) -> None:
        """Note the longest gaps while something is done."""
        from heartbeat import Heart

        with Heart() as heart:
            act()
        gaps = sorted(heart.gaps, key=lambda gap: -gap.ms)
        self.phases[name] = {
            "longest_ms": round(gaps[0].ms, 1),
            "busiest_cpu_ms": round(heart.busiest().cpu_ms, 1),
            "beats": len(gaps),
            "over_50_ms": [
                {"ms": round(g.ms), "cpu_ms": round(g.cpu_ms), "where": g.where}
                for g in gaps[:8]
                if g.ms > 50
            ],
        }

    def open_scan(self) -> None:
        """Open the scan as a file that was dropped on the form."""
        self.panel.steps["load"].modality.show_modality(self.given.modality)
        self.panel.steps["load"].open_paths([Path(self.given.scan)])
        self.rest()

    def add_labels(self) -> None:
        """Add labels as a segmentation does, but without a job."""
        import numpy as np

        from napari_hydraseg.core.types import Segmentation
        from napari_hydraseg.gui import layers, nouns, view

        volume = nouns.volume_of(self.viewer.layers[0])
        painted = np.zeros(volume.shape, np.uint8)
        painted[tuple(slice(n // 3, 2 * n // 3) for n in volume.shape)] = 1
        noun = Segmentation(
            painted, volume.affine, plane=volume.plane, grid=volume.grid
        )
        view.add(self.viewer, [layers.labels_layer(noun, name="a block")])
        self.settle()

    def segment(self) -> None:
        """Segment the scan with one head."""
        self.hand.click("panel.segment")
        wanted = self.given.head
        self.hand.tick("segment.heads", lambda i: i.text().split(":")[0] == wanted)
        self.until(lambda: self.hand.find("segment.run").isEnabled())
        self.hand.click("segment.run")
        self.rest()

    def prepare_labels(self) -> None:
        """Make labels to paint on, and paint two slices."""
        self.hand.click("panel.finetune")
        self.hand.click("finetune.copy")
        self.settle()
        self.mine = self.viewer.layers[-1]
        for at in self.slices():
            self.panel.steps["finetune"].annotation.go_to(at)
            self.paint(3)

    def slices(self) -> tuple[int, int]:
        """Two slices to correct."""
        count = len(self.mine.data)
        return count // 3, 2 * count // 3

    def paint(self, strokes: int) -> None:
        """Drag the brush across the slice that is shown."""
        at = self.panel.steps["finetune"].annotation.shown()
        _, rows, columns = self.mine.data.shape
        for _ in range(strokes):
            y = random.randrange(rows // 4, 3 * rows // 4)
            xs = range(columns // 4, 3 * columns // 4, max(1, columns // 30))
            self.hand.stroke(self.mine, [(at, y, x) for x in xs])
            self.settle(0.2)

    def begin_learning(self) -> None:
        """Let a head learn until it is stopped; what came before is discarded."""
        self.hand.click("panel.finetune")
        if self.panel.steps["finetune"].result is not None:
            self.hand.click("finetune.discard")
        # a segmentation that ended before it was cancelled has left a newer layer
        self.panel.steps["finetune"].annotation.labels.choose(self.mine)
        self.until(lambda: self.hand.find("finetune.run").isEnabled(), 30)
        self.hand.click("finetune.run")

    def learn(self, meanwhile: Callable[[], object]) -> None:
        """Learn while something is done, then stop."""
        self.begin_learning()
        meanwhile()
        if self.worker.running() is not None:
            self.hand.click("finetune.stop")
        self.rest()

    def cancels(self, begin: Callable[[], object], cancel: str) -> dict[str, Any]:
        """Press Cancel at random moments; returns how long the jobs took to end."""
        took = []
        for _ in range(self.given.cancels):
            begin()
            self.settle(random.uniform(0.05, 3))
            if self.worker.running() is None:
                continue
            start = time.monotonic()
            self.hand.click(cancel)
            self.until(lambda: self.worker.running() is None)
            took.append(time.monotonic() - start)
            self.settle(0.2)
        return {
            "n": len(took),
            "median_s": round(statistics.median(took), 3),
            "longest_s": round(max(took), 3),
            "goal_s": GOAL_CANCEL_S,
            "met": max(took) < GOAL_CANCEL_S,
        }

    def begin_segmenting(self) -> None:
        """Press Segment."""
        self.hand.click("panel.segment")
        self.hand.click("segment.run")


def story(bench: Bench) -> dict[str, Any]:
    """Work through all phases."""
    seconds = bench.given.seconds
    bench.open_scan()
    bench.measure("no job", lambda: bench.settle(seconds / 2))
    bench.measure("segmenting, first", bench.segment)
    layer = bench.viewer.layers[-1]
    data, attributes, _ = layer.as_layer_data_tuple()
    bench.measure(
        "no job, a layer added",
        lambda: (bench.viewer.add_labels(data.copy(), **attributes), bench.settle()),
    )
    bench.measure("segmenting", bench.segment)
    bench.prepare_labels()
    strokes = max(3, int(seconds * 2))
    bench.measure("no job, painting", lambda: bench.paint(strokes))
    bench.measure("learning", lambda: bench.learn(lambda: bench.settle(seconds)))
    bench.measure(
        "learning, painting", lambda: bench.learn(lambda: bench.paint(strokes))
    )
    return {
        "segment": bench.cancels(bench.begin_segmenting, "segment.cancel"),
        "fine-tune": bench.cancels(bench.begin_learning, "finetune.cancel"),
    }


def judged(phases: dict[str, Any]) -> dict[str, Any]:
    """Compare each phase with a job with what the same takes without one."""
    beside = {
        "segmenting, first": ("no job", FIRST),
        "segmenting": ("no job", "no job, a layer added"),
        "learning": ("no job",),
        "learning, painting": ("no job", "no job, painting"),
    }
    found = {}
    for name, without in beside.items():
        idle = max(phases[one]["longest_ms"] for one in without)
        allowed = max(GOAL_MS, idle + MARGIN_MS)
        gap = phases[name]["longest_ms"]
        found[name] = {"ms": gap, "allowed_ms": allowed, "met": gap < allowed}
    return found


def open_dock(times: int = 3) -> dict[str, Any]:
    """Open the first dock in fresh processes."""
    found = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", DOCK], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    shown = statistics.median(one["shown_s"] for one in found)
    return {
        "runs": found,
        "median_s": round(shown, 3),
        "goal_s": GOAL_DOCK_S,
        "met": shown < GOAL_DOCK_S and not any(one["torch_loaded"] for one in found),
    }


def first_layer(given: argparse.Namespace) -> dict[str, Any]:
    """Add the first labels layer of a fresh process, with no job."""
    options = ["--scan", given.scan, "--modality", given.modality, "--first-layer"]
    done = subprocess.run(
        [sys.executable, __file__, *options],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def keep_out_of_the_way(folder: Path) -> None:
    """Leave the user's own models and drafts alone."""
    from napari_hydraseg.core import drafts

    os.environ["HYDRASEG_WEIGHTS"] = str(folder)
    drafts.folder = lambda: folder / "drafts"


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser()
    scan = DATA / "abdomen_ct_btcv" / "images" / "btcv01.nii.gz"
    parser.add_argument("--scan", default=str(scan))
    parser.add_argument("--modality", default="CT")
    parser.add_argument("--head", default="spleen")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--cancels", type=int, default=10)
    parser.add_argument("--first-layer", action="store_true", help=FIRST)
    given = parser.parse_args()
    random.seed(0)
    if given.first_layer:
        with tempfile.TemporaryDirectory() as folder:
            keep_out_of_the_way(Path(folder))
            bench = Bench(given)
            bench.open_scan()
            bench.measure(FIRST, bench.add_labels)
            bench.viewer.close()
        print(json.dumps(bench.phases[FIRST]))
        return
    load = os.getloadavg()[0]
    dock, first = open_dock(), first_layer(given)
    with tempfile.TemporaryDirectory() as folder:
        keep_out_of_the_way(Path(folder))
        bench = Bench(given)
        cancel = story(bench)
        phases = bench.phases | {FIRST: first}
        bench.viewer.close()
    print(
        json.dumps(
            {
                "cores": os.cpu_count(),
                "load_before": load,
                "dock": dock,
                "gaps": judged(phases),
                "cancel": cancel,
                "phases": phases,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
