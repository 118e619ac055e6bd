"""What blocks share in a process, such as training rows in leaves: made once, and then kept.

What is made does not depend on who makes it, nor on when it is dropped: blocks come out the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock, Timer
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakValueDictionary

from dkde.engine.stopwatch import PREPARE, spent

T = TypeVar("T")

# Seconds without a block, after which a worker that goes on living gives up what it keeps; and the
# runs whose things are kept, the latest ones.
_IDLE, _RUNS = 30.0, 2


class Shelf:
    """Things that are made once, each under a key.

    Parameters
    ----------
    idle : float, optional
        Seconds without a request after which everything is dropped; None for never.
    """

    def __init__(self, idle: float | None = _IDLE) -> None:
        self._idle = idle
        self._lock = Lock()
        self._kept: OrderedDict[Hashable, Future[Any]] = OrderedDict()
        # What was dropped and is still in use needs not be made again.
        self._in_use: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self._asked = monotonic()
        self._runs: OrderedDict[Hashable, None] = OrderedDict()
        self._timer: Timer | None = None

    @spent(PREPARE)
    def get(self, key: tuple[Hashable, ...], make: Callable[[], T], *, others: bool) -> T:
        """Return what is kept under a key; make it where there is nothing.

        Of several threads that ask for the same at the same time, one makes it and the others
        wait.

        Parameters
        ----------
        key : tuple
            The first two name a run and a kind of things.
        make : callable
            Returns an object to which weak references can be made.
        others : bool
            Whether things of the same run and kind are kept beside it; else they are dropped.
        """
        with self._lock:
            self._asked = monotonic()
            self._watch()
            self._runs[key[0]] = None
            self._runs.move_to_end(key[0])
            while len(self._runs) > _RUNS:
                run, _ = self._runs.popitem(last=False)
                self._drop(lambda kept: kept[0] == run)  # noqa: B023
            future = self._kept.get(key)
            mine = future is None
            if future is None:
                future = Future()
                if (still := self._in_use.get(key)) is not None:
                    future.set_result(still)
                    mine = False
            if not others:
                self._drop(lambda kept: kept[:2] == key[:2] and kept != key)
            self._kept[key] = future
        if mine:
            self._make(key, make, future)
        try:
            result: T = future.result()
        finally:
            del future  # for the reason given below
        return result

    def _make(self, key: Hashable, make: Callable[[], T], future: "Future[T]") -> None:
        try:
            made = make()
        except BaseException as error:
            with self._lock:  # whoever asks next tries again
                self._drop(lambda kept: kept == key)
            future.set_exception(error)
            # The error's traceback has this frame, which must not have the future that has the
            # error: only the garbage collector would find them, in any thread at any time.
            del future
            return
        with self._lock:
            self._in_use[key] = made
        future.set_result(made)

    def drop(self, run: Hashable) -> None:
        """Drop everything of a run."""
        with self._lock:
            self._drop(lambda kept: kept[0] == run)
            self._runs.pop(run, None)

    def _drop(self, which: Callable[[Any], bool]) -> None:
        for key in [key for key in self._kept if which(key)]:
            del self._kept[key]

    def _watch(self) -> None:
        """Look once in a while whether anybody still asks."""
        if self._timer is None and self._idle is not None:
            self._timer = Timer(self._idle, self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        with self._lock:
            self._timer = None
            if self._idle is None or monotonic() - self._asked >= self._idle:
                self._kept.clear()
                self._runs.clear()
            elif self._kept:
                self._watch()


# Of this process.
SHELF = Shelf()
# Shelves of this process for what outlives a call, by the names of their owners.
_LASTING: WeakValueDictionary[str, Shelf] = WeakValueDictionary()


class Lasting:
    """The owner of a shelf, on which things stay as long as the owner lives.

    Blocks know its name only. In another process, such as a worker's, there is no shelf of that
    name, and they use the one that all share.
    """

    def __init__(self) -> None:
        self.name = uuid4().hex
        self._shelf = _LASTING[self.name] = Shelf(idle=None)


def shelf_of(name: str) -> Shelf:
    """Return the shelf of an owner that lives in this process; else that of the process."""
    return _LASTING.get(name, SHELF)
