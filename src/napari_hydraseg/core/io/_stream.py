"""One file, read once, from its first byte to its last: unpacked, counted, hashed.

nibabel stops at the last voxel, so that the checksum at the end of a gzip stream is
never compared and a flipped bit goes unnoticed. Here a stream is read to its end.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from isal import igzip
from isal.igzip_lib import IsalError

from ..errors import NotAVolume, TruncatedFile
from ._limits import MOST_PACKED
from ._names import short_name

HEAD = 1024  # every format that we know tells itself by then
AFTER_THE_LAST_VOXEL = 2**20  # notes of the program that wrote it, never more
MOST_AFTER = 2**30  # unpacked for the sake of the checksum behind: a third of a second
_BLOCK = 2**18
# the types of isal call its error an instance
_DAMAGED = (gzip.BadGzipFile, zlib.error, cast(type[Exception], IsalError))
_AGAIN = "Copy or export the scan again."


class ScanFile:
    """A regular file that is open for reading; gzip is known by its content.

    Parameters
    ----------
    path : Path
        Anything; a link is followed.

    Attributes
    ----------
    name : str
        For messages.
    size : int
        Bytes on the disk.
    packed : bool
        Whether the content is a gzip stream.
    head : bytes
        The first `HEAD` bytes, unpacked. They are still to be read.

    Raises
    ------
    NotAVolume
        If there is no such regular file, it may not be read, or it is empty.
    TruncatedFile
        If it is packed and even its beginning is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.name = short_name(path)
        self._raw = _Hashed(_opened(path, self.name))
        try:
            self._before = os.fstat(self._raw.file.fileno())
            self.size = self._before.st_size
            if not self.size:
                raise NotAVolume(f"{self.name}: the file is empty.", _AGAIN)
            first = self._raw.file.read(2)
            self._raw.file.seek(0)
            self.packed = first == b"\x1f\x8b"
            self._source: Any = (
                igzip.IGzipFile(fileobj=self._raw, mode="rb")
                if self.packed
                else self._raw
            )
            self.position = 0  # unpacked bytes handed out
            self._ahead = b""
            self._wanted = 0  # unpacked bytes that the header promises
            self.head = self.peek(HEAD)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._raw.file.close()

    @property
    def sha256(self) -> str:
        """Digest of what was read so far of the file as it lies on disk."""
        return self._raw.digest.hexdigest()

    def require(self, wanted: int, *, after: int) -> None:
        """Refuse a file that cannot hold what its header promises.

        Parameters
        ----------
        wanted : int
            Bytes of voxels.
        after : int
            Where they begin.

        Raises
        ------
        TruncatedFile
            With both numbers.
        """
        self._wanted = after + wanted
        most = self.size * MOST_PACKED if self.packed else self.size
        if most - after < wanted:
            raise TruncatedFile(
                f"{self.name} ends early: {'at most ' if self.packed else ''}"
                f"{max(0, most - after)} of {wanted} bytes of voxels are there.",
                _AGAIN,
            )

    def fill(self, block: memoryview) -> None:
        """Read exactly as many bytes as `block` holds.

        Raises
        ------
        TruncatedFile
            If the file ends before, or is damaged.
        """
        done = min(len(self._ahead), len(block))
        block[:done] = self._ahead[:done]
        self._ahead = self._ahead[done:]
        while done < len(block):
            count = self._into(block[done:])
            if not count:
                raise self._ended()
            done += count
        self.position += done

    def peek(self, count: int) -> bytes:
        """Look at what comes next, at most `count` bytes; they are still to be read."""
        self._ahead = self._up_to(count)
        return self._ahead

    def skip(self, count: int) -> None:
        """Read over `count` bytes; they are unpacked and hashed all the same."""
        spare = memoryview(bytearray(min(count, _BLOCK)))
        while count > 0:
            self.fill(spare[: min(count, _BLOCK)])
            count -= min(count, _BLOCK)

    def rest(self, limit: int) -> bytes:
        """Read to the end of a small file, at most `limit` bytes, and check it."""
        content = self._up_to(limit)
        self.position += len(content)
        self.finish()
        return content

    def blocks(self) -> Iterator[bytes]:
        """Give what is left of the file, piece by piece."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            yield ahead
        block = memoryview(bytearray(_BLOCK))
        while count := self._into(block):
            yield bytes(block[:count])

    def finish(self, *, leave: bool = False) -> int:
        """Read to the end, so that the checksum of a packed file is compared.

        Parameters
        ----------
        leave : bool
            Whether a packed file that goes on for more than `MOST_AFTER` bytes is left
            packed from there: its checksum is then not compared.

        Returns
        -------
        int
            Bytes that came after the last one wanted.

        Raises
        ------
        TruncatedFile
            If the checksum or the length is wrong, the file changed while it was read,
            or so much follows that it cannot be checked.
        """
        after = 0
        limit = AFTER_THE_LAST_VOXEL if self.packed else self.size
        for block in self.blocks():
            after += len(block)
            if after > limit and not leave:
                raise TruncatedFile(
                    f"{self.name} goes on long after its last voxel; its checksum "
                    "cannot be compared.",
                    _AGAIN,
                )
            if self.packed and after > MOST_AFTER:
                self._raw.hash_rest()
                break
        now = os.fstat(self._raw.file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.size, self._before.st_mtime_ns):
            raise TruncatedFile(
                f"{self.name} was changed while it was read.", "Load it again."
            )
        return after

    def _up_to(self, count: int) -> bytes:
        content = bytearray(self._ahead)
        self._ahead = b""
        block = memoryview(bytearray(_BLOCK))
        while len(content) < count:
            got = self._into(block[: min(_BLOCK, count - len(content))])
            if not got:
                break
            content += block[:got]
        return bytes(content)

    def _into(self, block: memoryview) -> int:
        try:
            return int(self._source.readinto(block) or 0)
        except _DAMAGED as error:
            raise TruncatedFile(
                f"{self.name} is damaged: its checksum or its packing is wrong.", _AGAIN
            ) from error
        except EOFError as error:
            raise self._ended() from error
        except OSError as error:
            raise TruncatedFile(
                f"{self.name} cannot be read to its end: {error.strerror}.",
                "Copy it to another disk first.",
            ) from error

    def _ended(self) -> TruncatedFile:
        packed = "packed " if self.packed else ""
        much = f" ({self.size} {packed}bytes"
        much += f" should give {self._wanted})" if self._wanted else ")"
        return TruncatedFile(f"{self.name} ends early{much}.", _AGAIN)


class _Hashed(io.RawIOBase):
    """Hash what passes through."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, block: Any) -> int:
        view = memoryview(block)
        count = int(self.file.readinto(view))  # type: ignore[attr-defined]  # FileIO has it
        self.digest.update(view[:count])
        return count

    def hash_rest(self) -> None:
        block = memoryview(bytearray(_BLOCK))
        while self.readinto(block):
            pass


def _opened(path: Path, name: str) -> BinaryIO:
    try:
        # a pipe would block, a device never end: look before opening, and again after
        _regular(os.stat(path), name)
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        there = isinstance(error, PermissionError)
        raise NotAVolume(
            f"{name} {'may not be read' if there else 'does not exist'}.",
            "Ask for access to it." if there else "Choose a scan file.",
        ) from error
    try:
        _regular(os.fstat(file.fileno()), name)
    except NotAVolume:
        file.close()
        raise
    return file


def _regular(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotAVolume(f"{name} is no regular file.", "Choose a scan file.")
