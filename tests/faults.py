"""Faults of file systems, at the k-th operation below a folder: errors, kills, power cuts.

Every call that changes something below the folder is an operation: ``open`` for writing, each
``write`` of a file's buffer, ``fsync``, ``truncate``, ``mkdir``, ``rmdir``, ``rename``, ``link``,
``unlink``, and the renames by flags of ``dkde.stores.renaming``. With kinds that begin with
``read``, operations are instead: opening for reading, and listing a folder. Libraries in C that
write by themselves (pyarrow, HDF5) do so unseen; what they wrote counts as not flushed.

    n = count(folder, action)                      # its operations
    for k in range(1, n + 2):
        with faults(folder, "ENOSPC", k) as log:   # the error is raised in here
            action()
        log.done, log.fired, log.dead, log.operations

    with faults(folder, "cut", k, seed=3) as log:  # nothing is raised: the process is dead,
        action()                                   # and the folder is as the power cut left it

At `k` beyond the last operation the power goes after the action: what it reported must be there.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from power import Disk, clear

from dkde.stores import renaming

# One operation fails.
ERRORS = ("ENOSPC", "EIO", "ESTALE", "EACCES", "EDQUOT")
# "tear" writes half, then fails; of other operations it does nothing. "lost" does the operation,
# then fails, as a network file system does whose answer is lost.
ODD_ERRORS = ("tear", "lost")
# From the k-th on: what takes room fails; all operations fail.
LASTING = ("full", "read-only")
# The process ends before the operation; in the midst of a write; by a power cut.
DEATHS = ("kill", "torn kill", "cut")
READS = ("read EIO", "read ESTALE", "read EACCES")
KINDS = (*ERRORS, *ODD_ERRORS, *LASTING, *DEATHS, *READS, "delay")

_TAKES_ROOM = {"open", "write", "mkdir", "link", "truncate"}
_CREATES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_OPEN, _OS_OPEN = io.open, os.open


class PowerCut(BaseException):
    """The end of the process: no handler of errors may catch it."""


@dataclass
class Log:
    """What happened.

    Parameters
    ----------
    operations : list of tuple
        The name of each operation, and its paths, seen from the folder.
    fired : bool
        Whether the fault came: False where there are fewer operations.
    dead : bool
        Whether the process ended by it.
    done : bool
        Whether the body came to its end.
    """

    operations: list[tuple[str, ...]] = field(default_factory=list)
    fired: bool = False
    dead: bool = False
    done: bool = False


def count(folder: Path, action: Callable[[], Any], *, reads: bool = False) -> int:
    """The number of operations of an action, which is done."""
    with faults(folder, "read EIO" if reads else "EIO", 0) as log:
        action()
    return len(log.operations)


@contextmanager
def faults(folder: Path, kind: str, k: int, seed: int = 0) -> Iterator[Log]:
    """Let the k-th operation below a folder fail, from 1 on.

    Parameters
    ----------
    folder : pathlib.Path
        An absolute path without links.
    kind : str
        One of `KINDS`, each described there.
    seed : int
        What a power cut leaves: see ``power.Disk.cut``.
    """
    assert kind in KINDS, kind
    log, disk, aside = Log(), None, None
    if kind == "cut":
        aside = Path(tempfile.mkdtemp(prefix="aside-", dir=folder.parent))
        disk = Disk(folder, aside)
    watch = _Watch(folder, kind, k, log, disk)
    try:
        with watch.patched():
            try:
                yield log
            finally:
                let_zarr_end()
        log.done = not log.dead
    except BaseException:
        # A dead process reports nothing, whatever its code makes of its end.
        if not log.dead:
            raise
    finally:
        if disk is not None and aside is not None:
            disk.cut(seed)
            clear(aside)


class _Watch:
    """Counts operations, and lets one fail."""

    def __init__(self, folder: Path, kind: str, k: int, log: Log, disk: Disk | None) -> None:
        self.folder, self.kind, self.k, self.log, self.disk = folder, kind, k, log, disk
        self.lock = threading.RLock()

    def holds(self, path: Path | None) -> bool:
        return path is not None and path.is_relative_to(self.folder)

    def step(
        self,
        name: str,
        paths: list[Path | None],
        act: Callable[[], Any],
        half: Callable[[], Any] | None = None,
    ) -> Any:
        """Do an operation, or what the fault makes of it."""
        known = [path for path in paths if path is not None]
        if self.kind in READS or not any(map(self.holds, known)):
            return act()
        with self.lock:
            if not self._is_due(name, known):
                return self._do(name, known, act)
            kind = self.kind
            if kind == "delay":
                time.sleep(0.02)
                return self._do(name, known, act)
            if kind in DEATHS:
                self.log.dead = True
                if kind == "torn kill" and half is not None:
                    half()
                raise PowerCut
            if kind == "tear" and half is not None:
                half()
            if kind == "lost":
                found = self._do(name, known, act)
                if isinstance(found, io.IOBase):
                    found.close()
            raise _error(kind, known)

    def read(self, path: Path | None, act: Callable[[], Any]) -> Any:
        """Read, or fail."""
        if self.kind not in READS or not self.holds(path):
            return act()
        assert path is not None
        with self.lock:
            if self._is_due("read", [path]):
                raise _error(self.kind.removeprefix("read "), [path])
        return act()

    def _is_due(self, name: str, paths: list[Path]) -> bool:
        log = self.log
        if log.dead:
            raise PowerCut
        log.operations.append((name, *(os.path.relpath(path, self.folder) for path in paths)))
        number = len(log.operations)
        if self.kind in LASTING and self.k:
            found = number >= self.k and (self.kind == "read-only" or name in _TAKES_ROOM)
        else:
            found = number == self.k
        log.fired |= found
        return found

    def _do(self, name: str, paths: list[Path], act: Callable[[], Any]) -> Any:
        if self.disk is None or name == "write":
            return act()
        if name not in ("open", "fsync", "mkdir"):
            self.disk.about_to(*paths)
        found = act()
        self.disk.has_done(name, *paths)
        return found

    @contextmanager
    def patched(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in ("mkdir", "rmdir", "unlink", "remove", "truncate"):
                called = "unlink" if name == "remove" else name
                stack.enter_context(mock.patch.object(os, name, self._on_one(name, called)))
            for name, called in (("rename", "rename"), ("replace", "rename"), ("link", "link")):
                stack.enter_context(mock.patch.object(os, name, self._on_two(name, called)))
            for name in ("fsync", "fdatasync"):
                if hasattr(os, name):
                    stack.enter_context(mock.patch.object(os, name, self._on_number(name)))
            for name in ("scandir", "listdir"):
                stack.enter_context(mock.patch.object(os, name, self._on_listing(name)))
            stack.enter_context(mock.patch.object(os, "open", self._os_open))
            stack.enter_context(mock.patch.object(io, "open", self._open))
            stack.enter_context(mock.patch.object(builtins, "open", self._open))
            stack.enter_context(mock.patch.object(renaming, "_call", self._flagged(renaming._call)))
            yield

    def _on_one(self, name: str, called: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *more: Any, dir_fd: int | None = None, **options: Any) -> Any:
            given = {} if dir_fd is None else {"dir_fd": dir_fd}
            return self.step(
                called, [_path(path, dir_fd)], lambda: real(path, *more, **given, **options)
            )

        return call

    def _on_two(self, name: str, called: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(source: Any, target: Any, **options: Any) -> Any:
            paths = [_path(source), _path(target)]
            return self.step(called, paths, lambda: real(source, target, **options))

        return call

    def _on_number(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(number: Any) -> Any:
            return self.step("fsync", [_path_of(number)], lambda: real(number))

        return call

    def _on_listing(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any = ".") -> Any:
            return self.read(_path(path), lambda: real(path))

        return call

    def _os_open(self, path: Any, flags: int, *more: Any, dir_fd: int | None = None) -> int:
        def act() -> int:
            return _OS_OPEN(path, flags, *more, dir_fd=dir_fd)

        place = _path(path, dir_fd)
        found = self.step("open", [place], act) if flags & _CREATES else self.read(place, act)
        return int(found)

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None,
        errors: Any = None, newline: Any = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        path = None if isinstance(file, int) else _path(file)
        if not self.holds(path) or not set(mode) & set("wax+"):
            return self.read(
                path,
                lambda: _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener),
            )
        raw = self.step("open", [path], lambda: _File(self, path, mode))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def _flagged(self, kept: Callable[[], Any]) -> Callable[[], Any]:
        real = kept()
        if real is None:
            return kept

        def call(source: bytes, target: bytes, exchange: bool) -> int:
            def act() -> None:
                if code := real(source, target, exchange):
                    raise OSError(code, "")

            paths = [_path(os.fsdecode(source)), _path(os.fsdecode(target))]
            try:
                self.step("exchange" if exchange else "rename", paths, act)
            except OSError as error:
                return int(error.errno or errno.EIO)
            return 0

        return lambda: call


class _File(io.FileIO):
    """A file whose writes are operations."""

    def __init__(self, watch: _Watch, path: Any, mode: str) -> None:
        self._watch, self._path = watch, path
        super().__init__(path, mode.replace("b", "").replace("t", ""))

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._watch.log.dead:
            return len(view)  # what a dead process held in a buffer is gone
        write = super().write
        half = view[: len(view) // 2]
        found = self._watch.step("write", [self._path], lambda: write(view), lambda: write(half))
        return int(found)

    def truncate(self, size: int | None = None) -> int:
        cut = super().truncate
        return int(self._watch.step("truncate", [self._path], lambda: cut(size)))


def _error(kind: str, paths: list[Path]) -> OSError:
    name = {"tear": "ENOSPC", "full": "ENOSPC", "lost": "EIO", "read-only": "EROFS"}.get(kind, kind)
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), *map(str, paths[:1]))


def _path(path: Any, dir_fd: int | None = None) -> Path | None:
    """An absolute path, whose links are not followed."""
    if isinstance(path, int):
        return _path_of(path)
    above = Path.cwd() if dir_fd is None else _path_of(dir_fd)
    return None if above is None else Path(os.path.normpath(above / os.fsdecode(path)))


def _path_of(number: Any) -> Path | None:
    """The path of an open file or folder; None if it has none."""
    number = number if isinstance(number, int) else number.fileno()
    try:
        return Path(os.readlink(f"/proc/self/fd/{number}"))
    except OSError:
        return None


def let_zarr_end() -> None:
    """Wait for what Zarr does in its own thread after one of several writes has failed."""
    import asyncio

    from zarr.core.sync import loop, sync

    async def ended() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    if loop[0] is not None:
        sync(ended())
