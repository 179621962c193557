"""The nouns: what the verbs of this package take and give.

Voxel arrays are in the order (z, y, x), z towards Superior, y towards Posterior, x
towards Left; affines map (z, y, x, 1) to millimetres in (S, P, L). See `core.io` for
the only place where other conventions appear. Each kind of noun stands in a file of its
own; all are taken from here.
"""

from ._model import (
    Checkpoint,
    ModelInfo,
    ModelSpec,
)
from ._results import (
    CohortReport,
    FinetuneResult,
    Report,
    ShiftReport,
    TransferReport,
    Verdict,
)
from ._scan import (
    MODALITIES,
    PLANES,
    Modality,
    Plane,
    Segmentation,
    SourceGrid,
    Volume,
)
from ._steps import (
    Progress,
    Steps,
    T,
    finish,
    relay,
)

__all__ = [
    "MODALITIES",
    "PLANES",
    "Checkpoint",
    "CohortReport",
    "FinetuneResult",
    "Modality",
    "ModelInfo",
    "ModelSpec",
    "Plane",
    "Progress",
    "Report",
    "Segmentation",
    "ShiftReport",
    "SourceGrid",
    "Steps",
    "T",
    "TransferReport",
    "Verdict",
    "Volume",
    "finish",
    "relay",
]
