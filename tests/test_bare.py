"""Core on a machine that has only what core depends on: no napari, no Qt."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

WINDOW = {"magicgui", "qtpy", "superqt"}  # in the base for the plugin, not for core

# A finder in front of all others that hides every library but the named ones.
BARE = """
import sys

class Bare:
    kept = set({kept!r}) | sys.stdlib_module_names | {{"napari_hydraseg"}}

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        # Python's own build data: a module whose name tells the platform
        if top not in self.kept and not top.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in [*sys.modules]:
    if name.partition(".")[0] not in Bare.kept and not name.startswith("_"):
        del sys.modules[name]
sys.meta_path.insert(0, Bare())
"""

EVERY_NAME = """
from napari_hydraseg import core
for name in core.__all__:
    assert getattr(core, name) is not None
print(len(core.__all__))
"""

ONE_SEGMENT = """
from napari_hydraseg import core
model = core.load_checkpoint(sys.argv[1])
volume, _ = core.heart_phantom(seed=0)
found = core.finish(core.segment(volume, model, heads=("blob",), device="cpu"))
print(found["blob"].labels.shape == volume.shape)
"""


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str) -> set[str]:
    """Follow the base requirements of a distribution, without the window's."""
    found, todo = set(), [key(name)]
    while todo:
        name = todo.pop()
        if name in found or name in WINDOW:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system
        found.add(name)
        for text in requirements:
            requirement = Requirement(text)
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                todo.append(key(requirement.name))
    return found


@pytest.fixture(scope="module")
def bare():
    """Give code that turns an interpreter into one with only core's libraries."""
    distributions = needed("napari-hydraseg")
    kept = {
        module
        for module, owners in metadata.packages_distributions().items()
        if distributions & {key(owner) for owner in owners}
    }
    assert {"torch", "numpy", "nibabel"} <= kept
    assert not kept & {"napari", "qtpy", "magicgui", "superqt", "PySide6", "npe2"}
    return BARE.format(kept=sorted(kept))


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["napari", "qtpy", "PySide6", "monai", "h5py"])
def test_a_bare_machine_has_no_such_library(bare, name):
    with pytest.raises(AssertionError, match=f"No module named '{name}'"):
        run(f"{bare}\nimport {name}")


def test_every_public_name_resolves_on_a_bare_machine(bare):
    assert int(run(bare + EVERY_NAME)) > 30


def test_a_scan_is_segmented_on_a_bare_machine(bare, tiny_checkpoint, tmp_path):
    from napari_hydraseg import core

    path = tmp_path / "tiny.safetensors"
    core.save_checkpoint(tiny_checkpoint, path)
    assert run(bare + ONE_SEGMENT, str(path)) == "True"


def test_the_command_line_answers_on_a_bare_machine(bare):
    call = "from napari_hydraseg.cli import main; main(['models', 'list'])"
    code = (
        f"{bare}\ntry:\n    {call}\nexcept SystemExit as end:\n    assert not end.code"
    )
    assert run(code)
