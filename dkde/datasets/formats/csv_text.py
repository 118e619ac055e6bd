"""The text of a CSV file: its first lines, and its quotes, checked before pyarrow reads them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from dkde.datasets.formats.files import open_binary
from dkde.errors import DataSetError, some, warn
from dkde.rows.feature_choice import NUMBER

# The bytes that pyarrow reads and converts at a time.
BLOCK_BYTES = 4 * 2**20
# Rarest first: a comma or a blank may also stand within a name.
_SEPARATORS = "\t;, "
_YEAR = re.compile(r"1[89]\d\d|20\d\d")
# A comment in front of the rows, and one anywhere.
_COMMENT = re.compile(r"[ \t]*#([^\r\n]*)(?:\r\n?|\n|$)")
_COMMENT_LINE = re.compile(rb"(?<=[\r\n])[ \t]*#[^\r\n]*(?:\r\n?|\n)?")
_END = re.compile(rb"\r\n?|\n")
_LINE_END = re.compile(r"\r\n?|\n")
NO_UTF8 = "is no UTF-8; convert it (iconv -f latin1 -t utf-8, with its own encoding for latin1)"


@dataclass(frozen=True)
class Layout:
    """The layout of a file, read from its first line.

    Parameters
    ----------
    path : pathlib.Path
    separator : str
        One character; a blank stands for one or more.
    named : bool
        Whether the first line holds names; otherwise it is a row.
    names : tuple of str
        The names of the columns, f0, f1, ... if there are none.
    has_comments : bool
        Whether the file begins with lines of comments, which begin with ``#``; the names may stand
        in the last of them. Then all such lines are left out.
    decimal : str
        The decimal mark of its numbers.
    """

    path: Path
    separator: str
    named: bool
    names: tuple[str, ...]
    has_comments: bool = False
    decimal: str = "."
    named_in_comment: bool = False

    @property
    def n_header_lines(self) -> int:
        """Return the number of lines of names before the first row, comments not counted."""
        return int(self.named and not self.named_in_comment)


def split_lines(*lines: str) -> list[list[str]]:
    """Return the cells of each line, split at their common separator without regard to quotes."""
    separator = separator_of(lines)
    return [line.split() if separator == " " else line.split(separator) for line in lines]


def parted(text: str) -> tuple[list[str], str]:
    """Return the comments at the beginning of a text, without their ``#``, and the rest.

    numpy.savetxt writes its header so. A text of comments alone has none: its lines may be rows.

    Examples
    --------
    >>> parted("# by hand\\n# x y\\n1.0 2.0\\n")
    (['by hand', 'x y'], '1.0 2.0\\n')
    """
    comments, start = [], 0
    while found := _COMMENT.match(text, start):
        comments.append(found[1].strip())
        start = found.end()
    return (comments, text[start:]) if text[start:].strip() else ([], text)


def names_in(comments: Sequence[str], lines: Sequence[str], decimal: str) -> str | None:
    """Return the line of names that is the last of the comments; None if it is none.

    It has as many names as the first line has cells, and that line is not one of names itself.

    Examples
    --------
    >>> names_in(["x y"], ["1.0 2.0"], "."), names_in(["by hand"], ["x y", "1.0 2.0"], ".")
    ('x y', None)
    """
    if not comments:
        return None
    first, second = lines[0], lines[-1]
    separator = None if (mark := separator_of([first], decimal)) == " " else mark
    if len(comments[-1].split(separator)) != len(first.split(separator)):
        return None
    has_number = [
        any(NUMBER.fullmatch(pointed(bare(cell), decimal)) for cell in line.split(separator))
        for line in (first, second)
    ]
    return None if has_number == [False, True] else comments[-1]


def pointed(cell: str, decimal: str) -> str:
    """Return a cell with a point for the decimal mark."""
    return cell if decimal == "." else cell.replace(decimal, ".")


def separator_of(lines: Sequence[str], decimal: str = ".") -> str:
    """Return the separator of lines: the first of tab, semicolon, comma and blank in all of them.

    Without any of these it is a comma, or a semicolon beside decimal commas: there is one column.
    """
    # Text between quotes may hold any separator.
    bare = [re.sub(r'"[^"]*"', "", line.strip(" \r\n")) for line in lines if line.strip()]
    marks = _SEPARATORS.replace(decimal, "")
    rest = ";" if decimal == "," else ","
    return next((mark for mark in marks if all(mark in line for line in bare)), rest)


def bare(cell: str) -> str:
    """Return a cell without its quotes and the blanks around it."""
    return cell.strip().strip('"').strip()


def layout_of(path: Path, decimal: str = ".") -> Layout:
    """Return the layout of a file by its first lines.

    Raises
    ------
    DataSetError
        When the file is empty, in another encoding, or its separator cannot be determined.
    """
    from pyarrow.csv import ConvertOptions

    with open_binary(path) as file:
        head = file.read(BLOCK_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataSetError(f"{path}: is UTF-16; convert it (iconv -f utf-16 -t utf-8)")
    # The block may end within a character, and other columns may be in another encoding: bytes
    # that are no UTF-8 become surrogates, and are refused below if a name has them.
    text = head.decode("utf-8-sig", "surrogateescape")
    comments, text = parted(text)
    lines = [line for line in _LINE_END.split(text, maxsplit=2)[:2] if line.strip()]
    if not text.strip() or not _LINE_END.split(text, maxsplit=1)[0].strip():
        raise DataSetError(f"{path}: it is empty, or its first line is; write a line of names")
    noted = names_in(comments, lines, decimal)
    if noted is not None:
        lines, text = [noted, lines[0]], f"{noted}\n{text}"
    layout = partial(
        Layout, path, has_comments=bool(comments), decimal=decimal,
        named_in_comment=noted is not None,
    )  # fmt: skip
    separator = separator_of(lines, decimal)
    if separator == " ":
        text = squeezed(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    # csv.reader joins a name that has a line end within its quotes.
    cells = [bare(cell) for cell in next(csv.reader(io.StringIO(text, ""), delimiter=separator))]
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        raise DataSetError(f"{path}: its first line {NO_UTF8}")
    # A first line of numbers and missing values only is a row. Missing values are pyarrow's.
    missing = set(ConvertOptions().null_values)
    named = noted is not None or not all(
        NUMBER.fullmatch(pointed(cell, decimal)) or cell in missing for cell in cells
    )
    if not named:
        _warn_of_positions(path, cells)
        return layout(separator, named, tuple(f"f{i}" for i in range(len(cells))))
    _check_first_line(path, cells)
    for i, cell in enumerate(cells):
        if not cell:
            # The name that pandas gives to such a column, so that both name it alike.
            name = f"Unnamed: {i}"
            while name in cells:
                name += ".1"
            cells[i] = name
    return layout(separator, named, tuple(cells))


def _warn_of_positions(path: Path, cells: Sequence[str]) -> None:
    """Warn if a first row may be a line of names: pandas' column numbers, or years."""
    # pandas' row numbers have an empty name in front.
    counted = list(cells[1:] if cells[0] == "" else cells)
    line = f"{path}: its first line is {some(cells, 4)}"
    if len(cells) > 1 and counted == [str(i) for i in range(len(counted))]:
        warn(
            f"{line}, as pandas numbers columns without names, and is read as a row; if it is "
            "none, write the file without it (header=False, index=False)"
        )
    elif len(counted) > 1 and all(map(_YEAR.fullmatch, counted)) and _are_consecutive(counted):
        warn(
            f"{line}, which may be years, and is read as a row; if these are names, put a letter "
            "before each"
        )


