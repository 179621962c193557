"""Large libraries are there before the window needs them."""

import subprocess
import sys

import pytest

TORCH = """
import sys
from pathlib import Path
from napari_hydraseg.gui.libraries import load_torch
load_torch()
assert "torch" not in sys.modules
print("libtorch_cpu" in Path("/proc/self/maps").read_text())
import torch
print(float(torch.ones(3).sum()))
load_torch()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there is it done")
def test_the_library_of_torch_is_mapped_in_before_torch_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", TORCH], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "3.0"], done.stderr


SEGMENT = """
import sys, threading
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("pandas", "torch"):
            main = threading.current_thread() is threading.main_thread()
            print(name, "in the window" if main else "in the job")

sys.meta_path.insert(0, Watch())
import napari
from qtpy.QtWidgets import QApplication
from napari_hydraseg import core
from napari_hydraseg.gui import layers, view, worker
from napari_hydraseg.gui.panel import Panel
viewer = napari.Viewer(show=True)
panel = Panel(viewer)
viewer.window.add_dock_widget(panel)
view.add(viewer, [layers.phantom()[0]])
form = panel.steps["segment"]
form._tick(["heart"])
form._run()
while worker.running() is not None or len(viewer.layers) == 1:
    QApplication.processEvents()
print(type(viewer.layers[-1]).__name__)
viewer.close()
"""


def test_neither_torch_nor_pandas_is_loaded_by_the_window_when_it_segments():
    done = subprocess.run(
        [sys.executable, "-c", SEGMENT], capture_output=True, text=True, check=False
    )
    lines = done.stdout.strip().splitlines()
    assert lines[-1:] == ["Labels"], done.stderr
    assert {"torch in the job", "pandas in the job"} <= set(lines)
    assert not [line for line in lines if line.endswith("in the window")]
