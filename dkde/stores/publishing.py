"""Put new content in its place: nothing is replaced but what was looked at before the work.

Where nothing was, the new content is renamed to the free name. Otherwise old and new content are
exchanged in one step; then the old content is looked at again, and put back if it is not the one
that was seen. Where the system cannot exchange, the old content is moved away first and the new one
moved in second. A process that is killed between these two steps leaves a mark, by which the next
command at that place does the second step.

The new content is flushed to the disk before it is moved, and its name after that: what is reported
as written is there after a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dkde.errors import DataSetError, one_line, warn
from dkde.stores.durable import sync_folder, sync_tree, write_synced
from dkde.stores.objects import SeenObject, drafted_object
from dkde.stores.renaming import exchange, move
from dkde.stores.staging import Stage, staged, stages_of, what_it_holds
from dkde.stores.store import is_remote
from dkde.stores.targets import Seen, check_place, is_stream, known_by, number_of
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
        raise _changed(seen)
    if there is None or seen.is_empty_folder:
        # The place may be empty only because another command is between its two steps.
        if os.path.exists(_mark(target)) and not _forgets(target):
            raise _being_replaced(seen)
        try:
            if there is not None:
                target.rmdir()
            move(stage.new, target)
        except OSError as error:
            if known_by(target) is not None:
                raise _changed(seen) from error
            raise
        return
    stage.will_replace(seen)
    if exchange(stage.new, target):
        # Something may have changed the place between the look and the exchange: look again.
        if known_by(stage.new) != seen.what:
            exchange(stage.new, target)
            raise _changed(seen)
    elif target.is_dir():
        _replace_in_two_steps(stage, seen)
    else:
        # The system replaces a file in one step, so that no mark is needed.
        os.replace(stage.new, target)


def complete(path: str | os.PathLike[str]) -> None:
    """Do the second step of a replacement whose process was killed after the first.

    The content that was moved away is compared with what was looked at before the work, as that
    process does; if it differs, it is put back. Nothing is done if something is at the place by
    now. If the process lives after all, it finds the second step done and goes on.

    Parameters
    ----------
    path : path
        The place.

    Raises
    ------
    DataSetError
        When the second step fails.
    """
    target = Path(os.path.realpath(path))
    mark = _mark(target)
    try:
        name = mark.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return  # no replacement in two steps is under way
    stage = next((each for each in stages_of(target) if each.folder.name == name), None)
    dead = None if stage is None else stage.is_dead()
    # Both are in the folder only between the two steps; else only the mark is left to remove.
    if stage is None or not (stage.old.exists() and stage.new.exists()):
        if stage is None or dead:
            with suppress(OSError):  # a user who may read the place may not be allowed to write
                mark.unlink(missing_ok=True)
        return
    try:
        is_as_seen = known_by(stage.old) == stage.owner().get("seen")
        if not is_as_seen and dead is False:
            return  # the living process puts the old content back
        if not _second_step(stage.new if is_as_seen else stage.old, target):
            return  # another process has filled the place; the hidden folder is reported later
    except OSError as error:
        raise DataSetError(
            f"{path}: its replacement {_was_interrupted(dead)}, and could not be completed "
            f"({error}); {stage.folder} {what_it_holds(stage, target)}"
        ) from error
    if dead is False:
        return  # the living process removes its mark itself, and no warning is due
    with suppress(OSError):
        mark.unlink(missing_ok=True)
        if dead and stage.is_spare():
            stage.remove()
    if is_as_seen:
        warn(f"{path}: its replacement {_was_interrupted(dead)}, and is complete now")
    else:
        warn(
            f"{path}: its replacement {_was_interrupted(dead)}; another process had changed what "
            "was there, and that is back as it was"
        )


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


def _replace_in_two_steps(stage: Stage, seen: Seen) -> None:
    """Replace a folder where the system cannot exchange two: move one away, then the other in.

    Raises
    ------
    DataSetError
        When the place is not as it was seen (the old content is put back), or another command is
        replacing it.
    """
    target, mark = seen.path, _mark(seen.path)
    # The mark is made first, and names the hidden folder: `complete` finds both steps by it.
    if os.path.exists(mark) and not _forgets(target):
        raise _being_replaced(seen)
    draft = stage.folder / mark.name
    write_synced(draft, stage.folder.name.encode())
    try:
        move(draft, mark)
    except FileExistsError:
        raise _being_replaced(seen) from None
    sync_folder(mark.parent)
    number = number_of(stage.new.lstat())
    try:
        target.rename(stage.old)
        if known_by(stage.old) != seen.what:
            raise _changed(seen)
        _move_or_find(stage.new, target, number)
    except BaseException:
        # If the place has been filled by now, the hidden folder stays, and is reported.
        with suppress(FileNotFoundError):
            _second_step(stage.old, target)
        raise
    finally:
        # Where nothing could be put back, as on a full disk, the next command does the second step.
        if known_by(target) is not None or not (stage.old.exists() and stage.new.exists()):
            mark.unlink(missing_ok=True)


def _forgets(target: Path) -> bool:
    """Remove the mark of a replacement that is not between its steps; False if it may go on.

    Of a machine that was restarted, or is another, nobody knows whether its process lives. If it
    does, it looks at what it replaces by itself: the mark only lets others do its second step.
    """
    mark = _mark(target)
    with suppress(FileNotFoundError):
        name = mark.read_text(encoding="utf-8")
        stage = next((each for each in stages_of(target) if each.folder.name == name), None)
        between = stage is not None and stage.old.exists() and stage.new.exists()
        if between or (stage is not None and stage.is_dead() is False):
            return False
        mark.unlink()
    return True


def _second_step(source: Path, target: Path) -> bool:
    """Move content to a place; return False if something is there by now, which stays.

    Raises
    ------
    OSError
        When the content may not be moved.
    """
    if known_by(target) is not None:
        with suppress(OSError):  # an empty folder may be left by a second step that began
            target.rmdir()
    try:
        move(source, target)
    except OSError:
        if known_by(target) is not None:
            return False
        raise
    return True


def _was_interrupted(dead: bool | None) -> str:
    return "was interrupted" if dead else "may have been interrupted"


def _move_or_find(new: Path, target: Path, number: list[int]) -> None:
    """Move new content to a place, unless another command has already done so."""
    try:
        move(new, target)
    except OSError:
        # Its number shows whether the content that is there now is the one to be moved.
        there = known_by(target)
        if there is None or there["number"] != number:
            raise


def _sync_name(target: Path, name: StrPath) -> None:
    """Flush the name of a place to the disk."""
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise DataSetError(
            f"{name}: is written, but a power cut may undo this, as the folder above could not be "
            f"flushed to the disk ({one_line(error)})"
        ) from error


def _mark(target: Path) -> Path:
    """Return the path of the mark of a two-step replacement, which names its folder."""
    return target.with_name(f".{target.name}.replacing")


def _changed(seen: Seen) -> DataSetError:
    what = "something was put there" if seen.what is None else "was changed or replaced"
    return DataSetError(
        f"{seen.name}: {what} by another process while this was written, and stays as it is; "
        "look at it, then run this again or choose another path"
    )


def _being_replaced(seen: Seen) -> DataSetError:
    return DataSetError(
        f"{seen.name}: is being replaced by another command; wait for it, or if none is running, "
        f"remove {_mark(seen.path)}"
    )
