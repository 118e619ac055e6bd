"""Put what was written in its place: nothing is replaced but what was looked at before.

Where nothing was, it is renamed to a free name. What was there is exchanged with it in one step,
looked at again, and put back if it is another. Where the system cannot exchange, it is moved away
first; a process that is killed between the two steps leaves a mark, by which the next command at
that place does the second one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dkde.errors import DataSetError, warn
from dkde.stores.renaming import exchange, move
from dkde.stores.staging import Stage, staged, stages_of, what_it_holds
from dkde.stores.targets import Seen, check_place, is_stream, known_by, number_of


def publish(stage: Stage, seen: Seen) -> None:
    """Put what a hidden folder holds in its place.

    Raises
    ------
    DataSetError
        When the place is no more as it was seen: all there stays as it is.
    OSError
        When it may not be written.
    """
    target = seen.path
    if Path(os.path.realpath(seen.given)) != target:
        raise DataSetError(
            f"{seen.name}: is a link to another place than before this was written; nothing was "
            "replaced, do it again"
        )
    there = known_by(target)
    if there is not None and there != seen.what:
        raise _changed(seen)
    if there is None or seen.is_empty_folder:
        if os.path.exists(_mark(target)):
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
        if known_by(stage.new) != seen.what:
            exchange(stage.new, target)
            raise _changed(seen)
    elif target.is_dir():
        _replace_in_two_steps(stage, seen)
    else:
        os.replace(stage.new, target)


def complete(path: str | os.PathLike[str]) -> None:
    """Do the second step of a replacement whose process was killed after the first.

    What was moved away is compared with what was looked at before the work, as that process does;
    if it is another, it is put back. Nothing is done where something is at the place by now. A
    process that may still live finds either step done, and goes on.

    Raises
    ------
    DataSetError
        When it cannot be done.
    """
    target = Path(os.path.realpath(path))
    mark = _mark(target)
    try:
        name = mark.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    stage = next((each for each in stages_of(target) if each.folder.name == name), None)
    dead = None if stage is None else stage.is_dead()
    if stage is None or not (stage.old.exists() and stage.new.exists()):
        if stage is None or dead:
            with suppress(OSError):  # who reads may not be allowed to write
                mark.unlink(missing_ok=True)
        return
    try:
        is_as_seen = known_by(stage.old) == stage.owner().get("seen")
        if not is_as_seen and dead is False:
            return  # its process puts it back
        if not _second_step(stage.new if is_as_seen else stage.old, target):
            return  # it is another process's; the hidden folder's content is reported
    except OSError as error:
        raise DataSetError(
            f"{path}: its replacement {_was_interrupted(dead)}, and could not be completed "
            f"({error}); {stage.folder} {what_it_holds(stage, target)}"
        ) from error
    if dead is False:
        return  # the mark is removed by its process, which has nothing to say
    with suppress(OSError):
        mark.unlink(missing_ok=True)
        if dead and stage.is_spare():
            stage.remove()
    if is_as_seen:
        warn(f"{path}: its replacement {_was_interrupted(dead)}, and is complete now")
    else:
        warn(
            f"{path}: its replacement {_was_interrupted(dead)}; what was there was changed by "
            "another before, and is back as it was"
        )


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether a path exists; complete an interrupted replacement there first.

    Unlike Path.exists it takes names that are too long to be any.
    """
    with suppress(ValueError):  # no path at all
        complete(path)
    return os.path.exists(path)


def say_what_is_left(path: str | os.PathLike[str], *, remove: bool) -> None:
    """Warn, in one line, of files that killed commands left beside a place.

    Parameters
    ----------
    remove : bool
        Remove what is certain to be left, and holds nothing of others; the warning says so.
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
                f"{stage.folder} may be left of a command that was killed; remove it when none is "
                "writing there"
            )
    if removed:
        left.insert(0, f"removed what a command that was killed left ({', '.join(removed)})")
    if left:
        warn(f"{path}: {'; '.join(left)}")


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


def _replace_in_two_steps(stage: Stage, seen: Seen) -> None:
    target, mark = seen.path, _mark(seen.path)
    try:
        with mark.open("x", encoding="utf-8") as file:
            file.write(stage.folder.name)
    except FileExistsError:
        raise _being_replaced(seen) from None
    number = number_of(stage.new.lstat())
    try:
        target.rename(stage.old)
        if known_by(stage.old) != seen.what:
            raise _changed(seen)
        _move_or_find(stage.new, target, number)
    except BaseException:
        # If the place has been filled meanwhile, the hidden folder stays, and is reported.
        with suppress(FileExistsError, FileNotFoundError):
            move(stage.old, target)
        raise
    finally:
        mark.unlink(missing_ok=True)


def _second_step(source: Path, target: Path) -> bool:
    """Move what is due to a place; False where something is there by now, which stays.

    Raises
    ------
    OSError
        When it may not be moved.
    """
    if known_by(target) is not None:
        with suppress(OSError):  # an empty folder may be where the second step began
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
    """Move to a place; another command may have completed that already."""
    try:
        move(new, target)
    except OSError:
        there = known_by(target)
        if there is None or there["number"] != number:
            raise


def _mark(target: Path) -> Path:
    """Return the path of the mark of a two-step replacement, which names its folder."""
    return target.with_name(f".{target.name}.replacing")


def _changed(seen: Seen) -> DataSetError:
    what = "something was put there" if seen.what is None else "was changed or replaced"
    return DataSetError(
        f"{seen.name}: {what} by another while this was written, and stays as it is; look at it, "
        "then do it again or choose another path"
    )


def _being_replaced(seen: Seen) -> DataSetError:
    return DataSetError(
        f"{seen.name}: is being replaced by another command; wait for it, or if none is running "
        f"remove {_mark(seen.path)}"
    )
