"""NRRD and MetaImage files, through SimpleITK (the ``[itk]`` extra)."""

import contextlib
import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from ..errors import NotAVolume, TruncatedFile, UnsupportedDtype
from ._limits import check_size
from ._stream import ScanFile
from ._voxels import Layout, pick

HEADER_BYTES = 2**18  # of text; 3D Slicer writes a few kB
_TYPES = {
    **{f"{8 * n}-bit unsigned integer": f"u{n}" for n in (1, 2, 4, 8)},
    **{f"{8 * n}-bit signed integer": f"i{n}" for n in (1, 2, 4, 8)},
    **{f"{8 * n}-bit float": f"f{n}" for n in (4, 8)},
}
_NEEDED = {
    "nrrd": ("type", "dimension", "sizes", "encoding"),
    "meta": ("ndims", "dimsize", "elementtype", "elementdatafile"),
}
_END_NRRD = re.compile(rb"\r?\n\r?\n")
_END_META = re.compile(rb"ElementDataFile[ \t]*=[ \t]*LOCAL[ \t]*\r?\n", re.IGNORECASE)
_PIECE = 2**22
_INSIDE = {"local", ""}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read(
    path: Path,
    file: ScanFile,
    kind: Literal["nrrd", "meta"],
    *,
    index: int | None = None,
) -> tuple[NDArray[Any], Layout, str]:
    """Read an NRRD or MetaImage file.

    Parameters
    ----------
    path : Path
        The file; of two, that of the header.
    file : ScanFile
        The same, open.
    kind : {"nrrd", "meta"}
        What it is.
    index : int, optional
        Which volume of a 4-D file or which sample of a colour.

    Returns
    -------
    data : ndarray, shape (i, j, k)
        Voxels, the fastest axis of the file first.
    layout : Layout
        Of the file.
    sha256 : str
        Digest of the file, or of the digests of header and voxel file.

    Raises
    ------
    VolumeReadError
        If SimpleITK is missing, or the file cannot be read or is damaged.
    """
    sitk = _simpleitk(file.name)
    if file.packed:
        raise NotAVolume(
            f"{file.name} is packed as a whole, which this format does not know.",
            "Unpack it with gunzip first.",
        )
    text = file.peek(HEADER_BYTES)
    fields = _fields(text, kind, file.name)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if kind == "nrrd" else "MetaImageIO")
    with _translated(file.name):
        reader.ReadImageInformation()
        layout = _layout(sitk, reader, fields, file.name)
        volume, _, sample = pick(layout, index, file.name)
        size = layout.dtype.itemsize * layout.samples
        check_size(layout.shape, 2 * size, file.name)
        wanted = math.prod(layout.shape) * size
        digest = _checked(path, file, fields, text, wanted)
        image = reader.Execute()  # it owns what the view below shows
        values = sitk.GetArrayViewFromImage(image)
        values = values[..., sample] if layout.samples > 1 else values
        values = values.reshape(-1, *values.shape[-3:])[volume]
        return np.array(values.T, order="F"), layout, digest


def _checked(
    path: Path, file: ScanFile, fields: dict[str, str], text: bytes, wanted: int
) -> str:
    """Read both files to their end and compare checksums, which ITK does not."""
    voxels = _voxel_file(path, fields, file.name)
    if voxels is None:
        file.skip(_end_of_header(text))
        check_packed(file, fields, wanted)
        return file.sha256
    file.finish()
    with ScanFile(voxels) as other:
        if other.packed:  # a gzip stream is compared when it is read to its end
            other.skip(wanted)
            other.finish()
        else:
            check_packed(other, fields, wanted)
        both = file.sha256 + other.sha256
    return hashlib.sha256(both.encode()).hexdigest()


def check_packed(file: ScanFile, fields: dict[str, str], wanted: int) -> None:
    """Unpack what is left of a file to nowhere, for the sake of its checksum.

    Parameters
    ----------
    file : ScanFile
        At its first voxel.
    fields : mapping
        Of the header.
    wanted : int
        Bytes of voxels that the header promises.

    Raises
    ------
    TruncatedFile
        If it ends early, or the checksum is wrong: ITK reads such files with other
        voxels and without an error.
    """
    wbits = _wbits(fields)
    if wbits is None:
        if _is_raw(fields):
            file.require(wanted, after=file.position)
        file.finish()
        return
    inflate, total = isal_zlib.decompressobj(wbits=wbits), 0
    try:
        for block in file.blocks():
            while block and not inflate.eof and total <= wanted:
                total += len(inflate.decompress(block, _PIECE))
                block = inflate.unconsumed_tail
    except cast(type[Exception], IsalError) as error:
        raise TruncatedFile(
            f"{file.name} is damaged: its checksum or its packing is wrong.",
            "Copy or export the scan again.",
        ) from error
    if not inflate.eof or total != wanted:
        raise TruncatedFile(
            f"{file.name} holds {total} of {wanted} bytes of voxels, or no checksum.",
            "Copy or export the scan again.",
        )


