"""Which heads run, as which modality a scan counts, and on which device."""

from collections.abc import Sequence

import torch

from .errors import DeviceUnavailable, UnknownModel, WrongInput
from .types import MODALITIES, Checkpoint, Modality, Volume


def choose(
    volume: Volume, checkpoint: Checkpoint, heads: Sequence[str]
) -> tuple[tuple[str, ...], Modality, list[str]]:
    """Settle which heads to run and as which modality the scan counts.

    Returns
    -------
    heads : tuple of str
    modality : str
    notes : list of str
        Fall-backs that were taken.
    """
    spec, card = checkpoint.spec, checkpoint.card
    for head in heads:
        if head not in spec.heads:
            raise UnknownModel(
                f"The model has no head {head!r}; it has {', '.join(spec.heads)}.",
                "Choose one of these.",
            )
    modality, notes = modality_of(volume, checkpoint, heads)
    if heads:
        return tuple(heads), modality, notes
    recommended = card.get("recommended", {}).get(modality)
    if not recommended and len(spec.heads) == 1:
        recommended = list(spec.heads)
    if not recommended:
        raise WrongInput(
            f"The model has no head for scans of modality {modality}.",
            f"Choose one of {', '.join(spec.heads)}, or another model.",
        )
    return tuple(recommended), modality, notes


def device_of(name: str) -> str:
    """Settle where to compute.

    Raises
    ------
    DeviceUnavailable
        If a device is named that is not there.
    """
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there.get(name, False):
        raise DeviceUnavailable(f"There is no device {name!r} here.", "Use cpu.")
    return name


def modality_of(
    volume: Volume, checkpoint: Checkpoint, heads: Sequence[str] = ()
) -> tuple[Modality, list[str]]:
    """Settle as which modality a scan counts: as stated, else a reasoned guess.

    Returns
    -------
    modality : str
    notes : list of str
        The guess and its reason, if it was one.

    Raises
    ------
    WrongInput
        If a picture may be ultrasound or X-ray.
    """
    if volume.modality is not None:
        return volume.modality, []
    known = [m for m in MODALITIES if m in checkpoint.spec.intensity]
    of_heads = {
        m
        for head in heads
        for m in checkpoint.card.get("heads", {}).get(head, {}).get("modality", [])
    }
    able = [m for m in known if m in of_heads] or known
    if len(able) == 1:
        guess = able[0]
        why = "what the head was trained on" if of_heads else "the model knows no other"
    elif volume.grid is not None and volume.grid.format == "image":
        raise WrongInput(
            f"{volume.source} does not say whether it is {' or '.join(able)}.",
            "State the modality.",
        )
    elif float(volume.data.min()) < -500 and "CT" in able:  # air in Hounsfield units
        guess, why = "CT", "it holds Hounsfield units"
    else:
        guess, why = "MR", "nothing says otherwise"
    return guess, [f"The scan's modality is not stated; {guess} was taken: {why}."]
