"""The Domain shift form."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt

from napari_hydraseg import core
from napari_hydraseg.gui import layers, view
from napari_hydraseg.gui.panel import Panel
from napari_hydraseg.gui.shift import ShiftWidget
from napari_hydraseg.gui.words import verdict_text


@pytest.fixture
def form(dock, verbs):
    return dock(ShiftWidget)


@pytest.fixture
def opened(form, viewer, scan):
    return view.add(viewer, layers.volume_layers(scan))[0]


@pytest.fixture
def shown(form, opened, click, finished):
    click(form, "shift.run")
    finished()
    return form


def test_without_a_scan_run_is_disabled_and_says_why(form, control):
    assert not control(form, "shift.run").isEnabled()
    assert "Open a scan" in control(form, "shift.status").text()


def test_the_recommended_head_is_chosen(form, opened, control):
    assert control(form, "shift.head").currentText() == "heart"


def test_the_verdict_is_plain_and_gives_its_numbers_and_its_limit(shown, control):
    words = control(shown, "shift.verdict").text()
    assert "differs from the model's training scans" in words
    assert "100 % of the 50 training scans" in words
    assert "smallest possible here is 0.02" in words
    assert "does not prove" in words
    assert "accura" not in words


def test_where_why_and_what_to_do_are_shown(shown, control):
    depths = control(shown, "shift.depths")
    assert [depths.item(0, i).text() for i in (0, 1, 3)] == ["0", "0.31", "100"]
    causes = control(shown, "shift.causes")
    assert causes.item(0, 2).text() == "0.9 to 1.1"
    assert control(shown, "shift.advice").text() == "Correct 3 to 5 slices."


@pytest.fixture
def reported(verbs, monkeypatch):
    """A report with a picture, and with advice that is not the default."""
    played = core.shift

    def richer(volumes, checkpoint, **options):
        report = yield from played(volumes, checkpoint, **options)
        ring = [(math.cos(i), math.sin(i)) for i in range(20)]
        picture = {"method": "PCA", "reference": ring, "scans": [(9.0, 0.0)]}
        cause = {"name": "pixel size", "unit": "mm", "scan": 1.0}
        cause |= {"reference_low": 1.5, "reference_high": 1.5}
        depths = ({"depth": 1, "mmd2": 0.3, "novelty": 2.5, "percentile": 100.0},)
        grey = {"depth": "grey", "mmd2": 0.1, "novelty": 1.2, "percentile": 60.0}
        report = replace(report, picture=picture, by_depth=depths, causes=(cause,))
        report = replace(report, grey=grey)
        advice = {**report.advice, "donor": "cord"}
        return replace(report, basis={"model": "toy"}, advice=advice)

    monkeypatch.setitem(vars(core), "shift", richer)


def test_the_scan_is_marked_among_the_training_scans(reported, shown, control):
    points = control(shown, "shift.points")
    *known, here = points.places()
    assert len(known) == 20
    assert max(place.x() for place in known) < here.x() <= points.width()
    assert "20 training scans and this one by PCA" in points.accessibleDescription()
    depths = control(shown, "shift.depths")
    cells = [[depths.item(row, i).text() for i in (0, 2)] for row in range(2)]
    assert cells == [["grey values", "1.2"], ["1", "2.5"]]


def test_a_cause_has_its_unit_and_one_usual_value_where_all_have_it(
    reported, shown, control
):
    causes = control(shown, "shift.causes")
    words = [causes.item(0, column).text() for column in range(3)]
    assert words == ["pixel size (mm)", "1", "1.5"]


def test_the_advice_sets_up_fine_tuning(reported, opened, dock, click, finished):
    panel = dock(Panel)
    panel.open_step("shift")
    click(panel, "shift.run")
    finished()
    click(panel, "shift.teach")
    step = panel.steps["finetune"]
    assert panel.steps["finetune"].isVisibleTo(panel)
    assert step.annotation.image.layer().name == opened.name
    assert step.choice.head_name() == "heart"
    assert step.advised == {"init": "cord", "depth": 5}
    assert "first 5 encoder levels stay frozen" in step.plan.text()


def test_a_dock_of_its_own_opens_fine_tune_beside_it(
    reported, shown, opened, viewer, click
):
    click(shown, "shift.teach")
    name = next(n for n in viewer.window.dock_widgets if n.startswith("Fine-tune"))
    step = viewer.window.dock_widgets[name]
    assert step.annotation.image.layer().name == opened.name
    assert step.advised["init"] == "cord"


def test_before_a_report_there_is_nothing_to_set_up(form, opened, control):
    assert not control(form, "shift.teach").isEnabled()


def test_a_click_on_the_strip_goes_to_that_slice(shown, viewer, qtbot, control):
    strip = control(shown, "shift.strip")
    at = QPoint(round(strip.width() * 4.5 / 6), 10)
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=at)
    assert viewer.dims.current_step[0] == 4


def lower(scan):
    """The same scan, five slices farther down."""
    affine = scan.affine.copy()
    affine[:3, 3] -= 5 * affine[:3, 0]
    return replace(scan, affine=affine, source="lower.nii.gz")


def test_the_strip_means_slices_of_the_scan_that_was_compared(
    shown, opened, scan, viewer, qtbot, control
):
    view.add(viewer, layers.volume_layers(lower(scan)))
    strip = control(shown, "shift.strip")
    at = QPoint(round(strip.width() * 4.5 / 6), 10)
    qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=at)
    assert view.slice_shown(viewer, 0, opened) == 4


def test_a_report_says_what_it_is_of(shown, opened, scan, viewer, control):
    words = control(shown, "shift.verdict")
    assert words.text().startswith(opened.name)
    view.add(viewer, layers.volume_layers(lower(scan)))
    assert words.text().startswith(f"Not of what is chosen above, but of {opened.name}")
    assert control(shown, "shift.teach").isEnabled()
    viewer.layers.remove(opened)
    assert not control(shown, "shift.teach").isEnabled()


def test_a_comparison_that_fails_leaves_the_report_with_its_scan(
    shown, opened, scan, viewer, click, finished, monkeypatch, control
):
    view.add(viewer, layers.volume_layers(lower(scan)))

    def broken(*_, **__):
        raise core.HydraSegError("No.", "Never.")
        yield

    monkeypatch.setitem(vars(core), "shift", broken)
    click(shown, "shift.run")
    finished()
    followed = []
    form = SimpleNamespace(follow=lambda advice, **of: followed.append(of["image"]))
    shown.open_finetune = lambda: form
    click(shown, "shift.teach")
    assert followed == [opened]


def test_the_chosen_head_stays_when_layers_come(form, opened, viewer, scan, control):
    head = control(form, "shift.head")
    other = next(
        head.itemText(i) for i in range(head.count()) if i != head.currentIndex()
    )
    head.setCurrentText(other)
    viewer.add_labels(np.zeros(scan.shape, np.uint8))
    assert head.currentText() == other


def test_too_few_references_are_admitted(shown):
    report = replace(
        shown.report, verdict="cannot-judge", p=math.nan, percentile=math.nan
    )
    words = verdict_text(replace(report, n_reference=3))
    assert "too few" in words
    assert "3 training scans; 19 are needed" in words


def test_the_report_can_be_saved(shown, click, tmp_path, monkeypatch, control):
    path = tmp_path / "shift.html"
    monkeypatch.setattr(
        "napari_hydraseg.gui.shift.QFileDialog.getSaveFileName",
        lambda *_: (str(path), ""),
    )
    click(shown, "shift.save")
    assert path.read_text("utf-8").lstrip().startswith("<!")
    assert "shift.html" in control(shown, "shift.status").text()


def test_the_scan_is_handed_over_whole(
    form, opened, scan, click, finished, monkeypatch
):
    asked = []

    def remember(volumes, checkpoint, *, head=None, **_):
        asked.append((volumes, head))
        yield from ()
        return (yield from play(volumes, checkpoint))

    play = core.shift
    monkeypatch.setattr(core, "shift", remember)
    click(form, "shift.run")
    finished()
    assert asked == [([scan], "heart")]


def test_the_nearest_head_can_be_looked_for(
    form, opened, viewer, scan, click, finished, monkeypatch, control
):
    asked = []

    def remember(volumes, checkpoint, *, head=None, **_):
        asked.append(head)
        yield from ()
        return replace((yield from play(volumes, checkpoint)), basis={"head": "cord"})

    play = core.shift
    monkeypatch.setattr(core, "shift", remember)
    heads = control(form, "shift.head")
    heads.setCurrentIndex(heads.count() - 1)
    assert "nearest" in heads.currentText()
    click(form, "shift.run")
    finished()
    assert asked == [None]
    assert control(form, "shift.verdict").text().startswith(f"{opened.name} · ")
    assert " · cord\n" in control(form, "shift.verdict").text()
    view.add(viewer, layers.volume_layers(lower(scan)))
    assert "nearest" in heads.currentText()  # of the next scan, too
