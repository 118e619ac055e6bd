"""Renaming that replaces nothing, or exchanges two things, where the system can do it at once."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

# The system's call, which both have with the same arguments; its number for the working directory
# (AT_FDCWD); and its flags: replace nothing, exchange.
_CALLS = {"linux": ("renameat2", -100, (1, 2)), "darwin": ("renameatx_np", -2, (4, 2))}
# What systems and file systems answer that do not have these.
_LACKING = {
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
    """
    if _flagged(source, target, exchange=False):
        return
    if source.is_dir():
        # None but an empty folder is ever replaced by a folder, and this one was not there.
        target.mkdir()
        _move_onto_empty(source, target)
    else:
        try:
            os.link(source, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            with target.open("xb"):
                pass
            os.replace(source, target)
        else:
            source.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Exchange two files or folders in one step; False, with nothing done, where that cannot be.

    Raises
    ------
    OSError
        When one of them is not there, or they may not be renamed.
    """
    return _flagged(one, other, exchange=True)


def _move_onto_empty(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        # Somebody has put something into it; or folders are never replaced here, not even empty
        # ones, and renaming takes a free name only.
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
    """Rename by the system's call with a flag; False where there is none."""
    call = _call()
    if call is None:
        return False
    code = call(os.fsencode(source), os.fsencode(target), exchange)
    if code in _LACKING:
        # EPERM is also what a folder answers that may not be written: then renaming tells so.
        return False
    if code:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    return True


@cache
def _call() -> Callable[[bytes, bytes, bool], int] | None:
    """A function that renames and returns the error's number, 0 for none; None without one."""
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

    def rename(source: bytes, target: bytes, exchange: bool) -> int:
        done = call(here, source, here, target, flags[exchange])
        return ctypes.get_errno() if done else 0

    return rename