def _are_consecutive(cells: Sequence[str]) -> bool:
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _check_first_line(path: Path, cells: Sequence[str]) -> None:
    """Refuse names that are numbers cut at decimal commas, and warn if some names are numbers.

    Raises
    ------
    DataSetError
    """
    # "1,5 2,5" cut at its commas has the cell "5 2": two numbers with a blank between them.
    for cell in cells:
        if len(cell.split()) > 1 and all(map(NUMBER.fullmatch, cell.split())):
            raise DataSetError(
                f"{path}: its first line has {cell!r} between two separators, so it is not clear "
                "what separates columns; write decimal points, and one mark between columns"
            )
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell) and cell[-1] in "0123456789."]
    if numbers and numbers != [str(i) for i in range(len(numbers))]:
        warn(
            f"{path}: its first line, in which some cells are numbers ({some(numbers, 4)}), is "
            "read as names; if it is a row, give the file a line of names"
        )


def squeezed(text: bytes) -> bytes:
    """Return text without blanks at both ends of its lines, and with single blanks elsewhere.

    Examples
    --------
    >>> squeezed(b"  1.0   2.0 \\n 10.0  3.0\\n")
    b'1.0 2.0\\n10.0 3.0\\n'
    """
    # Repeated replacement is several times as fast as one regular expression.
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    for end in (b"\n", b"\r"):
        text = text.replace(b" " + end, end).replace(end + b" ", end)
    return text.strip(b" ")


