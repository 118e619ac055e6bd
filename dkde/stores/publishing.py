"""Put new content in its place: nothing is replaced but what was looked at before the work.

Where nothing was, the new content is renamed to the free name. Otherwise old and new content are
exchanged in one step; then the old content is looked at again, and put back if it is not the one
that was seen. Where the system cannot exchange, this takes two steps (`dkde.stores.two_steps`).

The new content is flushed to the disk before it is moved, and its name after that: what is reported
as written is there after a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dkde.errors import DataSetError, one_line, warn
from dkde.stores.durable import sync_folder, sync_tree
from dkde.stores.objects import SeenObject, drafted_object
from dkde.stores.renaming import exchange, move
from dkde.stores.staging import Stage, staged, stages_of, what_it_holds
from dkde.stores.store import is_remote
from dkde.stores.targets import Seen, check_place, is_stream, known_by
from dkde.stores.two_steps import (
    being_replaced,
    changed,
    complete,
    forgets,
    mark_of,
    replace_in_two_steps,
)
from dkde.typing import StrPath


def publish(stage: Stage, seen: Seen) -> None:
    """Move the new content of a hidden folder to its place.

    Parameters
    ----------
    stage : Stage
        The hidden folder that holds the new content.
    seen : Seen
        The place, and what was there before the work.

    Raises
    ------
    DataSetError
        When the place is not as it was seen: what is there stays as it is. Or when the content is
        there, and its name could not be flushed to the disk.
    OSError
        When the place may not be written to.
    """
    sync_tree(stage.new)
    _place(stage, seen)
    # Before the old content is removed: the rename may be undone by a power cut until then.
    _sync_name(seen.path, seen.name)


def _place(stage: Stage, seen: Seen) -> None:
    """Move the new content of a hidden folder to its place, as `publish`."""
    target = seen.path
    # The hidden folder lies beside the link's former target, maybe on another file system.
    if Path(os.path.realpath(seen.given)) != target:
        raise DataSetError(
            f"{seen.name}: is a link to another place than when this began; nothing was replaced; "
            "run this again"
        )
    there = known_by(target)
    if there is not None and there != seen.what:
        raise changed(seen)
    if there is None or seen.is_empty_folder:
        # The place may be empty only because another command is between its two steps.
        if os.path.exists(mark_of(target)) and not forgets(target):
            raise being_replaced(seen)
        try:
            if there is not None:
                target.rmdir()
            move(stage.new, target)
        except OSError as error:
            if known_by(target) is not None:
                raise changed(seen) from error
            raise
        return
    stage.will_replace(seen)
    if exchange(stage.new, target):
        # Something may have changed the place between the look and the exchange: look again.
        if known_by(stage.new) != seen.what:
            exchange(stage.new, target)
            raise changed(seen)
    elif target.is_dir():
        replace_in_two_steps(stage, seen)
    else:
        # The system replaces a file in one step, so that no mark is needed.
        os.replace(stage.new, target)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether a path exists; complete an interrupted replacement there first.

    Unlike Path.exists it returns False for a name that is too long for any file.
    """
    with suppress(ValueError):  # text that can be no path, such as one with a null character
        complete(path)
    return os.path.exists(path)


def say_what_is_left(path: str | os.PathLike[str], *, remove: bool) -> None:
    """Warn, in one line, of files that killed commands left beside a place.

    Parameters
    ----------
    path : path
        The place.
    remove : bool
        Remove folders whose process has certainly ended, and which hold nobody else's content;
        the warning names them.
    """
    target = Path(os.path.realpath(path))
    removed: list[str] = []
    left: list[str] = []
    for stage in stages_of(target):
        dead = stage.is_dead()
        if dead is False:
            continue
        if not stage.is_spare():
            left.append(f"{stage.folder} {what_it_holds(stage, target)}")
        elif dead and remove:
            stage.remove()
            removed.append(str(stage.folder))
        elif dead:
            left.append(f"{stage.folder} was left by a command that was killed; remove it")
        else:
            left.append(
                f"{stage.folder} may be left by a command that was killed; remove it if no command "
                "is writing there"
            )
    if removed:
        left.insert(0, f"removed what a command that was killed left ({', '.join(removed)})")
    if left:
        warn(f"{path}: {'; '.join(left)}")


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file: all of it or nothing. Links are followed; devices and pipes are written into.

    Parameters
    ----------
    path : path or URL
        The file, which is replaced.
    content : bytes
        The file's new content.

    Raises
    ------
    DataSetError
        When it cannot be written.
    """
    check_place(path, "file")
    if not is_remote(path) and is_stream(path):
        try:
            # Not the real path: /dev/stdout may lead to a pipe, which has no path of its own.
            Path(path).write_bytes(content)
        except OSError as error:
            raise DataSetError(f"{path}: could not be written ({error})") from error
        return
    with drafted(path) as draft:
        draft.write_bytes(content)


@contextmanager
def drafted(path: str | os.PathLike[str], seen: Seen | SeenObject | None = None) -> Iterator[Path]:
    """Yield a path beside a file where it is written piece by piece, and move it there at the end.

    A file in a bucket is written on this machine, and uploaded at the end.

    Parameters
    ----------
    path : path or URL
        The file, which is replaced.
    seen : Seen or SeenObject, optional
        What was there before the work: then nothing else is replaced.

    Raises
    ------
    DataSetError
        When the file cannot be written, or its place is not as it was seen.
    """
    if isinstance(seen, SeenObject) or is_remote(path):
        with drafted_object(path, seen if isinstance(seen, SeenObject) else None) as draft:
            yield draft
        return
    target = Path(os.path.realpath(path))
    say_what_is_left(path, remove=True)
    try:
        with staged(target) as stage:
            yield stage.new
            if seen is None:
                sync_tree(stage.new)
                os.replace(stage.new, target)
                _sync_name(target, path)
            else:
                publish(stage, seen)
    except OSError as error:
        raise DataSetError(f"{path}: could not be written ({error})") from error


def _sync_name(target: Path, name: StrPath) -> None:
    """Flush the name of a place to the disk."""
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise DataSetError(
            f"{name}: is written, but a power cut may undo this, as the folder above could not be "
            f"flushed to the disk ({one_line(error)})"
        ) from error
