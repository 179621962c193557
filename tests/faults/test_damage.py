"""Files that must be refused: by the right name, in one line, with nothing touched."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import textwrap
import time
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from napari_hydraseg.cli import main
from napari_hydraseg.core import errors, load_volume
from napari_hydraseg.core.io import _limits

INF, NAN = float("inf"), float("nan")
NOISE = np.random.default_rng(0).integers(0, 500, (20, 20, 20)).astype(np.int16)
FLAT = {"srow_y": (0.0, 0.0, 0.0, 0.0)}
BOMB = {"dim": (3, 32767, 32767, 32767, 1, 1, 1, 1)}
CUBE = {"dim": (3, 300, 300, 300, 1, 1, 1, 1)}
PAIR = {"magic": b"ni1\0", "vox_offset": 0.0}


def cut(keep):
    """Give a packed file of which `keep` (share or bytes from the end) is left."""

    def content(sound):
        packed = gzip.compress(sound(NOISE), mtime=0)
        return packed[: int(keep * len(packed)) if keep < 1 else -keep]

    return content


def png():
    stream = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def zeros(gigabytes):
    """Give a gzip stream of many members of zeros: 20 MB for 20 GB."""
    member = gzip.compress(bytes(2**26), 9, mtime=0)
    return member * int(gigabytes * 1e9 / 2**26)


def fields(**values):
    return lambda sound: sound(**values)


def array(values):
    return lambda sound: sound(np.asarray(values))


def fixed(content):
    return lambda sound: content


# row, file name, its bytes, error, words that must be there
REFUSED = [
    ("F01", "60 %.nii.gz", cut(0.6), "TruncatedFile", "should give 16352"),
    ("F01", "8 bytes.nii.gz", cut(8), "TruncatedFile", "should give 16352"),
    ("F01", "1 byte.nii.gz", cut(1), "TruncatedFile", "should give 16352"),
    ("F03", "header.nii", lambda s: s()[:348], "TruncatedFile", "0 of 420 bytes"),
    ("F03", "short.nii", lambda s: s()[:-1], "TruncatedFile", "419 of 420 bytes"),
    ("F03", "part.nii", lambda s: s()[:100], "TruncatedFile", "100 of 348 bytes"),
    ("F04", "scan.nii", fixed(b""), "NotAVolume", "file is empty"),
    ("F04", "scan.nii.gz", fixed(b"\x1f\x8b"), "TruncatedFile", "ends early"),
    ("F04", "scan.dcm", fixed(b""), "NotAVolume", "file is empty"),
    ("F05", "text.nii.gz", fixed(b"hello\n" * 99), "NotAVolume", "is text"),
    ("F05", "page.nii", fixed(b"<!DOCTYPE html><p>"), "NotAVolume", "a web page"),
    ("F05", "pdf.nii", fixed(b"%PDF-1.7 \xe2\xe3"), "NotAVolume", "a PDF"),
    ("F05", "zip.nii", fixed(b"PK\x03\x04\x14"), "NotAVolume", "a zip archive"),
    ("F05", "twice.nii.gz", lambda s: gzip.compress(gzip.compress(s())), "NotAVolume",
     "packed twice"),
    ("F05", "magic.nii", fields(magic=b"xyz\0"), "NotAVolume", "magic"),
    ("F05", "bytes.nii", fixed(bytes(range(7, 200)) * 9), "NotAVolume", "no format"),
    ("F05", "cut.nii", fixed(png()[:-20]), "TruncatedFile", "damaged"),
    ("F07", "a.hdr", lambda s: s(**PAIR)[:348], "NotAVolume", "a.img is missing"),
    ("F07", "a.img", fixed(bytes(range(1, 99))), "NotAVolume", "a.hdr is missing"),
    ("F07", "a.nii", fields(**PAIR), "NotAVolume", "a second file"),
    ("F08", "nan.nii", array(np.full((3, 4, 5), np.nan)), "NonFiniteVolume", "finite"),
    ("F10", "2d.nii", array(np.ones((3, 4), "i2")), "UnsupportedShape", "(3, 4)"),
    ("F11", "4d.nii", array(np.ones((3, 4, 5, 6), "i2")), "UnsupportedShape",
     "index 0 to 5"),
    ("F11", "5d.nii", array(np.ones((3, 4, 5, 2, 2), "i2")), "UnsupportedShape",
     "3-D is needed"),
    ("F12", "rgb.nii", fields(datatype=128, bitpix=24), "UnsupportedDtype", "colour"),
    ("F12", "rgba.nii", fields(datatype=2304, bitpix=32), "UnsupportedDtype",
     "Choose a channel"),
    ("F13", "c64.nii", array(np.ones((3, 4, 5), "c8")), "UnsupportedDtype",
     "magnitude"),
    ("F13", "c128.nii", array(np.ones((3, 4, 5), "c16")), "UnsupportedDtype",
     "magnitude"),
    ("F15", "bits.nii", fields(datatype=1, bitpix=1), "UnsupportedDtype", "type 1,"),
    ("F15", "f2.nii", fields(datatype=16384, bitpix=16), "UnsupportedDtype", "16384"),
    ("F16", "bomb.nii", fields(**BOMB), "VolumeTooLarge", "3.52e+13 voxels"),
    ("F16", "bomb.nii.gz", fields(**BOMB), "VolumeTooLarge", "3.52e+13 voxels"),
    ("F16", "less.nii", fields(**CUBE), "TruncatedFile", "420 of 54000000"),
    ("F16", "less.nii.gz", fields(**CUBE), "TruncatedFile", "at most"),
    ("F18", "none.nii", fields(dim=(0, 5, 6, 7, 1, 1, 1, 1)), "NotAVolume", "0 dim"),
    ("F18", "nine.nii", fields(dim=(9, 5, 6, 7, 1, 1, 1, 1)), "NotAVolume", "9 dim"),
    ("F18", "less.nii", fields(dim=(-1, 5, 6, 7, 1, 1, 1, 1)), "NotAVolume", "-1 dim"),
    ("F18", "zero.nii", fields(dim=(3, 5, 0, 7, 1, 1, 1, 1)), "UnsupportedShape",
     "(5, 0, 7)"),
    ("F18", "minus.nii", fields(dim=(3, 5, -6, 7, 1, 1, 1, 1)), "UnsupportedShape",
     "(5, -6, 7)"),
    ("F18", "offset.nii", fields(vox_offset=16.0), "NotAVolume", "byte 16"),
    ("F18", "far.nii", fields(vox_offset=1e9), "TruncatedFile", "0 of 420"),
    ("F19", "row.nii", fields(**FLAT), "SingularAffine", "plane"),
    ("F19", "nan sform.nii", fields(srow_x=(NAN, 0.0, 0.0, 0.0)), "SingularAffine",
     "no numbers"),
    ("F19", "sane qform.nii", fields(qform_code=1, **FLAT), "SingularAffine",
     "Its qform is sound"),
    ("F19", "no rotation.nii", fields(sform_code=0, qform_code=1, quatern_b=7.0),
     "SingularAffine", "qform"),
    *(
        ("F20", f"{size}.nii", fields(sform_code=0, pixdim=(1.0, size, *[1.0] * 6)),
         "BadSpacing", "voxel sizes of")
        for size in (0.0, NAN, INF, -INF)
    ),
    *(
        ("F20", f"sform {size}.nii", fields(pixdim=(1.0, size, *[1.0] * 6)),
         "BadSpacing", "to go by its sform")
        for size in (0.0, NAN, INF)
    ),
]  # fmt: skip
IDS = [f"{row}-{name}" for row, name, *_ in REFUSED]


@pytest.mark.parametrize(("row", "name", "content", "error", "words"), REFUSED, ids=IDS)
def test_it_is_refused_by_its_name(
    row, name, content, error, words, make, sound, refused
):
    path = make(name, content(sound))
    assert words in refused(path, getattr(errors, error))


@pytest.mark.parametrize(("row", "name", "content", "error", "words"), REFUSED, ids=IDS)
def test_the_command_line_says_so_in_one_line(
    row, name, content, error, words, make, sound
):
    path = str(make(name, content(sound)))
    result = CliRunner().invoke(main, ["evaluate", "--pair", path, path])
    assert result.exit_code == getattr(errors, error).exit_status
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_no_flipped_bit_of_200_changes_a_voxel_unseen(make, sound):
    """F02: with nibabel 171 of 200 such files load with other voxels."""
    rng = np.random.default_rng(1)
    path = make("scan.nii.gz", sound(NOISE))
    good, before = path.read_bytes(), load_volume(path)
    refusals = 0
    for place in rng.choice(8 * len(good), 200, replace=False):
        content = bytearray(good)
        content[place // 8] ^= 1 << (place % 8)
        path.write_bytes(content)
        try:
            after = load_volume(path)
        except errors.TruncatedFile:
            refusals += 1
        else:  # in what gzip notes about the file: its time, its system
            np.testing.assert_array_equal(after.data, before.data)
            np.testing.assert_array_equal(after.affine, before.affine)
    assert refusals > 190


@pytest.mark.parametrize("place", range(64))
def test_no_flipped_bit_of_the_checksum_passes(place, make, sound, refused):
    """F02: the last eight bytes hold the checksum and the length."""
    path = make("scan.nii.gz", sound(NOISE))
    content = bytearray(path.read_bytes())
    content[-8 + place // 8] ^= 1 << (place % 8)
    path.write_bytes(content)
    assert "checksum" in refused(path, errors.TruncatedFile)


@pytest.mark.parametrize("name", ["bomb.nii", "bomb.nii.gz"])
@pytest.mark.parametrize("dims", [BOMB, CUBE], ids=["bomb", "less"])
def test_a_header_alone_takes_no_memory_and_no_time(name, dims, make):
    """F16."""
    path = make(name, **dims)
    start = time.process_time()
    with pytest.raises(errors.VolumeReadError):
        load_volume(path)
    assert time.process_time() - start < 0.1
    tracemalloc.start()
    with pytest.raises(errors.VolumeReadError):
        load_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_of_a_stream_that_goes_on_for_gigabytes_the_voxels_are_read(make, sound):
    """F17: what the header declares and no more; 20 GB would take six seconds."""
    path = make("bomb.nii.gz", gzip.compress(sound()) + zeros(20))
    assert path.stat().st_size < 25e6
    start = time.process_time()
    tracemalloc.start()
    volume = load_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - start < 5
    assert peak < 10e6
    np.testing.assert_array_equal(np.sort(volume.data, None), np.arange(210))
    assert [note for note in volume.notes if "its checksum was not compared" in note]
    assert volume.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_checksum_behind_megabytes_is_still_compared(make, sound, refused):
    """F17, F02: so that a header whose sizes were damaged does not go unnoticed."""
    whole = gzip.compress(sound() + bytes(5_000_000), mtime=0)
    volume = load_volume(make("long.nii.gz", whole))
    assert [note for note in volume.notes if "5 MB follow the last voxel" in note]
    broken = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    assert "checksum" in refused(make("broken.nii.gz", broken), errors.TruncatedFile)


def test_a_stream_as_large_as_its_header_says_is_too_large(make, sound, refused):
    """F17."""
    whole = sound(dim=(3, 32767, 32767, 20, 1, 1, 1, 1), datatype=2, bitpix=8)
    path = make("bomb.nii.gz", gzip.compress(whole[:352]) + zeros(21.5))
    assert "voxels; the limit is" in refused(path, errors.VolumeTooLarge)


def test_a_volume_larger_than_the_memory_is_refused_with_both_sizes(
    make, sound, refused, monkeypatch
):
    """F28: the limit is asked before a voxel is read."""
    monkeypatch.setattr(_limits, "free_bytes", lambda: 1000)
    said = refused(make("big.nii", sound(NOISE)), errors.VolumeTooLarge)
    assert "GB of memory" in said


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux's")
def test_a_process_with_little_memory_refuses_and_lives(tmp_path, sound):
    """F28: 512 x 512 x 2000 voxels of int16 in a process that may grow by 0.3 GB."""
    path = tmp_path / "huge.nii"
    content = sound(dim=(3, 512, 512, 2000, 1, 1, 1, 1))
    path.write_bytes(content[:352])
    with path.open("r+b") as file:
        file.truncate(352 + 512 * 512 * 2000 * 2)  # a hole: it takes no disk
    code = """
        import json, resource, sys
        import psutil
        from napari_hydraseg.core import errors, load_volume
        load_volume  # imports what reading needs
        limit = psutil.Process().memory_info().vms + 300_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            load_volume(sys.argv[1])
        except errors.HydraSegError as error:
            print(json.dumps([type(error).__name__, str(error)]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    name, said = json.loads(done.stdout)
    assert name == "VolumeTooLarge"
    assert "1.05 GB" in said


def test_an_infinite_voxel_among_nan_leaves_no_number(make, refused):
    """F08: an infinity is no number either."""
    data = np.full((3, 4, 5), np.nan, np.float32)
    data[0, 0, 0] = np.inf
    refused(make("n.nii", data=data), errors.NonFiniteVolume)


def test_an_index_that_is_not_there_is_refused_with_what_there_is(make, refused):
    """F11."""
    path = make("scan.nii", data=np.ones((3, 4, 5, 6), np.int16))
    assert "index 0 to 5" in refused(path, errors.UnsupportedShape, index=6)
    assert "index 0 to 5" in refused(path, errors.UnsupportedShape, index=-1)


def test_a_pair_whose_voxels_are_cut_is_refused(tmp_path, make, sound, refused):
    """F07."""
    content = sound(**PAIR)
    make("a.img", content[352:-1])
    assert "419 of 420" in refused(make("a.hdr", content[:348]), errors.TruncatedFile)


def test_a_picture_with_a_flipped_bit_is_refused(make, refused):
    """F02, for a PNG: decoding alone does not compare the checksums."""
    content = bytearray(png())
    content[-20] ^= 1
    refused(make("us.png", bytes(content)), errors.TruncatedFile)


def test_what_nibabel_takes_is_taken(make):
    """The files here are wrong in one way: without that they load."""
    path = make("scan.nii.gz")
    assert load_volume(path).data.shape == (1, *nib.load(path).shape[::-1])
