"""DICOM that says nothing of where it lies: stills and films of ultrasound, X-rays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedDtype, UnsupportedShape
from ..types import SourceGrid, Volume
from . import frame as frames
from ._dicom_frames import Frame
from ._dicom_headers import Header
from ._dicom_open import quiet
from ._dicom_pixels import decoded, digest_of, fill
from ._dicom_values import is_coloured


def picture(listed: Sequence[Frame], name: str, *, index: int | None = None) -> Volume:
    """Make a volume of one slice, whose orientation is not known.

    Parameters
    ----------
    listed : sequence of Frame
        One, or those of a film or of several files.
    name : str
        Name for messages.
    index : int, optional
        Which frame of several; which colour of a picture.

    Raises
    ------
    UnsupportedShape
        If there are several and none was chosen.
    UnsupportedDtype
        If it is in colour and no channel was chosen.
    """
    notes = ["The scan does not say how it is oriented."]
    channel = index
    if len(listed) > 1:
        if index is None or not 0 <= index < len(listed):
            raise UnsupportedShape(
                f"{name} holds {len(listed)} pictures that say nothing of their place.",
                f"Choose one of them: index 0 to {len(listed) - 1}.",
            )
        notes.append(f"Picture {index} of 0 to {len(listed) - 1} was taken.")
        channel = None
    one = listed[index if len(listed) > 1 and index is not None else 0]
    if not is_coloured(one.header):
        voxels, digest = fill([one], name)
    else:
        voxels, digest, more = _grey(one, channel)
        notes += more
    return _as_volume(voxels, one, digest, notes)


def _grey(one: Frame, channel: int | None) -> tuple[NDArray[Any], str, list[str]]:
    """Take the grey of a colour picture if it is grey, else the chosen channel."""
    name = one.header.name
    with quiet(name):
        _, colours = next(decoded(one.header, [one.number]))
    digest = digest_of(one.header.path)
    if colours.ndim == 3 and (colours == colours[..., :1]).all():
        return colours[None, ..., 0].copy(), digest, []
    if colours.ndim == 3 and channel is not None and 0 <= channel < colours.shape[2]:
        note = f"Colour channel {channel} was taken."
        return colours[None, ..., channel].copy(), digest, [note]
    raise UnsupportedDtype(
        f"{name} is a colour picture; a grey one is needed.",
        "Choose a channel (index 0, 1 or 2) or save it in grey.",
    )


def _of_regions(header: Header) -> tuple[NDArray[np.float64] | None, str]:
    """Distance of rows and of columns in mm, as an ultrasound machine states it.

    Its picture may hold several regions, each of a scale of its own: DICOM PS3.3,
    C.8.5.5. Those count that show a plane (spatial format 1) and are in cm (unit 3).
    """
    sizes = {
        (abs(10 * float(one.PhysicalDeltaY)), abs(10 * float(one.PhysicalDeltaX)))
        for one in header.values.get("SequenceOfUltrasoundRegions") or ()
        if one.get("RegionSpatialFormat") == 1
        and one.get("PhysicalUnitsXDirection") == 3
        and one.get("PhysicalUnitsYDirection") == 3
        and all(one.get(f"PhysicalDelta{axis}") for axis in "XY")
    }
    if len(sizes) > 1:
        return None, "Its regions are of different scales: no millimetre is known."
    if not sizes or not np.isfinite([*sizes]).all():
        return None, ""
    note = "The size of a pixel is that of the ultrasound region; it holds within that."
    return np.array(sizes.pop()), note


def _as_volume(
    voxels: NDArray[Any], one: Frame, digest: str, notes: list[str]
) -> Volume:
    """Lay it out as other pictures are: rows from the top, columns from the left."""
    spacing, more = (one.spacing_mm, "")
    if spacing is None:
        spacing, more = _of_regions(one.header)
    notes += filter(None, [more])
    _, rows, columns = voxels.shape
    header: Any = nib.Nifti1Header()
    header.set_data_shape((columns, rows, 1))
    if spacing is None:
        notes.append("A picture without millimetres: sizes are in pixels.")
    else:
        header["pixdim"][1:4] = spacing[1], spacing[0], 1.0
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    transform = frames.transform_of(affine)
    shape = (columns, rows, 1)
    sizes = [float(size) for size in header["pixdim"]]
    return Volume(
        data=voxels[None],
        affine=frames.affine_to_ours(affine, transform, shape),
        known=frozenset() if spacing is None else frozenset({"spacing"}),
        grid=SourceGrid(
            shape=shape,
            transform=transform,
            header={"pixdim": sizes, "qform_code": 0, "sform_code": 0},
            format="image",
        ),
        sha256=digest,
        notes=tuple(notes),
    )
