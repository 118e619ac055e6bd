"""Hidden folders in which data sets and files are written, beside the places they are for.

Each says whose it is, and is locked by its process as long as that lives. So what a process left
that was killed can be distinguished from what another process is writing.
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
from dkde.stores.targets import Seen, known_by, number_of

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_OWNER, _NEW, _OLD = "owner.json", "new", "old"
# What tempfile ends names with.
_SUFFIX = re.compile(r"[a-z0-9_]{8}")
# Seconds for which a folder without an owner may be one that is being made.
_YOUNG = 60.0


@dataclass(frozen=True)
class Stage:
    """A hidden folder beside a place.

    Parameters
    ----------
    folder : pathlib.Path
    """

    folder: Path

    @property
    def new(self) -> Path:
        """Path of the new file or folder, which is moved to the place."""
        return self.folder / _NEW

    @property
    def old(self) -> Path:
        """Path of the old content, while it is replaced in two steps."""
        return self.folder / _OLD

    def owner(self) -> dict[str, Any]:
        """Return the record of the process, and of the content to be replaced."""
        try:
            found = json.loads((self.folder / _OWNER).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def will_replace(self, seen: Seen) -> None:
        """Write down what is about to be replaced, and by what, for whoever finds the rest."""
        self._write_down(seen=seen.what, new=number_of(self.new.lstat()))

    def _write_down(self, **more: Any) -> None:
        content = json.dumps(self.owner() | more).encode()
        # In place, as the file is locked; it only gets longer.
        with (self.folder / _OWNER).open("r+b") as file:
            file.write(content)

    def is_spare(self) -> bool:
        """Return whether it holds only new content, and old content that was replaced."""
        owner = self.owner()
        if owner.get("done") is True:
            return True
        if "seen" not in owner:
            return not self.old.exists()
        if self.new.exists() and self.old.exists():
            return False
        for path in (self.new, self.old):
            what = known_by(path)
            own = path == self.new and what is not None and what["number"] == owner.get("new")
            if not (what is None or own or what == owner["seen"]):
                return False
        return True

    def is_dead(self) -> bool | None:
        """Return whether its process is certainly gone; None where that is unknown."""
        owner = self.owner()
        if not owner:
            with suppress(FileNotFoundError):
                is_young = time.time() - self.folder.stat().st_mtime < _YOUNG
                return False if is_young and self._is_bare() else None
            return False
        if owner.get("locked") is not True or fcntl is None:
            return None
        if owner.get("boot") is None or owner["boot"] != boot_id():
            return None
        try:
            with (self.folder / _OWNER).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False  # it has the lock, or is just going
        return True

    def _is_bare(self) -> bool:
        return not set(os.listdir(self.folder)) - {_OWNER}

    def remove(self) -> None:
        """Remove it, with what is in it; what is left where this is interrupted can be removed."""
        with suppress(OSError):
            self._write_down(done=True)
        with suppress(OSError):
            for name in set(os.listdir(self.folder)) - {_OWNER}:
                path = self.folder / name
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def staged(target: Path) -> Iterator[Stage]:
    """A hidden folder beside a place, removed at the end.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    stage = Stage(Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent)))
    try:
        with _owned(stage.folder / _OWNER):
            try:
                yield stage
            finally:
                # While it is locked: nobody is to take it for one that was left.
                if stage.is_spare():
                    stage.remove()
    finally:
        if stage.is_spare():  # there are systems that remove no open file
            stage.remove()
        if stage.folder.exists():
            warn(f"{stage.folder}: {what_it_holds(stage, target)}")


def what_it_holds(stage: Stage, target: Path) -> str:
    """Return what a folder holds that is kept, and what to do with it."""
    if stage.is_spare():
        return "could not be removed; remove it"
    there = [name for name in (_OLD, _NEW) if (stage.folder / name).exists()]
    if len(there) == 2:
        return (
            f"holds what was at {target} ({_OLD}) and what was to replace it ({_NEW}); move there "
            "what is wanted, and remove the rest"
        )
    return f"holds what another put at {target} ({there[0]}); move it to where it belongs"


def stages_of(target: Path) -> list[Stage]:
    """The hidden folders beside a place that are, or may be, of commands that write there."""
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
    """A file that says whose a folder is, locked as long as this process needs it."""
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot_id(), "locked": False}
    with path.open("xb", buffering=0) as file:
        if fcntl is not None:
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)
                owner["locked"] = True
        file.write(json.dumps(owner).encode())
        yield
