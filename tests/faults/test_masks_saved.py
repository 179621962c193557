"""Masks on their way to the disk: F11, F15, F22-F24, F26, F27, F30, F31, F34-F36."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_hydraseg.core import (
    Segmentation,
    load_segmentation,
    load_volume,
    save_segmentation,
)
from napari_hydraseg.core.errors import (
    AnnotationError,
    GeometryMismatchError,
    LabelDtype,
    NotWritable,
    SaveError,
    UnknownLabelId,
    WouldOverwrite,
    WouldOverwriteSource,
)
from napari_hydraseg.core.io import nifti_write
from napari_hydraseg.core.palette import PALETTE

# all fields of a NIfTI header that say where the voxels are
GEOMETRY = (
    "dim pixdim qform_code sform_code quatern_b quatern_c quatern_d qoffset_x "
    "qoffset_y qoffset_z srow_x srow_y srow_z xyzt_units"
).split()
SHAPE = (5, 6, 7)
POSIX = pytest.mark.skipif(os.name != "posix", reason="rights and links of POSIX")


def affine(*, shear: float = 0.0, mirror: bool = False) -> np.ndarray:
    turn = np.deg2rad(25)
    matrix = np.diag([2.0, 1.5, 3.0, 1.0])
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[0, 1] += shear
    matrix[:3, 3] = 10, -20, 30
    return np.diag([-1.0 if mirror else 1.0, 1, 1, 1]) @ matrix


def scan(path, *, shape=SHAPE, kind=nib.Nifti1Image, endian="<", **fields):
    values = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    header = kind.header_class(endianness=endian)
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(affine(), 1)
    header.set_qform(affine(), 1)
    header.set_xyzt_units("mm")
    for name, value in fields.items():
        if callable(value):
            value(header)
        else:
            header[name] = value
    kind(values, None, header).to_filename(path)
    return path


def masked(volume, threshold=100) -> Segmentation:
    labels = (volume.data[0] > threshold).astype(np.uint8)
    return Segmentation(labels, volume.affine, {1: "cord"}, grid=volume.grid)


def same_grid(scan_path, mask_path):
    """Compare raw header bytes, field by field, in one byte order."""
    one, two = (nib.load(p).header.as_byteswapped("<") for p in (scan_path, mask_path))
    for key in GEOMETRY:
        assert one[key].tobytes() == two[key].tobytes(), key


def plain(**changes) -> Segmentation:
    return replace(Segmentation(np.ones((2, 3, 4), np.uint8), np.eye(4)), **changes)


def sheared(header):
    header.set_sform(affine(shear=0.4), 1)
    header.set_qform(None, 0)


def mirrored(header):
    header.set_qform(affine(mirror=True), 1)


def doubled(header):
    header.set_qform(affine() @ np.diag([2.0, 2, 2, 1]), 4)


def microns(header):
    header.set_sform(1000 * affine(), 1)
    header["pixdim"][1:4] *= 1000
    header["xyzt_units"] = 3


SOURCES = {
    "plain": {},
    "F11 trailing one": {"shape": (*SHAPE, 1)},
    "F11 three trailing ones": {"shape": (*SHAPE, 1, 1, 1)},
    "big-endian": {"endian": ">"},
    "NIfTI-2": {"kind": nib.Nifti2Image},
    "F22 shear": {"form": sheared},
    "F23 mirrored qform": {"form": mirrored},
    "F23 doubled qform": {"form": doubled},
    "F24 no codes": {"sform_code": 0, "qform_code": 0},
    "F24 qform alone": {"sform_code": 0},
    "F26 slope 0": {"scl_slope": 0},
    "F26 slope 2": {"scl_slope": 2, "scl_inter": -7},
    "F27 microns": {"form": microns},
    "F27 no unit": {"xyzt_units": 0},
    "odd pixdim": {"pixdim": [-1, 2, 2, 2, 0.5, 9, 9, 9]},
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_bit_that_says_where_the_voxels_are_comes_back(tmp_path, name, suffix):
    source = scan(tmp_path / "scan.nii", **SOURCES[name])
    volume = load_volume(source)
    save_segmentation(masked(volume), tmp_path / f"mask{suffix}")
    mask = nib.load(tmp_path / f"mask{suffix}")
    same_grid(source, tmp_path / f"mask{suffix}")
    assert type(mask) is type(nib.load(source))
    assert mask.get_data_dtype() == np.uint8
    assert (mask.dataobj.slope, mask.dataobj.inter) == (1, 0)
    again = load_segmentation(tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(again.labels, masked(volume).labels)
    np.testing.assert_array_equal(again.affine, volume.affine)


def test_f11_the_mask_of_one_volume_of_a_series_has_three_axes(tmp_path):
    source = scan(tmp_path / "scan.nii", shape=(*SHAPE, 3))
    volume = load_volume(source, index=1)
    save_segmentation(masked(volume), tmp_path / "mask.nii.gz")
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert mask.shape == SHAPE
    np.testing.assert_array_equal(mask.affine, nib.load(source).affine)


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        (np.array([0, 1], np.int64), np.uint8),
        (np.array([0, 255], np.uint16), np.uint8),
        (np.array([0, 256], np.int32), np.uint16),
        (np.array([0, 65535], np.uint64), np.uint16),
        (np.array([0.0, 3.0]), np.uint8),
        (np.array([False, True]), np.uint8),
    ],
)
def test_f15_ids_are_stored_in_the_smallest_type_that_holds_them(
    tmp_path, values, stored
):
    save_segmentation(plain(labels=values.reshape(1, 1, 2)), tmp_path / "m.nii")
    mask = nib.load(tmp_path / "m.nii")
    assert mask.get_data_dtype() == stored
    again = load_segmentation(tmp_path / "m.nii").labels
    np.testing.assert_array_equal(again.ravel(), values)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.array([0, 65536]), UnknownLabelId),
        (np.array([-1, 1]), UnknownLabelId),
        (np.array([0, 0.5]), LabelDtype),
        (np.array([0, np.nan]), LabelDtype),
        (np.array([0, 1j]), LabelDtype),
    ],
)
def test_f15_what_is_no_id_is_refused_and_nothing_is_written(tmp_path, values, error):
    with pytest.raises(error):
        save_segmentation(plain(labels=values.reshape(1, 1, 2)), tmp_path / "m.nii")
    assert list(tmp_path.iterdir()) == []


def test_labels_that_changed_their_shape_are_refused(tmp_path):
    volume = load_volume(scan(tmp_path / "scan.nii"))
    cropped = replace(masked(volume), labels=masked(volume).labels[1:])
    with pytest.raises(GeometryMismatchError, match=r"5, 6, 6.*5, 6, 7"):
        save_segmentation(cropped, tmp_path / "mask.nii")


# names and colours


def test_names_and_colours_come_back_with_the_mask(tmp_path):
    mask = plain(names={1: "left kidney", 700: 'a "b", c'}, colours={1: "#12AB34"})
    save_segmentation(mask, tmp_path / "m.nii.gz")
    again = load_segmentation(tmp_path / "m.nii.gz")
    assert again.names == mask.names
    assert again.colours[1] == "#12AB34"
    assert again.colours[700] in PALETTE


def test_the_table_is_that_of_bids(tmp_path):
    save_segmentation(plain(names={2: "b", 1: "a"}), tmp_path / "sub-1_dseg.nii.gz")
    rows = (tmp_path / "sub-1_dseg.tsv").read_text().splitlines()
    assert rows[0] == "index\tname\tcolor"
    assert [row.split("\t")[:2] for row in rows[1:]] == [["1", "a"], ["2", "b"]]


def test_a_name_cannot_break_the_table(tmp_path):
    save_segmentation(plain(names={1: "a\tb\n2\tevil", 3: " "}), tmp_path / "m.nii")
    assert load_segmentation(tmp_path / "m.nii").names == {
        1: "a b 2 evil",
        3: "label 3",
    }


@pytest.mark.parametrize(
    "table",
    ["onset\tduration\n1\t2\n", "", "\x00\x01", "index;name\n1;a\n"],
    ids=["events", "empty", "binary", "semicolons"],
)
def test_a_table_of_something_else_is_left_alone(tmp_path, table):
    (tmp_path / "m.tsv").write_text(table)
    save_segmentation(plain(), tmp_path / "m.nii", overwrite=True)
    assert load_segmentation(tmp_path / "m.nii").names == {}
    assert (tmp_path / "m.tsv").read_text() == table


def test_tables_of_other_programs_are_read(tmp_path):
    save_segmentation(plain(), tmp_path / "m.nii")
    rows = ["name abbreviation index color", "Grey GM 1 #ff53bb", "x y 2 red"]
    text = "\n".join(row.replace(" ", "\t") for row in rows)
    (tmp_path / "m.tsv").write_text(f"\ufeff{text}\n", "utf-8")
    mask = load_segmentation(tmp_path / "m.nii")
    assert mask.names == {1: "Grey", 2: "x"}
    assert mask.colours == {1: "#FF53BB"}


def test_a_broken_table_is_said_so(tmp_path):
    save_segmentation(plain(), tmp_path / "m.nii")
    (tmp_path / "m.tsv").write_text("index\tname\none\ta\n")
    with pytest.raises(AnnotationError, match=r"\.tsv"):
        load_segmentation(tmp_path / "m.nii")


def test_names_of_an_older_mask_are_not_read_as_those_of_the_new_one(tmp_path):
    save_segmentation(plain(names={1: "old"}), tmp_path / "m.nii")
    save_segmentation(plain(), tmp_path / "m.nii", overwrite=True)
    assert load_segmentation(tmp_path / "m.nii").names == {}


def test_mask_and_table_are_written_both_or_none(tmp_path):
    (tmp_path / "m.tsv").write_text("mine")
    with pytest.raises(WouldOverwrite, match=r"m\.tsv"):
        save_segmentation(plain(names={1: "a"}), tmp_path / "m.nii")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tsv"]


# F30, F31: names and links


@pytest.mark.parametrize(
    "name",
    [
        "Müller",
        "患者",
        "🫀",
        "שלום",
        "e\u0301",
        "a b",
        "100%",
        "x#y",
        "dot.",
        "n" * 200,
    ],
)
def test_f30_a_mask_goes_under_any_name(tmp_path, name):
    path = tmp_path / name / f"{name}.nii.gz"
    path.parent.mkdir()
    save_segmentation(plain(names={1: name}), path)
    assert load_segmentation(path).names == {1: name}


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes are Linux's")
def test_f30_a_name_that_is_no_text_is_written_and_said_in_text(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.nii"))
    save_segmentation(plain(names={1: "a"}), path)
    with pytest.raises(WouldOverwrite) as caught:
        save_segmentation(plain(), path)
    str(caught.value).encode("utf-8")
    assert load_segmentation(path).names == {1: "a"}


@POSIX
def test_f31_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    save_segmentation(plain(), tmp_path / "real.nii")
    (tmp_path / "link.nii").symlink_to("real.nii")
    labels = np.zeros((2, 3, 4), np.uint8)
    save_segmentation(plain(labels=labels), tmp_path / "link.nii", overwrite=True)
    assert (tmp_path / "link.nii").is_symlink()
    assert not load_segmentation(tmp_path / "real.nii").labels.any()


@POSIX
def test_f31_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a.nii").symlink_to("b.nii")
    (tmp_path / "b.nii").symlink_to("a.nii")
    with pytest.raises(SaveError):
        save_segmentation(plain(), tmp_path / "a.nii", overwrite=True)


# F34, F35: where nothing can be written

READ_ONLY = """
import os, sys
import numpy as np
from napari_hydraseg.core import Segmentation, save_segmentation
from napari_hydraseg.core.errors import NotWritable
mask = Segmentation(np.ones((2, 3, 4), np.uint8), np.eye(4), {1: "a"})
if os.geteuid() == 0:
    os.setuid(65534)
