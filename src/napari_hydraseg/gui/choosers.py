"""Drop-down lists of layers, models and kinds of scan that keep up by themselves."""

from __future__ import annotations

from typing import Any

import napari.layers
from qtpy.compat import isalive
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
)

from napari_hydraseg import core
from napari_hydraseg.core.errors import HydraSegError, UnknownModel
from napari_hydraseg.core.types import Modality, ModelInfo

from .library import card_text, concerns, library
from .preferences import use_model_folder

_MARGIN = 8  # pixels that a style sheet takes from the field of a drop-down list
MODALITIES: dict[Modality | None, str] = {
    None: "Not stated",
    "MR": "MR",
    "CT": "CT",
    "US": "Ultrasound",
    "XR": "X-ray",
}


class _Box(QComboBox):
    """A drop-down list that never widens the dock with its longest item."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(12)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def paintEvent(self, e: Any) -> None:
        """Draw the field with its name shortened."""
        painter, option = QStylePainter(self), self._option()
        option.currentText = self.shown()
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def shown(self) -> str:
        """Shorten a long name in its middle: both its ends tell layers apart."""
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox,
            self._option(),
            QStyle.SubControl.SC_ComboBoxEditField,
            self,
        )
        return self.fontMetrics().elidedText(
            self.currentText(), Qt.TextElideMode.ElideMiddle, field.width() - _MARGIN
        )

    def _option(self) -> QStyleOptionComboBox:
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        return option


class LayerBox(_Box):
    """Chooses a layer of the viewer and keeps up with its layer list.

    Parameters
    ----------
    viewer : napari.Viewer
        The viewer.
    kind : {"image", "labels"}
        Which layers are offered. Colour pictures and labels over time never are.
    follows : bool
        Whether a layer that has just come is chosen.
    """

    chosen = Signal()

    def __init__(self, viewer: Any, kind: str, *, follows: bool = True) -> None:
        super().__init__()
        self._viewer, self._kind, self._follows = viewer, kind, follows
        self._layers: list[Any] = []
        for name in ("inserted", "removed", "reordered"):
            getattr(viewer.layers.events, name).connect(self._refresh)
        self.currentIndexChanged.connect(lambda _: self.chosen.emit())
        self._refresh()

    def layer(self) -> Any:
        """Give the chosen layer, or None."""
        at = self.currentIndex()
        return self._layers[at] if 0 <= at < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Choose a layer if it is offered."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def _offers(self, layer: Any) -> bool:
        if layer.metadata.get("hydraseg", {}).get("role") == "errors":
            return False  # it shows how two masks differ, and is none
        if self._kind == "labels":
            return isinstance(layer, napari.layers.Labels) and layer.ndim in (2, 3)
        return isinstance(layer, napari.layers.Image) and not layer.rgb

    def _refresh(self, event: Any = None) -> None:
        if not isalive(self):
            return
        before = self.layer()
        found = [layer for layer in self._viewer.layers if self._offers(layer)]
        new = [layer for layer in found if layer not in self._layers]
        self._layers = found
        self.blockSignals(True)
        self.clear()
        for at, layer in enumerate(found):
            self.addItem(layer.name)
            self.setItemData(at, layer.name, Qt.ItemDataRole.ToolTipRole)
        self.blockSignals(False)
        for layer in new:
            layer.events.name.connect(self._rename)
        # a layer that has just come is what the user wants to work on; hidden ones
        # (further channels, a truth) come along with another
        shown = [layer for layer in new if layer.visible]
        follow = shown and (self._follows or before not in found)
        wanted = shown[0] if follow else before
        wanted = wanted if wanted in found else (found[-1] if found else None)
        self.setCurrentIndex(found.index(wanted) if wanted is not None else -1)
        self.chosen.emit()

    def _rename(self, event: Any = None) -> None:
        if isalive(self):
            for at, layer in enumerate(self._layers):
                self.setItemText(at, layer.name)


class ModelBox(_Box):
    """Chooses a model; reads the list again when the library changes."""

    chosen = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._models: list[ModelInfo] = []
        self.problem = ""
        library.changed.connect(self._on_library)
        self.currentIndexChanged.connect(lambda _: self.chosen.emit())
        self.refresh()

    def info(self) -> ModelInfo | None:
        """Give the chosen model, or None."""
        at = self.currentIndex()
        return self._models[at] if 0 <= at < len(self._models) else None

    def path(self) -> str:
        """Give the file of the chosen model.

        Raises
        ------
        UnknownModel
            If none is chosen.
        """
        info = self.info()
        if info is None:
            raise UnknownModel("No model is chosen.", "Add one under Models.")
        return str(info.path)

    def _on_library(self, name: str, window: Any) -> None:
        if isalive(self):
            self.refresh(name if concerns(self, window) else "")

    def refresh(self, choose: str = "") -> None:
        """Read the list of models; choose one by name, else keep the choice."""
        use_model_folder()
        before, problem = self.info(), self.problem
        wanted = choose or (before.name if before else "")
        try:
            self._models, self.problem = list(core.list_models()), ""
        except HydraSegError as error:
            self._models, self.problem = [], str(error)
        names = [model.name for model in self._models]
        self.blockSignals(True)
        self.clear()
        for at, model in enumerate(self._models):
            self.addItem(model.name)
            tip = card_text(model)
            self.setItemData(at, tip, Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(names.index(wanted) if wanted in names else 0)
        self.blockSignals(False)
        if (_about(self.info()), self.problem) != (_about(before), problem):
            self.chosen.emit()


def _about(info: ModelInfo | None) -> tuple[Any, ...]:
    """What forms show of a model."""
    return () if info is None else (info.name, info.path, info.heads, info.card)


class ModalityBox(_Box):
    """Chooses what made a scan: MR, CT, ultrasound, X-ray, or not stated."""

    def __init__(self) -> None:
        super().__init__()
        for kind, words in MODALITIES.items():
            self.addItem(words, kind)

    def modality(self) -> Modality | None:
        """Give the chosen kind of scan."""
        return list(MODALITIES)[self.currentIndex()]

    def show_modality(self, modality: Modality | None) -> None:
        """Show a kind of scan without telling anybody."""
        self.blockSignals(True)
        self.setCurrentIndex(list(MODALITIES).index(modality))
        self.blockSignals(False)
