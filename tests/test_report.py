"""Reports say what was found, show no file name and load nothing from elsewhere."""

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from napari_hydraseg.core._plain import plain
from napari_hydraseg.core.errors import SaveError, WouldOverwrite
from napari_hydraseg.core.report import describe, write_report
from napari_hydraseg.core.types import (
    Checkpoint,
    FinetuneResult,
    ModelSpec,
    Report,
    ShiftReport,
)

NASTY = ["<script>alert(1)</script>", "{{7*7}}", "a,b\nc", '=cmd|"/c calc"!A1', "$x$"]


def row(case, name="cord", dice=0.5):
    return {"case": case, "label": 1, "name": name} | dict.fromkeys(
        ("dice", "precision", "sensitivity", "hd95_mm"), dice
    )


def shift_report(verdict="different", **fields):
    values = {
        "verdict": verdict,
        "p": 0.04,
        "p_floor": 0.02,
        "percentile": 97.0,
        "n_reference": 49,
        "by_depth": ({"depth": 0, "mmd2": 0.1, "percentile": 97.0},),
        "per_case": ({"case": "DOE^JOHN", "verdict": verdict, "p": 0.04},),
        "per_slice": tuple(
            {"case": "DOE^JOHN", "slice": number, "witness": 0.1 * number}
            for number in range(3)
        ),
        "causes": (
            {"name": "noise", "scan": 9.0, "reference_low": 1, "reference_high": 2},
        ),
        "advice": {"init": "random", "depth": 3, "text": "Fine-tune first."},
    }
    return ShiftReport(**values | fields)


def finetune_result(**fields):
    checkpoint = Checkpoint(ModelSpec("tiny", ("MR",), {}, (64, 64)), {})
    values = {
        "checkpoint": checkpoint,
        "candidate": checkpoint,
        "head": "aorta",
        "init": "random",
        "mode": "frozen",
        "reason": "No head is near.",
        "before": {"dice": 0.0, "n": 3, "low": 0.0, "high": 0.0},
        "after": {"dice": 0.8, "n": 3, "low": 0.7, "high": 0.9},
        "accepted": True,
        "epochs": 2,
        "curve": (
            {"epoch": 0, "loss": math.nan, "dice": 0.0},
            {"epoch": 1, "loss": 0.5, "dice": 0.8},
        ),
        "frozen": {"tensors": 9, "sha256_before": "ab", "sha256_after": "ab"},
        "train": {"cases": 1, "slices": 4},
        "hold_out": {"cases": 0, "slices": 3, "kind": "slab"},
    }
    return FinetuneResult(**values | fields)


def page(report, folder):
    write_report(report, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects the tags, and what they refer to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        links = ("src", "href", "srcset", "action", "data")
        self.links += [value for name, value in attributes if name in links]


@pytest.mark.parametrize("result", [shift_report(), finetune_result(), [row("a")]])
def test_a_page_stands_alone_and_says_it_is_no_medical_device(result, tmp_path):
    text = page(describe(result), tmp_path)
    tags = Tags(text)
    assert "script" not in tags.open
    assert tags.open.count("img") >= 1
    assert all(link.startswith("data:image/") for link in tags.links)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "Not a medical device" in text
    assert "prefers-color-scheme: dark" in text


def test_text_from_outside_is_shown_and_never_run(tmp_path):
    report = describe([row(name, name) for name in NASTY])
    text = page(report, tmp_path)
    assert "script" not in Tags(text).open
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{7*7}}" in text


def test_cells_of_a_spreadsheet_are_text_and_come_back_whole(tmp_path):
    write_report(describe([row(0, name) for name in NASTY]), tmp_path / "r.csv")
    with open(tmp_path / "r.csv", newline="", encoding="utf-8") as file:
        names = [found["name"] for found in csv.DictReader(file)]
    assert names == [NASTY[0], NASTY[1], NASTY[2], "'" + NASTY[3], NASTY[4]]


def test_a_negative_number_is_no_formula(tmp_path):
    write_report(Report("t", "v", rows=({"ml": -1.5},)), tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == "ml\n-1.5\n"


@pytest.mark.parametrize("suffix", [".html", ".json", ".csv"])
def test_no_name_of_a_case_stands_in_a_report(suffix, tmp_path):
    for number, result in enumerate((shift_report(), [row("DOE^JOHN")])):
        path = tmp_path / f"{number}{suffix}"
        write_report(describe(result), path)
        assert b"DOE" not in path.read_bytes()


def test_json_has_null_where_a_number_does_not_exist(tmp_path):
    write_report(describe([row("a", dice=math.nan)]), tmp_path / "r.json")
    found = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert found["schema"] == 1
    assert found["rows"][0]["dice"] is None


def test_plain_takes_what_numpy_gives():
    found = plain({1: np.float32(2), "a": np.arange(2), "b": (np.bool_(True), np.nan)})
    assert json.dumps(found) == '{"1": 2.0, "a": [0, 1], "b": [true, null]}'


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("different", "differs from the scans this model was trained on"),
        ("similar", "looks like the scans this model was trained on"),
        ("borderline", "lies at the edge of the scans this model was trained on"),
        ("cannot-judge", "too few to judge"),
    ],
)
def test_a_verdict_on_shift_never_speaks_of_the_mask(verdict, words):
    said = describe(shift_report(verdict)).verdict
    assert words in said
    assert "That does not prove the mask right or wrong." in said


def test_fine_tuning_tells_before_and_after_on_how_many_slices():
    report = describe(finetune_result())
    assert "3 held-out slices: 0.00 before, 0.80 after" in report.verdict
    kept = describe(finetune_result(accepted=False)).verdict
    assert "was not kept" in kept


def test_without_held_out_slices_nothing_is_claimed():
    result = finetune_result(hold_out={"cases": 0, "slices": 0, "kind": "none"})
    assert "is not known" in describe(result).verdict


def test_an_evaluation_tells_how_many_cases_it_could_count():
    report = describe([row("a", dice=0.4), row("b", dice=0.6), row("c", dice=math.nan)])
    assert "cord: Dice 0.5 (" in report.verdict
    assert "n = 2, 1 empty" in report.verdict


def test_an_overlay_becomes_a_picture_in_the_page(tmp_path):
    labels = np.zeros((8, 8), int)
    labels[2:5, 2:5] = 9
    overlay = {
        "kind": "image",
        "title": "slice 3",
        "image": np.arange(64.0).reshape(8, 8),
        "labels": labels,
        "names": {9: "cord"},
    }
    text = page(describe([row("a")], figures=[overlay]), tmp_path)
    assert "data:image/png;base64," in text
    assert "slice 3" in text


def test_a_figure_of_an_unknown_kind_is_a_slip_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="pie"):
        page(Report("t", "v", figures=({"kind": "pie"},)), tmp_path)


def test_an_old_report_is_kept_unless_overwriting_is_allowed(tmp_path):
    (tmp_path / "r.csv").write_text("old")
    with pytest.raises(WouldOverwrite):
        write_report(describe([row("a")]), tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == "old"


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(SaveError, match=r"\.pdf"):
        write_report(describe([row("a")]), tmp_path / "r.pdf")
