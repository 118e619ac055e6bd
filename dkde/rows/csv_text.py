"""The text of a CSV file: blanks, comments and quotes, checked before pyarrow reads it."""

from __future__ import annotations

import io
import re
from functools import lru_cache
from pathlib import Path
from typing import IO

from dkde.errors import DataSetError, warn
from dkde.stores.listed_files import Url

# The bytes that pyarrow reads and converts at a time.
BLOCK_BYTES = 4 * 2**20
# A comment anywhere.
_COMMENT_LINE = re.compile(rb"(?<=[\r\n])[ \t]*#[^\r\n]*(?:\r\n?|\n)?")
_END = re.compile(rb"\r\n?|\n")
# The mark with which some programs begin a text.
_MARK = b"\xef\xbb\xbf"


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


def rows_end(text: bytes, separator: str, *, has_comments: bool) -> tuple[int, bool]:
    """Return the end of the last whole row of a text, and whether a quote is open after it.

    Parameters
    ----------
    text : bytes
        Text that begins with a row.
    separator : str
        One character.
    has_comments : bool
        Whether lines that begin with ``#`` are comments.

    Examples
    --------
    >>> rows_end(b'1,2\\n3,"a\\n', ",", has_comments=False)
    (4, True)
    """
    if b'"' not in text:
        return _line_end(text, 0, len(text)), False
    if has_comments:  # quotes in comments open no cell
        text = _COMMENT_LINE.sub(_blanked, b"\n" + text)[1:]
    quoted, plain = _patterns(separator)
    whole, end, at = b"\n" + text, 0, 1
    while True:
        found = plain.match(whole, at)
        stop = len(whole) if found is None else found.end()
        end = _line_end(whole, at, stop) or end
        if stop == len(whole):
            return max(0, end - 1), False
        cell = quoted.match(whole, stop)
        assert cell is not None  # what is not plain begins with a quote
        if cell.end() == len(whole) and not cell[3]:
            # A second quote may follow a closing one, so that even a closed cell may go on.
            return max(0, end - 1), not cell[2]
        at = cell.end()


def _line_end(text: bytes, start: int, stop: int) -> int:
    """Return the position after the last line end of a range; 0 if there is none."""
    return text.rfind(b"\n", start, stop) + 1 or text.rfind(b"\r", start, stop) + 1


def _blanked(comment: re.Match[bytes]) -> bytes:
    """Return text as long as a comment, with its line end and without quotes."""
    line = comment[0].rstrip(b"\r\n")
    return b"#" * len(line) + comment[0][len(line) :]


def uncommented(text: bytes, *, has_rows: bool) -> tuple[bytes, int]:
    """Return whole lines without comments, and the number of comments after the first row.

    Parameters
    ----------
    text : bytes
        Lines; the first byte begins one.
    has_rows : bool
        Whether rows stand before the text.

    Examples
    --------
    >>> uncommented(b"# c\\n1\\n# d\\n2\\n", has_rows=False)
    (b'1\\n2\\n', 1)
    """
    if not has_rows:
        text = text.removeprefix(_MARK)
    kept, start, n_among, whole = [], 1, 0, b"\n" + text
    for found in _COMMENT_LINE.finditer(whole):
        kept.append(whole[start : found.start()])
        has_rows = has_rows or bool(kept[-1].strip())
        n_among += has_rows
        start = found.end()
    return b"".join([*kept, whole[start:]]), n_among


def warn_of_comments(path: Path | Url, n: int) -> None:
    """Warn of lines among the rows that are left out as comments."""
    if n:
        warn(
            f"{path}: {n} line{'s' if n > 1 else ''} after the first row "
            f"begin{'' if n > 1 else 's'} with # and {'are' if n > 1 else 'is'} left out as "
            f"{'comments' if n > 1 else 'a comment'}"
        )


class Uncommented(io.RawIOBase):
    """A file without its lines that begin with ``#``; those among the rows are told.

    Parameters
    ----------
    file : binary file
    path : pathlib.Path or Url
        The path of the file, for messages.
    """

    def __init__(self, file: IO[bytes], path: Path | Url) -> None:
        self._file, self._path = file, path
        self._waiting = b""
        self._before = b"\n"  # the byte before the next text
        self._blanks = b""
        self._is_comment = False  # whether the text before ended within a comment
        self._has_rows = False
        self._n_among, self._is_start, self._is_ended = 0, True, False

    def read(self, n: int = -1) -> bytes:
        """Read n bytes, fewer only at the end of the file."""
        while len(self._waiting) < n and not self._is_ended:
            text = self._file.read(n)
            if self._is_start:
                text, self._is_start = text.removeprefix(_MARK), False
            if not text:
                self._is_ended = True
                self._waiting += self._kept(b"")
                warn_of_comments(self._path, self._n_among)
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


@lru_cache(maxsize=8)
def _patterns(separator: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of a quoted cell, and of text without quotes of several lines."""
    ends = b"\r\n" + re.escape(separator.encode())
    # A quote opens a cell only where the cell begins. Blanks may follow the closing quote.
    # Groups: the content with doubled quotes, the closing quote, and the byte after it if
    # that is neither a separator nor a line end.
    blanks = b" \t".replace(separator.encode(), b"")
    quoted = re.compile(b'"([^"]*(?:""[^"]*)*)("?)[%b]*([^%b]?)' % (blanks, ends))
    # Text without quotes, or with quotes that are closed in their line. The last `+` makes
    # the repetition possessive: it never goes back, so that the time stays linear.
    plain = re.compile(b'(?:[^"]+|(?<![%b])"|(?<=[%b])"[^"\r\n]*"(?=[%b]))*+' % (ends, ends, ends))
    return quoted, plain


class Text(io.RawIOBase):
    """A file from which pyarrow reads, with all quotes checked.

    pyarrow reads everything after a quote that is never closed as one cell, without an error, and
    the rows in it would be lost. Here a cell may hold line ends only if its closing quote comes
    directly before a separator or a line end, and within one block of text.

    Parameters
    ----------
    file : binary file
    path : pathlib.Path or Url
        The path of the file, for messages.
    separator : str
        One character; if it is a blank, several blanks count as one.
    line : int
        The line of the file in which the text begins, for messages.
    """

    def __init__(self, file: IO[bytes], path: Path | Url, separator: str, line: int = 1) -> None:
        self._file, self._path = file, path
        self._squeezes = separator == " "
        self._quoted, self._plain = _patterns(separator)
        self._waiting = b""  # a blank at the end of a block: the next byte decides if it stays
        self._is_start, self._ended = True, False
        self._last = b"\n"
        self._open = b""  # the text of a cell that is not closed yet, from its quote on
        self._line = line  # the line in which the next text to check begins

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
            if self._is_start:  # a quote or a blank behind the mark begins its line, too
                more, self._is_start = more.removeprefix(_MARK), False
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
