"""The text of a CSV file on its way to pyarrow: its quotes checked, runs of blanks made one."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import IO

from dkde.errors import DataSetError

BLOCK_BYTES = 4 * 2**20


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
