"""Writers of one run in this process: each as if on a machine of its own, and some of them paused.

Writers are told apart by the thread that makes the call, and by the threads that it starts. A
paused writer stops at the k-th step that it takes in the run's store, and goes on when it is told.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from dkde.runs import commits, place, publication, sessions, store
from dkde.stores.store import Records

_LOCAL = threading.local()
_NUMBERS = itertools.count()
# The steps at which a writer may be paused, before and after each.
_STEPS: tuple[tuple[Any, str], ...] = (
    (Records, "put"), (Records, "claim"), (Records, "delete"), (Records, "make"),
    (place.RunPlace, "look"), (place.RunPlace, "check_present"), (place.RunPlace, "_give_up"),
    (publication, "write_result"), (publication, "sync_tree"), (publication, "move"),
    (publication, "exchange"), (store.ResultStore, "look"),
)  # fmt: skip


@dataclass
class Writer:
    """A call in a thread of its own, which pauses at a step."""

    call: Callable[[], Any]
    pause_at: int = 0
    steps: int = 0
    outcome: Any = None
    error: BaseException | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)
    lock: Any = field(default_factory=threading.Lock)

    def start(self) -> bool:
        """Run until the pause or the end; return whether it is paused."""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.stopped.wait()
        return self.thread.is_alive() and not self.ended

    def resume(self) -> None:
        """Run to the end."""
        self.goes_on.set()
        self.thread.join()

    ended = False

    def _run(self) -> None:
        _LOCAL.writer = self
        try:
            self.outcome = self.call()
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self.stopped.set()

    def step(self) -> None:
        with self.lock:
            self.steps += 1
            is_due = self.steps == self.pause_at
        if is_due:
            self.stopped.set()
            self.goes_on.wait()


class _Thread(threading.Thread):
    """A thread of the writer that started it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._writer = getattr(_LOCAL, "writer", None)

    def run(self) -> None:
        _LOCAL.writer = self._writer
        super().run()


def _stepping(real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        writer = getattr(_LOCAL, "writer", None)
        if writer is None:
            return real(*arguments, **options)
        writer.step()
        found = real(*arguments, **options)
        writer.step()
        return found

    return call


def _machine() -> str:
    """A place of its own for each call: processes elsewhere are known by their heartbeats alone."""
    return f"machine-{next(_NUMBERS)}"


@contextmanager
def many_machines() -> Iterator[None]:
    """Let calls be those of many machines, and let writers pause."""
    with ExitStack() as stack:
        for owner, name in _STEPS:
            changed = mock.patch.object(owner, name, _stepping(getattr(owner, name)))
            stack.enter_context(changed)
        stack.enter_context(mock.patch.object(commits, "Thread", _Thread))
        stack.enter_context(mock.patch.object(sessions, "Thread", _Thread))
        stack.enter_context(mock.patch.object(sessions, "_place", _machine))
        yield
