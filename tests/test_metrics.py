"""Metrics agree with counting by hand, with brute force and with SimpleITK."""

import math

import numpy as np
import pytest

from napari_hydraseg.core import metrics
from napari_hydraseg.core.errors import GeometryMismatchError, LabelShape
from napari_hydraseg.core.types import Segmentation, SourceGrid

SPACING_MM = (3.0, 1.0, 0.5)
OVERLAP = (
    "dice",
    "iou",
    "precision",
    "sensitivity",
    "specificity",
    "accuracy",
    "conformity",
)
SURFACE = (
    "hausdorff_mm",
    "hausdorff95_mm",
    "mean_surface_distance_mm",
    "surface_dice",
)


def mask(*values):
    return np.array(values, dtype=bool)


def ball(centre, radius, shape=(14, 24, 30)):
    z, y, x = np.indices(shape)
    square = sum(
        ((axis - middle) * size) ** 2
        for axis, middle, size in zip((z, y, x), centre, SPACING_MM, strict=True)
    )
    return square <= radius**2


def segmentation(labels, **fields):
    affine = np.diag([*SPACING_MM, 1.0])
    return Segmentation(np.asarray(labels, np.uint8), **{"affine": affine} | fields)


def surface_points_mm(solid):
    """Walk over all voxels and look at the six neighbours."""
    padded, points = np.pad(solid, 1), []
    for z, y, x in np.argwhere(padded):
        steps = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1))
        if not all(padded[z + dz, y + dy, x + dx] for dz, dy, dx in steps):
            points.append((z, y, x))
    return np.array(points) * SPACING_MM


def ways_mm(points, others):
    return np.array([min(np.linalg.norm(others - point, axis=1)) for point in points])


REFERENCE = mask(1, 1, 1, 0, 0, 0, 0, 0)
CANDIDATE = mask(0, 1, 1, 1, 1, 0, 0, 0)  # 2 right, 2 too many, 1 missed, 3 clear


@pytest.mark.parametrize(
    ("metric", "by_hand"),
    [
        ("dice", 4 / 7),
        ("iou", 2 / 5),
        ("precision", 2 / 4),
        ("sensitivity", 2 / 3),
        ("specificity", 3 / 5),
        ("accuracy", 5 / 8),
        ("conformity", 1 - 3 / 2),
    ],
)
def test_overlap_is_what_counting_by_hand_gives(metric, by_hand):
    assert getattr(metrics, metric)(REFERENCE, CANDIDATE) == pytest.approx(by_hand)


@pytest.mark.parametrize("metric", [*OVERLAP, *SURFACE])
def test_masks_of_two_shapes_are_refused(metric):
    options = {"spacing_mm": (1.0,)} if metric in SURFACE else {}
    with pytest.raises(ValueError, match="shape"):
        getattr(metrics, metric)(mask(1, 0), mask(1, 0, 0), **options)


@pytest.mark.parametrize("metric", ["dice", "iou", "conformity", *SURFACE])
def test_two_empty_masks_tell_nothing(metric):
    options = {"spacing_mm": (1.0,)} if metric in SURFACE else {}
    assert math.isnan(getattr(metrics, metric)(mask(0, 0), mask(0, 0), **options))


def test_a_missed_structure_has_no_overlap_and_is_infinitely_far():
    full, empty = mask(0, 1), mask(0, 0)
    for pair in ((full, empty), (empty, full)):
        assert metrics.dice(*pair) == 0
        assert metrics.conformity(*pair) == -math.inf
        assert metrics.hausdorff95_mm(*pair, spacing_mm=(1.0,)) == math.inf
        assert metrics.mean_surface_distance_mm(*pair, spacing_mm=(1.0,)) == math.inf
        assert metrics.surface_dice(*pair, spacing_mm=(1.0,)) == 0


