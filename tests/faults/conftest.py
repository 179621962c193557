"""Files that are wrong in one way, and what is asked of every refusal."""

from __future__ import annotations

import gzip
import hashlib
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import load_volume
from napari_hydraseg.core.errors import HydraSegError

# where NIfTI-1 keeps its fields, and how they are packed
FIELDS = {
    "sizeof_hdr": (0, "i"),
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern_b": (256, "f"),
    "srow_x": (280, "4f"),
    "srow_y": (296, "4f"),
    "srow_z": (312, "4f"),
    "magic": (344, "4s"),
}
SECONDS = 5.0
LETTERS = 200


def nifti(data=None, affine=None, *, version=1, **fields) -> bytes:
    """Give the bytes of a sound file of (5, 6, 7) voxels, some fields replaced."""
    if data is None:
        data = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    if affine is None:
        affine = np.diag([2.0, 2.0, 3.0, 1.0])
    image = kind(data, affine, dtype=np.asarray(data).dtype)
    image.header.set_xyzt_units("mm")
    content = bytearray(image.to_bytes())
    for name, value in fields.items():
        offset, form = FIELDS[name]
        values = value if isinstance(value, tuple) else (value,)
        content[offset : offset + struct.calcsize(form)] = struct.pack(
            f"<{form}", *values
        )
    return bytes(content)


def put(folder: Path, name: str, content: bytes) -> Path:
    """Write a file; packed if its name ends in ``.gz``."""
    path = folder / name
    packed = name.endswith(".gz") and content[:2] != b"\x1f\x8b"
    path.write_bytes(gzip.compress(content, 6, mtime=0) if packed else content)
    return path


def state_of(folder: Path) -> dict[str, str]:
    """Digest of every regular file of a folder."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def refusal_of(path: Path, error: type[HydraSegError], **options) -> str:
    """Load a file that cannot be loaded; check the refusal and give its words."""
    before, start = state_of(path.parent), time.monotonic()
    with pytest.raises(HydraSegError) as caught:
        load_volume(path, **options)
    said = str(caught.value)
    assert type(caught.value) is error, said
    assert time.monotonic() - start <= SECONDS
    assert state_of(path.parent) == before
    check_words(caught.value, path)
    return said


def check_words(error: HydraSegError, path: Path) -> None:
    """One line that a person can act on, without a path or a traceback."""
    said = str(error)
    assert len(said) <= LETTERS
    assert "\n" not in said
    assert "Traceback" not in said
    assert str(path.parent) not in said
    assert error.hint
    assert said.endswith(error.hint)
    assert "--" not in error.hint  # the hint is for a window as well
    assert len(error.in_terminal) <= LETTERS
    assert error.hint.endswith(".")
    said.encode("utf-8")


@pytest.fixture
def refused():
    """Give the check that a file is refused as it should be; see `refusal_of`."""
    return refusal_of


@pytest.fixture
def make(tmp_path):
    """Give a maker of files: ``make(name, **fields of the header)`` or its bytes."""

    def maker(name="scan.nii", content=None, **fields):
        return put(tmp_path, name, nifti(**fields) if content is None else content)

    return maker


@pytest.fixture
def sound():
    """Give the maker of a sound file's bytes; see `nifti`."""
    return nifti