def _wbits(fields: dict[str, str]) -> int | None:
    """How the voxels are packed, in zlib's terms; None if they are not, or oddly."""
    if {"lineskip", "byteskip"} & fields.keys():
        return None
    if fields.get("encoding", "").lower() in ("gz", "gzip"):
        return 31
    packed = fields.get("compresseddata", "").lower() in ("true", "1", "yes")
    return 15 if packed else None


def _is_raw(fields: dict[str, str]) -> bool:
    if {"lineskip", "byteskip", "headersize"} & fields.keys():
        return False
    if "encoding" in fields:
        return fields["encoding"].lower() == "raw"
    return fields.get("binarydata", "true").lower() == "true"


def _end_of_header(text: bytes) -> int:
    """Where the voxels begin in a file that holds both."""
    pattern = _END_NRRD if text.startswith(b"NRRD") else _END_META
    found = pattern.search(text)
    return found.end() if found else len(text)


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # SimpleITK knows no other
        raise TruncatedFile(
            f"{name} is damaged or ends early.", "Copy or export the scan again."
        ) from error


def _simpleitk(name: str) -> Any:
    try:
        import SimpleITK
    except ModuleNotFoundError as error:
        raise NotAVolume(
            f"{name} is an NRRD or MetaImage file; reading it needs SimpleITK.",
            'Run: pip install "napari-hydraseg[itk]".',
        ) from error
    # what is odd becomes a note of ours; ITK would write it to the terminal
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return SimpleITK


def _fields(
    text: bytes, kind: Literal["nrrd", "meta"], name_of_file: str
) -> dict[str, str]:
    """Read the header's text; names in lower case, without blanks."""
    fields = {}
    for line in text.decode("latin-1").splitlines():
        if not line.strip() and kind == "nrrd":
            break
        name, colon, value = line.partition(":" if kind == "nrrd" else "=")
        name = name.strip().lower().replace(" ", "")
        if colon and not value.startswith("="):  # key:=value is anybody's remark
            fields[name] = value.strip()
        if name == "elementdatafile":
            break
    # ITK would complain of these to the terminal
    missing = [name for name in _NEEDED[kind] if name not in fields]
    if missing:
        raise NotAVolume(
            f"{name_of_file} has no {missing[0]} in its header.",
            "Export the scan again.",
        )
    return fields


def _voxel_file(path: Path, fields: dict[str, str], name: str) -> Path | None:
    """Find the second file, which must lie beside the first."""
    wanted = next(
        (fields[key] for key in ("elementdatafile", "datafile") if key in fields), ""
    )
    if wanted.lower() in _INSIDE:
        return None
    beside = path.with_name(Path(wanted).name)
    if Path(wanted).name != wanted.removeprefix("./") or not beside.is_file():
        raise NotAVolume(
            f"{name} names a second file for its voxels, which is not beside it.",
            "Copy both files into one folder.",
        )
    return beside


def _layout(sitk: Any, reader: Any, fields: dict[str, str], name: str) -> Layout:
    words = sitk.GetPixelIDValueAsString(reader.GetPixelID()).removeprefix("vector of ")
    if words not in _TYPES:
        raise UnsupportedDtype(
            f"{name} holds voxels of the kind {words}.", "Export grey values."
        )
    size = tuple(int(n) for n in reader.GetSize())
    n = len(size)
    affine = np.eye(4)
    if n >= 3:
        direction = np.array(reader.GetDirection()).reshape(n, n)[:3, :3]
        affine[:3, :3] = direction * np.array(reader.GetSpacing())[:3]
        affine[:3, 3] = reader.GetOrigin()[:3]
    known = _known(fields)
    notes = []
    if "orientation" not in known:
        notes.append("The file does not say how the scan is oriented.")
    if "spacing" not in known:
        notes.append("The file names no voxel size.")
    return Layout(
        shape=size,
        dtype=np.dtype(_TYPES[words]),
        offset=0,
        affine=_LPS_TO_RAS @ affine,
        format="nrrd" if "encoding" in fields else "meta",
        known=known,
        samples=int(reader.GetNumberOfComponents()),
        notes=tuple(notes),
    )


def _known(fields: dict[str, str]) -> frozenset[str]:
    patient = any(
        word in fields.get("space", "").lower()
        for word in ("left", "right", "las", "lps", "ras")
    )
    directed = "spacedirections" in fields
    oriented = (directed and patient) or bool(
        {"transformmatrix", "rotation", "orientation"} & fields.keys()
    )
    sized = directed or bool(
        {"spacings", "elementspacing", "elementsize"} & fields.keys()
    )
    return frozenset(
        [*(["spacing"] if sized else []), *(["orientation"] if oriented else [])]
    )
