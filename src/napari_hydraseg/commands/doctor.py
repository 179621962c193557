"""What this machine has: looked at, not guessed.

PyTorch is asked in a process of its own: a broken driver may end that process, and must
not end this one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from napari_hydraseg import __version__, core
from napari_hydraseg.core.errors import SaveError

from .session import command, emit

SECONDS = 120  # a first CUDA context on a slow disk takes most of a minute

# Every device convolves once; what comes back is compared with the CPU.
ASK_TORCH = """
import json, torch
x, w = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3)
want = torch.nn.functional.conv2d(x, w)
names = ["cpu"]
names += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
names += ["mps"] if torch.backends.mps.is_available() else []
devices = []
for name in names:
    found = {"device": name, "works": False, "error": None, "name": None}
    try:
        done = torch.nn.functional.conv2d(x.to(name), w.to(name)).cpu()
        found["works"] = bool(torch.allclose(done, want))
        if name.startswith("cuda"):
            found["name"] = torch.cuda.get_device_name(name)
            memory = torch.cuda.get_device_properties(name).total_memory
            found["memory_gb"] = memory / 1e9
    except Exception as error:
        found["error"] = str(error).splitlines()[0] if str(error) else repr(error)
    devices.append(found)
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "threads": torch.get_num_threads(),
    "devices": devices,
}))
"""


@command("doctor")
def doctor() -> None:
    """Tell what this machine has: processors, memory, window, folders, models."""
    found = examine()
    emit("doctor", found, table=findings(found))


def examine() -> dict[str, Any]:
    """Look at everything that the work needs.

    Returns
    -------
    dict
        ``python``, ``torch``, ``devices``, ``memory``, ``qt``, ``napari``, ``folders``,
        ``models``; plain JSON.
    """
    asked = _ask_torch()
    return {
        "python": {"version": platform.python_version(), "system": platform.platform()},
        "torch": {
            key: asked.get(key) for key in ("version", "cuda", "threads", "error")
        },
        "devices": asked.get("devices", []),
        "memory": _memory(),
        "qt": {
            "bindings": {
                name: found
                for name in ("PySide6", "PyQt6", "PyQt5")
                if (found := _version(name))
            },
            "display": has_display(),
        },
        "napari": _version("napari"),
        "folders": _folders(),
        "models": [
            {"name": info.name, "source": info.source, "size_mb": info.size_mb}
            for info in core.list_models()
        ],
    }


def findings(found: Mapping[str, Any]) -> str:
    """Put what was found into lines for people."""
    torch, memory, qt = found["torch"], found["memory"], found["qt"]
    bindings = ", ".join(f"{k} {v}" for k, v in qt["bindings"].items())
    lines = [
        f"napari-hydraseg {__version__}",
        f"python   {found['python']['version']} on {found['python']['system']}",
        f"torch    {torch['version'] or 'does not start: ' + str(torch['error'])}"
        f"{', CUDA ' + torch['cuda'] if torch['cuda'] else ''}",
    ]
    for device in found["devices"]:
        state = "works" if device["works"] else f"fails: {device['error']}"
        name = f" ({device['name']})" if device["name"] else ""
        lines.append(f"device   {device['device']}{name} {state}")
    lines += [
        f"memory   {_gb(memory['free_gb'])} free of {_gb(memory['total_gb'])}",
        f"qt       {bindings or 'not installed'}",
        f"display  {'there' if qt['display'] else 'none: use the command line'}",
        f"napari   {found['napari'] or 'not installed'}",
    ]
    for folder in found["folders"]:
        state = "writable" if folder["writable"] else f"not writable: {folder['error']}"
        lines.append(f"folder   {folder['use']}: {folder['path']} {state}")
    names = ", ".join(model["name"] for model in found["models"])
    return "\n".join([*lines, f"models   {names or 'none'}"])


def has_display() -> bool:
    """Tell whether a window can be opened here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _ask_torch() -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK_TORCH],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer
    except subprocess.TimeoutExpired:
        return {"error": f"no answer in {SECONDS} s"}
    except json.JSONDecodeError:
        said = done.stderr.strip().splitlines()
        return {"error": said[-1] if said else f"it ended with {done.returncode}"}


def _memory() -> dict[str, float | None]:
    names = {"total_gb": "SC_PHYS_PAGES", "free_gb": "SC_AVPHYS_PAGES"}
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return {key: page * os.sysconf(name) / 1e9 for key, name in names.items()}
    except (
        AttributeError,
        ValueError,
        OSError,
    ):  # Windows; and macOS knows no free one
        return dict.fromkeys(names)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _folders() -> list[dict[str, Any]]:
    from napari_hydraseg.core.io.atomic import ensure_writable
    from napari_hydraseg.core.models import user_folder

    rows = []
    for use, folder in (
        ("your models", user_folder()),
        ("this folder", Path.cwd()),
        ("temporary files", Path(tempfile.gettempdir())),
    ):
        # A folder that is not there yet will be made in the nearest one that is.
        there = next(path for path in (folder, *folder.parents) if path.is_dir())
        row = {"use": use, "path": str(folder), "writable": True, "error": None}
        try:
            ensure_writable(there / "probe-of-hydraseg")
        except SaveError as error:
            row |= {"writable": False, "error": error.what}
        rows.append(row)
    return rows


def _gb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} GB"
