"""The real window of napari, driven by a script as a person would drive it."""

# ruff: noqa: TID251 - it drives the window, so that it knows napari and Qt

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import napari
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QScrollArea, QWidget

from napari_hydraseg.gui import worker
from napari_hydraseg.gui.panel import Panel

_WALK = (1000, 625)  # pixels of the walk-through
_BAND = 40  # pixels of its caption
_COLOURS = 160  # grey values, those of labels, and the theme's: enough


@dataclass
class Window:
    """The window of napari with the panel, its mouse, and where pictures go."""

    viewer: Any
    panel: Panel
    folder: Path
    frames: list[tuple[Image.Image, float]] = field(default_factory=list)
    walking: bool = False

    def control(self, name: str) -> Any:
        """Find a control by its object name."""
        return self.panel.findChild(QWidget, name)

    def click(self, name: str) -> None:
        """Press a button with the mouse."""
        button = self.control(name)
        if not button.isEnabled():
            raise SystemExit(f"{name} is disabled: {button.toolTip()}")
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        self.settle()

    def settle(self, seconds: float = 0.3) -> None:
        """Let the window do what it has to do."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            # without a running event loop, what napari replaced would stay on screen
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
            time.sleep(0.01)

    def wait(self, until: Callable[[], bool], seconds: float = 600) -> None:
        """Wait for something."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                raise SystemExit("The job did not end in time.")
            self.settle(0.05)
        self.settle()

    def finished(self, seconds: float = 600) -> None:
        """Wait until no job is running."""
        self.wait(lambda: worker.running() is None, seconds)

    def pixels(self) -> NDArray[np.uint8]:
        """Photograph the window."""
        self.settle(0.6)
        shot = self.viewer.screenshot(canvas_only=False, flash=False)
        return np.ascontiguousarray(shot[..., :3])

    def picture(self, name: str) -> None:
        """Save what the window shows."""
        pixels = self.pixels()
        Image.fromarray(pixels).save(self.folder / f"{name}.png", optimize=True)
        print(self.folder / f"{name}.png", pixels.shape)

    def frame(self, caption: str, seconds: float = 7) -> None:
        """Add what the window shows to the walk-through, if one is wanted."""
        if not self.walking:
            return
        shown = Image.fromarray(self.pixels()).resize(_WALK, Image.Resampling.LANCZOS)
        whole = Image.new("RGB", (_WALK[0], _WALK[1] + _BAND), "black")
        whole.paste(shown, (0, 0))
        font = ImageFont.load_default(20)
        place = (12, _WALK[1] + _BAND // 2)
        ImageDraw.Draw(whole).text(place, caption, "white", font, anchor="lm")
        self.frames.append((whole, seconds))

    def save_walk(self, path: Path) -> None:
        """Write the walk-through as an animation."""
        first, *others = (
            # by coverage: the few voxels of a label must keep their colour
            frame.quantize(
                _COLOURS,
                method=Image.Quantize.MAXCOVERAGE,
                dither=Image.Dither.NONE,
            )
            for frame, _ in self.frames
        )
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=[round(1000 * seconds) for _, seconds in self.frames],
            loop=0,
            optimize=True,
        )
        total = sum(seconds for _, seconds in self.frames)
        print(path, f"{path.stat().st_size / 1e6:.2f} MB, {total:.0f} s")

    def areas(self) -> list[tuple[str, Any]]:
        """List the steps with the part of each that scrolls."""
        return [
            (room, step.findChild(QScrollArea))
            for room, step in self.panel.steps.items()
        ]


def opened(folder: Path) -> Window:
    """Open napari with the guided panel."""
    viewer = napari.Viewer(show=True)
    panel = Panel(viewer)
    viewer.window.add_dock_widget(panel, name="HydraSeg", area="right")
    window = Window(viewer, panel, folder)
    window.settle(1)
    return window
