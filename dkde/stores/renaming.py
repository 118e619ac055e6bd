"""Renaming that replaces nothing, and the exchange of two files or folders in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

# The system call, which takes the same arguments on both systems; its number for the working
# directory (AT_FDCWD); and its flags: the first replaces nothing, the second exchanges.
_CALLS = {"linux": ("renameat2", -100, (1, 2)), "darwin": ("renameatx_np", -2, (4, 2))}
# The error numbers of systems and file systems that lack the call or a flag.
LACKING_CALLS = {
    errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP,
    getattr(errno, "ENOTSUP", errno.EOPNOTSUPP),
}  # fmt: skip


def move(source: Path, target: Path) -> None:
    """Rename a file or a folder to a name at which nothing is.

    Raises
    ------
    FileExistsError
        When something is there: a folder, a file, a link.
    OSError
        When the source may not be renamed.
    """
    if _flagged(source, target, exchange=False):
        return
    if source.is_dir():
        # A rename replaces an empty folder only, and `mkdir` fails if the name is taken. So
        # nothing can be lost, whatever another process does between the two calls.
        target.mkdir()
        _move_onto_empty(source, target)
    else:
        # A hard link fails if the name is taken, which a rename does not.
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except FileExistsError:
            # A network file system repeats a request whose answer was lost.
            if not os.path.samefile(source, target):
                raise
            source.unlink()
        except OSError:  # a file system without hard links
            with target.open("xb"):
                pass
            try:
                os.replace(source, target)
            except BaseException:
                target.unlink()
                raise
        else:
            source.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one step; return False if the system cannot, nothing done.

    Raises
    ------
    OSError
        When one of them does not exist, or they may not be renamed.
    """
    return _flagged(one, other, exchange=True)


def _move_onto_empty(source: Path, target: Path) -> None:
    """Rename a folder to the name of an empty one.

    Raises
    ------
    FileExistsError
        When something has been put there.
    """
    try:
        source.rename(target)
    except OSError:
        # Either another process has put something into the folder, and `rmdir` fails; or this
        # system never replaces a folder, not even an empty one, and needs a free name.
        try:
            target.rmdir()
        except OSError:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        try:
            source.rename(target)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise FileExistsError(*error.args, str(target)) from None
            raise


def _flagged(source: Path, target: Path, *, exchange: bool) -> bool:
    """Rename by the system call with a flag; return False if the system has none."""
    call = _call()
    if call is None:
        return False
    code = call(os.fsencode(source), os.fsencode(target), exchange)
    if code in LACKING_CALLS:
        # EPERM can also mean a folder that may not be written: the plain rename then raises it.
        return False
    if code:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    return True


@cache
def _call() -> Callable[[bytes, bytes, bool], int] | None:
    """Return a function that renames and returns an error number, 0 for none; None if no call."""
    if sys.platform not in _CALLS:
        return None
    name, here, flags = _CALLS[sys.platform]
    try:
        call = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    call.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    ]  # fmt: skip

    # The working directory only matters to relative paths.
    def rename(source: bytes, target: bytes, exchange: bool) -> int:
        done = call(here, source, here, target, flags[exchange])
        return ctypes.get_errno() if done else 0

    return rename