def test_surface_distances_agree_with_brute_force():
    reference, candidate = ball((6, 11, 14), 6.0), ball((7, 13, 16), 5.0)
    first, second = surface_points_mm(reference), surface_points_mm(candidate)
    there, back = ways_mm(first, second), ways_mm(second, first)
    both = np.concatenate([there, back])
    options = {"spacing_mm": SPACING_MM}
    assert metrics.hausdorff_mm(reference, candidate, **options) == pytest.approx(
        both.max()
    )
    assert metrics.hausdorff95_mm(reference, candidate, **options) == pytest.approx(
        max(np.percentile(there, 95), np.percentile(back, 95))
    )
    assert metrics.mean_surface_distance_mm(
        reference, candidate, **options
    ) == pytest.approx(both.mean())
    assert metrics.surface_dice(
        reference, candidate, tolerance_mm=2.0, **options
    ) == pytest.approx((both <= 2.0).mean())


def test_the_hausdorff_distance_agrees_with_simpleitk():
    sitk = pytest.importorskip("SimpleITK")
    reference, candidate = ball((6, 11, 14), 7.0), ball((8, 14, 19), 5.0)
    images = []
    for solid in (reference, candidate):
        image = sitk.GetImageFromArray(solid.astype(np.uint8))
        image.SetSpacing(SPACING_MM[::-1])
        images.append(image)
    oracle = sitk.HausdorffDistanceImageFilter()
    oracle.Execute(*images)
    ours = metrics.hausdorff_mm(reference, candidate, spacing_mm=SPACING_MM)
    assert ours == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-5)


def test_a_surface_at_the_edge_of_the_image_is_a_surface():
    solid = np.ones((3, 3), bool)
    other = np.zeros((3, 3), bool)
    other[1, 1] = True
    # The centre of `solid` is inside; its corners are sqrt(2) away from `other`.
    found = metrics.hausdorff_mm(solid, other, spacing_mm=(1.0, 1.0))
    assert found == pytest.approx(math.sqrt(2))
    # 4 corners, 4 sides; from `other` to the nearest side: 1
    mean = metrics.mean_surface_distance_mm(solid, other, spacing_mm=(1.0, 1.0))
    assert mean == pytest.approx((4 * math.sqrt(2) + 4 + 1) / 9)


def test_volume_difference_is_candidate_minus_reference_in_ml():
    found = metrics.volume_difference_ml(REFERENCE, CANDIDATE, spacing_mm=(2000.0,))
    assert found == pytest.approx(2.0)


def test_evaluate_gives_one_row_per_label_with_the_keys_of_the_command_line():
    rows = metrics.evaluate(
        segmentation([[[1, 1, 2]]], names={1: "cord", 2: "canal"}),
        segmentation([[[1, 2, 2]]], names={1: "cord", 2: "canal"}),
    )
    assert [(row["label"], row["name"]) for row in rows] == [(1, "cord"), (2, "canal")]
    assert [row["dice"] for row in rows] == pytest.approx([2 / 3, 2 / 3])
    assert list(rows[0]) == [
        "label",
        "name",
        "dice",
        "iou",
        "precision",
        "sensitivity",
        "specificity",
        "accuracy",
        "hd95_mm",
        "hausdorff_mm",
        "assd_mm",
        "surface_dice",
        "volume_difference_ml",
    ]


def test_labels_are_matched_by_name_where_both_sides_have_names():
    rows = metrics.evaluate(
        segmentation([[[1, 1, 2]]], names={1: "cord", 2: "canal"}),
        segmentation([[[2, 2, 1]]], names={1: "canal", 2: "cord"}),
    )
    assert [row["dice"] for row in rows] == [1, 1]


def test_labels_are_matched_by_id_where_one_side_has_no_names():
    rows = metrics.evaluate(
        segmentation([[[1, 1, 2]]]),
        segmentation([[[1, 1, 2]]], names={1: "cord", 2: "canal"}),
    )
    assert [row["name"] for row in rows] == ["cord", "canal"]
    assert [row["dice"] for row in rows] == [1, 1]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slices_nobody_vouches_for_do_not_count(plane):
    right, wrong = np.zeros((2, 4, 4, 4), np.uint8)
    axis = ("axial", "coronal", "sagittal").index(plane)
    marks = np.array([False, True, False, False])
    vouched = np.moveaxis(right, axis, 0)
    vouched[1, 1:3, 1:3] = 1
    wrong[:] = 1
    np.moveaxis(wrong, axis, 0)[1] = vouched[1]
    (row,) = metrics.evaluate(
        segmentation(right, annotated=marks, plane=plane), segmentation(wrong)
    )
    assert (row["dice"], row["hausdorff_mm"], row["volume_difference_ml"]) == (1, 0, 0)
    assert row["accuracy"] == 1