for name in ("/new.nii", "/old.nii"):
    try:
        save_segmentation(mask, sys.argv[1] + name, overwrite=True)
    except NotWritable as error:
        print(type(error).__name__)
"""

FULL = """
import os, resource, sys
import numpy as np
from napari_hydraseg.core import Segmentation, load_segmentation, save_segmentation
from napari_hydraseg.core.errors import NoSpace
path = sys.argv[1]
old = Segmentation(np.zeros((40, 40, 40), np.uint8), np.eye(4), {1: "old"})
noise = np.random.default_rng(0).integers(0, 250, (40, 40, 40)).astype(np.uint8)
new = Segmentation(noise, np.eye(4), {1: "new"})
save_segmentation(old, path)
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
try:
    save_segmentation(new, path, overwrite=True)
except NoSpace as error:
    print(error)
found = load_segmentation(path)
assert not found.labels.any() and found.names == {1: "old"}
assert len(os.listdir(os.path.dirname(path))) == 2, os.listdir(os.path.dirname(path))
resource.setrlimit(resource.RLIMIT_FSIZE, before)
save_segmentation(new, path, overwrite=True)
assert (load_segmentation(path).labels == noise).all()
"""


def child(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@POSIX
def test_f34_a_folder_or_file_that_may_not_be_written_is_refused():
    # the folders of pytest are closed to others, so that this test has one of its own
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old.nii").write_bytes(b"keep")
        (folder / "old.nii").chmod(0o444)
        folder.chmod(0o555)
        assert child(READ_ONLY, folder) == "NotWritable\n" * 2
        folder.chmod(stat.S_IRWXU)
        assert (folder / "old.nii").read_bytes() == b"keep"
        assert len(list(folder.iterdir())) == 1


@POSIX
@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz"])
def test_f35_a_full_disk_keeps_the_old_mask_and_a_second_try_works(tmp_path, name):
    said = child(FULL, tmp_path / name)
    assert "disk is full" in said
    assert str(tmp_path) not in said


@pytest.mark.parametrize("name", ["m.nii", "m.nii.gz"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c[:-9],
        lambda c: c[:30] + bytes([c[30] ^ 8]) + c[31:],
        lambda c: c + b"\0",
    ],
    ids=["short", "a bit turned", "long"],
)
def test_what_the_disk_gives_back_is_compared_with_what_was_written(
    tmp_path, monkeypatch, name, spoil
):
    save_segmentation(plain(), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    check = nifti_write.check

    def spoiled(path, crc):
        path.write_bytes(spoil(path.read_bytes()))
        check(path, crc)

    monkeypatch.setattr(nifti_write, "check", spoiled)
    with pytest.raises(SaveError, match="not what was written"):
        save_segmentation(plain(), tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


# F36: over the scan


@pytest.mark.parametrize("way", ["same", "relative", "link", "hard link", "copy"])
def test_f36_a_mask_never_replaces_its_scan(tmp_path, monkeypatch, way):
    source = scan(tmp_path / "scan.nii")
    before = source.read_bytes()
    mask = masked(load_volume(source))
    target = tmp_path / "other.nii"
    if way == "same":
        target = source
    elif way == "relative":
        monkeypatch.chdir(tmp_path)
        target = Path("scan.nii")
    elif way == "link":
        target.symlink_to(source)
    elif way == "hard link":
        target.hardlink_to(source)
    else:
        target.write_bytes(before)
    with pytest.raises(WouldOverwriteSource):
        save_segmentation(mask, target, overwrite=True)
    assert source.read_bytes() == target.read_bytes() == before
    assert not list(tmp_path.glob("*.tsv"))


def test_f36_no_channel_of_the_scan_is_replaced(tmp_path):
    paths = [scan(tmp_path / f"a_{name}.nii") for name in ("T1", "T2")]
    paths[1].write_bytes(paths[1].read_bytes()[:-1] + b"!")
    volume = load_volume(paths)
    for path in paths:
        with pytest.raises(WouldOverwriteSource):
            save_segmentation(masked(volume), path, overwrite=True)


def test_f36_without_leave_an_existing_file_is_kept(tmp_path):
    save_segmentation(plain(), tmp_path / "m.nii")
    with pytest.raises(WouldOverwrite):
        save_segmentation(plain(), tmp_path / "m.nii")


def test_f36_a_mask_may_be_corrected_under_its_own_name(tmp_path):
    save_segmentation(plain(), tmp_path / "m.nii")
    mask = load_segmentation(tmp_path / "m.nii")
    save_segmentation(mask, tmp_path / "m.nii", overwrite=True)


def test_f36_a_folder_is_no_file(tmp_path):
    with pytest.raises(NotWritable):
        save_segmentation(plain(), tmp_path / "none" / "m.nii")
    (tmp_path / "dir.nii").mkdir()
    with pytest.raises(NotWritable):
        save_segmentation(plain(), tmp_path / "dir.nii", overwrite=True)
