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
from dkde.stores.targets import check_place, is_stream


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
    if is_stream(path):
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
