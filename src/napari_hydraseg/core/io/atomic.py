"""Writing a result so that the disk holds the old file or the new one, never half.

The bytes go to a temporary file beside the target, are flushed to the disk, checked
if the caller wishes, and only then take the target's name. The temporary file stands in
the target's own folder because a rename is atomic within one file system only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import NoSpace, NotWritable, SaveError, WouldOverwrite
from ._names import short_name

PREFIX, SUFFIX = ".hs-", ".tmp"
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_BARRED = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}


def atomic_write(
    path: str | os.PathLike[str],
    write: Callable[[BinaryIO], object],
    *,
    overwrite: bool = False,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write a file completely or not at all.

    Parameters
    ----------
    path : path-like
        The target. A symbolic link is followed, and stays a link.
    write : callable
        Called with the open, seekable binary file.
    overwrite : bool
        Whether a file that is there may be replaced.
    check : callable, optional
        Called with the path of the finished temporary file before it takes the target's
        name. Whatever it raises leaves the target as it was.

    Raises
    ------
    WouldOverwrite
        The file exists and `overwrite` is False.
    NotWritable
        The folder is missing or may not be written, or the target is a folder.
    NoSpace
        The disk, or the user's share of it, is full.
    """
    target = _checked(path, overwrite=overwrite)
    temporary = target.with_name(f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}")
    try:
        with _translated(target):
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            _checked(target, overwrite=overwrite)  # it may have appeared meanwhile
            os.replace(temporary, target)
            _sync_folder(target.parent)
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def ensure_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Find out before a long computation whether its result can be saved.

    Parameters
    ----------
    path : path-like
        Where the result will go.
    overwrite : bool
        Whether a file that is there may be replaced.

    Raises
    ------
    WouldOverwrite, NotWritable, NoSpace
        As `atomic_write` would.
    """
    target = _checked(path, overwrite=overwrite)
    probe = target.with_name(f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}")
    with _translated(target):
        with open(probe, "xb"):
            pass
        probe.unlink()


def sweep_temporaries(
    folder: str | os.PathLike[str], *, older_than_s: float = 3600.0
) -> int:
    """Remove what a killed process left behind in a folder.

    Parameters
    ----------
    folder : path-like
        Where to look; not below it.
    older_than_s : float
        Younger files may belong to a process that is still writing.

    Returns
    -------
    int
        Files removed.
    """
    removed = 0
    limit = time.time() - older_than_s  # the wall clock: file times are on it
    for file in Path(folder).glob(f"{PREFIX}*{SUFFIX}"):
        with contextlib.suppress(OSError):  # another process may be sweeping too
            if file.is_file() and file.stat().st_mtime < limit:
                file.unlink()
                removed += 1
    return removed


def _checked(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # what is left of links that lead in a circle
        raise NotWritable(
            f"{short_name(target)} is a link that leads nowhere.",
            "Choose another name.",
        )
    if target.is_dir():
        raise NotWritable(
            f"A file name was wanted, {short_name(target)} is a folder.",
            "Name a file in it.",
        )
    if target.exists():
        if not overwrite:
            raise WouldOverwrite(
                f"{short_name(target)} is there already.",
                "Choose another name, or allow overwriting.",
            )
        if not os.access(target, os.W_OK):
            raise NotWritable(
                f"{short_name(target)} is write-protected.", "Choose another name."
            )
    elif not target.parent.is_dir():
        raise NotWritable(
            f"The folder for {short_name(target)} does not exist.", "Make it first."
        )
    return target


@contextlib.contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name, reason = short_name(target), error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise NoSpace(
                f"{name} could not be saved: the disk is full.",
                "Free some space or choose another folder, then save again.",
            ) from error
        if error.errno in _BARRED:
            raise NotWritable(
                f"{name} could not be saved: {reason}.", "Choose another folder."
            ) from error
        raise SaveError(
            f"{name} could not be saved: {reason}.", "Save to another disk."
        ) from error


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk too; only POSIX can open a folder.
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot sync a folder
        return
    finally:
        os.close(handle)
