"""The verbs that make models: ``hydraseg finetune`` and ``hydraseg pretrain``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from napari_hydraseg import core
from napari_hydraseg.core.errors import (
    SaveError,
    WeightsError,
    WouldOverwrite,
    WrongInput,
)

from .scans import FILE, INPUT, annotated, keep_apart, reading, scans
from .session import command, emit, model_option, overwrite_option, remark, session
from .session import table as laid_out
from .teaching import (
    FOLDER,
    annotated_option,
    budget_options,
    only_one_budget,
    pair_option,
    result_content,
    result_lines,
)
from .work import run


@command("finetune")
@pair_option("--case", "cases", "An annotated scan.", required=True)
@model_option
@click.option("--head", required=True, metavar="NAME", help="New, or one to improve.")
@click.option(
    "--class",
    "class_names",
    multiple=True,
    metavar="NAME",
    help="Name of label 1, 2, ...; repeatable, in this order.",
)
@click.option("--init", default="auto", metavar="auto|HEAD|random", show_default=True)
@click.option(
    "--mode", type=click.Choice(["frozen", "full", "scratch"]), default="frozen"
)
@click.option("--depth", type=click.IntRange(0), help="Encoder levels frozen; all.")
@annotated_option
@click.option("--augment/--no-augment", default=True)
@budget_options
@click.option("--hold-out", type=click.Choice(["auto", "none"]), default="auto")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the run that was killed; else teach the model that -o names more.",
)
@click.option("-o", "--output", type=FILE, required=True, metavar="MODEL.safetensors")
@overwrite_option
@reading
def finetune(
    cases: tuple[tuple[str, Path], ...],
    model: str,
    which: str,
    output: Path,
    resume: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Teach a model a structure from a few slices; the encoder stays frozen.

    While training, what a killed run needs to go on lies beside the model (NAME.state).
    A model that is taught further stays as it was where that makes it no better.
    """
    only_one_budget(options)
    inputs = [
        path for text, labels in cases for path in (*scans([text])[0].paths, labels)
    ]
    keep_apart([output], inputs)
    _check_model_file(output, overwrite=overwrite or resume)
    state = output.with_suffix(".state")
    checkpoint = _parent(model, output, state, resume=resume)
    _check_state(state, resume=resume, overwrite=overwrite)
    pairs = []
    for text, labels in cases:
        volume = scans([text])[0].load()
        pairs.append((volume, annotated(core.load_segmentation(labels), volume, which)))
    now = session()
    steps = core.finetune(
        checkpoint,
        pairs,
        seed=now.seed,
        device=now.device,
        state=state,
        keep_state=True,
        **options,
    )
    result = run(steps, "fine-tuning")
    saved = result.accepted or not _holds(output, checkpoint)
    if saved:
        _save(result.candidate, output, state, overwrite=overwrite or resume)
    state.unlink(missing_ok=True)
    for warning in result.warnings:
        remark(warning)
    if not saved:
        remark(f"{output.name} is left as it was.")
    elif not result.accepted:
        remark(f"{output.name} is not better than the model it came from.")
    content = result_content(result, output, saved=saved)
    emit("finetune", content, table=result_lines(result, output, saved=saved))


@command("pretrain")
@click.argument("config", type=INPUT)
@click.option("-o", "--output", type=FILE, required=True, metavar="MODEL.safetensors")
@click.option("--resume", is_flag=True, help="Go on with the run that was killed.")
@click.option("--data", type=FOLDER, help="Folder of the sets, instead of the file's.")
@click.option("--track", type=Path, metavar="DIR", help="Write for TensorBoard.")
@click.option("--profile", type=FILE, metavar="JSON", help="Profile a few steps.")
@overwrite_option
def pretrain(
    config: Path,
    output: Path,
    resume: bool,
    data: Path | None,
    track: Path | None,
    profile: Path | None,
    overwrite: bool,
) -> None:
    """Train one encoder and many heads from a configuration file (TOML).

    The model's card is written beside it (NAME.md), and a log (NAME.jsonl). While
    training, what a killed run needs to go on lies beside it too (NAME.state). Under
    torchrun all processes train one model together.
    """
    from napari_hydraseg.core.io.atomic import atomic_write, ensure_writable

    _check_model_file(output, overwrite=overwrite)
    page = output.with_suffix(".md")
    ensure_writable(page, overwrite=overwrite)
    state, log = output.with_suffix(".state"), output.with_suffix(".jsonl")
    if resume and not state.is_file():
        raise WrongInput(f"There is no {state.name} to go on with.", "Start anew.")
    first = os.environ.get("RANK", "0") == "0"
    if not resume and first:
        for path in (state, log):
            ensure_writable(path, overwrite=overwrite)
            path.unlink(missing_ok=True)
    content = _read_config(config) | ({} if data is None else {"data": str(data)})
    steps = core.pretrain(
        content,
        state=state,
        log=log,
        track=track,
        profile=profile,
        device=session().device,
    )
    checkpoint = run(steps, "training")
    if not first:  # the first process writes for all
        return
    core.save_checkpoint(checkpoint, output, overwrite=overwrite)
    state.unlink(missing_ok=True)
    text = core.model_card(checkpoint).encode()
    atomic_write(page, lambda stream: stream.write(text), overwrite=overwrite)
    heads = {name: _head_dice(head) for name, head in checkpoint.card["heads"].items()}
    shown = [{"head": name} | head for name, head in heads.items()]
    emit(
        "pretrain",
        {"model": str(output), "heads": heads},
        table=laid_out(shown, ("head", "dice", "n")),
    )


