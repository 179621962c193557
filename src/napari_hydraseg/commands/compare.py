"""The verb that puts transfer to the test: ``hydraseg compare``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.types import Report, Segmentation, TransferReport

from .scans import FILE, annotated, keep_apart, reading, scans
from .session import (
    command,
    emit,
    model_option,
    overwrite_option,
    remark,
    session,
)
from .session import table as laid_out
from .teaching import (
    FOLDER,
    annotated_option,
    budget_options,
    only_one_budget,
    pair_option,
)
from .work import run

FIRST = ("arms", "comparisons", "notes", "runs", "basis")


@dataclass(frozen=True)
class Labelled:
    """A labelled scan on the command line, not read yet."""

    text: str
    labels: Path
    subject: str


@command("compare")
@pair_option("--case", "cases", "An annotated scan to learn from.")
@pair_option("--test", "tests", "A labelled scan to test on, all of it.")
@click.option(
    "--set",
    "folder",
    type=FOLDER,
    metavar="FOLDER",
    help="Instead: a folder with images, labels and split.json; learns from train.",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Which subjects of --set to test on.",
)
@model_option
@click.option("--head", required=True, metavar="NAME", help="A new name.")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="NAME[=ID,ID]",
    help="Name of label 1, 2, ..., in this order; or of the labels with these ids, "
    "the others being background.",
)
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="frozen[@N]|full|imagenet[@N]|scratch[+augment]",
    help="Repeatable. By default frozen and scratch, with and without +augment. @N: "
    "only the N finest levels of the encoder are frozen.",
)
@click.option(
    "--slices",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Draw N of the painted slices for each repeat. Repeatable; default: all.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Draws and seeds: 3, or one number, or one for each --slices.",
)
@annotated_option
@click.option("--init", default="random", metavar="auto|HEAD|random", show_default=True)
@budget_options
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    help="Learning rate to choose from, for arms that train the encoder. Repeatable; "
    "one: no choice. By default three.",
)
@click.option(
    "--try-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the budget that each of these rates is tried with.",
)
@click.option("--resume", is_flag=True, help="Keep the runs that are finished.")
@click.option("-o", "--output", type=FILE, metavar="REPORT.html|.csv|.json")
@overwrite_option
@reading
def compare(
    cases: tuple[tuple[str, Path], ...],
    tests: tuple[tuple[str, Path], ...],
    folder: Path | None,
    split: str,
    model: str,
    classes: tuple[str, ...],
    which: str,
    output: Path | None,
    resume: bool,
    overwrite: bool,
    arms: tuple[str, ...],
    rates: tuple[float, ...],
    repeats: tuple[int, ...],
    **options: Any,
) -> None:
    """Tell whether a pretrained encoder helps, and by how much.

    Frozen, trained, ImageNet and scratch learn a new head from the same few slices, for
    the same time, and are tested on the same scans.
    """
    learned, tested = _sides(cases, tests, folder, split)
    inputs = [path for one in (*learned, *tested) for path in _files(one)]
    state = _ready(output, inputs, resume=resume, overwrite=overwrite)
    _check(arms, repeats, options)
    names, joined = _classes(classes)
    many = repeats[0] if len(repeats) == 1 else repeats
    chosen = {"arms": arms, "rates": rates, "repeats": many}
    now = session()
    steps = core.compare_transfer(
        core.get_model(model),
        _load(learned, names, joined, which),
        _load(tested, names, joined, "all"),
        class_names=names,
        subjects=[one.subject for one in tested],
        state=state,
        seed=now.seed,
        device=now.device,
        **{name: value for name, value in chosen.items() if value},
        **options,
    )
    result = run(steps, "comparing")
    report = core.describe(result)
    if output is not None:
        core.write_report(report, output, overwrite=overwrite)
        if state is not None:
            state.unlink(missing_ok=True)
    for note in result.notes:
        remark(note)
    emit("compare", _content(result), table=_lines(report))


def _sides(
    cases: Iterable[tuple[str, Path]],
    tests: Iterable[tuple[str, Path]],
    folder: Path | None,
    split: str,
) -> tuple[list[Labelled], list[Labelled]]:
    """List the scans to learn from and those to test on."""
    pairs = [
        [Labelled(text, labels, f"{text}|{labels}") for text, labels in side]
        for side in (cases, tests)
    ]
    if folder is None and not (pairs[0] and pairs[1]):
        raise click.UsageError("Give --case and --test, or --set.")
    if folder is None:
        return pairs[0], pairs[1]
    if pairs[0] or pairs[1]:
        raise click.UsageError("Give --case and --test, or --set, not both.")
    return _of(folder, "train"), _of(folder, split)


def _of(folder: Path, split: str) -> list[Labelled]:
    from napari_hydraseg.core._datasets import files

    return [
        Labelled(str(image), labels, subject)
        for subject, image, labels in files(folder, split)
    ]


def _files(one: Labelled) -> list[Path]:
    return [*scans([one.text])[0].paths, one.labels]


def _ready(
    output: Path | None, inputs: Sequence[Path], *, resume: bool, overwrite: bool
) -> Path | None:
    """Check the report's name; return where finished runs are kept."""
    if output is None:
        if resume:
            raise click.UsageError("--resume needs -o: the runs are kept beside it.")
        return None
    from napari_hydraseg.core.io.atomic import ensure_writable

    if output.suffix.lower() not in (".html", ".csv", ".json"):
        raise click.UsageError(f"A report is .html, .csv or .json, not {output.name}.")
    state = output.with_suffix(".runs")
    keep_apart([output, state], inputs)
    ensure_writable(output, overwrite=overwrite)
    if not resume:
        ensure_writable(state, overwrite=overwrite)
        state.unlink(missing_ok=True)
    return state


