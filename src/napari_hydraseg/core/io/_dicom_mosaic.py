"""Siemens mosaics: the slices of a volume, laid out in one picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MixedSeries, UnsupportedShape
from ._dicom_frames import Frame
from ._dicom_headers import Header
from ._dicom_open import opened, quiet
from ._dicom_pixels import fill

_CONVERT = "Convert it to NIfTI, for instance with dcm2niix."


def is_mosaic(header: Header) -> bool:
    """Whether the picture of a file holds many slices side by side."""
    return "MOSAIC" in (header.values.get("ImageType") or ())


def mosaic(
    listed: Sequence[Frame], name: str, *, index: int | None = None
) -> tuple[NDArray[Any], NDArray[np.float64], str, list[str]]:
    """Cut a mosaic into its slices.

    Parameters
    ----------
    listed : sequence of Frame
        One mosaic each.
    name : str
        Name for messages.
    index : int, optional
        Which of several, in the order of acquisition.

    Returns
    -------
    voxels : ndarray, shape (column, row, slice)
        Rescaled.
    affine_lps : ndarray, shape (4, 4)
        Index to mm in LPS, from the scanner's private header, by nibabel.
    sha256 : str
        Of the file.
    notes : list of str
        What was done.

    Raises
    ------
    MixedSeries
        If some of the files are no mosaics.
    UnsupportedShape
        If there are several and none was chosen, or the private header was removed.
    """
    if not all(is_mosaic(frame.header) for frame in listed):
        raise MixedSeries(
            f"{name} holds mosaics and other pictures.",
            "Put those of one kind into a folder of their own.",
        )
    place = 0 if len(listed) == 1 else index
    if place is None or not 0 <= place < len(listed):
        raise UnsupportedShape(
            f"{name} holds {len(listed)} volumes, each in a mosaic.",
            f"Choose one of them: index 0 to {len(listed) - 1}.",
        )
    one = sorted(listed, key=lambda frame: frame.key)[place]
    count, affine = _layout(one.header)
    picture, digest = fill([one], name)
    side = int(np.ceil(np.sqrt(count)))
    rows, columns = (size // side for size in picture.shape[1:])
    if (rows * side, columns * side) != picture.shape[1:]:
        raise UnsupportedShape(f"{name} is no even mosaic.", _CONVERT)
    tiles = picture[0].reshape(side, rows, side, columns).swapaxes(1, 2)
    slices = tiles.reshape(-1, rows, columns)[:count]
    notes = [f"The {count} slices were taken from a mosaic."]
    if len(listed) > 1:
        notes.append(f"Volume {place} of 0 to {len(listed) - 1} was taken.")
    return slices.transpose(2, 1, 0), affine, digest, notes


def _layout(header: Header) -> tuple[int, NDArray[np.float64]]:
    """Number of slices, and index (column, row, slice) to mm in LPS."""
    from pydicom import dcmread

    with quiet(header.name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls all of its DICOM experimental
        from nibabel.nicom import dicomwrappers

        with opened(header.path) as (file, _):
            dataset = dcmread(file, force=True, stop_before_pixels=True)
        try:
            wrapper = dicomwrappers.MosaicWrapper(dataset)
            affine = np.asarray(wrapper.affine, np.float64)
        except (dicomwrappers.WrapperError, KeyError, TypeError) as error:
            raise UnsupportedShape(
                f"{header.name} is a mosaic whose private header was removed.", _CONVERT
            ) from error
    return int(wrapper.n_mosaic), affine[:, [1, 0, 2, 3]]  # nibabel: rows first
