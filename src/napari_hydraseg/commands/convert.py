"""The verb ``hydraseg convert``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from napari_hydraseg import core
from napari_hydraseg.core._published import KINDS

from .scans import FILE, INPUT, keep_apart
from .session import command, emit, overwrite_option, remark


@command("convert")
@click.argument("file", type=INPUT)
@click.option(
    "--kind",
    type=click.Choice(["auto", *KINDS]),
    default="auto",
    show_default=True,
    help="What the file is; auto: its tensors tell.",
)
@click.option("--name", help="The model's name; default: from its kind.")
@click.option("-o", "--output", type=FILE, required=True, metavar="MODEL.safetensors")
@overwrite_option
def convert(
    file: Path, kind: str, name: str | None, output: Path, overwrite: bool
) -> None:
    """Turn published weights of others (.pt, .h5) into a model file.

    Nothing in FILE can run code: it is read as tensors or not at all.
    """
    keep_apart([output], [file])
    made = core.convert(file, kind=kind, name=name)
    core.save_checkpoint(made, output, overwrite=overwrite)
    found = made.card["converted"]
    content = {
        "kind": found["kind"],
        "spec": asdict(made.spec),
        "tensors": found["tensors"],
        "parameters": found["parameters"],
        "ignored": found["ignored"],
    }
    for limit in made.card.get("limits", ()):
        remark(str(limit))
    emit("convert", content, table=_lines(content, output))


def _lines(content: dict[str, object], output: Path) -> str:
    spec = content["spec"]
    heads = ", ".join(spec["heads"]) if isinstance(spec, dict) else ""
    ignored = content["ignored"]
    lines = [
        f"{content['kind']}: {content['parameters']:,} parameters "
        f"in {content['tensors']} tensors; heads: {heads or 'none'}",
        f"Wrote {output.name}.",
    ]
    if isinstance(ignored, list) and ignored:
        lines.append(f"No use for {len(ignored)}: {', '.join(ignored[:5])}")
    return "\n".join(lines)
