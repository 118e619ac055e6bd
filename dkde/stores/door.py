"""The door through which every Zarr array is opened: its codecs must be known to be harmless.

A store's metadata name the codecs that decode its chunks, and some codecs run any code that a chunk
holds. So metadata are checked as they come from the store, before Zarr or xarray sees them. The
check needs no request of its own, and the bytes that are checked are the bytes that are used.
Arrays that users opened themselves are checked before any of their chunks is decoded.
"""

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from dkde.errors import DataSetError, one_line, scrubbed
from dkde.stores.durable import create_synced
from dkde.stores.harmless import METADATA, check_metadata
from dkde.stores.renaming import LACKING_CALLS
from dkde.stores.shards import got
from dkde.stores.unpacking import ChunkLayout, check_chunk
from dkde.typing import StrPath

# The keys of chunks that the current read does not find. It is a context variable, as Zarr reads in
# another thread, to which it hands the context.
LACKING: ContextVar[set[str] | None] = ContextVar("dkde-absent-keys", default=None)
# NumPy makes arrays of lists that are nested up to this depth.
_DEEPEST = 64


class Checks:
    """The checks of one store: of metadata as they come, and of chunks by these metadata.

    Parameters
    ----------
    where : str
        The store, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._layouts: dict[str, ChunkLayout | None] = {}

    @classmethod
    def of_opened(cls, array: zarr.Array[Any]) -> "Checks":
        """Return the checks of an array that was opened elsewhere, by its own metadata.

        Raises
        ------
        CodecError
            When these name an unknown codec or type.
        """
        checks, above = cls(scrubbed(str(array.store))), f"{array.path}/".lstrip("/")
        for key, content in array.metadata.to_buffer_dict(default_buffer_prototype()).items():
            checks.passed(f"{above}{key}", content, None)
        return checks

    def passed(
        self, key: str, value: Buffer | None, byte_range: ByteRequest | None
    ) -> Buffer | None:
        """Return the bytes at a key if they are allowed; a missing chunk is recorded.

        Raises
        ------
        CodecError
            When the bytes are metadata that name an unknown codec or type.
        DataSetError
            When they are a chunk that would unpack to far more.
        """
        if value is None:
            note_absent(key)
        elif key.rpartition("/")[2] in METADATA:
            self._layouts.update(check_metadata(self.where, key, value.to_bytes()))
        elif is_chunk(key):
            start = None if byte_range is None else getattr(byte_range, "start", -1)
            # Where metadata of several arrays could be those of the chunk, all have to allow it.
            for layout in filter(None, map(self._layouts.get, _above(key))):
                check_chunk(self.where, key, layout, value.as_numpy_array().data, start)
        return value

    def lacking(self, key: str) -> list[str]:
        """Return the keys of metadata that have to be read before a chunk can be checked."""
        if not is_chunk(key) or self._array_of(key) in self._layouts:
            return []
        above = _above(key)
        # Asked for once, whether they are there or not.
        self._layouts.update(dict.fromkeys(above))
        names = ("zarr.json", ".zarray")
        return [f"{array}/{name}".lstrip("/") for array in above for name in names]

    def _array_of(self, key: str) -> str:
        """Return the path of the array that a chunk belongs to."""
        above = _above(key)
        return next((path for path in above if self._layouts.get(path) is not None), above[0])


def _above(key: str) -> list[str]:
    """Return the paths at which the array of a chunk may be, the shortest first."""
    parts = key.split("/")
    # The numbers of a chunk end its key, after a "c" in version 3.
    n = len(parts) - 1
    found = ["/".join(parts[:n])]
    while n and re.fullmatch(r"\d+|c", parts[n - 1]):
        n -= 1
        found.insert(0, "/".join(parts[:n]))
    return found


class Folder(LocalStore):
    """A folder whose metadata and chunks are checked as read; what cannot be read is an error."""

    _checks: Checks | None = None

    @property
    def checks(self) -> Checks:
        """Return the checks of this folder."""
        if self._checks is None:
            self._checks = Checks(str(self.root))
        return self._checks

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes at a key."""
        prototype = default_buffer_prototype() if prototype is None else prototype
        with self._reading(key):
            refuse_pipe(self.root / key)
            for name in self.checks.lacking(key):
                refuse_pipe(self.root / name)
                self.checks.passed(name, await super().get(name, prototype), None)
            found = await got(super().get, key, prototype, byte_range)
        return self.checks.passed(key, found, byte_range)

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """Return the bytes at a key, synchronously."""
        with self._reading(key):
            refuse_pipe(self.root / key)
            for name in self.checks.lacking(key):
                refuse_pipe(self.root / name)
                self.checks.passed(name, super().get_sync(name), None)
            found = super().get_sync(key, **options)
        return self.checks.passed(key, found, options.get("byte_range"))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write bytes at a key unless it exists; on file systems without hard links, too."""
        try:
            await super().set_if_not_exists(key, value)
        except OSError as error:
            if error.errno not in LACKING_CALLS:
                raise
            await asyncio.to_thread(create_synced, self.root / key, value.to_bytes())

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the size of all bytes below a prefix."""
        with self._reading(prefix):
            return await super().getsize_prefix(prefix)

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DataSetError(
                f"{self.root / key}: could not be read ({one_line(error)})"
            ) from error