class Uncommented(io.RawIOBase):
    """A file without its lines that begin with ``#``; those among the rows are told.

    Parameters
    ----------
    file : binary file
    path : pathlib.Path
        The path of the file, for messages.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._waiting = b""
        self._before = b"\n"  # the byte before the next text
        self._blanks = b""
        self._is_comment = False  # whether the text before ended within a comment
        self._has_rows = False
        self._n_among, self._is_ended = 0, False

    def read(self, n: int = -1) -> bytes:
        """Read n bytes, fewer only at the end of the file."""
        while len(self._waiting) < n and not self._is_ended:
            text = self._file.read(n)
            if not text:
                self._is_ended = True
                self._waiting += self._kept(b"")
                self._tell()
            else:
                self._waiting += self._kept(text)
        found, self._waiting = self._waiting[:n], self._waiting[n:]
        return found

    def _kept(self, text: bytes) -> bytes:
        """Return a text without comments."""
        text, self._blanks = self._blanks + text, b""
        if self._is_comment:
            end = _END.search(text)
            text = b"" if end is None else text[end.end() :]
            self._is_comment = end is None
            self._before = b"\n"
        kept, start = [], 0
        whole = self._before + text
        if not self._is_ended and not self._is_comment:
            # Blanks that begin a line wait: the next byte says whether they begin a comment.
            waiting = len(whole) - len(whole.rstrip(b" \t"))
            if waiting and whole[-waiting - 1 :][:1] in (b"\r", b"\n"):
                whole, self._blanks = whole[:-waiting], whole[-waiting:]
        last = whole[-1:]
        for found in _COMMENT_LINE.finditer(whole):
            kept.append(whole[start : found.start()])
            self._has_rows |= bool(kept[-1].strip())
            self._n_among += self._has_rows
            start = found.end()
            self._is_comment = start == len(whole) and found[0][-1:] not in b"\r\n"
        kept.append(whole[start:])
        self._before = last
        # The byte before the text was given away already.
        found_text = b"".join(kept)[1:]
        self._has_rows |= bool(found_text.strip())
        return found_text

    def _tell(self) -> None:
        if self._n_among:
            n = self._n_among
            warn(
                f"{self._path}: {n} line{'s' if n > 1 else ''} after the first row "
                f"begin{'' if n > 1 else 's'} with # and {'are' if n > 1 else 'is'} left out as "
                f"{'comments' if n > 1 else 'a comment'}"
            )


class Text(io.RawIOBase):
    """A file from which pyarrow reads, with all quotes checked.

    pyarrow reads everything after a quote that is never closed as one cell, without an error, and
    the rows in it would be lost. Here a cell may hold line ends only if its closing quote comes
    directly before a separator or a line end, and within one block of text.

    Parameters
    ----------
    file : binary file
    path : pathlib.Path
        The path of the file, for messages.
    separator : str
        One character; if it is a blank, several blanks count as one.
    """

    def __init__(self, file: IO[bytes], path: Path, separator: str) -> None:
        self._file, self._path = file, path
        self._squeezes = separator == " "
        ends = b"\r\n" + re.escape(separator.encode())
        # A quote opens a cell only where the cell begins. Blanks may follow the closing quote.
        # Groups: the content with doubled quotes, the closing quote, and the byte after it if
        # that is neither a separator nor a line end.
        blanks = b" \t".replace(separator.encode(), b"")
        self._quoted = re.compile(b'"([^"]*(?:""[^"]*)*)("?)[%b]*([^%b]?)' % (blanks, ends))
        # Text without quotes, or with quotes that are closed in their line. The last `+` makes
        # the repetition possessive: it never goes back, so that the time stays linear.
        self._plain = re.compile(
            b'(?:[^"]+|(?<![%b])"|(?<=[%b])"[^"\r\n]*"(?=[%b]))*+' % (ends, ends, ends)
        )
        self._waiting = b""  # a blank at the end of a block: the next byte decides if it stays
        self._ended = False
        self._last = b"\n"
        self._open = b""  # the text of a cell that is not closed yet, from its quote on
        self._line = 1  # the line in which the next text to check begins

    def read(self, n: int = -1) -> bytes:
        """Read up to n bytes, and at least one unless the file ends; a last line end is added.

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
        """Read the next text, with blanks squeezed where they separate, not checked yet."""
        text = b""
        # More than one round only if a block holds nothing but blanks: no bytes mean the end.
        while not text and not self._ended:
            size = max(1, n - len(self._waiting) - 1)  # with room for a last line end
            more = self._file.read(size)
            self._ended = len(more) < size
            text, self._waiting = self._waiting + more, b""
            if self._ended and (text or self._last)[-1:] not in b"\r\n":
                text += b"\n"
            if self._squeezes:
                self._waiting = text[len(text.rstrip(b" ")) :][:1]
                # The byte before the text shows whether its first blanks begin a line.
                text = squeezed(self._last + text)[1:]
        return text

    def _check(self, text: bytes) -> None:
        """Check the quotes of a block of text, and keep a cell that is still open."""
        if not self._open and b'"' not in text:
            self._line += text.count(b"\n")
            return
        # With the byte before it, which shows whether a quote is the first byte of its cell.
        text = (b"\n" if self._open else self._last) + self._open + text
        self._open = b""
        start, plain = 1, self._plain.match(text, 1)
        while plain is not None and plain.end() < len(text):
            start = plain.end()
            cell = self._quoted.match(text, start)
            assert cell is not None  # what is not plain begins with a quote
            content, is_closed, after = cell.groups()
            if cell.end() == len(text) and not after:
                # The cell reaches the end of the text. Even a closed one is kept, because a
                # second quote may follow in the next block, and then it is not closed.
                self._open = text[start:]
            # A quoted cell with line ends must be followed by a separator or a line end. If it is
            # not, its first quote was never closed, and the next quote opened another cell.
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
            f"within {BLOCK_BYTES // 2**20} MiB); close it, or double each quote that is part of "
            "the cell"
        )
