"""The public API without screen: no Qt, no napari, importable on a cluster node.

Every name is imported from its module on first use, so that ``import
napari_hydraseg.core`` is quick and needs no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_HOMES = {
    "types": (
        "Checkpoint",
        "CohortReport",
        "FinetuneResult",
        "ModelInfo",
        "ModelSpec",
        "Progress",
        "Report",
        "Segmentation",
        "ShiftReport",
        "SourceGrid",
        "Steps",
        "TransferReport",
        "Volume",
        "finish",
    ),
    "errors": ("HydraSegError",),
    "io": (
        "load_segmentation",
        "load_volume",
        "save_segmentation",
        "save_volume",
    ),
    "io.export": ("save_dicom_seg", "save_seg_nrrd"),
    "checkpoint": ("load_checkpoint", "save_checkpoint"),
    "models": (
        "add_model",
        "export_model",
        "get_model",
        "list_models",
        "remove_model",
    ),
    "networks": ("build", "network"),
    "convert": ("convert",),
    "inference": ("encode", "segment"),
    "finetune": ("finetune",),
    "_model_card": ("model_card",),
    "pretrain": ("pretrain",),
    "cleaning": ("clean",),
    "interpolation": ("fill_between",),
    "threshold": ("redraw",),
    "cohorts": ("compare_cohorts",),
    "disagreement": ("disagreement", "worst_slices"),
    "shift": ("mmd", "mmd_test", "shift"),
    "transfer": ("compare_transfer",),
    "metrics": (
        "accuracy",
        "dice",
        "evaluate",
        "hausdorff95_mm",
        "hausdorff_mm",
        "iou",
        "mean_surface_distance_mm",
        "precision",
        "sensitivity",
        "specificity",
        "summarise",
        "surface_dice",
    ),
    "report": ("describe", "write_report"),
    "pace": ("measure_pace",),
    "suggestion": ("look_at_slices", "rank_slices"),
    "phantom": ("heart_phantom",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Core(ModuleType):
    """Keep a verb from being hidden by the module of the same name.

    Importing ``core.shift`` would otherwise put the module in the verb's place.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Core
