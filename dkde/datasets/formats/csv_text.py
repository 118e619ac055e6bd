"""The text of a CSV file: what its first lines say, and its quotes, checked before pyarrow."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dkde.datasets.formats.files import open_binary
from dkde.errors import DataSetError, some, warn
from dkde.rows.feature_choice import NUMBER

BLOCK_BYTES = 4 * 2**20
_SEPARATORS = "\t;, "
_YEAR = re.compile(r"1[89]\d\d|20\d\d")
_LINE_END = re.compile(r"\r\n?|\n")
NO_UTF8 = "is no UTF-8; convert it (iconv -f latin1 -t utf-8, or what its encoding is)"


@dataclass(frozen=True)
class Layout:
    """The layout of a file, read from its first line."""

    path: Path
    separator: str
    named: bool
    names: tuple[str, ...]


def split_lines(*lines: str) -> list[list[str]]:
    """The cells of two lines, without regard to quotes."""
    separator = separator_of(lines)
    return [line.split() if separator == " " else line.split(separator) for line in lines]


def uncommented(first: str, second: str) -> str:
    """A first line without the mark of a comment, where it has as many names as there are columns.

    NumPy writes such a line.

    Examples
    --------
    >>> uncommented("# x y", "1.0 2.0"), uncommented("# by hand", "1.0 2.0 3.0")
    ('x y', '# by hand')
    """
    if not first.lstrip().startswith("#"):
        return first
    names = first.lstrip()[1:].lstrip(" \t")
    separator = None if (mark := separator_of([second])) == " " else mark
    return names if len(names.split(separator)) == len(second.split(separator)) else first


def separator_of(lines: Sequence[str]) -> str:
    """A comma, unless there is something in these lines that is rarer in names."""
    bare = [re.sub(r'"[^"]*"', "", line.strip(" \r\n")) for line in lines if line.strip()]
    return next((mark for mark in _SEPARATORS if all(mark in line for line in bare)), ",")


def bare(cell: str) -> str:
    """Return a cell without its quotes and the blanks around it."""
    return cell.strip().strip('"').strip()


def layout_of(path: Path) -> Layout:
    """Read what the first line of a file says.

    Raises
    ------
    DataSetError
        When it is empty, in another encoding, or its separator cannot be determined.
    """
    from pyarrow.csv import ConvertOptions

    with open_binary(path) as file:
        head = file.read(BLOCK_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataSetError(f"{path}: is UTF-16; convert it (iconv -f utf-16 -t utf-8)")
    text = head.decode("utf-8-sig", "surrogateescape")
    lines = _LINE_END.split(text, maxsplit=2)[:2]
    if not lines[0].strip():
        raise DataSetError(f"{path}: empty, or its first line is; a table has a line of names")
    first = uncommented(lines[0], lines[-1])
    text = first + text[len(lines[0]) :]
    separator = separator_of([first, *lines[1:]])
    if separator == " ":
        text = squeezed(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    cells = [bare(cell) for cell in next(csv.reader(io.StringIO(text, ""), delimiter=separator))]
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        raise DataSetError(f"{path}: its first line {NO_UTF8}")
    missing = set(ConvertOptions().null_values)
    named = not all(NUMBER.fullmatch(cell) or cell in missing for cell in cells)
    if not named:
        _warn_of_positions(path, cells)
        return Layout(path, separator, named, tuple(f"f{i}" for i in range(len(cells))))
    _check_first_line(path, cells)
    for i, cell in enumerate(cells):
        if not cell:
            # As pandas calls it, and as a file has it that came through pandas before.
            name = f"Unnamed: {i}"
            while name in cells:
                name += ".1"
            cells[i] = name
    return Layout(path, separator, named, tuple(cells))


def _warn_of_positions(path: Path, cells: Sequence[str]) -> None:
    """Say so if a first row is what pandas calls columns that have no names."""
    counted = list(cells[1:] if cells[0] == "" else cells)
    line = f"{path}: its first line is {some(cells, 4)}"
    if len(cells) > 1 and counted == [str(i) for i in range(len(counted))]:
        warn(
            f"{line}, as pandas numbers columns without names, and is taken for a row; if it is "
            "none, write the file without it (header=False, index=False)"
        )
    elif len(counted) > 1 and all(map(_YEAR.fullmatch, counted)) and _are_consecutive(counted):
        warn(
            f"{line}, which may be years, and is taken for a row; if these are names, put a "
            "letter before each"
        )


def _are_consecutive(cells: Sequence[str]) -> bool:
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _check_first_line(path: Path, cells: Sequence[str]) -> None:
    """Refuse names that are numbers cut at decimal commas, and say so if some are numbers.

    Raises
    ------
    DataSetError
    """
    for cell in cells:
        if len(cell.split()) > 1 and all(map(NUMBER.fullmatch, cell.split())):
            raise DataSetError(
                f"{path}: its first line has {cell!r} between separators, so what separates "
                "columns cannot be told; write decimal points, and one mark between columns"
            )
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell) and cell[-1] in "0123456789."]
    if numbers and numbers != [str(i) for i in range(len(numbers))]:
        warn(
            f"{path}: its first line, of which some are numbers ({some(numbers, 4)}), is taken "
            "for names; if it is a row, give the file a line of names"
        )


def squeezed(text: bytes) -> bytes:
    """Return text without blanks at the ends of its lines, and with one where there are several.

    Examples
    --------
    >>> squeezed(b"  1.0   2.0 \\n 10.0  3.0\\n")
    b'1.0 2.0\\n10.0 3.0\\n'
    """
    # Several times as fast as one regular expression.
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    for end in (b"\n", b"\r"):
        text = text.replace(b" " + end, end).replace(end + b" ", end)
    return text.strip(b" ")


class Text(io.RawIOBase):
    """A file of which pyarrow reads.

    pyarrow takes all that follows a quote that is never closed for one cell, and says nothing:
    the rows in it would be lost. A cell may hold line ends, but then its quotes are closed before
    a separator, and before a block of it was read.

    Parameters
    ----------
    file : binary file
    path : pathlib.Path
        For messages.
    separator : str
        If it is a blank, several are one.
    """

    def __init__(self, file: IO[bytes], path: Path, separator: str) -> None:
        self._file, self._path = file, path
        self._squeezes = separator == " "
        ends = b"\r\n" + re.escape(separator.encode())
        # A quote opens a cell only where the cell begins; blanks may follow the one that closes it.
        blanks = b" \t".replace(separator.encode(), b"")
        self._quoted = re.compile(b'"([^"]*(?:""[^"]*)*)("?)[%b]*([^%b]?)' % (blanks, ends))
        # Text without any, or with such as are closed in their line.
        self._plain = re.compile(
            b'(?:[^"]+|(?<![%b])"|(?<=[%b])"[^"\r\n]*"(?=[%b]))*+' % (ends, ends, ends)
        )
        self._waiting = b""  # a blank, of which the next byte tells whether it ends its line
        self._ended = False
        self._last = b"\n"
        self._open = b""  # of a cell whose end is yet to come, from its quote on
        self._line = 1  # where what is checked next begins

    def read(self, n: int = -1) -> bytes:
        """Up to n bytes, more than none unless the file ends; its last line ends in any case.

        Raises
        ------
        DataSetError
            If a quote is not closed.
        """
        text = self._next(n)
        if text:
            self._check(text)
            self._last = text[-1:]
        elif self._open and not self._is_closed(self._open):
            raise self._unclosed(self._line)
        return text

    def readable(self) -> bool:
        """Return True: the text can be read."""
        return True

    def _next(self, n: int) -> bytes:
        text = b""
        while not text and not self._ended:
            size = max(1, n - len(self._waiting) - 1)  # with room for a line's end
            more = self._file.read(size)
            self._ended = len(more) < size
            text, self._waiting = self._waiting + more, b""
            if self._ended and (text or self._last)[-1:] not in b"\r\n":
                text += b"\n"
            if self._squeezes:
                self._waiting = text[len(text.rstrip(b" ")) :][:1]
                # By the byte in front it is seen whether blanks begin a line.
                text = squeezed(self._last + text)[1:]
        return text

    def _check(self, text: bytes) -> None:
        if not self._open and b'"' not in text:
            self._line += text.count(b"\n")
            return
        # One byte more in front: by it a quote is seen to be the first of its cell.
        text = (b"\n" if self._open else self._last) + self._open + text
        self._open = b""
        start, plain = 1, self._plain.match(text, 1)
        while plain is not None and plain.end() < len(text):
            start = plain.end()
            cell = self._quoted.match(text, start)
            assert cell is not None  # what is not plain begins with a quote
            content, is_closed, after = cell.groups()
            if cell.end() == len(text) and not after:
                # Of a closed one the next byte tells whether it is.
                self._open = text[start:]
            if (after and (b"\n" in content or b"\r" in content)) or (
                not is_closed and len(self._open) > BLOCK_BYTES
            ):
                raise self._unclosed(self._line + text.count(b"\n", 1, start))
            plain = self._plain.match(text, cell.end())
        self._line += text.count(b"\n", 1, start if self._open else len(text))

    def _is_closed(self, cell: bytes) -> bool:
        found = self._quoted.match(cell)
        return found is not None and bool(found[2])

    def _unclosed(self, line: int) -> DataSetError:
        return DataSetError(
            f"{self._path}: the quote that opens a cell in line {line} is not closed (or not "
            f"within {BLOCK_BYTES // 2**20} MiB); close it, or double what is part of the cell"
        )
