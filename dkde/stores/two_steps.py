"""The replacement of a folder where the system cannot exchange two: one away, then the other in.

A process that is killed between these two steps leaves a mark, by which the next command at that
place does the second step.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dkde.errors import DataSetError, warn
from dkde.stores.current_folder import check_leads_somewhere
from dkde.stores.durable import sync_folder, write_synced
from dkde.stores.renaming import move
from dkde.stores.staging import Stage, stages_of, what_it_holds
from dkde.stores.targets import Seen, known_by, number_of


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
    InputError
        When the path is relative, and the current folder was deleted.
    """
    check_leads_somewhere(path)
    target = Path(os.path.realpath(path))
    mark = mark_of(target)
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


def replace_in_two_steps(stage: Stage, seen: Seen) -> None:
    """Replace a folder where the system cannot exchange two: move one away, then the other in.

    Raises
    ------
    DataSetError
        When the place is not as it was seen (the old content is put back), or another command is
        replacing it.
    """
    target, mark = seen.path, mark_of(seen.path)
    # The mark is made first, and names the hidden folder: `complete` finds both steps by it.
    if os.path.exists(mark) and not forgets(target):
        raise being_replaced(seen)
    draft = stage.folder / mark.name
    write_synced(draft, os.fsencode(stage.folder.name))
    try:
        move(draft, mark)
    except FileExistsError:
        raise being_replaced(seen) from None
    sync_folder(mark.parent)
    number = number_of(stage.new.lstat())
    try:
        target.rename(stage.old)
        if known_by(stage.old) != seen.what:
            raise changed(seen)
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


def forgets(target: Path) -> bool:
    """Remove the mark of a replacement that is not between its steps; False if it may go on.

    Of a machine that was restarted, or is another, nobody knows whether its process lives. If it
    does, it looks at what it replaces by itself: the mark only lets others do its second step.
    """
    mark = mark_of(target)
    with suppress(FileNotFoundError):
        name = mark.read_bytes()  # after a power cut, anything
        stage = next(
            (each for each in stages_of(target) if os.fsencode(each.folder.name) == name), None
        )
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


def mark_of(target: Path) -> Path:
    """Return the path of the mark of a two-step replacement, which names its folder."""
    return target.with_name(f".{target.name}.replacing")


def changed(seen: Seen) -> DataSetError:
    """Return the error of a place that is not as it was seen."""
    what = "something was put there" if seen.what is None else "was changed or replaced"
    return DataSetError(
        f"{seen.name}: {what} by another process while this was written, and stays as it is; "
        "look at it, then run this again or choose another path"
    )


def being_replaced(seen: Seen) -> DataSetError:
    """Return the error of a place that another command is replacing in two steps."""
    return DataSetError(
        f"{seen.name}: is being replaced by another command; wait for it, or if none is running, "
        f"remove {mark_of(seen.path)}"
    )
