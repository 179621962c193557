"""2-D pictures (ultrasound, X-ray) as volumes of one slice, without millimetres."""

import io
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import NotAVolume, UnsupportedDtype, UnsupportedShape
from ..types import SourceGrid

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM")


def parse(
    content: bytes, name: str, *, index: int | None = None
) -> tuple[NDArray[Any], NDArray[np.float64], SourceGrid, list[str]]:
    """Make voxels of a picture; the same answers as `nifti.parse`.

    Parameters
    ----------
    content : bytes
        A PNG, JPEG, TIFF or BMP file.
    name : str
        Name for messages.
    index : int, optional
        Colour channel to take (0 red, 1 green, 2 blue).

    Returns
    -------
    data : ndarray, shape (columns, rows, 1)
        In the order of a NIfTI file without orientation codes (columns, then rows
        from the bottom up), so that a mask written as NIfTI lies on the picture.
    affine : ndarray, shape (4, 4)
        What nibabel gives for such a file. It says nothing about the patient.
    grid : SourceGrid
        With format "image".
    notes : list of str
        What was unusual.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        if getattr(picture, "n_frames", 1) > 1:
            raise UnsupportedShape(
                f"{name} holds {picture.n_frames} pictures.",  # type: ignore[attr-defined]  # only multi-frame classes have it
                "Save the one you want as a file of its own.",
            )
        pixels = np.asarray(picture)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise NotAVolume(f"{name} is no picture that can be read.") from error
    pixels, notes = _grey(pixels, name, index)
    rows, columns = pixels.shape
    header = nib.Nifti1Header()
    header.set_data_shape((columns, rows, 1))
    grid = SourceGrid(
        shape=(columns, rows, 1),
        transform=np.empty((0, 2)),
        header={"pixdim": [1.0] * 8, "qform_code": 0, "sform_code": 0},
        format="image",
    )
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    return pixels[::-1].T[..., None], affine, grid, notes


def _grey(
    pixels: NDArray[Any], name: str, index: int | None
) -> tuple[NDArray[Any], list[str]]:
    notes = ["A picture without millimetres: sizes are in pixels."]
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if pixels.ndim == 2:
        return pixels, notes
    colours = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1]
    if index is not None and index < colours.shape[-1]:
        return colours[..., index], [*notes, f"Colour channel {index} was taken."]
    if (colours == colours[..., :1]).all():
        return colours[..., 0], notes
    raise UnsupportedDtype(
        f"{name} is a colour picture; a grey one is needed.",
        "Choose a channel (index 0, 1 or 2) or save it in grey.",
    )


def write(labels: NDArray[Any]) -> bytes:
    """Encode labels of shape (columns, rows, 1), as in `parse`, as a grey PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(labels[..., 0].T[::-1])).save(stream, "PNG")
    return stream.getvalue()
