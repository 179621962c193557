"""The command line ``hydraseg``: each verb is one call of the core.

Nothing heavy is imported until a verb needs it.
"""

from __future__ import annotations

from pathlib import Path

import click

from . import __version__
from .commands.clean import clean
from .commands.compare import compare
from .commands.convert import convert
from .commands.doctor import doctor
from .commands.judge import evaluate, shift
from .commands.library import models
from .commands.scans import FILE
from .commands.segment import segment
from .commands.series import series
from .commands.session import command, common, emit, overwrite_option
from .commands.shell import Shell
from .commands.train import finetune, pretrain


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hydraseg")
@common
def main() -> None:
    """Segment, correct, fine-tune and check medical scans.

    Not a medical device.
    """


@command("demo")
@click.option("-o", "--output", type=FILE, default=Path("demo"), metavar="DIR")
@click.option("--headless", is_flag=True, help="Do not open napari at the end.")
@overwrite_option
def demo(output: Path, headless: bool, overwrite: bool) -> None:
    """Run the main job on the bundled model and a synthetic scan, end to end."""
    from .demo import lines, open_window, run_demo

    found = run_demo(output, overwrite=overwrite)
    emit("demo", found, table=lines(found))
    if not headless:
        open_window(output)


for _verb in (
    segment,
    clean,
    finetune,
    shift,
    evaluate,
    compare,
    pretrain,
    convert,
    models,
    demo,
    series,
    doctor,
):
    main.add_command(_verb)


if __name__ == "__main__":
    main()
