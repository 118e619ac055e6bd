"""Text in cells of CSV: spreadsheets take some of it for formulas, and so it gets an apostrophe."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

# What spreadsheets take for a formula or a command, behind any number of apostrophes; and how text
# begins that has got one in front. Arrow has such expressions, too.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
MARKED = r"^'('*[=+\-@\t\r\n])"
_MARKED = re.compile(MARKED)
_as_it_is: ContextVar[bool] = ContextVar("as_it_is", default=False)


class _File(Protocol):
    def write(self, text: str, /) -> Any: ...


@contextmanager
def csv_as_is() -> Iterator[None]:
    r"""Write text in CSV as it is, within.

    Spreadsheets take text that begins with ``=``, ``+``, ``-`` or ``@``, a tab or a line end for
    a formula, which may run a program or send the table elsewhere. Names of columns and other text
    come from files that others may have made. In all CSV that dkde writes, such text has an
    apostrophe in front, unless it is a number; numbers are never changed. Where dkde reads CSV it
    takes one apostrophe away in front of such text: names and values are the same again.

    Examples
    --------
    >>> import dkde
    >>> dkde.csv_text(["=cmd()", "x"], [["-1", -1.0], ["-a", 2.5]])
    "'=cmd(),x\n-1,-1.0\n'-a,2.5\n"
    >>> with dkde.csv_as_is():
    ...     dkde.csv_text(["=cmd()", "x"], [])
    '=cmd(),x\n'
    """
    token = _as_it_is.set(True)
    try:
        yield
    finally:
        _as_it_is.reset(token)


def marked(cell: Any) -> Any:
    """Return a cell as it is written: text that would be a formula gets an apostrophe in front.

    Examples
    --------
    >>> [marked(cell) for cell in ("=a", "'=a", "a=b", "+1", -2.5)]
    ["'=a", "''=a", 'a=b', '+1', -2.5]
    """
    if not isinstance(cell, str) or _as_it_is.get() or not _FORMULA.match(cell):
        return cell
    return cell if _is_number(cell) else f"'{cell}"


def unmarked(text: str) -> str:
    """Return the text of a cell that was read, without the apostrophe of :func:`marked`.

    Examples
    --------
    >>> unmarked("'=a"), unmarked("''=a"), unmarked("'a'")
    ('=a', "'=a", "'a'")
    """
    return text[1:] if _MARKED.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class Lines:
    """A file for ``csv`` and pandas, whose lines end in a line feed.

    To be given lines that end in a return and a line feed: both quote the cells that hold the
    line end in use, and readers take either for the end of a row.

    Parameters
    ----------
    file : file of text
    """

    end = "\r\n"

    def __init__(self, file: _File) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Write a line."""
        self._file.write(line.removesuffix(self.end) + "\n")


def write_rows(file: _File, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV: floats with all their digits, and text that is no formula.

    Parameters
    ----------
    file : file of text
        Opened with ``newline=""``.
    rows : iterable of sequence
        Heads are a row like any other.
    """
    writer = csv.writer(Lines(file), lineterminator=Lines.end)
    writer.writerows([marked(cell) for cell in row] for row in rows)


def csv_text(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV, as every CSV of dkde is written; see :func:`dkde.csv_as_is`.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequence
        Their cells: numbers, text or None.
    """
    text = io.StringIO()
    write_rows(text, [heads, *rows])
    return text.getvalue()
