"""F37: a process that is killed while it saves leaves the old mask or the new one.

A child process saves a mask over an older one again and again, and is killed at another
point each time: within a write, before and after a write, an fsync and a replace. The
points are in this file's own wrappers; what is shipped knows nothing of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

KILLS = 50
STEPS = ("fsync", "replace")

CHILD = """
import builtins, json, os, signal, sys
import numpy as np
from napari_hydraseg.core import Segmentation, load_segmentation, save_segmentation
from napari_hydraseg.core.io import atomic

folder, kills = sys.argv[1], int(sys.argv[2])
path = os.path.join(folder, "mask.nii.gz")
rng = np.random.default_rng(0)
old, new = (rng.integers(0, 5, (40, 40, 40)).astype(np.uint8) for _ in range(2))
names = {"old": {1: "old cord"}, "new": {1: "new cord"}}
seen, deadly = [], -1

def point(kind):
    seen.append(kind)
    if len(seen) - 1 == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

class Slow:
    def __init__(self, file):
        self.file = file
    def __enter__(self):
        return self
    def __exit__(self, *error):
        return self.file.__exit__(*error)
    def __getattr__(self, name):
        return getattr(self.file, name)
    def write(self, content):
        view = memoryview(content)
        for start in range(0, len(view), 3000):
            self.file.write(view[start : start + 3000])
            self.file.flush()  # what a killed process had buffered is lost anyhow
            point("write")
        return len(view)

def around(name, call):
    def wrapped(*arguments):
        point("before " + name)
        result = call(*arguments)
        point("after " + name)
        return result
    return wrapped

atomic.open = lambda name, mode: (
    Slow(builtins.open(name, mode)) if "x" in mode else builtins.open(name, mode)
)
real = os.fsync, os.replace
def arm():
    os.fsync, os.replace = around("fsync", real[0]), around("replace", real[1])
def save(labels, which):
    mask = Segmentation(labels, np.eye(4), names[which])
    save_segmentation(mask, path, overwrite=True)

save(old, "old")
arm(); seen.clear()
save(new, "new")
points = list(seen)
os.fsync, os.replace = real
killed = []
for at in np.linspace(0, len(points) - 1, kills).round().astype(int).tolist():
    save(old, "old")
    child = os.fork()
    if not child:
        seen.clear(); deadly = at
        arm()
        save(new, "new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    found = load_segmentation(path)
    which = [n for n, a in (("old", old), ("new", new)) if (a == found.labels).all()]
    left = sorted(os.listdir(folder))
    killed.append({
        "point": points[at],
        "by": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "mask": which[0] if len(which) == 1 else None,
        "names": [n for n in names if names[n] == found.names],
        "strange": [n for n in left if n not in ("mask.nii.gz", "mask.tsv")
                    and not (n.startswith(".hs-") and n.endswith(".tmp"))],
    })
save(new, "new")
atomic.sweep_temporaries(folder, older_than_s=-1)
print(json.dumps({"killed": killed, "left": sorted(os.listdir(folder))}))
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_f37_fifty_processes_are_really_killed_and_all_points_are_covered(story):
    assert [kill["by"] for kill in story["killed"]] == [9] * KILLS
    around = {f"{w} {step}" for w in ("before", "after") for step in STEPS}
    assert {kill["point"] for kill in story["killed"]} == {"write", *around}


def test_f37_the_mask_is_always_the_old_or_the_new_one_and_can_be_loaded(story):
    assert {kill["mask"] for kill in story["killed"]} == {"old", "new"}


def test_f37_the_names_are_always_the_old_or_the_new_ones(story):
    assert all(len(kill["names"]) == 1 for kill in story["killed"])


def test_f37_nothing_is_left_but_temporaries_which_are_swept(story):
    assert not any(kill["strange"] for kill in story["killed"])
    assert story["left"] == ["mask.nii.gz", "mask.tsv"]
