"""Buckets: stores behind a URL, read and written by obstore."""

import atexit
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from time import sleep
from typing import Any, Self

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import from_url
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

from dkde.errors import DataSetError
from dkde.stores.bucket_errors import told
from dkde.stores.door import Checks
from dkde.stores.shards import got

# A request is repeated until so many seconds have gone by. An attempt to connect takes 5, so that
# an absent endpoint is reported within half a minute. obstore's own limit is three minutes.
_RETRIES = {"max_retries": 10, "retry_timeout": timedelta(seconds=20)}
# Work of hours requests chunks and a run's records, and must not end with a short outage. By then
# a store has been opened, so that the endpoint and the credentials are known to be right.
_PATIENCE = {"max_retries": 60, "retry_timeout": timedelta(minutes=5)}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_PATIENT = re.compile(r"(^|/)c(/\d+)*$")

# Files of up to so many bytes are written in one request.
_ONE_REQUEST = 2**27

# A thread of obstore's runtime releases a request's Python objects a moment after it has handed the
# answer over. If Python is shut down by then, this aborts the process: so wait a moment at exit.
atexit.register(sleep, 0.05)


class BucketStore(ObjectStore[Any]):
    """The keys below a URL; credentials and endpoint are found as the cloud's own tools find them.

    The store is pickled without credentials: each worker finds its own.

    Parameters
    ----------
    url : str
        The URL, without credentials in it.
    read_only : bool
        Whether writing is refused.
    patient : bool
        Whether requests of all keys outlast a short outage, and not those of chunks alone.
    """

    def __init__(self, url: str, *, read_only: bool = False, patient: bool = False) -> None:
        self.url, self._is_patient = url.rstrip("/"), patient
        with self._reaching(""):
            store = from_url(self.url, retry_config=_RETRIES)
            patient = from_url(self.url, retry_config=_PATIENCE)
        super().__init__(store, read_only=read_only)
        self.checks = Checks(self.url)
        self._hasty: ObjectStore[Any] = ObjectStore(store, read_only=read_only)
        self._patient: ObjectStore[Any] = ObjectStore(patient, read_only=read_only)

    def _for(self, key: str) -> ObjectStore[Any]:
        """Return the client for requests of a key, whose retries depend on the key."""
        return self._patient if self._is_patient or _PATIENT.search(key) else self._hasty

    def with_read_only(self, read_only: bool = False) -> Self:
        """Return the same store, read-only or not."""
        return type(self)(self.url, read_only=read_only, patient=self._is_patient)

    def below(self, prefix: str) -> Self:
        """Return the store of the keys below a prefix, whose requests outlast a short outage."""
        return type(self)(f"{self.url}/{prefix}", patient=True)

    def __str__(self) -> str:
        return self.url

    async def entries(self, prefix: str) -> list[tuple[str, int, str]]:
        """Return the entries below a prefix, like the function of that name."""
        with self._reaching(prefix):
            return await entries(self._for(prefix), prefix)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes at a key; None if there are none."""
        for name in self.checks.lacking(key):
            with self._reaching(name):
                found = await self._for(key).get(name, prototype)
            self.checks.passed(name, found, None)
        with self._reaching(key):
            found = await got(self._for(key).get, key, prototype, byte_range)
        return self.checks.passed(key, found, byte_range)

    async def exists(self, key: str) -> bool:
        """Return whether a key exists."""
        with self._reaching(key):
            return await self._for(key).exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write bytes at a key."""
        with self._reaching(key):
            await self._for(key).set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write bytes at a key unless it exists."""
        with self._reaching(key):
            await self._for(key).set_if_not_exists(key, value)

    async def swap(self, key: str, old: bytes, new: bytes) -> bool:
        """Replace known content; return False if the key holds other content, or none."""
        with self._reaching(key):
            store = self._for(key).store
            try:
                found = await obstore.get_async(store, key)
                there = bytes(await found.bytes_async())
            except FileNotFoundError:
                return False
            if there != old:
                return False
            # With a tag the service itself refuses the write if the content has changed since.
            tag = found.meta["e_tag"]
            mode: Any = {"e_tag": tag} if tag else "overwrite"
            try:
                await obstore.put_async(store, key, new, mode=mode)
            except NotImplementedError:  # a service without conditional writes
                await obstore.put_async(store, key, new)
            except PreconditionError:
                pass  # or the first attempt succeeded, its answer was lost, and the second failed
            found = await obstore.get_async(store, key)
            return bytes(await found.bytes_async()) == new

    async def tag(self, key: str) -> str | None:
        """Return the identity of a key's content: an ETag or a time; None if there is none."""
        with self._reaching(key):
            try:
                found = await obstore.head_async(self._for(key).store, key)
            except FileNotFoundError:
                return None
            tag: str = found["e_tag"] or found["last_modified"].isoformat()
            return tag

    async def written_at(self, key: str) -> float | None:
        """Return when a key was written, in seconds since the epoch, by the service's clock."""
        with self._reaching(key):
            try:
                found = await obstore.head_async(self._for(key).store, key)
            except FileNotFoundError:
                return None
            written: float = found["last_modified"].timestamp()
            return written

    async def replace(self, key: str, content: bytes, tag: str | None) -> str | None:
        """Write bytes where a key has the content of a tag, or is free; return the new tag.

        Parameters
        ----------
        tag : str or None
            The identity of the content that is replaced, see :meth:`tag`; None where the key must
            be free.

        Returns
        -------
        str or None
            None where the key holds other content, which stays. A service without conditional
            writes is asked before the write.
        """
        with self._reaching(key):
            store = self._for(key).store
            mode: Any = "create" if tag is None else {"e_tag": tag}
            try:
                return _tag_of(await obstore.put_async(store, key, content, mode=mode))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                pass
            except NotImplementedError:
                if await self.tag(key) != tag:
                    return None
                return _tag_of(await obstore.put_async(store, key, content))
            return await self._tag_where(key, content)

    async def upload(
        self, key: str, path: Path, *, replaces: str | None = None, careful: bool = False
    ) -> bool:
        """Write a file at a key, whole or not at all.

        Parameters
        ----------
        replaces : str or None
            The identity of the content that may be replaced; None if the key must be free.
        careful : bool
            Whether other content stays, and False is returned.
        """
        there = await self.tag(key) if careful else None
        if careful and there != replaces:
            return False
        store = self._patient.store
        with self._reaching(key):
            # The service itself refuses a conditional write where the content has changed since,
            # but takes none in several requests, in which large files are sent.
            if careful and path.stat().st_size <= _ONE_REQUEST:
                mode: Any = "create" if replaces is None else {"e_tag": replaces}
                try:
                    await obstore.put_async(store, key, path, mode=mode)
                    return True
                except (AlreadyExistsError, PreconditionError):
                    return await self._tag_where(key, path.read_bytes()) is not None
                except NotImplementedError:  # a service without conditional writes
                    pass
            await obstore.put_async(store, key, path)
        return True

    async def _tag_where(self, key: str, content: bytes) -> str | None:
        """Return the tag of a key that holds some content; None if it holds other content, or none.

        A conditional write that was refused may have succeeded: its answer was lost, and the second
        attempt met what the first one had written.
        """
        try:
            found = await obstore.get_async(self._for(key).store, key)
        except FileNotFoundError:
            return None
        return _tag_of(found.meta) if bytes(await found.bytes_async()) == content else None

    async def delete(self, key: str) -> None:
        """Delete a key."""
        with self._reaching(key):
            await self._for(key).delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete all keys below a prefix."""
        with self._reaching(prefix):
            await self._for(prefix).delete_dir(prefix)

    # zarr may call these two: the inherited ones would show obstore's own errors, requests and all.
    async def getsize(self, key: str) -> int:
        """Return the size of a key's bytes."""
        with self._reaching(key):
            return await super().getsize(key)

    async def list(self) -> AsyncIterator[str]:  # type: ignore[override]
        """Yield all keys."""
        for key, _, _ in await self.entries(""):
            yield key

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the size of all bytes below a prefix."""
        return sum(size for _, size, _ in await self.entries(prefix))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Yield the keys below a prefix."""
        for key, _, _ in await self.entries(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Yield the names directly below a prefix."""
        with self._reaching(prefix):
            async for key in super().list_dir(prefix):
                yield key

    @contextmanager
    def _reaching(self, key: str) -> Iterator[None]:
        """Report a fault in one line, without the content of the request."""
        with told(f"{self.url}/{key}".rstrip("/")):
            yield


class BucketFiles:
    """Files below a URL that other programs wrote: listings, and ranges of their bytes.

    Parameters
    ----------
    url : str
        The URL, without credentials in it.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with told(self.url):
            self._hasty = from_url(self.url, retry_config=_RETRIES)
            self._patient = from_url(self.url, retry_config=_PATIENCE)

    def entries(self) -> list[tuple[str, int, str]]:
        """Return key, size, and ETag (else time) of all files below, in order of key."""
        with told(self.url):
            return sorted(map(_entry, obstore.list(self._hasty).collect()))

    def entry(self, key: str) -> tuple[str, int, str] | None:
        """Return the same of one file; None if it does not exist."""
        with told(f"{self.url}/{key}"):
            try:
                return _entry(obstore.head(self._hasty, key))
            except FileNotFoundError:
                return None

    def read(self, key: str, start: int, stop: int, tag: str) -> bytes:
        """Return a range of a file's bytes, if it still has this tag.

        Raises
        ------
        DataSetError
            When it was removed or changed, or cannot be read.
        """
        where = f"{self.url}/{key}"
        # A tag that is a time cannot be asked for.
        options: Any = {"range": (start, stop)} | ({} if _TIME.match(tag) else {"if_match": tag})
        with told(where):
            try:
                return bytes(obstore.get(self._patient, key, options=options).bytes())
            except FileNotFoundError:
                raise DataSetError(
                    f"{where}: was removed after it was opened; put it back"
                ) from None
            except PreconditionError:
                raise DataSetError(
                    f"{where}: was changed after it was opened; open it again"
                ) from None


def files_in(url: str) -> BucketFiles:
    """Return the files below a URL, with one client for all calls of this process."""
    return _files_in(url, os.environ.get("AWS_ENDPOINT_URL"))


@lru_cache(maxsize=16)
def _files_in(url: str, endpoint: str | None) -> BucketFiles:
    # A client keeps the endpoint that it found when it was made.
    return BucketFiles(url)


def _tag_of(found: Any) -> str:
    tag: str = found["e_tag"] or ""
    return tag


def _entry(found: Any) -> tuple[str, int, str]:
    return found["path"], found["size"], found["e_tag"] or found["last_modified"].isoformat()


async def entries(store: ObjectStore[Any], prefix: str) -> list[tuple[str, int, str]]:
    """Return key, size, and ETag (else time) of all keys below a prefix.

    It takes a request for each thousand keys.
    """
    found = await obstore.list(store.store, prefix or None).collect_async()
    return sorted(map(_entry, found))