def _check(
    arms: Sequence[str], repeats: Sequence[int], options: dict[str, Any]
) -> None:
    """Refuse before anything is read what would be refused later."""
    from napari_hydraseg.core._arms import arms_of

    only_one_budget(options)
    if len(repeats) > 1 and len(repeats) != len(options["slices"]):
        raise click.UsageError("Give one --repeats, or one for each --slices.")
    try:
        arms_of(arms)
    except ValueError as error:
        raise click.UsageError(f"{error}.".replace("an", "An", 1)) from None


def _classes(given: Sequence[str]) -> tuple[tuple[str, ...], dict[int, str]]:
    """Read ``--class``: names, and label id -> class where ids are given."""
    names: list[str] = []
    joined: dict[int, str] = {}
    for text in given:
        name, equals, ids = text.partition("=")
        if equals and not re.fullmatch(r"\d+(,\d+)*", ids):
            raise click.UsageError(f"--class is NAME or NAME=ID,ID, not {text}.")
        names.append(name)
        joined |= {int(i): name for i in ids.split(",")} if equals else {}
    if joined and set(joined.values()) != set(names):
        raise click.UsageError("Give ids for every --class, or for none.")
    return tuple(names), joined


def _load(
    listed: Iterable[Labelled],
    names: tuple[str, ...],
    joined: dict[int, str],
    which: str,
) -> list[tuple[Any, Segmentation]]:
    from napari_hydraseg.core._scores import as_classes

    pairs = []
    for one in listed:
        volume = scans([one.text])[0].load()
        labels = core.load_segmentation(one.labels)
        if joined:
            labels = as_classes(labels, joined, ("background", *names))
        if labels.labels.any() or which == "all":  # else there is nothing to learn
            pairs.append((volume, annotated(labels, volume, which)))
    return pairs


def _content(result: TransferReport) -> dict[str, Any]:
    """Put a comparison into the keys of the JSON document."""
    from napari_hydraseg.core._compared import headline

    best = headline(result) or {}
    content = {key: getattr(result, key) for key in FIRST}
    return {
        "head": result.head,
        "arms": content.pop("arms"),
        "gain_percent": best.get("gain_percent"),
        "error_gone_percent": best.get("error_gone_percent"),
        "p_value": best.get("p_value"),
    } | content


def _lines(report: Report) -> str:
    """Put a comparison into lines for people."""
    arms = [dict(row) for row in report.rows if "against" not in row]
    pairs = [dict(row) for row in report.rows if "against" in row]
    parts = [laid_out(rows, tuple(rows[0])) for rows in (arms, pairs) if rows]
    return "\n\n".join([report.verdict, *parts])