def test_voxels_nobody_vouches_for_do_not_count():
    (row,) = metrics.evaluate(
        segmentation([[[1, 1, 0, 0]]], annotated=np.array([[[1, 1, 1, 0]]], bool)),
        segmentation([[[1, 0, 0, 1]]]),
    )
    assert row["dice"] == pytest.approx(2 / 3)
    assert row["accuracy"] == pytest.approx(2 / 3)


def test_the_rim_of_an_annotated_slice_is_no_surface():
    thick = np.ones((5, 5, 5), np.uint8)
    thin = np.zeros((5, 5, 5), np.uint8)
    thin[2, 2, 2] = 1
    marks = np.array([0, 0, 1, 0, 0], bool)
    (row,) = metrics.evaluate(
        segmentation(thick, annotated=marks, affine=np.eye(4)),
        segmentation(thin, affine=np.eye(4)),
    )
    ring = [2 * math.sqrt(2)] * 4 + [math.sqrt(5)] * 8 + [2] * 4  # the contour
    assert row["assd_mm"] == pytest.approx((sum(ring) + 2) / 17)


def test_marks_that_fit_no_slices_are_refused():
    with pytest.raises(LabelShape):
        metrics.evaluate(
            segmentation([[[1]]], annotated=np.ones(3, bool)), segmentation([[[1]]])
        )


def test_another_shape_or_place_is_refused_with_the_distance_in_mm():
    labels = np.ones((2, 2, 2))
    with pytest.raises(GeometryMismatchError, match="2 x 2 x 2"):
        metrics.evaluate(segmentation(labels), segmentation(np.ones((2, 2, 3))))
    moved = np.diag([*SPACING_MM, 1.0])
    moved[:3, 3] = 3, 4, 0
    with pytest.raises(GeometryMismatchError, match="5 mm"):
        metrics.evaluate(segmentation(labels), segmentation(labels, affine=moved))


def test_rounding_in_a_header_is_no_mismatch():
    rounded = np.diag([*SPACING_MM, 1.0])
    rounded[:3, 3] = 5e-4
    labels = np.ones((2, 2, 2))
    (row,) = metrics.evaluate(
        segmentation(labels), segmentation(labels, affine=rounded)
    )
    assert row["dice"] == 1


def test_a_picture_has_no_millimetres():
    grid = SourceGrid((2, 2), np.zeros((3, 2)), format="image")
    labels = np.ones((1, 2, 2))
    (row,) = metrics.evaluate(
        segmentation(labels, grid=grid), segmentation(labels, grid=grid)
    )
    assert row["dice"] == 1
    assert all(math.isnan(row[metric]) for metric in metrics.IN_MM)


def rows_of(*dices):
    return [
        {
            "case": case,
            "label": 1,
            "name": "cord",
            "dice": value,
            "precision": value,
            "sensitivity": value,
        }
        for case, value in enumerate(dices)
    ]


def test_summaries_count_the_empty_cases_and_leave_them_out():
    found = metrics.summarise(rows_of(0.5, math.nan, 0.7))["cord"]["dice"]
    assert (found["mean"], found["n"], found["n_empty"]) == (pytest.approx(0.6), 2, 1)


def test_the_interval_of_one_case_is_not_known():
    found = metrics.summarise(rows_of(0.5))["cord"]["dice"]
    assert found["median"] == 0.5
    assert all(math.isnan(bound) for bound in found["ci95"])


def test_the_interval_covers_the_mean_in_about_95_of_100_draws():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        rows = rows_of(*rng.normal(0.8, 0.05, 40))
        low, high = metrics.summarise(rows, resamples=300)["cord"]["dice"]["ci95"]
        covered += low <= 0.8 <= high
    assert 178 <= covered <= 199  # 99.9 % of binomial(200, .945): bootstrap, n = 40


def test_a_summary_is_the_same_twice():
    rows = rows_of(0.1, 0.5, 0.9)
    assert metrics.summarise(rows, seed=3) == metrics.summarise(rows, seed=3)
