"""Which series of a folder: a table to choose from, without a word on the patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MixedSeries, NotAVolume
from ._dicom_headers import Header, headers_in, read_header
from ._dicom_open import quiet
from ._names import short_name


@dataclass(frozen=True)
class Series:
    """One row of the table of series; nothing in it is about a person.

    Attributes
    ----------
    number : int
        Place in the table, from 1; `read_series` takes it too.
    description, modality : str
        As the scanner wrote them; "" where it did not.
    size : str
        Columns x rows x slices.
    uid : str
        Series Instance UID.
    """

    number: int
    description: str
    modality: str
    size: str
    uid: str


def series_in(folder: Path) -> list[Series]:
    """List the DICOM series of a folder.

    Raises
    ------
    NotAVolume
        If there is none.
    """
    return _table(_groups(headers_in(folder)[0]))


def headers_of(path: Path, series: str | None) -> tuple[list[Header], int]:
    """Read the headers of one series, or of one file.

    Returns
    -------
    headers : list of Header
        Of the series that was chosen, or of the only one.
    skipped : int
        How many DICOM files of the folder are no images.

    Raises
    ------
    MixedSeries
        If there are several series and none was chosen.
    NotAVolume
        If there is none, or not the one that was chosen.
    """
    if not path.is_dir():
        return [read_header(path)], 0
    found, skipped = headers_in(path)
    return _chosen(_groups(found), series, short_name(path)), skipped


def _groups(headers: Sequence[Header]) -> list[list[Header]]:
    """Gather headers by series, in the order of the series' numbers."""
    series: defaultdict[str, list[Header]] = defaultdict(list)
    for header in headers:
        series[header.text("SeriesInstanceUID")].append(header)
    with quiet("A series"):
        return sorted(
            series.values(),
            key=lambda group: (
                group[0].number("SeriesNumber"),
                group[0].text("SeriesInstanceUID"),
            ),
        )


def _table(groups: Sequence[Sequence[Header]]) -> list[Series]:
    rows = []
    with quiet("A series"):
        for place, group in enumerate(groups):
            first = group[0]
            slices = sum(header.frames for header in group)
            size = f"{first.number('Columns')} x {first.number('Rows')} x {slices}"
            rows.append(
                Series(
                    place + 1,
                    first.text("SeriesDescription")[:64],
                    first.text("Modality")[:16],
                    size,
                    first.text("SeriesInstanceUID"),
                )
            )
    return rows


def _chosen(groups: list[list[Header]], series: str | None, name: str) -> list[Header]:
    table = _table(groups)
    if series is None and len(groups) == 1:
        return groups[0]
    if series is None:
        raise MixedSeries(
            f"{name} holds {len(groups)} series: {_listed(table)}.",
            "Choose one.",
            "--series NUMBER",
        )
    wanted = series.strip().casefold()
    for names in (
        [row.uid for row in table],
        [str(row.number) for row in table],
        [row.description.casefold() for row in table],
    ):
        if names.count(wanted) == 1:
            return groups[names.index(wanted)]
    raise NotAVolume(
        f"{name} has no such series; it holds {_listed(table)}.",
        "Choose one.",
        "--series NUMBER",
    )


def _listed(table: Sequence[Series]) -> str:
    """Name series in the space that a message has."""
    words: list[str] = []
    for row in table:
        size = row.size.replace(" ", "")
        word = f"{row.number}: {row.description[:16]} {row.modality} {size}"
        word = " ".join(word.split())
        if sum(map(len, words)) + len(word) > 80:
            return ", ".join([*words, "…"])
        words.append(word)
    return ", ".join(words)
