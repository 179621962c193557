"""To what a model wants, and back."""

from dataclasses import replace

import numpy as np
import pytest

from napari_hydraseg.core import ModelSpec, Volume, grid
from napari_hydraseg.core.errors import WrongInput

ZSCORE = {"kind": "zscore", "low": 0.5, "high": 99.5}


def spec(**changes):
    base = ModelSpec(
        "hydranet",
        ("image",),
        {"a": ("background", "a"), "b": ("background", "b")},
        (64, 64),
        spacing_mm={"MR": 2.0, "b": 0.5},
        intensity={"MR": ZSCORE},
    )
    return replace(base, **changes)


def volume(shape=(3, 20, 30), spacing=(5.0, 1.0, 1.0), **fields):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 200, (1, *shape)).astype(np.int16)
    return Volume(data, np.diag([*spacing, 1.0]), **fields)


def test_nothing_changes_where_the_spacing_is_right():
    scan = volume(spacing=(5.0, 2.0, 2.0))
    found = grid.conform(scan, spec(), modality="MR")
    assert found.data.shape == (3, 1, 20, 30)
    expected = grid.normalise(scan.data, ZSCORE)
    np.testing.assert_array_equal(found.data[:, 0], expected[0])


@pytest.mark.parametrize(("head", "size"), [("a", (10, 15)), ("b", (40, 60))])
def test_the_rule_of_a_head_wins_over_that_of_the_modality(head, size):
    found = grid.conform(volume(), spec(), modality="MR", head=head)
    assert found.data.shape[2:] == size
    assert found.native == (20, 30)


def test_scaling_keeps_the_edges_aligned():
    ramp = np.arange(16, dtype=np.float32)[None].repeat(4, 0)[None]
    scaled = grid.scale(ramp, (1, 4, 32))
    np.testing.assert_allclose(scaled[0, 0, 1:-1], np.arange(30) / 2 + 0.25, atol=1e-5)


def test_labels_are_scaled_there_and_back():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 11, 7)).astype(np.uint8)
    larger = grid.scale_labels(labels, (2, 33, 21))
    np.testing.assert_array_equal(grid.scale_labels(larger, labels.shape), labels)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_go_back_where_they_came_from(plane):
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    slices = grid.to_slices(array, plane)
    np.testing.assert_array_equal(grid.from_slices(slices, plane), array)


def test_coronal_slices_stand_upright():
    array = np.zeros((4, 3, 5))
    array[-1] = 1  # the most superior voxels
    assert grid.to_slices(array, "coronal")[:, 0].all()


def test_pictures_without_millimetres_are_scaled_to_pixels():
    scan = volume(known=frozenset())
    rules = {"MR": 2.0, "unknown": {"longest": 90}}
    found = grid.conform(scan, spec(spacing_mm=rules), modality="MR")
    assert found.data.shape[2:] == (60, 90)
    assert "90 pixels" in found.notes[0]


def test_gain_and_offset_of_an_mr_scan_do_not_matter():
    scan = volume()
    other = replace(scan, data=scan.data.astype(np.float32) * 7.5 + 300)
    one, two = (grid.conform(v, spec(), modality="MR").data for v in (scan, other))
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_a_window_maps_its_ends_to_minus_one_and_one():
    rule = {"kind": "window", "low": -160.0, "high": 240.0}
    values = np.array([[[[-1000, -160, 40, 240, 3000]]]], np.int16)
    np.testing.assert_allclose(
        grid.normalise(values, rule).ravel(), [-1, -1, 0, 1, 1], atol=1e-6
    )


@pytest.mark.parametrize("kind", ["zscore", "percentile"])
def test_a_constant_scan_gives_numbers(kind):
    rule = {"kind": kind, "low": 1, "high": 99}
    assert np.isfinite(grid.normalise(np.full((1, 2, 3, 4), 7), rule)).all()


def test_channels_are_matched_by_name():
    data = np.stack([np.zeros((2, 3, 3)), np.ones((2, 3, 3))])
    scan = Volume(data, np.eye(4), names=("T1", "T2"))
    picked = grid.select_channels(scan, spec(channels=("T2", "T1")))
    assert picked[0].all()
    with pytest.raises(WrongInput, match="FLAIR"):
        grid.select_channels(scan, spec(channels=("FLAIR", "T1")))


