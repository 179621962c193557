"""What a file is, from its first bytes."""

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "nifti", "pair", "analyze", "mgh", "nrrd", "meta", "dicom", "picture", ""
]

PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM")
_LOOKS_LIKE = {
    b"\x1f\x8b": "packed twice",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file (MINC 2?)",
    b"CDF": "a NetCDF file (MINC 1?)",
    b"\x93NUMPY": "a NumPy array without geometry",
    b"# === DATA DESCRIPTION": "a Philips PAR header",
    b"MZ": "a program",
    b"\x7fELF": "a program",
}


def kind_of(head: bytes) -> Kind:
    """Name the format of a file; "" if it is none that we read.

    Parameters
    ----------
    head : bytes
        Its first 1024 bytes, unpacked.

    Returns
    -------
    str
        "nifti" is one file, "pair" a NIfTI header whose voxels lie in a second file,
        "analyze" a header of that size and no known magic.
    """
    for size, magic in ((348, slice(344, 348)), (540, slice(4, 8))):
        if head[:4] in (size.to_bytes(4, "little"), size.to_bytes(4, "big")):
            version = b"1" if size == 348 else b"2"
            if len(head) < size:
                return "nifti"  # what is left of it
            if head[magic][:3] == b"n+" + version:
                return "nifti"
            if head[magic][:3] == b"ni" + version:
                return "pair"
            return "analyze" if size == 348 else ""
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"NRRD000"):
        return "nrrd"
    if head.startswith(PICTURES):
        return "picture"
    if head.lstrip()[:10] == b"ObjectType" or head.lstrip()[:5] == b"NDims":
        return "meta"
    # version 1, then at least one voxel along the first axis
    if head[:4] == b"\0\0\0\1" and 0 < int.from_bytes(head[4:8], "big") < 2**16:
        return "mgh"
    return "dicom" if is_bare_dicom(head) else ""


def is_bare_dicom(head: bytes) -> bool:
    """Whether DICOM begins without its preamble, by the first element: group 2 or 8."""
    if len(head) < 8:
        return False
    if head[0] in (2, 8) and head[1] == head[3] == 0:  # little endian
        return head[2] <= 0x18
    kind = head[4:6]  # big endian says what kind of element follows
    known = kind.isalpha() and kind.isupper()
    return head[0] == head[2] == 0 and head[1] in (2, 8) and head[3] <= 0x18 and known


def looks_like(head: bytes) -> str:
    """Name in plain words what a file that is no scan may be."""
    for start, words in _LOOKS_LIKE.items():
        if head.startswith(start):
            return words
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head")):
        return "a web page"
    if text.startswith(b"type = "):
        return "an AFNI header"
    if head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "text"
    return "in no format that is read"
