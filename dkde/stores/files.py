"""Files that are written whole: beside their place, and moved there when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dkde.errors import DataSetError
from dkde.stores.publishing import publish, say_what_is_left
from dkde.stores.seen import Seen
from dkde.stores.staging import staged


def check_place(path: str | os.PathLike[str], what: str) -> None:
    """Refuse a file's path early, before hours of work.

    Parameters
    ----------
    path : path
        Of the file that is to be written.
    what : str
        What it is, for messages: "report".

    Raises
    ------
    DataSetError
        When it is a folder, or its own folder is missing or may not be written to.
    """
    target = Path(path)
    if target.is_dir():
        raise DataSetError(f"{path}: is a folder; give the {what} a name in it")
    if _is_stream(target):
        if not os.access(target, os.W_OK):
            raise DataSetError(f"{path}: may not be written to")
        return
    parent = Path(os.path.realpath(target)).parent
    if not parent.is_dir():
        raise DataSetError(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK):
        raise DataSetError(f"{path}: the folder {parent} may not be written to")


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file: all of it or nothing. Links are followed; devices and pipes are written into.

    Parameters
    ----------
    path : path
        The file, which is replaced.
    content : bytes

    Raises
    ------
    DataSetError
        When it cannot be written.
    """
    check_place(path, "file")
    if _is_stream(Path(path)):
        try:
            # Not its real path: that of /dev/stdout may be a pipe's, which has none.
            Path(path).write_bytes(content)
        except OSError as error:
            raise DataSetError(f"{path}: could not be written ({error})") from error
        return
    with drafted(path) as draft:
        draft.write_bytes(content)


@contextmanager
def drafted(path: str | os.PathLike[str], seen: Seen | None = None) -> Iterator[Path]:
    """A place beside a file's own to write it, piece by piece; at the end it is moved there.

    Parameters
    ----------
    path : path
        The file, which is replaced.
    seen : Seen, optional
        What was there before the work: nothing else is then replaced.

    Raises
    ------
    DataSetError
        When it cannot be written, or its place is no more as it was seen.
    """
    target = Path(os.path.realpath(path))
    say_what_is_left(path, remove=True)
    try:
        with staged(target) as stage:
            yield stage.new
            if seen is None:
                os.replace(stage.new, target)
            else:
                publish(stage, seen)
    except OSError as error:
        raise DataSetError(f"{path}: could not be written ({error})") from error


def _is_stream(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: a device, a pipe."""
    return path.exists() and not (path.is_file() or path.is_dir())
