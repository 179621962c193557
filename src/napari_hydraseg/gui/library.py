"""The user's library of models: news of its changes, cards in plain words, keeping."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from napari_hydraseg import core
from napari_hydraseg.core.types import Checkpoint, FinetuneResult, ModelInfo


class _Library(QObject):
    """Tells every list of models when the user's models change."""

    changed = Signal(str, object)  # a model to choose, or "", and in which window

    def tell(self, name: str, widget: QWidget) -> None:
        """Send news of the models.

        Parameters
        ----------
        name : str
            The model to choose, or "".
        widget : QWidget
            Who says so: only lists in the same window choose it.
        """
        self.changed.emit(name, _window_of(widget))


library = _Library()


def concerns(widget: QWidget, window: QWidget | None) -> bool:
    """Whether a widget is in the window that chooses another model; None: in all."""
    return window is None or _window_of(widget) is window


def _window_of(widget: QWidget) -> QWidget:
    """Give the window that a widget belongs to, also while its dock floats."""
    parent = widget.parentWidget()
    return widget if parent is None else _window_of(parent)


def card_text(model: ModelInfo) -> str:
    """Tell what one should know before choosing a model, in plain words."""
    card = model.card
    lines = [str(card.get("title") or model.name)]
    if card.get("description"):
        lines.append(str(card["description"]))
    for head, about in dict(card.get("heads", {})).items():
        about = dict(about)
        dice = ", ".join(
            f"{name} {score['mean']:.2f} (n = {score['n']})"
            for name, score in dict(about.get("dice", {})).items()
            if isinstance(score, dict) and score.get("mean") is not None
        )
        seen = "/".join(about.get("modality", ())) or "?"
        scored = f"; Dice on scans not trained on: {dice}" if dice else ""
        lines.append(f"• {head} ({seen}, licence {about.get('licence', '?')}){scored}")
    lines += [f"• Limit: {limit}" for limit in card.get("limits", ())]
    lines.append(f"Network {model.network}, {model.size_mb:.1f} MB, {model.source}")
    return "\n".join(lines)


def keep(result: FinetuneResult) -> str:
    """Save a new model in the user's folder of models.

    Parameters
    ----------
    result : FinetuneResult
        What `core.finetune` gave; its candidate is saved.

    Returns
    -------
    str
        The model's name: of its card, with the head, or a number, if there is one of
        that name.
    """
    taken = {model.name for model in core.list_models()}
    name = result.candidate.name
    return adopt(
        result.candidate, name=f"{name}+{result.head}" if name in taken else name
    )


def adopt(checkpoint: Checkpoint, *, name: str = "") -> str:
    """Save a model in the user's folder of models; none is replaced.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model.
    name : str
        What to call it; default: the name in its card.

    Returns
    -------
    str
        Its name in the library, with a number if there is one of that name.
    """
    taken = {model.name for model in core.list_models()}
    base = name = name or checkpoint.name
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    card = {**checkpoint.card, "name": name}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        core.save_checkpoint(replace(checkpoint, card=card), path)
        return core.add_model(path, name=name).name
