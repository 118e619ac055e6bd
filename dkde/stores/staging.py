"""Hidden folders in which data sets and files are written, beside the places they are for.

Each folder records which process made it, and that process locks the record as long as it lives. So
the folder of a process that was killed can be told apart from one that is being written to.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkde.errors import warn
from dkde.stores.durable import sync_file, sync_folder
from dkde.stores.targets import Seen, known_by, number_of

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_OWNER, _NEW, _OLD = "owner.json", "new", "old"
# tempfile ends the names of its folders with eight of these characters.
_SUFFIX = re.compile(r"[a-z0-9_]{8}")
# A process makes its folder first, and then writes the owner's record. A folder without a record
# that is younger than so many seconds is taken to be between these two steps.
_YOUNG = 60.0


@dataclass(frozen=True)
class Stage:
    """A hidden folder beside a place.

    Parameters
    ----------
    folder : pathlib.Path
        Path of the hidden folder.
    """

    folder: Path

    @property
    def new(self) -> Path:
        """Return the path of the new file or folder, which is moved to the place."""
        return self.folder / _NEW

    @property
    def old(self) -> Path:
        """Return the path of the old content, while it is replaced in two steps."""
        return self.folder / _OLD

    def owner(self) -> dict[str, Any]:
        """Return the record of the process and of the content to be replaced; {} if unreadable."""
        found: dict[str, Any] = {}
        # A line is added for what becomes known later. A process that is killed may leave half of
        # the last one, which then counts as not written.
        with suppress(OSError, ValueError):
            for line in (self.folder / _OWNER).read_bytes().splitlines():
                found |= dict(json.loads(line))
        return found

    def will_replace(self, seen: Seen) -> None:
        """Record what is about to be replaced, and by what, in case the process is killed then."""
        self._write_down(seen=seen.what, new=number_of(self.new.lstat()))
        # `complete` needs the record after a power cut too.
        sync_file(self.folder / _OWNER)
        sync_folder(self.folder)

    def _write_down(self, **more: Any) -> None:
        # In place, as the file is locked. Not "ab", which would make a file that is gone.
        with (self.folder / _OWNER).open("r+b", buffering=0) as file:
            file.seek(0, os.SEEK_END)
            file.write(b"\n" + json.dumps(more).encode())

    def is_spare(self) -> bool:
        """Return whether the folder may be removed: nothing in it is anybody else's content.

        Spare are the new content that this process wrote, and the old content that it replaced.
        """
        owner = self.owner()
        # The removal has begun: what is left of the folder may be in any state.
        if owner.get("done") is True:
            return True
        # The replacement has not begun, so that the new content is the process's own.
        if "seen" not in owner:
            return not self.old.exists()
        # A replacement in two steps stopped between them: the place is empty now.
        if self.new.exists() and self.old.exists():
            return False
        # After an exchange the old content lies at `new`. Content that is neither the one written
        # here nor the one looked at before the work was put at the place by another process.
        for path in (self.new, self.old):
            what = known_by(path)
            own = path == self.new and what is not None and what["number"] == owner.get("new")
            if not (what is None or own or what == owner["seen"]):
                return False
        return True

    def is_dead(self) -> bool | None:
        """Return whether the process that made the folder has ended; None where that is unknown."""
        owner = self.owner()
        if not owner:
            with suppress(FileNotFoundError):
                is_young = time.time() - self.folder.stat().st_mtime < _YOUNG
                # Nothing is lost with a bare folder: should its process live after all, that fails.
                return not is_young if self._is_bare() else None
            return False
        if owner.get("locked") is not True or fcntl is None:
            return None
        # A lock shows nothing to other machines that share the disk, nor after a restart.
        if owner.get("boot") is None or owner["boot"] != boot_id():
            return None
        try:
            with (self.folder / _OWNER).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False  # the process holds the lock, or is removing the folder
        return True

    def _is_bare(self) -> bool:
        return not set(os.listdir(self.folder)) - {_OWNER}

    def remove(self) -> None:
        """Remove the folder with its content; a removal that is interrupted can be repeated."""
        with suppress(OSError):
            self._write_down(done=True)
        with suppress(OSError):
            # The record goes last: without it nobody could know that the rest may be removed.
            for name in set(os.listdir(self.folder)) - {_OWNER}:
                path = self.folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def staged(target: Path) -> Iterator[Stage]:
    """Make a hidden folder beside a place, and remove it at the end.

    Parameters
    ----------
    target : pathlib.Path
        The place, whose folder is to be on the same file system for the renaming.

    Raises
    ------
    OSError
        When the hidden folder cannot be made.
    """
    stage = Stage(Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)))
    try:
        with _owned(stage.folder / _OWNER):
            try:
                yield stage
            finally:
                # Remove it while it is locked, so that no other process takes it for abandoned.
                if stage.is_spare():
                    stage.remove()
    finally:
        if stage.is_spare():  # some systems remove no open file, and the record is closed now
            stage.remove()
        if stage.folder.exists():
            warn(f"{stage.folder}: {what_it_holds(stage, target)}")


def what_it_holds(stage: Stage, target: Path) -> str:
    """Return, as text, what a hidden folder that was kept holds, and what to do with it."""
    if stage.is_spare():
        return "could not be removed; remove it"
    there = [name for name in (_OLD, _NEW) if (stage.folder / name).exists()]
    if len(there) == 2:
        return (
            f"holds what was at {target} ({_OLD}) and what was to replace it ({_NEW}); move there "
            "what is wanted, and remove the rest"
        )
    return f"holds what another process put at {target} ({there[0]}); move it to where it belongs"


def stages_of(target: Path) -> list[Stage]:
    """Return the hidden folders beside a place that commands which write there (may) have made."""
    prefix = f".{target.name}."
    found = []
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if (
                entry.name.startswith(prefix)
                and _SUFFIX.fullmatch(entry.name, len(prefix))
                and entry.is_dir(follow_symlinks=False)
            ):
                found.append(Stage(target.parent / entry.name))
    return sorted(found, key=lambda stage: stage.folder)


def boot_id() -> str | None:
    """Return the machine's identity since its start; None where that is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


@contextmanager
def _owned(path: Path) -> Iterator[None]:
    """Write the record of a folder's owner, and keep it locked until the end."""
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id(), "locked": False}
    with path.open("xb", buffering=0) as file:
        if fcntl is not None:
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)
                owner["locked"] = True
        # Not before the lock is held: a record that says "locked" and is not means a dead process.
        file.write(json.dumps(owner).encode())
        yield
