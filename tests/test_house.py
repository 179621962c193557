"""The plan of the house, proved from the source: who may import whom."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import napari_hydraseg

PACKAGE = "napari_hydraseg"
SOURCE = Path(napari_hydraseg.__file__).parent
FILES = sorted(
    path
    for path in SOURCE.rglob("*.py")
    if "weights" not in path.relative_to(SOURCE).parts
)

# Imports run down only. A line is a chain of a floor and goes on where it is indented;
# `>` orders its rooms, commas part rooms that do not know each other. "core" is the
# public face of core, "version" the package itself.
FLOORS = """
5   cli > demo
    > commands/clean, commands/compare, commands/convert, commands/doctor,
    commands/judge, commands/library, commands/segment, commands/series, commands/train
    > commands/masks, commands/cohorts, commands/teaching
    > commands/scans, commands/work > commands/session > commands/shell > commands
5   gui/panel
    > gui/load, gui/segment, gui/finetune, gui/shift, gui/evaluate, gui/models
    > gui/suggest, gui/autosave, gui/history, gui/badge, gui/cleaning, gui/soft,
    gui/offer
    > gui/annotate, gui/teach, gui/mistakes
    > gui/choosers, gui/tally
    > gui/library, gui/jobbar, gui/letters, gui/reading, gui/amend, gui/series,
    gui/new_layer, gui/results, gui/judging, gui/writers
    > gui/drafting, gui/shift_points
    > gui/layers, gui/worker, gui/form, gui/view, gui/drawing, gui/words,
    gui/keys, gui/ledger, gui/heads, gui/scans
    > gui/nouns > gui/colours, gui/kept, gui/proposals, gui/origin,
    gui/activity, gui/stepping, gui/fold > gui/touch,
    gui/preferences, gui/libraries > gui
4.5 core
4   core/transfer > core/_race, core/_outcome, core/_state > core/_judged
    > core/_few, core/_arms, core/_paired > core/report
    > core/_describe, core/_figures, core/_plain > core/_compared,
    core/_describe_cohorts
3   core/finetune, core/pretrain, core/shift, core/cohorts, core/suggestion,
    core/pace
    > core/_verdict, core/_candidate, core/_donors, core/_teach, core/_saved,
    core/_evidence, core/_fit, core/_cohorts
    > core/_scores, core/_run, core/_begin, core/_exam, core/_source
    > core/_job, core/_features > core/_heads, core/_encoder, core/_classes
    > core/inference, core/_ranks, core/_embedding > core/_engine, core/_choice,
    core/_advice, core/_calibration, core/_fingerprint
    > core/_reference, core/_novelty
