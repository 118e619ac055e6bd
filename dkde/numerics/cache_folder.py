"""The user's cache folder, and whether a folder can be written by this user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dkde.errors import one_line
from dkde.typing import StrPath


def user_cache() -> Path | None:
    """Return the folder for files that can be made again; None where there is no home folder.

    It is ``XDG_CACHE_HOME``, or ``~/.cache`` where that is not set or is relative: the
    specification has relative paths ignored.

    References
    ----------
    XDG Base Directory Specification, version 0.8.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ".cache" if home.is_absolute() else None


def make_private(folder: Path) -> str:
    """Make a folder that this user alone may enter, and return why that cannot be; else nothing.

    Code that is loaded from a folder runs as this user. So nobody else may write to the folder, or
    have written to it, nor put another one in its place: each folder above belongs to this user
    or to root, and nobody else may write there, or entries of others are theirs (the sticky bit).

    Parameters
    ----------
    folder : pathlib.Path
        What is missing of it is made, for this user alone.
    """
    if not hasattr(os, "getuid"):  # not a POSIX system
        return ""
    folder = Path(os.path.abspath(folder))
    try:
        missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
        for each in reversed(missing):
            each.mkdir(mode=0o700, exist_ok=True)
        if reason := _unsafe(folder):
            return reason
        found = folder.stat()
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            # Folders within may be open where this one was.
            for inner in folder.iterdir():
                if inner.is_dir() and (reason := _open_to_others(inner, inner.lstat())):
                    return reason
            folder.chmod(0o700)
    except OSError as error:
        return one_line(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} may not be written to"


def _unsafe(folder: Path) -> str:
    """Return why another user may change what is in a folder, or which folder it is."""
    end = folder.stat()  # links that go in a circle fail here
    for each in _on_the_way(folder):
        found = each.lstat()
        # In a sticky folder each user's entries are their own; a link's mode says nothing.
        is_shared = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX
        if reason := _owner(each, found) if is_shared else _open_to_others(each, found):
            return reason
    return _open_to_others(folder, end)


def _on_the_way(folder: Path) -> Iterator[Path]:
    """Yield all folders and links from the root to a folder, those that links lead to as well."""
    at, rest = Path(folder.anchor), list(folder.parts[1:])
    yield at
    while rest:
        name = rest.pop(0)
        if name == "..":
            at = at.parent
            continue
        yield at / name
        if not (at / name).is_symlink():
            at = at / name
            continue
        target = (at / name).readlink()
        if target.is_absolute():
            at = Path(target.anchor)
        rest[:0] = target.parts[1:] if target.is_absolute() else target.parts


def _owner(path: Path, found: os.stat_result) -> str:
    """Return that something belongs to another user, if it does."""
    owners = {os.getuid(), 0, *_of_root_elsewhere()}
    return "" if found.st_uid in owners else f"{path} belongs to another user"


def _open_to_others(folder: Path, found: os.stat_result) -> str:
    """Return that another user owns a folder or may write to it, if so."""
    is_open = may_be_written_by_others(folder, found)
    return _owner(folder, found) or (f"other users may write to {folder}" if is_open else "")


def may_be_written_by_others(path: StrPath, found: os.stat_result) -> bool:
    """Return whether a file's or folder's mode lets others write to it, on a POSIX system.

    A group that is this user's own, as many systems make one for each user, lets nobody else.

    Parameters
    ----------
    found : os.stat_result
        What the system says of it.
    """
    if not found.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        return False
    is_alone = not found.st_mode & stat.S_IWOTH and _is_own_group(found.st_gid)
    return not is_alone or _has_access_list(path)


def _has_access_list(path: StrPath) -> bool:
    """Return whether others have rights by name, which the mode shows as those of the group."""
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except (AttributeError, OSError):  # systems and file systems without such lists
        return False


def _is_own_group(number: int) -> bool:
    """Return whether a group is this user's own, which many systems make for each user."""
    try:
        import grp
        import pwd

        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(number)
    except (ImportError, KeyError):
        return False
    own = user.pw_gid == number and group.gr_name == user.pw_name
    return (own or number == 0) and set(group.gr_mem) <= {user.pw_name, "root"}


def _of_root_elsewhere() -> set[int]:
    """Return the number that root's files have where a container knows some users only."""
    try:
        maps = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        knows_root = any(int(outside) == 0 for _, outside, _ in maps)
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return set()
    return set() if knows_root else {overflow}
