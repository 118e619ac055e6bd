"""Faults of buckets, at the k-th request: errors before and after it is done, deaths, lost answers.

Two places can fail. `bucket_faults` stands where obstore is called, after whose own repetitions
there is no help:

    with bucket_faults("after", k) as log:     # the request is done, and its error raised in here
        action()
    log.done, log.fired, log.dead, log.operations

`lost_answers` stands in the server: it does the k-th request, and answers that it is overloaded.
obstore asks again, and finds that it has been there before.

    with lost_answers(server, k) as log:       # of ``buckets.serving``
        action()
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import obstore
from buckets import Server
from faults import Log, PowerCut, let_zarr_end
from obstore.exceptions import GenericError

# The error comes before the request, or after it; the process ends before it, or after it; the
# request takes a while; it is given up, as by a limit of time.
KINDS = ("before", "after", "kill before", "kill after", "delay", "timeout")
_WRITES = ("put", "delete", "copy", "rename")
_READS = ("get", "get_range", "get_ranges", "head", "list", "list_with_delimiter")


def count_requests(action: Callable[[], Any], *, writes: bool = False) -> int:
    """The number of requests of an action, which is done."""
    with bucket_faults("before", 0, writes=writes) as log:
        action()
    return len(log.operations)


@contextmanager
def bucket_faults(kind: str, k: int, *, writes: bool = False) -> Iterator[Log]:
    """Let the k-th call of obstore fail, from 1 on.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    writes : bool
        Count only calls that change something.
    """
    assert kind in KINDS, kind
    log, lock = Log(), threading.Lock()

    def is_due(name: str, arguments: tuple[Any, ...]) -> bool:
        with lock:
            if log.dead:
                raise PowerCut
            log.operations.append((name, *(str(each) for each in arguments[1:2])))
            found = len(log.operations) == k
            log.fired |= found
            return found

    def before() -> None:
        if kind == "kill before":
            log.dead = True
            raise PowerCut
        if kind == "before":
            raise GenericError("Generic S3 error: error sending request")
        if kind == "timeout":
            raise TimeoutError

    def after() -> None:
        if kind == "kill after":
            log.dead = True
            raise PowerCut
        if kind == "after":
            raise GenericError("Generic S3 error: operation timed out")

    def called(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not is_due(name, arguments):
                return real(*arguments, **options)
            before()
            found = real(*arguments, **options)
            after()
            return found

        async def call_async(*arguments: Any, **options: Any) -> Any:
            if not is_due(name, arguments):
                return await real(*arguments, **options)
            before()
            if kind == "delay":
                await asyncio.sleep(0.05)
            found = await real(*arguments, **options)
            after()
            return found

        return call_async if name.endswith("_async") else call

    names = _WRITES if writes else (*_WRITES, *_READS)
    try:
        with ExitStack() as stack:
            for name in [*names, *(f"{each}_async" for each in names)]:
                if real := getattr(obstore, name, None):
                    stack.enter_context(mock.patch.object(obstore, name, called(name, real)))
            try:
                yield log
            finally:
                let_zarr_end()
        log.done = not log.dead
    except BaseException:
        if not log.dead:
            raise


@contextmanager
def lost_answers(server: Server, k: int) -> Iterator[Log]:
    """Let the server do the k-th request that changes something, and say that it could not."""
    log, lock = Log(), threading.Lock()

    def meddle(method: str, path: str) -> bool:
        if method not in ("PUT", "POST", "DELETE"):
            return False
        with lock:
            log.operations.append((method, path))
            found = len(log.operations) == k
            log.fired |= found
            return found

    server.loses = meddle
    try:
        yield log
        log.done = True
    finally:
        server.loses = None