def test_a_modality_without_a_rule_is_refused():
    with pytest.raises(WrongInput, match="CT"):
        grid.conform(volume(), spec(), modality="CT")


WINDOW = {"kind": "window", "low": -125, "high": 275}


def slab_of_body():
    """A body in HU: fat around soft tissue, air outside."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    far = np.hypot(y - 32, x - 32)
    body = np.select([far < 18, far < 26], [60.0, -100.0], -1000.0)
    return (body + rng.normal(0, 8, body.shape)).round()[None, None]


@pytest.mark.parametrize(("low", "high"), [(-125, 275), (0, 255)])
def test_an_eight_bit_ct_is_read_in_the_window_it_was_made_with(low, high):
    hu = slab_of_body()
    share = (np.clip(hu, low, high) - low) / (high - low)
    copy = (255 * share).round().astype(np.uint8)
    edge = (hu > -160) & (hu < 0)  # where lossy compression leaves traces beside black
    copy[edge & (copy < 8)] = 4
    back, notes = grid.hounsfield(copy, WINDOW)
    tissue = hu > 30
    np.testing.assert_allclose(back[tissue], hu[tissue], atol=1)
    assert notes == (f"The CT is 8-bit: 0 to 255 was read as {low} to {high} HU.",)


def test_hounsfield_units_are_left_as_they_are():
    hu = slab_of_body()
    assert grid.hounsfield(hu, WINDOW) == (hu, ())
    picture = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert grid.hounsfield(picture, ZSCORE) == (picture, ())


def framed(scan, **rule):
    wanted = spec(
        spacing_mm={"MR": {"mm": 1.0, **rule}},
        intensity={"MR": {"kind": "standard"}},
        orientation="L,A",
    )
    return grid.conform(scan, wanted, modality="MR")


def test_a_frame_turns_cuts_out_the_middle_and_normalises_what_is_left():
    scan = volume()
    seen = framed(scan, crop=8).data
    assert seen.shape == (3, 1, 8, 8)
    turned = scan.data[0].swapaxes(1, 2)[:, :, ::-1].astype(np.float32)  # rows L, A
    middle = turned[:, 11:19, 6:14]
    expected = (middle - middle.mean()) / middle.std()
    np.testing.assert_allclose(seen[:, 0], expected, atol=1e-5)


def test_a_frame_as_large_as_the_slices_cuts_nothing():
    assert framed(volume(), crop=20).data.shape == (3, 1, 30, 20)
    assert not framed(volume(), crop=20).notes


def test_a_frame_that_cuts_says_how_much_it_looks_at():
    (note,) = framed(volume(), crop=8).notes
    assert "the middle of each slice alone, 8 mm to a side" in note
    unknown = framed(replace(volume(), known=frozenset()), crop=8).notes
    assert "8 pixels to a side" in unknown[-1]


@pytest.mark.parametrize(
    ("rows", "columns", "reaches"),
    [((9, 12), (14, 17), False), ((9, 12), (10, 12), True), ((0, 7), (14, 17), True)],
)
def test_labels_at_the_edge_of_what_is_looked_at_are_noticed(rows, columns, reaches):
    frame = grid.Frame((20, 30), (20, 30), "L,A", crop=8)
    labels = np.zeros((2, 20, 30), np.uint8)
    labels[1, slice(*rows), slice(*columns)] = 1
    assert frame.reaches_edge(labels) == reaches


@pytest.mark.parametrize("align", ["edges", "first"])
@pytest.mark.parametrize("orientation", ["L,A", "P,L", "A,R", "R,P"])
def test_what_leaves_a_frame_is_back_in_its_place(align, orientation):
    frame = grid.Frame((20, 30), (40, 60), orientation, align, 36)
    labels = np.zeros((2, 20, 30), np.uint8)
    labels[0, 9:12, 14:17] = 1
    labels[1, 8:10, 13:18] = 1
    inside = frame.enter_labels(labels)
    assert inside.shape == (2, 36, 36)
    back = frame.leave(inside[:, None].astype(np.float32), [0.0])
    np.testing.assert_array_equal(back[:, 0] > 0.5, labels)


def test_alignment_by_the_first_pixel_keeps_its_middle():
    ramp = np.arange(8, dtype=np.float32)[None].repeat(4, 0)[None]
    frame = grid.Frame((4, 8), (4, 16), align="first")
    np.testing.assert_allclose(frame.enter(ramp)[0, 0, :15], np.arange(15) / 2)
