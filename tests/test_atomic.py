"""A result is on the disk completely or not at all."""

import errno
import os
import subprocess
import sys
import tempfile
import time

import pytest

from napari_hydraseg.core.errors import NoSpace, NotWritable, WouldOverwrite
from napari_hydraseg.core.io.atomic import (
    atomic_write,
    ensure_writable,
    sweep_temporaries,
)

NEW, OLD = b"new bytes", b"old bytes"
UNPRIVILEGED = """
import os, sys
from napari_hydraseg.core.io.atomic import ensure_writable
from napari_hydraseg.core.errors import NotWritable
if os.geteuid() == 0:
    os.setuid(65534)
try:
    ensure_writable(sys.argv[1] + "/mask")
except NotWritable:
    print("refused")
"""


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_the_file_holds_what_was_written(tmp_path):
    atomic_write(tmp_path / "mask", lambda file: file.write(NEW))
    assert (tmp_path / "mask").read_bytes() == NEW
    assert names(tmp_path) == ["mask"]


def test_a_file_that_exists_is_kept_unless_overwriting_is_allowed(tmp_path):
    target = tmp_path / "mask"
    target.write_bytes(OLD)
    with pytest.raises(WouldOverwrite):
        atomic_write(target, lambda file: file.write(NEW))
    assert target.read_bytes() == OLD
    atomic_write(target, lambda file: file.write(NEW), overwrite=True)
    assert target.read_bytes() == NEW


def test_a_writer_that_fails_half_way_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "mask"
    target.write_bytes(OLD)

    def write(file):
        file.write(NEW[:3])
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        atomic_write(target, write, overwrite=True)
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["mask"]


def test_a_result_that_fails_its_check_never_gets_the_name(tmp_path):
    def check(path):
        assert path.read_bytes() == NEW
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        atomic_write(tmp_path / "mask", lambda file: file.write(NEW), check=check)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_called_so_and_keeps_the_old_file(tmp_path, number):
    target = tmp_path / "mask"
    target.write_bytes(OLD)

    def write(file):
        raise OSError(number, os.strerror(number))

    with pytest.raises(NoSpace):
        atomic_write(target, write, overwrite=True)
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["mask"]


def test_a_missing_folder_and_a_folder_as_target_are_refused_beforehand(tmp_path):
    for path in (tmp_path / "none" / "mask", tmp_path):
        with pytest.raises(NotWritable):
            ensure_writable(path)


def test_asking_whether_a_file_can_be_written_leaves_no_trace(tmp_path):
    ensure_writable(tmp_path / "mask")
    assert names(tmp_path) == []


def test_messages_name_no_folder_and_stay_short(tmp_path):
    with pytest.raises(NotWritable) as caught:
        ensure_writable(tmp_path / "none" / ("m" * 200))
    assert str(tmp_path) not in str(caught.value)
    assert len(str(caught.value)) <= 200


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_stays_a_link_and_its_target_gets_the_bytes(tmp_path):
    (tmp_path / "real").write_bytes(OLD)
    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", lambda file: file.write(NEW), overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == NEW


@pytest.mark.skipif(os.name != "posix", reason="the rights of POSIX")
def test_a_write_protected_folder_is_refused_as_such():
    # Rights do not stop root, so the child gives them up; the folders of pytest are
    # closed to others, so the test has one of its own.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        child = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, folder],
            capture_output=True,
            text=True,
            check=True,
        )
        os.chmod(folder, 0o755)
    assert child.stdout == "refused\n"


def test_only_old_leftovers_are_swept(tmp_path):
    for name in (".hs-old.tmp", ".hs-young.tmp", "mask"):
        (tmp_path / name).touch()
    hours_ago = time.time() - 7200
    os.utime(tmp_path / ".hs-old.tmp", (hours_ago, hours_ago))
    assert sweep_temporaries(tmp_path) == 1
    assert names(tmp_path) == [".hs-young.tmp", "mask"]