2   core/_levels
2   core/convert > core/_convert_* > core/_foreign > core/_published
2   core/lineage > core/models > core/checkpoint
2   core/training > core/augment > core/losses
2   core/_record, core/_weighting
2   core/drafts > core/_holdout
2   core/optimisation
1   core/cleaning, core/threshold > core/_pieces
1   core/interpolation
1   core/_datasets > core/_decathlon > core/io > core/io/labels, core/io/export
    > core/io/saving > core/io/volumes, core/io/_dicom_seg > core/io/scan > core/io/*
    > core/io/_dicom_choice, core/io/_dicom_picture, core/io/_dicom_even,
    core/io/_dicom_mosaic
    > core/io/_dicom_pixels, core/io/_dicom_sort > core/io/_dicom_values,
    core/io/_dicom_gaps, core/io/_dicom_jpeg > core/io/_dicom_frames
    > core/io/_dicom_headers
    > core/io/_dicom_open > core/io/_* > core/io/_voxels
    > core/io/_stream > core/io/_limits > core/io/frame > core/io/atomic
    > core/io/_names
1   core/grid > core/_hounsfield, core/_frame, core/_foreground
1   core/disagreement, core/metrics > core/_matching, core/_surfaces > core/_overlap
1   core/_mmd, core/_exchange > core/_relabel, core/_centred > core/_kernels
1   core/phantom
1   core/_model_card
1   core/networks > core/networks/* > core/networks/_*
    > core/networks/_blocks, core/networks/_depthwise
0   core/types > core/_results > core/_model, core/_scan, core/_steps
0   core/palette
0   core/errors
0   version
"""

WINDOW = {"napari", "qtpy", "magicgui", "superqt", "PySide6", "PyQt6", "PyQt5"}
NEVER = {
    "pickle": "a pickle can run code",
    "dill": "a pickle can run code",
    "joblib": "its files are pickles",
    "requests": "nothing is downloaded or sent",
    "socket": "nothing is downloaded or sent",
    "http": "nothing is downloaded or sent",
    "urllib": "nothing is downloaded or sent",
    "torchvision": "it does not import beside a CPU build of torch",
    "timm": "we write the networks ourselves",
    "segmentation_models_pytorch": "we write the networks ourselves",
    "monai": "it is the tests' oracle, not a part of the work",
}
WHEN_USED = {
    "matplotlib",
    "sklearn",
    "pydicom",
    "h5py",
    "SimpleITK",
    "nrrd",
    "highdicom",
}
WITHOUT_TORCH = ("types", "errors", "io", "grid", "metrics", "checkpoint", "models")

Place = tuple[float, int, int]  # floor, chain, steps below the head of the chain


@cache
def rooms() -> dict[str, Place]:
    """Read the drawing."""
    places = {}
    lines = re.sub(r"\n\s+", " ", FLOORS).strip().splitlines()
    for chain, line in enumerate(lines):
        floor, plan = line.split(maxsplit=1)
        for step, group in enumerate(plan.split(" > ")):
            for room in group.split(", "):
                places[room] = (float(floor), chain, step)
    return places


def place(room: str) -> Place | None:
    """Where a room is; a name wins over a pattern, a narrow pattern over a wide one."""
    patterns = sorted(rooms(), key=lambda name: ("*" in name, -len(name)))
    return next((rooms()[name] for name in patterns if fnmatch(room, name)), None)


def room_of(module: str) -> str:
    """Name the room of a module: ``napari_hydraseg.core.grid`` is ``core/grid``."""
    return module.removeprefix(PACKAGE).strip(".").replace(".", "/") or "version"


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join((PACKAGE, *(part for part in parts if part != "__init__")))


MODULES = {module_of(path): path for path in FILES}


def imports(tree: ast.AST, module: str, *, package: bool) -> list[tuple[int, str]]:
    """List what is imported anywhere in a file, as (line, module)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                keep = len(parts) - node.level + package
                base = ".".join([*parts[:keep], *filter(None, [base])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found += [(node.lineno, n if n in MODULES else base) for n in names]
    return found


@cache
def imports_of(path: Path) -> list[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return imports(tree, module_of(path), package=path.name == "__init__.py")


def top_level(path: Path) -> ast.Module:
    """Keep of a file only the imports that run when it is imported."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return ast.Module(
        [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)], []
    )


def goes_down(importer: str, imported: str) -> bool:
    """Tell whether one room may import another."""
    above, below = place(importer), place(imported)
    if importer == imported:
        return True
    if above is None or below is None:
        return False
    if above[0] != below[0]:
        return above[0] > below[0]
    return above[1] == below[1] and above[2] < below[2]


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_has_its_place(path):
    room = room_of(module_of(path))
    assert place(room), f"{room} has no place: put it into FLOORS, where it belongs"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_down_only(path):
    room = room_of(module_of(path))
    wrong = [
        f"line {line}: {room} imports {room_of(module)}"
        for line, module in imports_of(path)
        if module.partition(".")[0] == PACKAGE
        if not goes_down(room, room_of(module))
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("cli", "core", True),
        ("cli", "gui/panel", False),
        ("gui/panel", "cli", False),
        ("gui/panel", "gui/segment", True),
        ("gui/segment", "gui/panel", False),
        ("gui/load", "gui/segment", False),
        ("core/finetune", "core/inference", True),
        ("core/inference", "core/finetune", False),
        ("core/finetune", "core/shift", False),
        ("core/grid", "core/io/nifti", False),
        ("core/networks/hydranet", "core/networks/_blocks", True),
        ("core/networks/hydranet", "core/networks/unet3d", False),
        ("core/models", "core/training", False),
        ("core/grid", "core", False),
        ("core/types", "core/grid", False),
    ],
)
def test_the_drawing_means_what_it_says(importer, imported, allowed):
    assert goes_down(importer, imported) is allowed


@pytest.mark.parametrize(
    "code",
    [
        "from .segment import x",
        "from ..gui.segment import x",
        "import napari_hydraseg.gui.segment",
        "def f():\n    from napari_hydraseg.gui.segment import x",
        "if TYPE_CHECKING:\n    from napari_hydraseg.gui.segment import x",
    ],
)
def test_the_proof_sees_every_way_to_import(code):
    found = imports(ast.parse(code), f"{PACKAGE}.gui.layers", package=False)
    assert [room_of(module) for _, module in found] == ["gui/segment"]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_window_knows_napari_and_qt(path):
    if room_of(module_of(path)).partition("/")[0] == "gui":
        return
    roots = {module.partition(".")[0] for _, module in imports_of(path)}
    assert not roots & WINDOW


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_imports_what_we_swore_off(path):
    roots = {module.partition(".")[0] for _, module in imports_of(path)}
    assert not {root: NEVER[root] for root in roots & set(NEVER)}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_shell_prints(path):
    if room_of(module_of(path)).partition("/")[0] in {"cli", "demo", "commands"}:
        return
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert not calls


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_reading_and_measuring_need_no_torch(name):
    code = f"import sys, {PACKAGE}.core.{name}; print('torch' in sys.modules)"
    assert run(code) == "False"


def test_importing_the_package_is_light():
    code = (
        "import sys, time\n"
        "before, start = set(sys.modules), time.process_time()\n"
        f"import {PACKAGE}\n"
        "spent = time.process_time() - start\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        f"roots -= sys.stdlib_module_names | {{'{PACKAGE}'}}\n"
        "print(spent < 0.1, *sorted(roots))"
    )
    assert run(code) == "True"


def test_importing_the_public_face_needs_no_heavy_library():
    heavy = "torch monai sklearn skimage scipy nibabel pydicom matplotlib napari qtpy"
    code = (
        f"import sys; from {PACKAGE} import core\n"
        f"print(*[name for name in {heavy.split()} if name in sys.modules])"
    )
    assert run(code) == ""


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_libraries_that_few_verbs_need_wait_until_they_are_used(path):
    found = imports(top_level(path), module_of(path), package=False)
    assert not {module.partition(".")[0] for _, module in found} & WHEN_USED
