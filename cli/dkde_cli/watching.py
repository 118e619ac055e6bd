"""``dkde status --watch``: the progress of a run, shown until it is complete."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from dkde.errors import DataSetError, printable
from dkde_cli.lines import echo
from dkde_cli.tables import print_json

Found = dict[str, Any]
Show = Callable[[Found], None]
# How a status is put in words: its names and their texts.
InWords = Callable[[Mapping[str, Any]], dict[str, str]]


def watch(look: Callable[[], Found], every: float, in_words: InWords, *, as_json: bool) -> None:
    """Show a run until it is complete: a picture on a terminal, else a line where it changes.

    Parameters
    ----------
    look : callable
        Returns the status of the run.
    every : float
        Seconds between two looks.
    in_words : callable
        Returns a status as names and their texts.
    as_json : bool
        Whether each look is a line of JSON.

    Raises
    ------
    DataSetError
        When there is no run, or no longer one.
    """
    with _shown(in_words, as_json=as_json) as show:
        found = look()
        show(found)
        while not found["complete"]:
            time.sleep(every)
            try:
                found = look()
            except DataSetError:
                # A run that is published, or begun anew, is for a moment not where it was.
                time.sleep(every)
                found = look()
            show(found)


@contextmanager
def _shown(in_words: InWords, *, as_json: bool) -> Iterator[Show]:
    if as_json:
        yield lambda found: print_json({"time": _now(), **found})
    elif sys.stdout.isatty():
        with _picture(in_words) as show:
            yield show
    else:
        yield _Lines(in_words)


@contextmanager
def _picture(in_words: InWords) -> Iterator[Show]:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    with Live(auto_refresh=False) as live:

        def show(found: Found) -> None:
            table = Table.grid(padding=(0, 2))
            for name, text in in_words(found).items():
                table.add_row(*(Text(printable(each)) for each in (name, text)))
            live.update(table, refresh=True)

        yield show


class _Lines:
    """A line for each look at which something is done, or another process is at work."""

    def __init__(self, in_words: InWords) -> None:
        self._in_words, self._last = in_words, ""

    def __call__(self, found: Found) -> None:
        pairs = self._in_words(found)
        pairs.pop("time spent")
        line = "; ".join(f"{name} {text}" for name, text in pairs.items())
        # Speed and time left are in the line, but alone they are no news.
        news = repr((found["complete"], found["running"], found["stages"]))
        if news != self._last:
            self._last = news
            echo(f"{_now()} {line}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
