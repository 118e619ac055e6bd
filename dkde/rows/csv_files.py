"""The content of listed text files, on disk or in a bucket, gzipped or not."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import IO, Any, cast

from dkde.stores.listed_files import Listed

# The bytes of a file that are read at a time: in a bucket each reading is a request.
_DISK_BYTES, _REMOTE_BYTES = 2**20, 2**23


class _Ahead(io.RawIOBase):
    """A file of which at least some bytes are read at a time.

    Parameters
    ----------
    file : binary file
    size : int
        That number of bytes.
    seen : callable, optional
        Called with all bytes in order, where the file is read once from its start.
    """

    def __init__(
        self, file: io.RawIOBase, size: int, seen: Callable[[bytes], Any] | None = None
    ) -> None:
        self._file, self._size, self._seen = file, size, seen
        self._waiting, self._at = b"", 0

    def read(self, n: int | None = -1, /) -> bytes:
        """Read n bytes, fewer only at the end of the file; all that are left if n is negative."""
        parts: list[bytes] = []
        left = -1 if n is None else n
        while left:
            if self._at == len(self._waiting):
                self._waiting, self._at = self._file.read(max(self._size, left)) or b"", 0
                if not self._waiting:
                    break
                if self._seen is not None:
                    self._seen(self._waiting)
            stop = len(self._waiting) if left < 0 else self._at + left
            part = self._waiting[self._at : stop]
            self._at += len(part)
            left -= len(part) if left > 0 else 0
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readable(self) -> bool:
        """Return True: the file can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: any range can be read."""
        return True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._file.tell() - len(self._waiting) + self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to a position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell()}[whence] + offset
        first = self._file.tell() - len(self._waiting)
        if first <= start <= first + len(self._waiting):
            self._at = start - first
        else:
            self._file.seek(start)
            self._waiting, self._at = b"", 0
        return start

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class _Unzipped(gzip.GzipFile):
    """The content of a gzipped file, which is closed with it."""

    def __init__(self, file: _Ahead) -> None:
        self._below = file
        super().__init__(fileobj=cast("IO[bytes]", file), mode="rb")

    def close(self) -> None:
        """Close the file."""
        try:
            super().close()
        finally:
            self._below.close()


def content_of(
    files: Listed, i: int, zipped: bool | None = None, seen: Callable[[bytes], Any] | None = None
) -> IO[bytes]:
    """Open the content of a file, from its first byte on.

    Parameters
    ----------
    files : Listed
        The files.
    i : int
        The number of the file.
    zipped : bool, optional
        Whether it is gzipped; by default its first bytes say so.
    seen : callable, optional
        Called with all bytes of the file, if its content is read in order to the end.

    Raises
    ------
    DataSetError
        When the file was removed, or changed since it was listed.
    """
    size = _REMOTE_BYTES if files.is_remote else _DISK_BYTES
    file = _Ahead(files.open(i), size, seen)
    if zipped is None:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
    return cast("IO[bytes]", _Unzipped(file) if zipped else file)


def bytes_ahead(files: Listed, zipped: bool) -> int:
    """Return the bytes that an opened file holds."""
    return (_REMOTE_BYTES if files.is_remote else _DISK_BYTES) + (2**20 if zipped else 0)
