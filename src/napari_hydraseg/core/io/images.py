"""2-D pictures (ultrasound, X-ray) as volumes of one slice, without millimetres."""

import io
import warnings
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..errors import (
    HydraSegError,
    NotAVolume,
    TruncatedFile,
    UnsupportedDtype,
    UnsupportedShape,
    VolumeTooLarge,
)
from ._voxels import Layout

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
LARGEST_FILE = 2**30


def read(
    content: bytes, name: str, *, index: int | None = None, ids: bool = False
) -> tuple[NDArray[Any], Layout]:
    """Make voxels of a picture.

    Parameters
    ----------
    content : bytes
        A PNG, JPEG, TIFF or BMP file.
    name : str
        Name for messages.
    index : int, optional
        Colour channel to take (0 red, 1 green, 2 blue), or page of a TIFF.
    ids : bool
        Whether the numbers of a palette are wanted (labels) and not its colours.

    Returns
    -------
    data : ndarray, shape (columns, rows, 1)
        In the order of a NIfTI file without orientation codes (columns, then rows
        from the bottom up), so that a mask written as NIfTI lies on the picture.
    layout : Layout
        With an affine that nibabel gives for such a file and that says nothing about
        the patient.

    Raises
    ------
    NotAVolume, TruncatedFile
        If it is no picture, or a damaged one.
    UnsupportedShape, UnsupportedDtype
        If it has pages or colours and none was picked.
    VolumeTooLarge
        If it has more pixels than Pillow thinks sane.
    """
    pixels, notes = _pixels(content, name, index, ids)
    if notes:
        index = None  # it named the page
    pixels, more = _grey(pixels, name, index)
    rows, columns = pixels.shape
    header = nib.Nifti1Header()
    header.set_data_shape((columns, rows, 1))
    layout = Layout(
        shape=(columns, rows, 1),
        dtype=pixels.dtype,
        offset=0,
        affine=np.asarray(header.get_best_affine(), dtype=np.float64),
        format="image",
        header={"pixdim": [1.0] * 8, "qform_code": 0, "sform_code": 0},
        known=frozenset(),
        notes=(
            "A picture without millimetres: sizes are in pixels.",
            *notes,
            *more,
        ),
    )
    return pixels[::-1].T[..., None], layout


def _pixels(
    content: bytes, name: str, index: int | None, ids: bool
) -> tuple[NDArray[Any], list[str]]:
    """Decode the picture: (row, column) or (row, column, colour)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if content.startswith(b"\x89PNG"):
                # decoding does not compare the checksums of the pieces, this does
                Image.open(io.BytesIO(content), formats=FORMATS).verify()
            picture: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        notes = _turn_to_page(picture, name, index)
        if picture.mode in ("P", "PA") and not ids:
            picture = picture.convert("RGB")
        if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            picture = picture.convert("RGB")
        return np.asarray(picture), notes
    except HydraSegError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise VolumeTooLarge(
            f"{name} promises more than {Image.MAX_IMAGE_PIXELS:.3g} pixels.",
            "Crop the picture.",
        ) from error
    except UnidentifiedImageError as error:
        raise NotAVolume(
            f"{name} is no picture that can be read.", "Save it as PNG."
        ) from error
    except Exception as error:  # Pillow raises many kinds on malformed pictures
        raise TruncatedFile(
            f"{name} is damaged or ends early.", "Copy or export the picture again."
        ) from error


def _turn_to_page(picture: Any, name: str, index: int | None) -> list[str]:
    pages = int(getattr(picture, "n_frames", 1))
    if pages == 1:
        return []
    if index is None or not 0 <= index < pages:
        raise UnsupportedShape(
            f"{name} holds {pages} pictures.",
            f"Choose one of them: index 0 to {pages - 1}.",
        )
    picture.seek(index)
    return [f"Page {index} of {pages} was taken."]


def _grey(
    pixels: NDArray[Any], name: str, index: int | None
) -> tuple[NDArray[Any], list[str]]:
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 2:
        return pixels, []
    colours = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1]
    if (colours == colours[..., :1]).all():
        return colours[..., 0], []
    if index is not None and 0 <= index < colours.shape[-1]:
        return colours[..., index], [f"Colour channel {index} was taken."]
    raise UnsupportedDtype(
        f"{name} is a colour picture; a grey one is needed.",
        "Choose a channel (index 0, 1 or 2) or save it in grey.",
    )


def write(labels: NDArray[Any]) -> bytes:
    """Encode labels of shape (columns, rows, 1), as in `read`, as a grey PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(labels[..., 0].T[::-1])).save(stream, "PNG")
    return stream.getvalue()
