"""The library of models: those that came with the package and the user's own.

The user's own lie in the folder that ``HYDRASEG_WEIGHTS`` names, else in the user's
data folder.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from platformdirs import user_data_path

from .checkpoint import SUFFIX, load_checkpoint, read_metadata, save_checkpoint
from .errors import ChecksumMismatch, NotWritable, UnknownModel, WeightsError
from .types import Checkpoint, ModelInfo

BUNDLED = Path(__file__).parent.parent / "weights"


def user_folder() -> Path:
    """Return the folder of the user's own models; it need not exist yet."""
    named = os.environ.get("HYDRASEG_WEIGHTS")
    return Path(named) if named else user_data_path("napari-hydraseg") / "models"


def list_models() -> list[ModelInfo]:
    """List the models, bundled ones first; no tensor is read.

    Returns
    -------
    list of ModelInfo
        Files that are no model of ours are left out.
    """
    return list(_models())


def get_model(name_or_path: str | Path) -> Checkpoint:
    """Load a model.

    Parameters
    ----------
    name_or_path : str or path
        A name of `list_models`, or a model file.

    Returns
    -------
    Checkpoint
        Weights, spec, card and reference.

    Raises
    ------
    WeightsError
        If there is no such model, or its file is damaged. A file of the user's own
        library whose tensors are not those that were saved is put aside as
        ``NAME.safetensors.bad``.
    """
    path = model_path(name_or_path)
    try:
        return load_checkpoint(path)
    except ChecksumMismatch:
        if path.parent == user_folder():
            with contextlib.suppress(OSError):  # the message matters more
                path.rename(path.with_name(f"{path.name}.bad"))
        raise


def model_path(name_or_path: str | Path) -> Path:
    """Find the file of a model.

    Raises
    ------
    UnknownModel
        If there is none; the message lists the names.
    """
    path = Path(name_or_path)
    if "://" in str(name_or_path):
        raise UnknownModel(
            "Models are not fetched from the network.",
            "Get the file by other means, then `hydraseg models add FILE`.",
        )
    if path.suffix == SUFFIX or path.is_file():
        if path.is_file():
            return path
        raise UnknownModel(f"{path.name} is no model file.", "Choose a model file.")
    known = {info.name: info.path for info in _models()}
    if str(name_or_path) not in known:
        raise UnknownModel(
            f"There is no model {str(name_or_path)!r}; known are "
            f"{', '.join(known) or 'none'}.",
            "Choose one of these, or a model file.",
        )
    return known[str(name_or_path)]


def model_info(path: str | Path) -> ModelInfo:
    """Read the line that describes a model file."""
    return _info(Path(path), "file")


def add_model(
    path: str | Path, *, name: str | None = None, overwrite: bool = False
) -> ModelInfo:
    """Copy a model file into the user's folder, after checking it.

    Parameters
    ----------
    path : path
        A model file.
    name : str, optional
        Its name in the library; default: the name in its card.
    overwrite : bool
        Whether a model of the user's of that name may be replaced.

    Returns
    -------
    ModelInfo
        The new entry.

    Raises
    ------
    WeightsError
        If the file is no model, or the name is one of the bundled models'.
    SaveError
        If there is one of that name and `overwrite` is False.
    """
    checkpoint = load_checkpoint(path)
    name = name or checkpoint.name
    if any(i.name == name and i.source == "bundled" for i in _models()):
        raise WeightsError(
            f"{name!r} is the name of a bundled model.", "Choose another name."
        )
    folder = user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritable(
            f"The folder of models {folder.name!r} cannot be made.",
            "Name another in HYDRASEG_WEIGHTS.",
        ) from error
    target = folder / f"{_file_name(name)}{SUFFIX}"
    named = replace(checkpoint, card={**checkpoint.card, "name": name})
    save_checkpoint(named, target, overwrite=overwrite)
    return _info(target, "user")


def remove_model(name: str) -> None:
    """Delete one of the user's own models.

    Raises
    ------
    UnknownModel
        If there is no such model of the user's.
    """
    for info in _models():
        if info.name == name and info.source == "user":
            info.path.unlink(missing_ok=True)
            return
    raise UnknownModel(
        f"There is no model {name!r} of your own.", "Bundled models stay."
    )


def export_model(name: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a model of the library to a file, to be given to others."""
    save_checkpoint(get_model(name), path, overwrite=overwrite)


def _models() -> Iterator[ModelInfo]:
    seen: set[str] = set()
    folders: tuple[tuple[Path, Literal["bundled", "user"]], ...] = (
        (BUNDLED, "bundled"),
        (user_folder(), "user"),
    )
    for folder, source in folders:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                info = _info(path, source)
            except (WeightsError, OSError):
                continue  # a damaged file must not hide the others; opening it says why
            if info.name not in seen:
                seen.add(info.name)
                yield info


def _info(path: Path, source: Literal["bundled", "user", "file"]) -> ModelInfo:
    metadata = read_metadata(path)
    spec, card = metadata["spec"], metadata["card"]
    return ModelInfo(
        name=str(card.get("name", path.stem)),
        network=spec.network,
        heads=spec.heads,
        modality=tuple(spec.intensity),
        licence=str(card.get("licence", "not stated")),
        size_mb=round(path.stat().st_size / 1e6, 2),
        path=path,
        source=source,
        card=card,
    )


def _file_name(name: str) -> str:
    """Keep what every file system takes."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return kept.strip(".") or "model"
