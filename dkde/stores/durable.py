"""Writing that survives a power cut: content is on the disk before the name that promises it.

A system keeps what is written in memory for a while, and may write a new name to the disk before
the content behind it. So files are flushed before the rename that names them, and the folder after
it. What a process reports as done is then there after a power cut.

References
----------
Pillai et al. (2014), All File Systems Are Not Created Equal, OSDI.
"""

from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from dkde.stores.renaming import move
from dkde.typing import StrPath

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

# The error numbers of systems and file systems that cannot flush this kind of thing. A failed write
# (EIO, ENOSPC, EDQUOT, ESTALE) is none of them: it is raised.
_CANNOT = {
    errno.EINVAL, errno.ENOSYS, errno.EBADF, errno.EOPNOTSUPP,
    getattr(errno, "ENOTSUP", errno.EOPNOTSUPP),
}  # fmt: skip
# Files of a tree that are flushed at once.
_AT_ONCE = 8


def sync_file(path: StrPath) -> None:
    """Return when the content of a file is on the disk.

    Raises
    ------
    OSError
        When it could not be written there, or the file is missing.
    """
    # Windows flushes only what is open for writing.
    _sync(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def sync_folder(path: StrPath) -> None:
    """Return when the names in a folder are on the disk: files made, renamed and removed.

    Nothing is done where a folder cannot be opened: on Windows, or where it may not be read.

    Raises
    ------
    OSError
        When they could not be written there, or the folder is missing.
    """
    if os.name == "nt":
        return
    with suppress(PermissionError):  # it may be writable and not readable
        _sync(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def sync_tree(path: StrPath) -> None:
    """Return when a file, or a folder with all that it holds, is on the disk; links are skipped.

    The name of the path itself is not: flush the folder above, once it has been renamed.

    Raises
    ------
    OSError
        When something could not be written there.
    """
    if not os.path.isdir(path):
        sync_file(path)
        return
    files, folders = _tree(path)
    # Many at once: a flush waits for the disk most of its time, and the disk does several together.
    with ThreadPoolExecutor(_AT_ONCE, "dkde-flush") as pool:
        for flush, paths in ((sync_file, files), (sync_folder, folders)):
            for done in [pool.submit(flush, each) for each in paths]:
                done.result()


def _tree(path: StrPath) -> tuple[list[StrPath], list[StrPath]]:
    """Return the files and the folders of a tree, itself included, each folder after its own."""
    files: list[StrPath] = []
    folders: list[StrPath] = []
    with os.scandir(path) as entries:
        # In order, so that a fault can be repeated.
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            for mine, those in zip((files, folders), _tree(entry.path), strict=True):
                mine += those
        elif entry.is_file(follow_symlinks=False):
            files.append(entry.path)
    return files, [*folders, path]


def write_synced(path: StrPath, content: bytes) -> None:
    """Replace a file by new content that is on the disk, name included, when this returns.

    Readers see the old content or the new. A process that is killed meanwhile may leave
    ``.NAME.*.partial`` beside the file.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    draft = _draft(path, content)
    try:
        os.replace(draft, path)
    except BaseException:
        _discard(draft)
        raise
    sync_folder(Path(path).parent)


def create_synced(path: StrPath, content: bytes) -> bool:
    """Make a file with content that is on the disk, name included, when this returns.

    Of several processes at once one succeeds. Readers see no file or the whole one, except on file
    systems that have neither a rename that replaces nothing nor hard links: there the file is empty
    for a moment, and stays so if the process is killed then. A killed process may leave
    ``.NAME.*.partial`` beside the file.

    Returns
    -------
    bool
        Whether it was made; False where something is there already, which stays as it is.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    draft = _draft(path, content)
    try:
        move(draft, Path(path))
    except FileExistsError:
        _discard(draft)
        return False
    except BaseException:
        _discard(draft)
        raise
    sync_folder(Path(path).parent)
    return True


def _draft(path: StrPath, content: bytes) -> Path:
    """Write content, flushed, to a new file beside a path; return the file."""
    target = Path(path)
    # Records leave out names that end so: zarr gives them to files that it writes.
    draft = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            _flush(file.fileno())
    except BaseException:
        _discard(draft)
        raise
    return draft


def _discard(draft: Path) -> None:
    with suppress(OSError):
        draft.unlink(missing_ok=True)


def _sync(path: StrPath, flags: int) -> None:
    number = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _flush(number)
    finally:
        os.close(number)


def _flush(number: int) -> None:
    """Flush an open file or folder to the disk, where the system can."""
    try:
        if sys.platform == "darwin" and fcntl is not None:
            try:
                # There fsync stops at the disk's own memory, which a power cut empties.
                fcntl.fcntl(number, fcntl.F_FULLFSYNC)
                return
            except OSError as error:
                if error.errno not in _CANNOT | {errno.ENOTTY}:
                    raise
        os.fsync(number)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
