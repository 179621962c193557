"""No fault without a test, no test without its fault."""

import re
import tomllib
from pathlib import Path

import pytest

from napari_hydraseg.core import errors

HERE = Path(__file__).resolve().parent
ROWS = tomllib.loads((HERE / "matrix.toml").read_text("utf-8"))["row"]
ROW = re.compile(r"(?<![A-Za-z0-9])F\d{2,3}(?![A-Za-z0-9])|\btest_f\d{2,3}_")


def named_in(path: Path) -> set[str]:
    """Rows that a file names, as in ``F01`` or ``test_f01_...``."""
    found = ROW.findall(path.read_text("utf-8"))
    return {name.removeprefix("test_").rstrip("_").upper() for name in found}


def test_the_families_of_files_and_of_statistics_are_complete():
    files = [f"F{n:02}" for n in range(1, 65)]
    statistics = [f"F{n}" for n in (*range(101, 108), 109, 110)]  # 108: metrics
    known = {row["id"] for row in ROWS}
    assert known >= {*files, *statistics}
    assert len(known) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_row_is_named_by_its_tests(row):
    tests = HERE / row["by"]
    assert tests.is_file(), f"{row['by']} with the tests of {row['id']} is missing"
    assert row["id"] in named_in(tests)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_every_row_names_an_error_that_exists_and_its_exit_status(row):
    wanted = getattr(errors, row["error"]).exit_status if row["error"] else 0
    assert row["exit"] == wanted


@pytest.mark.parametrize("path", sorted(HERE.glob("test_*.py")), ids=lambda p: p.name)
def test_every_row_that_a_test_names_is_in_the_matrix(path):
    known = {row["id"] for row in ROWS}
    assert named_in(path) <= known
