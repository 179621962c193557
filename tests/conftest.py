"""What all tests share: no network, a folder of models of their own, real scans."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = Path(__file__).resolve().parent / "offline"


@pytest.fixture(scope="session", autouse=True)
def offline():
    """Nothing is downloaded or sent, here or in a process that a test starts."""
    sys.path.insert(0, str(OFFLINE))
    try:
        import sitecustomize

        if getattr(sitecustomize, "block", None) is None:
            # A system may have one of its own, imported at Python's start.
            del sys.modules["sitecustomize"]
            import sitecustomize
        sitecustomize.block()
    finally:
        sys.path.remove(str(OFFLINE))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), before]))
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(autouse=True)
def own_models(tmp_path_factory, monkeypatch):
    """Keep the user's own models out of the tests, and the tests out of them."""
    folder = tmp_path_factory.mktemp("models")
    monkeypatch.setenv("HYDRASEG_WEIGHTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def data_root():
    """Give the folder of real scans, or skip."""
    folder = Path(os.environ.get("HYDRASEG_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no real scans at {folder}: set HYDRASEG_DATA to a folder of data sets"
        )
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint():
    """Give a HydraNet that knows nothing: random weights, one head "blob"."""
    from napari_hydraseg.core import Checkpoint, ModelSpec, build
    from napari_hydraseg.core.networks import weights_of

    spec = ModelSpec(
        network="hydranet",
        channels=("image",),
        heads={"blob": ("background", "blob")},
        patch=(64, 64),
        spacing_mm={"MR": 3.0, "CT": 3.0, "US": {"longest": 64}, "XR": {"longest": 64}},
        intensity={
            name: {"kind": "zscore", "low": 0.5, "high": 99.5}
            for name in ("MR", "CT", "US", "XR")
        },
    )
    card = {
        "name": "tiny",
        "title": "Random weights, for tests",
        "licence": "CC0-1.0",
        "heads": {"blob": {"modality": ["MR", "CT", "US", "XR"], "licence": "CC0-1.0"}},
        "limits": ["It has learned nothing."],
        "recommended": {name: ["blob"] for name in ("MR", "CT", "US", "XR")},
        "parent": None,
    }
    return Checkpoint(spec, weights_of(build(spec, seed=0)), card)
