"""The guided panel, the small docks, and what the manifest promises."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from npe2 import PluginManifest
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QWidget

import napari_hydraseg
from napari_hydraseg.core.types import Segmentation
from napari_hydraseg.gui import layers, view
from napari_hydraseg.gui.evaluate import EvaluateWidget
from napari_hydraseg.gui.models import ModelsWidget
from napari_hydraseg.gui.new_layer import new_labels
from napari_hydraseg.gui.panel import Panel

MANIFEST = Path(napari_hydraseg.__file__).parent / "napari.yaml"
MENU_PATH = re.compile(
    r"\*((?:Plugins|Layers|File\s+>\s+(?:Open\s+Sample|New\s+Layer))\s+>[^*]*)\*"
)
PROMISED = """
load.open load.status segment.image segment.model segment.heads segment.run
segment.cancel segment.progress segment.status finetune.image finetune.labels
finetune.head finetune.preset finetune.run finetune.stop finetune.cancel finetune.keep
finetune.discard finetune.progress finetune.status shift.image shift.run shift.cancel
shift.verdict evaluate.reference evaluate.candidate evaluate.run evaluate.table
evaluate.save
""".split()


@pytest.fixture
def panel(dock, verbs):
    return dock(Panel)


def test_every_promised_control_is_there_once(panel, control):
    for name in PROMISED:
        control(panel, name)


def test_every_control_has_a_name_for_screen_readers_and_a_tooltip(panel):
    rooms = {"load", "segment", "finetune", "shift", "evaluate", "panel"}
    ours = [
        widget
        for widget in panel.findChildren(QWidget)
        if widget.objectName().split(".")[0] in rooms
    ]
    assert len(ours) > 40
    assert not [w.objectName() for w in ours if not w.accessibleName()]
    to_press = [w for w in ours if isinstance(w, QAbstractButton | QComboBox)]
    assert not [w.objectName() for w in to_press if not w.toolTip()]


def test_the_notice_stands_there_once(panel):
    texts = [label.text() for label in panel.findChildren(QLabel)]
    assert sum("not a medical device" in words for words in texts) == 1


def test_one_step_is_open_at_a_time(panel, click):
    assert not panel.steps["load"].isHidden()
    click(panel, "panel.shift")
    hidden = {room: page.isHidden() for room, page in panel.steps.items()}
    assert [room for room in hidden if not hidden[room]] == ["shift"]


def test_a_step_that_is_done_gets_a_tick(panel, click):
    click(panel, "load.sample")
    assert panel.headers["load"].text() == "1  Load  ✓"
    assert "✓" not in panel.headers["segment"].text()


def test_two_labels_layers_are_compared(dock, viewer, scan, click, finished, control):
    form = dock(EvaluateWidget)
    assert "Two labels layers" in control(form, "evaluate.run").toolTip()
    labels = (scan.data[0] > 100).astype(np.uint8)
    half = np.where(np.arange(6)[:, None, None] < 3, labels, 0).astype(np.uint8)
    made = [
        layers.labels_layer(Segmentation(data, scan.affine, {1: "blood"}), name=name)[
            0:
        ]
        for data, name in ((labels, "truth"), (half, "found"))
    ]
    view.add(viewer, made)
    form.reference.setCurrentText("truth")
    form.candidate.setCurrentText("found")
    viewer.layers["truth"].features["name"] = ["label 1"]  # as in a file without names
    click(form, "evaluate.run")
    finished()
    table = control(form, "evaluate.table")
    expected = 2 * half.sum() / (half.sum() + labels.sum())
    assert table.item(0, 0).text() == "blood"
    assert float(table.item(0, 1).text()) == pytest.approx(expected, abs=1e-3)


def test_an_evaluation_can_be_saved(
    dock, viewer, scan, click, finished, control, tmp_path, monkeypatch
):
    form = dock(EvaluateWidget)
    labels = (scan.data[0] > 100).astype(np.uint8)
    noun = Segmentation(labels, scan.affine, {1: "blood"})
    view.add(viewer, [layers.labels_layer(noun, name=name) for name in "ab"])
    form.reference.setCurrentText("a")
    click(form, "evaluate.run")
    finished()
    path = tmp_path / "evaluation.csv"
    monkeypatch.setattr(
        "napari_hydraseg.gui.evaluate.QFileDialog.getSaveFileName",
        lambda *_: (str(path), ""),
    )
    click(form, "evaluate.save")
    finished()
    assert "blood" in path.read_text("utf-8")


def test_the_models_dock_shows_the_card_and_guards_bundled_models(dock, control):
    form = dock(ModelsWidget)
    card = control(form, "models.card").text()
    assert "Toy model" in card
    assert "licence CC0" in card
    assert not control(form, "models.remove").isEnabled()


def test_a_file_that_is_no_model_is_explained(dock, control, tmp_path, finished):
    form = dock(ModelsWidget)
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not a model")
    form.add_file(wrong)
    finished()
    assert "wrong" in control(form, "models.status").text()


def test_all_that_the_manifest_promises_can_be_imported():
    manifest = PluginManifest.from_file(MANIFEST)
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(import_module(module), name))


def test_the_docks_have_the_names_that_scripts_rely_on():
    manifest = PluginManifest.from_file(MANIFEST)
    names = [widget.display_name for widget in manifest.contributions.widgets]
    assert names == [
        "HydraSeg",
        "Load",
        "Segment",
        "Fine-tune",
        "Domain shift",
        "Evaluate",
        "Models",
    ]


@pytest.fixture
def plugin(npe2pm):
    """The plugin as napari finds it, alone."""
    with npe2pm.tmp_plugin(manifest=PluginManifest.from_file(MANIFEST)) as found:
        yield found


def test_napari_opens_the_sample_and_every_dock(plugin, models, make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-hydraseg", "phantom")
    assert [layer.visible for layer in viewer.layers] == [True, False]
    for widget in plugin.manifest.contributions.widgets:
        _, made = viewer.window.add_plugin_dock_widget(
            "napari-hydraseg", widget.display_name
        )
        assert isinstance(made, QWidget)


def test_napari_saves_and_opens_labels_through_the_plugin(
    plugin, models, make_napari_viewer, scan, tmp_path
):
    viewer = make_napari_viewer()
    labels = (scan.data[0] > 100).astype(np.uint8)
    noun = Segmentation(labels, scan.affine, {1: "blood"})
    (layer,) = view.add(viewer, [layers.labels_layer(noun, name="mask")])
    path = str(tmp_path / "mask.nii.gz")
    assert layer.save(path, plugin="napari-hydraseg") == [path]
    (again,) = viewer.open(path, plugin="napari-hydraseg")
    np.testing.assert_array_equal(again.data, layer.data)
    np.testing.assert_allclose(again.scale, layer.scale, atol=1e-5)
    assert list(again.features["name"]) == ["blood"]


def test_napari_saves_labels_for_3d_slicer(
    plugin, models, make_napari_viewer, scan, tmp_path
):
    viewer = make_napari_viewer()
    labels = (scan.data[0] > 100).astype(np.uint8)
    noun = Segmentation(labels, scan.affine, {1: "blood"})
    (layer,) = view.add(viewer, [layers.labels_layer(noun, name="mask")])
    path = str(tmp_path / "mask.seg.nrrd")
    assert layer.save(path) == [path]
    assert b"Segment0_Name:=blood" in Path(path).read_bytes()


def test_new_labels_from_the_menu_lie_on_the_selected_scan(viewer, scan):
    view.add(viewer, layers.volume_layers(scan, name="a"))
    view.add(viewer, layers.volume_layers(scan, name="b"))
    viewer.layers.selection = {viewer.layers["b"]}
    new_labels(viewer)
    made = viewer.layers[-1]
    assert made.name == "my labels · b"
    assert made.mode == "paint"
    assert not made.data.any()
    np.testing.assert_allclose(made.scale, viewer.layers["b"].scale)


def test_new_labels_without_a_scan_say_what_to_do(viewer):
    new_labels(viewer)
    assert not viewer.layers
    assert "Open a scan first" in notification_manager.records[-1].message


def entries(menu, above=""):
    """List what a menu shows, submenus and what is in them included."""
    menu.aboutToShow.emit()
    for action in menu.actions():
        here = f"{above} > {action.text().replace('&', '')}"
        yield here
        if action.menu() is not None:
            yield from entries(action.menu(), here)


def test_the_menu_paths_of_the_guides_are_in_the_window(dock, verbs):
    window = dock(Panel)
    while window.parentWidget() is not None:
        window = window.parentWidget()
    offered = {
        entry
        for menu in window.menuBar().actions()
        for entry in entries(menu.menu(), menu.text().replace("&", ""))
    }
    root = MANIFEST.resolve().parent
    told = {
        (path.name, " ".join(words.split()))
        for path in (root / "README.md", *(root / "docs").glob("*.md"))
        for words in MENU_PATH.findall(path.read_text(encoding="utf-8"))
    }
    assert len({words for _, words in told}) >= 5
    assert not {(name, words) for name, words in told if words not in offered}


def test_the_menus_offer_what_belongs_there():
    menus = PluginManifest.from_file(MANIFEST).contributions.menus
    offered = {
        menu: [item.command.partition(".")[2] for item in items]
        for menu, items in menus.items()
    }
    assert offered == {
        "napari/file/new_layer": ["new_labels"],
        "napari/layers/segment": ["panel", "segment", "finetune"],
        "napari/layers/measure": ["shift", "evaluate"],
    }
