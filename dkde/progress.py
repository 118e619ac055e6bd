"""The progress of a call in Python: a bar in a notebook or at an interactive prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape
from os import environ
from time import monotonic
from typing import Any, ParamSpec, Protocol, TypeVar

from dkde.errors import InputError

# Called with what is done and what is done in all.
Progress = Callable[[int, int], None]
# As users write it: a function, True for a bar, False for none, None for a bar where one is read.
ProgressLike = Progress | bool | None
# The same of work in stages, such as the splits of a data set: called with the stage first.
StageProgress = Callable[[str, int, int], None]
StageProgressLike = StageProgress | bool | None
# Shorter work shows no bar.
_DELAY_SECONDS = 1.0
# Between two pictures of the bar: what a notebook shows is sent and kept.
_EVERY_SECONDS = 0.2
# "1" shows bars in scripts too, and "0" shows none anywhere.
VARIABLE = "DKDE_PROGRESS"


class _Display(Protocol):
    """A place that shows a bar: a line of text, and the share that is done."""

    def show(self, share: float, text: str) -> None: ...

    def close(self) -> None: ...


@contextmanager
def shown(progress: ProgressLike, unit: str = "pairs") -> Iterator[Progress | None]:
    """Show the progress of what is done within, or call the user's function.

    Parameters
    ----------
    progress : callable, bool or None
        A function of (done, total); True for a bar, False for none. None shows a bar in a
        notebook, and at an interactive prompt on a terminal, of work that takes more than a
        second. The environment variable ``DKDE_PROGRESS`` decides for None: 1 for bars in scripts
        too, 0 for none.
    unit : str
        The name of what is counted.

    Yields
    ------
    callable or None

    Raises
    ------
    InputError
        When progress is none of these.
    """
    if progress is not None and not isinstance(progress, bool):
        if not callable(progress):
            raise InputError(
                f"progress is {progress!r}; pass True, False or a function of (done, total)"
            )
        yield progress
        return
    display = _display(progress)
    if display is None:
        yield None
        return
    bar = _Bar(display, unit, delay=0.0 if progress else _DELAY_SECONDS)
    try:
        yield bar
    finally:
        bar.close()


P = ParamSpec("P")
R = TypeVar("R")


def shows_stages(unit: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator of functions whose ``progress`` is as for :func:`shown`, by stages.

    The function itself gets a function or None: see :func:`by_stages`.

    Parameters
    ----------
    unit : str
        The name of what is counted.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def showing(*args: P.args, **kwargs: P.kwargs) -> R:
            progress: Any = kwargs.get("progress")
            if callable(progress):
                return function(*args, **kwargs)
            with shown(progress, unit) as bar:
                found: Any = None if bar is None else lambda _, done, total: bar(done, total)
                return function(*args, **{**kwargs, "progress": found})

        return showing

    return decorated


def by_stages(progress: StageProgressLike) -> StageProgress | None:
    """Return the function that a decorated function got."""
    return None if isinstance(progress, bool) else progress


def in_notebook() -> bool:
    """Return whether the process is the kernel of a notebook."""
    # Not imported: where it is not loaded already there is no notebook.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _is_interactive() -> bool:
    """Return whether there is a prompt at which a user waits, on a terminal."""
    ipython = sys.modules.get("IPython")
    at_prompt = hasattr(sys, "ps1") or (ipython is not None and ipython.get_ipython() is not None)
    return at_prompt and sys.stderr is not None and sys.stderr.isatty()


def _display(progress: bool | None) -> _Display | None:
    """Return where a bar is shown; None where none is wanted."""
    if progress is None:
        said = environ.get(VARIABLE, "")
        if said == "0":
            return None
        progress = said != "" or in_notebook() or _is_interactive()
    if not progress:
        return None
    return _Notebook() if in_notebook() else _Line()


class _Bar:
    """Takes reports of progress, and shows some of them.

    Parameters
    ----------
    display : _Display
    unit : str
    delay : float
        Seconds before the bar appears.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self,
        display: _Display,
        unit: str,
        *,
        delay: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._display, self._unit, self._clock = display, unit, clock
        self._start = clock()
        self._next = self._start + delay
        self._is_shown = False
        self._first: tuple[float, int] | None = None
        self._last = (0, 1)

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        # Where the count begins anew, as for test rows, so does the speed. A run that is resumed
        # has blocks from before, which count for no speed.
        if self._first is None or done < self._last[0]:
            self._first = (now, done)
        self._last = (done, total)
        if now >= self._next:
            self._next = now + _EVERY_SECONDS
            self._show(now)

    def _show(self, now: float) -> None:
        done, total = self._last
        start, before = self._first or (now, done)
        share = done / total if total else 1.0
        text = f"{share:.0%}"
        if done > before and now > start:
            rate = (done - before) / (now - start)
            text += f", {si(rate)} {self._unit}/s"
            if done < total:
                text += f", {duration((total - done) / rate)} left"
        if done >= total:
            text += f", {duration(now - self._start)}"
        self._display.show(share, text)
        self._is_shown = True

    def close(self) -> None:
        """Show the last state, if the bar was shown at all."""
        if self._is_shown:
            self._show(self._clock())
            self._display.close()


class _Notebook:
    """A bar as the output of a notebook's cell, which needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, share: float, text: str) -> None:
        from IPython.display import HTML, display

        bar = HTML(
            f'<div><progress max="1" value="{share:.4f}" style="width:16em;vertical-align:middle">'
            f'</progress> <span style="font-variant-numeric:tabular-nums">{escape(text)}</span>'
            "</div>"
        )
        if self._handle is None:
            self._handle = display(bar, display_id=True)
        else:
            self._handle.update(bar)

    def close(self) -> None:
        pass


class _Line:
    """A bar on a line of standard error."""

    def __init__(self) -> None:
        self._length = 0

    def show(self, share: float, text: str) -> None:
        full = round(24 * min(share, 1.0))
        line = f"{'━' * full}{'╌' * (24 - full)} {text}"
        encoding = getattr(sys.stderr, "encoding", None) or "ascii"
        try:
            line.encode(encoding)
        except UnicodeEncodeError:
            line = f"[{'#' * full}{' ' * (24 - full)}] {text}"
        # Written over the line before, which may have been longer.
        sys.stderr.write("\r" + line.ljust(self._length))
        sys.stderr.flush()
        self._length = len(line)

    def close(self) -> None:
        sys.stderr.write("\n")
        sys.stderr.flush()


def si(number: float) -> str:
    """Return a number with three digits and the letter of an SI prefix.

    >>> si(1234567), si(12), si(2.5e18)
    ('1.23 M', '12', '2.5 E')
    """
    letters = ["", " k", " M", " G", " T", " P", " E"]
    step = 0
    # 999.5 would be printed as 1e+03.
    while abs(number) >= 999.5 and step < len(letters) - 1:
        number, step = number / 1000, step + 1
    return f"{number:.3g}{letters[step]}"


def duration(seconds: float) -> str:
    """Return seconds as text, in a suitable unit.

    >>> duration(0.2), duration(42), duration(600), duration(9000)
    ('0.2 s', '42 s', '10 min', '2.5 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Return bytes as text, in a suitable unit.

    Examples
    --------
    >>> size(512), size(39_200_000), size(3 * 2**30)
    ('512 B', '37.4 MiB', '3.0 GiB')
    """
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    step = 0
    while n_bytes >= 1024 and step < len(units) - 1:
        n_bytes, step = n_bytes / 1024, step + 1
    return f"{n_bytes:.0f} B" if step == 0 else f"{n_bytes:.1f} {units[step]}"
