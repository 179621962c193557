"""Annotations that are kept while they are made."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg import core
from napari_hydraseg.core import drafts
from napari_hydraseg.core.errors import AnnotationError, NoSpace
from napari_hydraseg.core.types import Segmentation, SourceGrid, Volume


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Keep the user's drafts out of the tests."""
    monkeypatch.setattr(drafts, "folder", lambda: tmp_path / "drafts")
    return tmp_path / "drafts"


@pytest.fixture
def ended(monkeypatch):
    """The process that wrote the drafts has ended."""
    monkeypatch.setattr(drafts, "_lives", lambda about: False)


@pytest.fixture
def draft():
    """Two labels on an oblique grid; the layer began with half of them."""
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[2, 1:3, 2:5], labels[3, 0, 0] = 1, 2
    affine = np.array([[5, 0.1, 0, -3], [0, 1, 0, 2], [0, 0, 1, 7], [0, 0, 0, 1.0]])
    grid = SourceGrid(
        (6, 5, 4),
        np.array([[2.0, 1], [1, -1], [0, 1]]),
        {"pixdim": [1.0, 1, 1, 5], "srow_x": np.float32([1, 0, 0, 0])},
        sha256="ab",
    )
    painted = Segmentation(
        labels,
        affine,
        {1: "wall", 2: "blood"},
        plane="coronal",
        grid=grid,
        made_by={"model": "toy", "head": "heart", "fallbacks": ["Doe^Jane.nii"]},
        colours={1: "#ff0000"},
    )
    start = np.where(labels == 1, labels, 0)
    return drafts.Draft(painted, start, frozenset({2}), frozenset({0}), "scan", 3)


def test_a_draft_comes_back_as_it_was(draft):
    path = drafts.new_path()
    drafts.save_draft(draft, path)
    again = drafts.open_draft(path)
    np.testing.assert_array_equal(again.painted.labels, draft.painted.labels)
    np.testing.assert_array_equal(again.start, draft.start)
    np.testing.assert_array_equal(again.painted.affine, draft.painted.affine)
    assert again.painted.names == {1: "wall", 2: "blood"}
    assert again.painted.colours == {1: "#ff0000"}
    assert again.painted.plane == "coronal"
    assert again.painted.grid.shape == (6, 5, 4)
    assert again.painted.grid.header["srow_x"] == [1, 0, 0, 0]
    assert (again.done, again.aside, again.scan) == ({2}, {0}, "scan")


def test_a_mask_from_a_draft_has_the_bytes_of_one_that_was_never_away(tmp_path):
    import nibabel

    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), np.diag([-1, 2, 3, 1]))
    nibabel.save(image, tmp_path / "scan.nii")
    volume = core.load_volume(tmp_path / "scan.nii")
    labels = np.zeros(volume.shape, np.uint8)
    labels[1, 2, 3] = 1
    painted = Segmentation(labels, volume.affine, {1: "x"}, grid=volume.grid)
    path = drafts.new_path()
    drafts.save_draft(drafts.Draft(painted), path)
    core.save_segmentation(painted, tmp_path / "a.nii")
    core.save_segmentation(drafts.open_draft(path).painted, tmp_path / "b.nii")
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


def test_no_name_of_a_file_or_a_person_is_in_it(draft, folder):
    drafts.save_draft(draft, drafts.new_path())
    (path,) = folder.iterdir()
    assert set(path.stem) <= set("0123456789abcdef")
    with np.load(path) as file:
        about = json.loads(file["about"].tobytes())
    assert "Doe" not in json.dumps(about)
    assert about["made_by"] == {"model": "toy", "head": "heart"}


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_nobody_else_can_look_into_the_folder(draft, folder):
    drafts.save_draft(draft, drafts.new_path())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_later_state_takes_the_place_of_the_earlier(draft, folder, ended):
    path = drafts.new_path()
    drafts.save_draft(draft, path)
    drafts.save_draft(replace(draft, slices=4), path)
    assert [info.slices for info in drafts.list_drafts()] == [4]
    assert len(list(folder.iterdir())) == 1


def test_a_full_disk_leaves_the_earlier_state(draft, folder, monkeypatch):
    path = drafts.new_path()
    drafts.save_draft(draft, path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drafts.np, "savez_compressed", full)
    with pytest.raises(NoSpace):
        drafts.save_draft(draft, path)
    assert path.read_bytes() == before
    assert len(list(folder.iterdir())) == 1


def test_a_damaged_draft_hides_no_other_and_is_refused(draft, folder, ended):
    drafts.save_draft(draft, drafts.new_path())
    broken = folder / "00.npz"
    broken.write_bytes(b"PK\x03\x04 not a draft")
    assert len(drafts.list_drafts()) == 1
    with pytest.raises(AnnotationError, match="cannot be read"):
        drafts.open_draft(broken)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_a_flipped_byte_anywhere_is_refused_or_changes_nothing(draft, share):
    path = drafts.new_path()
    drafts.save_draft(draft, path)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 0xFF
    path.write_bytes(content)
    drafts.list_drafts()
    try:
        again = drafts.open_draft(path)
    except AnnotationError:
        return
    np.testing.assert_array_equal(again.painted.labels, draft.painted.labels)


def test_a_file_that_would_run_code_is_never_unpickled(folder):
    folder.mkdir()
    bad = np.array([{"x": 1}], dtype=object)
    np.savez(folder / "11.npz", about=bad, labels=bad)
    assert drafts.list_drafts() == []
    with pytest.raises(AnnotationError):
        drafts.open_draft(folder / "11.npz")


def test_drafts_of_this_session_are_not_offered(draft):
    drafts.save_draft(draft, drafts.new_path())
    assert drafts.list_drafts() == []


def test_a_draft_is_offered_once_the_process_that_wrote_it_has_ended(draft):
    import psutil

    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = drafts.new_path()
    about = drafts._about(draft)
    about["process"] = [other.pid, psutil.Process(other.pid).create_time()]
    path.parent.mkdir()
    np.savez(path, labels=draft.painted.labels, about=drafts._packed(about))
    assert drafts.list_drafts() == []
    other.communicate(b"\n")
    assert [info.path for info in drafts.list_drafts()] == [path]


def test_a_discarded_draft_is_gone_and_twice_is_no_fault(draft, folder):
    path = drafts.new_path()
    drafts.save_draft(draft, path)
    drafts.discard_draft(path)
    drafts.discard_draft(path)
    assert list(folder.iterdir()) == []


def test_scans_are_told_apart_by_their_voxels_and_by_their_files():
    volume = Volume(np.zeros((1, 2, 3, 4)), np.eye(4))
    changed = volume.data.copy()
    changed[0, 0, 0, 0] += 1
    assert drafts.identity(volume) == drafts.identity(replace(volume, source="other"))
    assert drafts.identity(volume) != drafts.identity(replace(volume, data=changed))
    assert drafts.identity(volume) != drafts.identity(replace(volume, sha256="ab"))
