"""No network while the tests run, in this interpreter and in those it starts.

Python imports a module of this name at its start if it finds one; ``conftest.py`` puts
this folder on the path of child processes, and calls `block` itself.
"""

import socket
import sys

_INTERNET = {socket.AF_INET, socket.AF_INET6}
_LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class NetworkBlocked(RuntimeError):
    """Something wanted to leave this machine."""


def _watch(event: str, arguments: tuple) -> None:
    # Only sockets of the internet: a window talks to its screen through AF_UNIX.
    if event in _LOOKUPS or (
        event == "socket.__new__" and arguments[1] in _INTERNET | {-1}
    ):
        raise NetworkBlocked(f"{event}{arguments[1:]}: tests have no network")


def block() -> None:
    """Refuse every internet socket from now on; an audit hook cannot be undone."""
    if not getattr(sys, "_hydraseg_offline", False):
        sys.addaudithook(_watch)
        sys._hydraseg_offline = True


block()
