"""Libraries that take long to load, loaded so that the window goes on answering."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def load_torch() -> None:
    """Map torch's large library into memory; call this in a thread, before torch.

    Python's lock is held while ``import torch`` does so, for a quarter of a second in
    which a window cannot answer. A function called through ctypes lets the lock go.
    Elsewhere than on Linux, and where it fails, the import is left to do it.
    """
    found = None if "torch" in sys.modules else find_spec("torch")
    if found is None or found.origin is None or sys.platform != "linux":
        return
    library = Path(found.origin).parent / "lib" / "libtorch_cpu.so"
    load = ctypes.CDLL(None).dlopen  # ctypes.CDLL(library) would hold the lock
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    load(os.fsencode(library), os.RTLD_NOW)


def load_pandas() -> None:
    """Load what napari's first labels layer needs, which would do so in the window."""
    import_module("pandas")
