"""Names, links, pipes and files that change under the reader."""

import json
import os
import sys
import threading

import numpy as np
import pytest

from napari_hydraseg.core import load_volume
from napari_hydraseg.core.errors import NotAVolume, TruncatedFile, VolumeReadError
from napari_hydraseg.core.io import _voxels

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX names, links and pipes")
NAMES = [
    "Müller Žižka.nii",
    "頭部 撮影.nii.gz",
    "صدر.nii",
    "e\u0301 combining.nii",
    "scan 🧠.nii.gz",
    "a b  c.nii",
    "100%d {x} #1 'q' \"r\".nii",
    "dots...nii.",
    "x" * 196 + ".nii",
    "-rf.nii",
    "new\nline.nii",
]


@POSIX
@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read(make, name):
    """F30."""
    volume = load_volume(make(name))
    assert volume.data.size == 210
    assert len(volume.source) <= 60
    assert volume.source.isprintable()


@POSIX
@pytest.mark.parametrize("name", NAMES)
def test_any_name_fits_into_a_refusal(make, name, refused):
    """F30."""
    refused(make(name, content=b"\1\2\3\4" * 99), NotAVolume)


@pytest.mark.skipif(
    sys.platform != "linux", reason="names that are no text are Linux's"
)
def test_a_name_that_is_no_text_breaks_no_log(make, refused):
    """F30: Python shows such bytes as lone surrogates, which no file can take."""
    name = os.fsdecode(b"\xff\xfe.nii")
    volume = load_volume(make(name))
    json.dumps(volume.source).encode("utf-8")
    volume.source.encode("utf-8")
    refused(make(name, content=b""), NotAVolume)


def test_a_null_in_a_name_is_refused():
    """F30."""
    with pytest.raises(NotAVolume):
        load_volume("a\0b.nii")


@POSIX
def test_a_link_is_followed(make, tmp_path):
    """F31."""
    make("scan.nii")
    (tmp_path / "link.nii").symlink_to("scan.nii")
    assert load_volume(tmp_path / "link.nii").data.size == 210


@POSIX
@pytest.mark.parametrize("target", ["nowhere.nii", "link.nii"], ids=["lost", "loop"])
def test_a_link_to_nothing_does_not_exist(tmp_path, refused, target):
    """F31."""
    (tmp_path / "link.nii").symlink_to(target)
    assert "does not exist" in refused(tmp_path / "link.nii", NotAVolume)


@POSIX
def test_a_pipe_does_not_block(tmp_path, refused):
    """F32."""
    os.mkfifo(tmp_path / "scan.nii")
    assert "no regular file" in refused(tmp_path / "scan.nii", NotAVolume)


@POSIX
def test_a_device_is_no_scan():
    """F32: /dev/zero never ends."""
    with pytest.raises(NotAVolume, match="no regular file"):
        load_volume("/dev/zero")


def test_a_folder_without_a_scan_is_refused(tmp_path):
    """F32."""
    with pytest.raises(VolumeReadError):
        load_volume(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_called_so(make, refused):
    path = make()
    path.chmod(0)
    with pytest.raises(NotAVolume, match="may not be read"):
        load_volume(path)


def between(monkeypatch, change):
    """Let something happen after the header was read and before the voxels are."""
    check = _voxels.check_size

    def changed(*arguments):
        check(*arguments)
        monkeypatch.undo()  # once is enough
        other = threading.Thread(target=change)
        other.start()
        other.join()

    monkeypatch.setattr(_voxels, "check_size", changed)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_file_cut_while_it_is_read_is_refused(make, monkeypatch, name):
    """F33: no SIGBUS, because nothing is mapped."""
    noise = np.random.default_rng(0).integers(0, 999, (60, 60, 60)).astype(np.int16)
    path = make(name, data=noise)
    between(monkeypatch, lambda: os.truncate(path, path.stat().st_size // 2))
    with pytest.raises(TruncatedFile):
        load_volume(path)


def test_a_file_overwritten_while_it_is_read_is_refused(make, monkeypatch):
    """F33: half of it would be old and half new."""
    path = make(data=np.zeros((60, 60, 60), np.int16))

    def change():
        os.utime(path, ns=(1, 1))

    between(monkeypatch, change)
    with pytest.raises(TruncatedFile, match="changed while it was read"):
        load_volume(path)


@POSIX
def test_a_file_replaced_while_it_is_read_is_the_old_one(make, monkeypatch, tmp_path):
    """F33: an atomic replacement leaves the open file as it was."""
    path = make(data=np.full((60, 60, 60), 3, np.int16))
    new = make("new.nii", data=np.full((60, 60, 60), 4, np.int16))
    between(monkeypatch, lambda: os.replace(new, path))
    assert load_volume(path).data.max() == 3
    assert load_volume(path).data.max() == 4
