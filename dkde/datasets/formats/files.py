"""Access to files: patterns, gzip, bounds of their size, checksums, and errors in one line."""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.stores.door import refuse_pipe
from dkde.stores.limits import UnpackError, allowed, size_text, too_large
from dkde.stores.listed_files import Url

# The most bytes that are read from a file whose content is held in memory completely.
MAX_BYTES = 4 * 2**30
# The bytes by which a format is detected; a tar header alone takes 512.
_SNIFF_BYTES = 1024


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has shell wildcards and names no file."""
    # A file may have "[" in its name, so an existing path is never a pattern.
    text = os.fspath(path)
    return any(mark in text for mark in "*?[") and "://" not in text and not os.path.exists(text)


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or the files that a pattern matches, in order of name.

    Raises
    ------
    DataSetError
        If a pattern matches no file.
    """
    if not is_pattern(path):
        return [path]
    names = sorted(glob.glob(os.fspath(path), recursive=True))
    files = [found for found in map(Path, names) if found.is_file()]
    if not files:
        raise DataSetError(f"{path}: matches no file; check the pattern")
    return files


@contextmanager
def reading(path: Path | Url, what: str) -> Iterator[None]:
    """Turn any exception that is raised while `path` is read as `what` into one DataSetError.

    Hostile or damaged bytes reach gzip, tarfile, zipfile, pickle and NumPy's header parser.
    Together these can raise almost any exception, MemoryError and RecursionError included.
    """
    try:
        yield
    # dkde's own errors are messages for users already, and warnings may be made errors.
    except (DkdeError, Warning):
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise DataSetError(
            f"{path}: the {what} is truncated or damaged ({one_line(error)}); fetch it again"
        ) from error
    except FileNotFoundError as error:
        raise DataSetError(f"{path}: no such file or folder") from error
    except PermissionError as error:
        raise DataSetError(f"{path}: may not be read (permission denied)") from error
    except MemoryError as error:
        raise DataSetError(
            f"{path}: reading it as {what} needs more memory than there is"
        ) from error
    except Exception as error:
        # Those without a number are of libraries that find the content damaged.
        if isinstance(error, OSError) and error.errno is not None:
            raise DataSetError(f"{path}: could not be read ({one_line(error)})") from error
        raise DataSetError(
            f"{path}: not readable as {what} ({type(error).__name__}: {one_line(error)})"
        ) from error


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip if its first bytes say so, whatever its name.

    Reading refuses to unpack more than `max_content`.
    """
    return cast("IO[bytes]", _Unzipped(path)) if is_gzipped(path) else path.open("rb")


class _Unzipped(gzip.GzipFile):
    """The content of a gzipped file, up to the bytes that it may have."""

    def __init__(self, path: Path) -> None:
        self._path, self._most, self._at = path, max_content(path), 0
        super().__init__(path, "rb")

    def read(self, size: int | None = -1) -> bytes:
        # One byte more than is allowed shows that there are more.
        most = self._most - self._at + 1
        return self._counted(super().read(most if size is None or size < 0 else min(size, most)))

    def readline(self, size: int | None = -1) -> bytes:
        most = self._most - self._at + 1
        return self._counted(super().readline(most if size is None or size < 0 else size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # Going forward unpacks what is between.
        if whence == os.SEEK_SET and offset > self._most:
            raise self._too_large()
        self._at = super().seek(offset, whence)
        return self._at

    def _counted(self, found: bytes) -> bytes:
        self._at += len(found)
        if self._at > self._most:
            raise self._too_large()
        return found

    def _too_large(self) -> UnpackError:
        what = f"its content unpacks to more than {size_text(self._most)}"
        return too_large(self._path, what, self._path.stat().st_size)


def max_content(path: Path) -> int:
    """Return an upper bound of the bytes of a file's content, after gzip if it is gzipped."""
    n_stored = path.stat().st_size
    return allowed(n_stored) if is_gzipped(path) else n_stored


def is_gzipped(path: Path) -> bool:
    """Return whether a file is gzipped, by its first bytes.

    Raises
    ------
    DataSetError
        When it is a pipe or a device.
    """
    refuse_pipe(path)
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


def sniff(path: Path) -> bytes:
    """Return up to 1 KiB of a file's content, decompressed; less, or nothing, if it is damaged."""
    refuse_pipe(path)
    # Eight times as many bytes, because a gzip header may hold a long name or comment.
    with path.open("rb") as stream:
        head = stream.read(8 * _SNIFF_BYTES)
    if head[:2] != b"\x1f\x8b":
        return head[:_SNIFF_BYTES]
    # The second argument bounds the output: a few bytes could decompress to gigabytes. With
    # wbits=31 zlib expects gzip's own header.
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _SNIFF_BYTES)
    except zlib.error:
        return b""


def checksum_files(paths: Sequence[Path], root: Path | None = None) -> str:
    """Return the checksum ``sha256:...`` of a file's bytes, or of several files.

    For several files, and with a `root`, it covers the name, the length and the bytes of each
    file, in the given order, which is the order of their rows. Names are relative to the root, or
    else to the folder that holds all files.
    """
    digest = hashlib.sha256()
    if root is None and len(paths) > 1:
        root = Path(os.path.commonpath([path.parent for path in paths]))
    for path in paths:
        with path.open("rb") as stream:
            # The length before the bytes keeps the border between two files in the checksum.
            if root is not None:
                length = os.fstat(stream.fileno()).st_size
                name = Path(os.path.relpath(path, root)).as_posix()
                digest.update(f"{name}\n{length}\n".encode(errors="surrogateescape"))
            while piece := stream.read(2**20):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
