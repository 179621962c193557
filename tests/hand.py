"""A user's hand in a napari window: mouse and keys, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QWidget,
)

from napari_hydraseg.gui import view

LEFT = Qt.MouseButton.LeftButton


class Hand:
    """Presses, types, chooses and paints as a person does.

    Parameters
    ----------
    viewer : napari.Viewer
        Its window must be shown. Of it only the camera is read, to aim with.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        (self.window,) = (
            shown
            for shown in QApplication.topLevelWidgets()
            if isinstance(shown, QMainWindow) and shown.isVisible()
        )
        found = self.window.findChildren(QWidget)
        (self.canvas,) = (
            w for w in found if type(w).__name__ == "CanvasBackendDesktop"
        )

    def find(self, name: str) -> Any:
        """Find the one control of a name that can be seen."""
        found = [w for w in self.window.findChildren(QWidget, name) if w.isVisible()]
        assert len(found) == 1, f"{len(found)} controls called {name} are to be seen"
        return found[0]

    def reach(self, name: str) -> Any:
        """Find a control that can be used, scrolled to where it can be seen."""
        control = self.find(name)
        assert control.isEnabled(), f"{name} is disabled: {control.toolTip()}"
        parent = control.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(control)
            parent = parent.parentWidget()
        QApplication.processEvents()
        return control

    def click(self, name: str, *, at: QPoint | None = None) -> None:
        """Click on a control, in its middle unless a place is given."""
        control = self.reach(name)
        QTest.mouseClick(control, LEFT, pos=at or control.rect().center())

    def unfold(self, words: str) -> None:
        """Click on the title of a part that is folded up."""
        (title,) = (
            button
            for button in self.window.findChildren(QPushButton)
            if button.accessibleName() == words and button.isVisible()
        )
        QTest.mouseClick(title, LEFT)

    def press(self, key: Qt.Key, *, ctrl: bool = False) -> None:
        """Press a key while the canvas has the focus."""
        modifier = Qt.KeyboardModifier
        held = modifier.ControlModifier if ctrl else modifier.NoModifier
        QTest.keyClick(self.canvas, key, held)

    def write(self, name: str, words: str) -> None:
        """Type into a field, in place of what is there."""
        field = self.reach(name)
        QTest.mouseClick(field, LEFT)
        QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(field, words)
        QTest.keyClick(field, Qt.Key.Key_Return)

    def choose(self, name: str, words: str) -> None:
        """Choose from a drop-down list by the arrow keys."""
        box: QComboBox = self.reach(name)
        offered = [box.itemText(i) for i in range(box.count())]
        assert words in offered, f"{name} offers {offered}"
        box.setFocus()
        QTest.keyClick(box, Qt.Key.Key_Home)
        for _ in range(offered.index(words)):
            QTest.keyClick(box, Qt.Key.Key_Down)
        assert box.currentText() == words

    def tick(self, name: str, wanted: Callable[[QListWidgetItem], bool]) -> None:
        """Tick the items of a list that are wanted, and no others."""
        box: QListWidget = self.reach(name)
        for row in range(box.count()):
            item = box.item(row)
            ticked = item.checkState() == Qt.CheckState.Checked
            if ticked != wanted(item):
                box.scrollToItem(item)
                middle = box.visualItemRect(item).center()
                QTest.mouseClick(box.viewport(), LEFT, pos=middle)
                QTest.keyClick(box, Qt.Key.Key_Space)

    def open_file(self, name: str, path: str) -> None:
        """Press a button that asks for a file, and type the file's name."""
        control = self.reach(name)
        timer = QTimer()
        timer.timeout.connect(lambda: _answer(path))
        timer.start(200)
        QTest.mouseClick(control, LEFT)  # returns once the dialog is gone
        timer.stop()

    def stroke(self, layer: Any, points: Sequence[Sequence[float]]) -> None:
        """Drag the mouse over the canvas.

        Parameters
        ----------
        layer : napari layer
            Whose voxels the points are.
        points : sequence of (z, y, x)
            Where to press, where to move, where to let go.
        """
        places = [self.place(layer.data_to_world(point)) for point in points]
        self._mouse(QEvent.Type.MouseMove, places[0])
        self._mouse(QEvent.Type.MouseButtonPress, places[0], LEFT, LEFT)
        for place in places[1:]:
            self._mouse(QEvent.Type.MouseMove, place, held=LEFT)
        self._mouse(QEvent.Type.MouseButtonRelease, places[-1], LEFT)

    def place(self, world: Sequence[float]) -> QPointF:
        """Where on the canvas a point of the shown slice lies."""
        camera = view.camera(self._viewer)
        vertical, horizontal = camera.orientation2d
        rows, columns = self._viewer.dims.order[-2:]
        down = (world[rows] - camera.center[-2]) * camera.zoom
        right = (world[columns] - camera.center[-1]) * camera.zoom
        down, right = (
            way if str(said) in {"down", "right"} else -way
            for way, said in ((down, vertical), (right, horizontal))
        )
        size = self.canvas.size()
        return QPointF(size.width() / 2 + right, size.height() / 2 + down)

    def _mouse(
        self,
        kind: QEvent.Type,
        place: QPointF,
        button: Qt.MouseButton = Qt.MouseButton.NoButton,
        held: Qt.MouseButton = Qt.MouseButton.NoButton,
    ) -> None:
        on_screen = QPointF(self.canvas.mapToGlobal(place.toPoint()))
        none = Qt.KeyboardModifier.NoModifier
        event = QMouseEvent(kind, place, on_screen, button, held, none)
        QApplication.sendEvent(self.canvas, event)
        QApplication.processEvents()


def _answer(path: str) -> None:
    """Type a file's name into the dialog that is open, and confirm."""
    dialog = QApplication.activeModalWidget()
    if not isinstance(dialog, QFileDialog):
        return
    (field,) = dialog.findChildren(QLineEdit, "fileNameEdit")
    if field.text() != path:
        QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(field, path)
    (yes,) = (b for b in dialog.findChildren(QPushButton) if b.isDefault())
    if yes.isEnabled():
        QTest.mouseClick(yes, LEFT)