def refuse_pipe(path: StrPath) -> None:
    """Refuse a pipe or a device in place of a file: reading it may block, or never end.

    Raises
    ------
    DataSetError
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # it is not there, and reading it says so
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataSetError(f"{path}: is a pipe or a device, and no file to read; remove it")


def checks_itself(store: Any) -> bool:
    """Return whether a store checks its chunks as they are read: those that dkde opens do."""
    return hasattr(store, "checks")


def is_chunk(key: str) -> bool:
    """Return whether a key is a chunk's: it ends in a number or, of a single value, in c."""
    return key[-1:].isdigit() or key.endswith("/c")


def note_absent(key: str) -> None:
    """Record that a store has nothing at a key, if the key is of a chunk being read."""
    keys = LACKING.get()
    if keys is not None and is_chunk(key):
        keys.add(key)


def location(array: zarr.Array[Any]) -> str:
    """Return where an array lies, for messages: a path, or its store's address."""
    store = array.store
    if isinstance(store, LocalStore):
        return str(store.root / array.path)
    return scrubbed(str(array.store_path))


def check_opened(values: Any, depth: int = 0) -> None:
    """Refuse an array, or one within lists, if its codecs are not known to be harmless.

    Values that a user passes are checked before NumPy makes an array of them, which decodes them.

    Parameters
    ----------
    values : anything
        The values that a user passed.
    depth : int
        The number of lists that the values are nested in.

    Raises
    ------
    CodecError
        When an array's metadata name an unknown codec or type.
    """
    if isinstance(values, zarr.Array):
        for key, content in values.metadata.to_buffer_dict(default_buffer_prototype()).items():
            check_metadata(location(values), key, content.to_bytes())
    elif isinstance(values, np.ndarray) and values.dtype == object:
        check_opened(values.ravel().tolist(), depth)
    elif depth < _DEEPEST and isinstance(values, list | tuple):
        for value in values:
            if isinstance(value, list | tuple | np.ndarray | zarr.Array):  # skip plain numbers
                check_opened(value, depth + 1)


def absolute(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array, opened again by its absolute path if its store has a relative one.

    The array was opened elsewhere, so that it is checked here first.

    A relative path leads to another folder in a worker, or after a change of directory, and Zarr
    reads chunks that it does not find there as the fill value, without a warning.

    Parameters
    ----------
    array : zarr.Array
        An array that the user opened.

    Returns
    -------
    zarr.Array
        The array; read-only if it was opened again.

    Raises
    ------
    DataSetError
        If the array is not there, seen from the current working directory, or its codecs are not
        known to be harmless.
    """
    check_opened(array)
    store = array.store
    if not isinstance(store, LocalStore) or store.root.is_absolute():
        return array
    root = store.root.absolute()
    try:
        return zarr.open_array(
            Folder(root, read_only=True),
            path=array.path,
            mode="r",
            zarr_format=array.metadata.zarr_format,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataSetError(
            f"{store.root / array.path}: was opened by a relative path, and no array is at "
            f"{root / array.path}; open it by its absolute path"
        ) from error
