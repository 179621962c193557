"""Letters at the edges of the canvas: right in every view, absent where unknown."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_hydraseg.core.types import Segmentation, SourceGrid, Volume
from napari_hydraseg.gui import letters, view
from napari_hydraseg.gui.layers import labels_layer, volume_layers
from napari_hydraseg.gui.load import LoadWidget

# at low and high index of z, y, x: our voxels run towards Superior, Posterior, Left
SIDES = (("I", "S"), ("A", "P"), ("R", "L"))
ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture
def straight():
    """A scan whose axes are those of the patient."""
    data = np.arange(4 * 5 * 6, dtype=np.int16).reshape(1, 4, 5, 6)
    return Volume(data, np.diag([3.0, 1, 1, 1]), source="s.nii.gz")


@pytest.fixture
def model():
    """A viewer without a window."""
    made = ViewerModel()
    letters.Letters(made)
    return made


def show(viewer, volume, **changes):
    data, attributes, _ = volume_layers(volume)[0]
    return viewer.add_image(data, **{**attributes, **changes})


def shown(viewer):
    """Letters that can be seen: left, right, top, bottom."""
    overlays = viewer.canvas.overlays
    found = [overlays.get(f"hydraseg_{edge}") for edge in letters.EDGES]
    return [o.text for o in found if o is not None and o.visible]


def tilted(volume, degrees):
    turn = np.deg2rad(degrees)
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return replace(volume, affine=rotation @ volume.affine)


@pytest.mark.parametrize(
    ("plane", "expected"),
    [("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")],
)
def test_every_plane_has_its_four_letters(model, straight, plane, expected):
    show(model, straight)
    view.face(model, plane)
    assert "".join(shown(model)) == expected


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("vertical", ["up", "down"])
@pytest.mark.parametrize("horizontal", ["left", "right"])
def test_letters_follow_every_order_and_every_camera(
    model, straight, order, vertical, horizontal
):
    show(model, straight)
    model.dims.order = order
    model.scene.camera.orientation2d = (vertical, horizontal)
    rows, columns = SIDES[order[1]], SIDES[order[2]]
    top = rows[0] if vertical == "down" else rows[1]
    left = columns[0] if horizontal == "right" else columns[1]
    assert shown(model)[0::2] == [left, top]
    assert sorted(shown(model)) == sorted(rows + columns)


def drawn_side(viewer):
    """Edge of the canvas that what is drawn in red lies next to, if any."""
    picture = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 60)
    down, right = np.argwhere(red).mean(0) - np.array(red.shape) / 2
    if max(abs(down), abs(right)) < 50:
        return None
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "bottom" if down > 0 else "top"


def test_what_lies_on_a_side_is_drawn_beside_its_letter(
    make_napari_viewer_proxy, straight
):
    viewer = make_napari_viewer_proxy(show=True)
    letters.Letters(viewer)
    for axis in range(3):  # something on the left, at the back, at the top
        inside = [slice(22, 28) if a == axis else slice(12, 18) for a in range(3)]
        data = np.zeros((1, 30, 30, 30), np.uint8)
        data[(0, *inside)] = 1
        volume = replace(straight, data=data, affine=np.eye(4))
        layer = show(viewer, volume, colormap="red")
        for order in ORDERS:
            viewer.dims.order = order
            viewer.dims.current_step = tuple(25 if a == axis else 15 for a in range(3))
            viewer.reset_view()
            side = drawn_side(viewer)
            if axis == order[0]:  # it is on the slice that is shown, in its middle
                assert side is None
            else:
                written = dict(zip(letters.EDGES, shown(viewer), strict=True))
                assert written[side] == SIDES[axis][1]
        viewer.layers.remove(layer)


def test_there_are_no_letters_where_the_file_states_no_orientation(model, straight):
    show(model, replace(straight, known=frozenset({"spacing"})))
    assert shown(model) == []
    assert "not known" in model.canvas.overlays.text.text


def test_one_scan_of_unknown_orientation_hides_the_letters_of_all(model, straight):
    show(model, straight)
    other = show(model, replace(straight, known=frozenset({"spacing"})))
    assert shown(model) == []
    other.visible = False
    assert shown(model) == ["R", "L", "A", "P"]


def test_there_are_no_letters_in_three_dimensions_and_none_without_a_scan(
    model, straight
):
    layer = show(model, straight)
    model.dims.ndisplay = 3
    assert shown(model) == []
    model.dims.ndisplay = 2
    assert len(shown(model)) == 4
    model.layers.remove(layer)
    assert shown(model) == []


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # asked for by hand
@pytest.mark.parametrize(
    "change", [{"scale": (3, 1, -1)}, {"rotate": (90, 0, 0)}, {"shear": (0, 0, 1)}]
)
def test_a_layer_that_was_turned_by_hand_has_no_letters(model, straight, change):
    layer = show(model, straight)
    for name, value in change.items():
        setattr(layer, name, value)
    assert shown(model) == []
    assert "turned" in model.canvas.overlays.text.text


def test_an_oblique_scan_has_two_letters_where_the_tilt_is_large(model, straight):
    layer = show(model, tilted(straight, 10))
    assert shown(model) == ["R", "L", "A", "P"]
    model.layers.remove(layer)
    show(model, tilted(straight, 30))
    # columns turn from Left towards Anterior, rows from Posterior towards Left
    assert shown(model) == ["RP", "LA", "AR", "PL"]
    show(model, straight)
    assert shown(model) == ["R", "L", "A", "P"]


def test_letters_stand_for_the_last_three_axes_of_a_series(model, straight):
    show(model, straight)
    model.add_image(np.zeros((7, 4, 5, 6)))
    assert shown(model) == ["R", "L", "A", "P"]
    model.dims.order = (1, 2, 0, 3)
    assert shown(model) == []


@pytest.mark.parametrize(
    ("grid", "count"),
    [
        (None, 0),
        (
            SourceGrid((6, 5, 4), np.eye(3)[:, :2], {"qform_code": 0, "sform_code": 0}),
            0,
        ),
        (
            SourceGrid((6, 5, 4), np.eye(3)[:, :2], {"qform_code": 1, "sform_code": 0}),
            4,
        ),
    ],
)
def test_labels_alone_have_letters_if_their_file_is_oriented(
    model, straight, grid, count
):
    labels = Segmentation(np.ones((4, 5, 6), np.uint8), straight.affine, grid=grid)
    data, attributes, _ = labels_layer(labels, name="mask")
    model.add_labels(data, **attributes)
    assert len(shown(model)) == count


def test_letters_stay_right_after_the_form_is_closed(viewer, qtbot, straight):
    form = LoadWidget(viewer)
    show(viewer, straight)
    with qtbot.waitSignal(form.destroyed):
        form.deleteLater()
    view.face(viewer, "coronal")
    assert shown(viewer) == ["R", "L", "S", "I"]


def test_an_older_napari_gets_words(straight):
    old = ViewerModel()
    mine = letters.Letters(old)
    layer = SimpleNamespace(text="", visible=False, position="")
    mine._viewer = SimpleNamespace(
        dims=old.dims, layers=old.layers, camera=old.scene.camera, text_overlay=layer
    )
    show(old, straight)
    assert layer.text == "picture left = patient R · top = patient A"
    assert layer.visible
