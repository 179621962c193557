"""How a verb ends: one line per failure, an exit status per family, signals."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import click

from napari_hydraseg.core.errors import HydraSegError

UNEXPECTED, USAGE = 1, 2


class Stopped(BaseException):
    """A signal asked the process to end; not an error, so no handler may keep it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number  # as shells count: SIGINT 130, SIGTERM 143


class Shell(click.Group):
    """The group of all verbs: one line per failure, an exit status per family."""

    def main(self, args: Any = None, *rest: Any, **options: Any) -> Any:
        """Run a command line and end the process with its exit status."""
        arguments = list(sys.argv[1:] if args is None else args)
        options["standalone_mode"] = False
        options.setdefault("prog_name", "hydraseg")
        debug = "--debug" in arguments
        try:
            with _signals_raise():
                status = super().main(arguments, *rest, **options)
        except (Stopped, click.Abort) as stop:
            _fail("Cancelled.", getattr(stop, "exit_status", 130), debug=debug)
        except click.UsageError as error:
            _fail(_usage(error), USAGE, debug=False)
        except click.ClickException as error:
            _fail(error.format_message(), UNEXPECTED, debug=debug)
        except HydraSegError as error:
            _fail(error.in_terminal, error.exit_status, debug=debug)
        except Exception as error:
            # Here ends what nobody foresaw: a line instead of a page, unless asked.
            _fail(
                f"Unforeseen {type(error).__name__}. Run again with --debug and report "
                "what it prints.",
                UNEXPECTED,
                debug=debug,
            )
        sys.exit(status if isinstance(status, int) else 0)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Turn Ctrl-C and a polite kill into an exception, so that work is cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "hydraseg"
    return f"{error.format_message()} See {path} --help."


def _fail(text: str, status: int, *, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    click.echo(f"Error: {_one_line(text)}", err=True)
    sys.exit(status)


def _one_line(text: str) -> str:
    return " ".join(text.split())
