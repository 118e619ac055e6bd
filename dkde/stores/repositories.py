"""Names of Icechunk repositories, and of branches, tags and snapshots in them.

``R.icechunk`` is the branch main of a repository in a folder, and ``R.icechunk@v1`` its branch or
tag v1, or the snapshot of that id; ``::GROUP`` may follow. ``icechunk://`` may stand before all of
them. A repository in a bucket is ``icechunk://s3://bucket/R``. Nothing here opens one.
"""

from __future__ import annotations

import os

from dkde.errors import InputError
from dkde.typing import StrPath

SCHEME = "icechunk://"
# The end of the name of an output by which it becomes a repository.
SUFFIX = ".icechunk"
# The branch that is meant where none is named, and that a new repository has.
MAIN_BRANCH = "main"


def is_repository(path: StrPath) -> bool:
    """Return whether a folder is a repository, by its layout: of version 1 or 2 of the format."""
    path = os.fspath(path)
    return os.path.isdir(os.path.join(path, "snapshots")) and (
        os.path.isdir(os.path.join(path, "refs")) or os.path.isfile(os.path.join(path, "repo"))
    )


def plain(name: StrPath) -> str:
    """Return a name without the scheme, if a path follows it: both mean the same.

    Examples
    --------
    >>> plain("icechunk://R.icechunk@v1"), plain("icechunk://s3://b/R")
    ('R.icechunk@v1', 'icechunk://s3://b/R')
    """
    rest = os.fspath(name).removeprefix(SCHEME)
    return os.fspath(name) if "://" in rest else rest


def divided(name: StrPath) -> tuple[str, str | None]:
    """Return the folder or URL of a repository, and the branch, tag or snapshot that is named.

    Examples
    --------
    >>> divided("R.icechunk@v1"), divided("icechunk://s3://b/R")
    (('R.icechunk', 'v1'), ('icechunk://s3://b/R', None))
    """
    name = plain(name)
    if "://" not in name and is_repository(name):  # its own name may hold the mark
        return name, None
    place, mark, version = name.rpartition("@")
    # A group follows a version, and the folder of a run ends in .run, after its output's name.
    is_none = "/" in version or "::" in version or version.endswith(".run")
    return (place, version) if mark and not is_none else (name, None)


def is_icechunk(name: StrPath) -> bool:
    """Return whether a name is that of a repository: by its scheme, or by what is there."""
    name = os.fspath(name)
    if "://" in name:
        return name.startswith(SCHEME) or _is_named(name)
    if os.path.lexists(name):  # a file's own name may hold the mark
        return is_repository(name)
    return is_repository(os.path.expanduser(divided(name)[0]))


def becomes_repository(output: StrPath) -> bool:
    """Return whether an output is a repository: one that is there, or a new one by its name."""
    return is_icechunk(output) or _is_named(os.fspath(output))


def _is_named(name: str) -> bool:
    return divided(name)[0].rstrip("/").lower().endswith(SUFFIX)


def checked_output(output: StrPath) -> str:
    """Return the name of an output without a scheme that it does not need.

    Raises
    ------
    InputError
        When it begins with the scheme, and the repository would not be known again without it.
    """
    name = plain(output)
    if os.fspath(output).startswith(SCHEME) and not becomes_repository(name):
        raise InputError(
            f"{os.fspath(output)}: there is no repository; a new one needs a name that ends in "
            f"{SUFFIX}: {name}{SUFFIX}"
        )
    return name


def folder_of(name: str) -> str:
    """Return the folder of a repository in a folder; any other name as it is."""
    plain_name = plain(name)
    if "://" in plain_name:
        return name
    source, _ = divided(plain_name)
    return source if is_repository(os.path.expanduser(source)) else plain_name
