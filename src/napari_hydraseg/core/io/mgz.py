"""FreeSurfer's MGH and MGZ files.

The format is described at https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat.
"""

import numpy as np

from ..errors import NotAVolume, TruncatedFile, UnsupportedDtype
from ._voxels import Layout

_HEADER = np.dtype(
    [
        ("version", ">i4"),
        ("dims", ">i4", 4),
        ("type", ">i4"),
        ("dof", ">i4"),
        ("good", ">i2"),
        ("delta", ">f4", 3),
        ("axes", ">f4", (3, 3)),  # one voxel axis a row
        ("centre", ">f4", 3),
    ]
)
_OFFSET = 284
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
# what FreeSurfer takes where the file does not say: a coronal scan of 1 mm
_CORONAL = ((-1, 0, 0), (0, 0, -1), (0, 1, 0))


def layout_of(head: bytes, name: str) -> Layout:
    """Read the header of an MGH file.

    Parameters
    ----------
    head : bytes
        The unpacked file's first bytes.
    name : str
        Name for messages.

    Returns
    -------
    Layout
        In the file's order.

    Raises
    ------
    TruncatedFile, NotAVolume, UnsupportedDtype
        If the header ends early, or cannot be used.
    """
    if len(head) < _OFFSET:
        raise TruncatedFile(
            f"{name} ends within its header ({len(head)} of {_OFFSET} bytes).",
            "Copy or export the scan again.",
        )
    header = np.frombuffer(head, _HEADER, 1)[0]
    shape = tuple(int(n) for n in header["dims"])
    if min(shape) < 1:
        raise NotAVolume(
            f"{name} has impossible dimensions {shape}.", "Export the scan again."
        )
    kind = _TYPES.get(int(header["type"]))
    if kind is None:
        raise UnsupportedDtype(
            f"{name} holds voxels of MGH type {header['type']}, which is not known.",
            "Convert it with mri_convert -odt float.",
        )
    good = header["good"] == 1
    delta = header["delta"].astype(np.float64) if good else np.ones(3)
    axes = header["axes"].astype(np.float64) if good else np.array(_CORONAL, float)
    affine = np.eye(4)
    with np.errstate(all="ignore"):
        affine[:3, :3] = axes.T * delta
        centre = header["centre"].astype(np.float64) if good else np.zeros(3)
        affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape[:3]) / 2)
    return Layout(
        shape=shape[: 3 if shape[3] == 1 else 4],
        dtype=np.dtype(kind),
        offset=_OFFSET,
        affine=affine,
        format="mgh",
        known=frozenset({"spacing", "orientation"} if good else ()),
        notes=() if good else ("The file does not say how the scan is oriented.",),
    )