def _head_dice(head: Any) -> dict[str, Any]:
    """Mean Dice over the classes of a head, and the scans that it rests on."""
    found = list(head.get("dice", {}).values())
    if not found:
        return {"dice": None, "n": 0}
    mean = sum(one["mean"] for one in found) / len(found)
    return {"dice": mean, "n": min(one["n"] for one in found)}


def _parent(model: str, output: Path, state: Path, *, resume: bool) -> core.Checkpoint:
    """Find the model that is taught; a killed run names its own."""
    if not resume:
        return core.get_model(model)
    if not state.is_file():
        return core.get_model(output)
    from napari_hydraseg.core._saved import read
    from napari_hydraseg.core.checkpoint import digest

    if output.is_file():
        further = core.get_model(output)
        if digest(further.weights) == read(state)["fields"]["model"]:
            return further
    return core.get_model(model)


def _holds(path: Path, checkpoint: core.Checkpoint) -> bool:
    """Whether a file holds the weights of this very model."""
    from napari_hydraseg.core.checkpoint import digest

    try:
        found = core.get_model(path)
    except WeightsError:  # there is none, or a damaged one that may be replaced
        return False
    return digest(found.weights) == digest(checkpoint.weights)


def _save(
    checkpoint: core.Checkpoint, path: Path, state: Path, *, overwrite: bool
) -> None:
    """Save what was learned; where that fails, its state stays, and is named.

    Raises
    ------
    SaveError
        If the file cannot be written.
    """
    try:
        core.save_checkpoint(checkpoint, path, overwrite=overwrite)
    except SaveError:
        if state.is_file():
            remark(f"What was learned is kept in {state.name}: --resume goes on.")
        raise


def _check_state(state: Path, *, resume: bool, overwrite: bool) -> None:
    """Leave no state of an older run, and do not lose one unasked.

    Raises
    ------
    WouldOverwrite
        If a killed run could go on.
    """
    if resume or not state.exists():
        return
    if not overwrite:
        raise WouldOverwrite(
            f"{state.name} is there: a run was killed.",
            "Go on with --resume, or start anew with --overwrite.",
        )
    state.unlink()


def _check_model_file(path: Path, *, overwrite: bool) -> None:
    """Find out before the training whether the model can be saved.

    Raises
    ------
    click.UsageError
        If the name does not end in ``.safetensors``.
    SaveError
        If the file cannot be written.
    """
    from napari_hydraseg.core.io.atomic import ensure_writable

    if path.suffix != ".safetensors":
        raise click.UsageError(f"A model is NAME.safetensors, not {path.name}.")
    ensure_writable(path, overwrite=overwrite)


def _read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file; the paths in it are relative to it.

    One that says ``extends = "OTHER.toml"`` has only what differs from the other.

    Raises
    ------
    WrongInput
        If it is none, or the other is not there.
    """
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongInput(f"{path.name} is no TOML: {error}.", "Mend it.") from error
    except OSError as error:
        raise WrongInput(
            f"{path.name} cannot be read: {error.strerror}.", "See what extends it."
        ) from error
    other = config.pop("extends", None)
    if other is None:
        config.setdefault("data", ".")
    for key in ("data", "start"):
        if config.get(key) not in (None, "imagenet", "random"):
            config[key] = str(path.parent / config[key])
    return config if other is None else _over(_read_config(path.parent / other), config)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Put tables over tables: what the upper one says, it says instead."""
    joined = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            joined[key] = _over(below[key], above[key])
    return joined
