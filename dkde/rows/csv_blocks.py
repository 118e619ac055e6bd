"""Blocks of text: whole rows, found in one pass over a file, and read again by tasks.

A block ends at a line end that is in no quoted cell, so it can be read without those before it.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from os import cpu_count
from typing import IO, Any

import numpy as np

from dkde.errors import DataSetError, DkdeError
from dkde.rows.csv_reading import TextPlace, batches_of, check_integers, large_columns
from dkde.rows.csv_text import BLOCK_BYTES, Text, rows_end, uncommented, warn_of_comments
from dkde.typing import Array

# The bytes of a block: of large tables more, so that the list of blocks stays short.
_LEAST_BYTES, _MOST_BYTES = 2**20, 2**22
_MOST_BLOCKS = 2**12
# The longest row that is read.
_ROW_BYTES = 2**26
# Threads that convert text at a time, while one reads it.
_THREADS = 4
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Blocks:
    """The blocks of all files of a table.

    Parameters
    ----------
    sizes, rows : array of int32
        The bytes and the rows of each block.
    firsts : array of int64
        The number of the first block of each file, and that of all blocks.
    """

    sizes: Array
    rows: Array
    firsts: Array

    @staticmethod
    def of(files: list[list[tuple[int, int]]]) -> Blocks:
        """Return the blocks of files by the bytes and rows of each."""
        found = np.array([each for blocks in files for each in blocks], np.int32).reshape(-1, 2)
        firsts = np.array([0, *accumulate(map(len, files))], np.int64)
        return Blocks(found[:, 0].copy(), found[:, 1].copy(), firsts)

    @property
    def lengths(self) -> Array:
        """Return the number of rows of each file."""
        ends = np.concatenate([[0], np.cumsum(self.rows, dtype=np.int64)])[self.firsts]
        return np.asarray(np.diff(ends))

    def of_file(self, i: int) -> tuple[Array, Array]:
        """Return the first byte and the first row of each block of a file, and their ends."""
        own = slice(*self.firsts[i : i + 2])
        offsets, starts = (
            np.concatenate([[0], np.cumsum(each[own], dtype=np.int64)])
            for each in (self.sizes, self.rows)
        )
        return offsets, starts


def block_bytes(n_bytes: int) -> int:
    """Return the bytes of a block of files with so many bytes together."""
    return int(min(_MOST_BYTES, max(_LEAST_BYTES, n_bytes // _MOST_BLOCKS)))


def pieces(file: IO[bytes], place: TextPlace, size: int) -> Iterator[bytes]:
    """Yield the content of a file in pieces of whole rows; the first holds the first line.

    Raises
    ------
    DataSetError
        When a row is too long.
    """
    layout, rest, is_first = place.layout, b"", True
    while more := file.read(size):
        text = rest + more
        mark = len(_MARK) if is_first and text.startswith(_MARK) else 0
        end, is_open = rows_end(text[mark:], layout.separator, has_comments=layout.has_comments)
        end += mark if end else 0
        if end and is_first:
            told = uncommented(text[:end], has_rows=False)[0] if layout.has_comments else text[:end]
            end = end if told.strip() else 0
        if end:
            yield text[:end]
            rest, is_first = text[end:], False
        elif is_open and len(text) > BLOCK_BYTES + 2 * size:
            # Reading it says which quote is not closed.
            yield text
            rest, is_first = b"", False
        elif len(text) > _ROW_BYTES:
            raise DataSetError(
                f"{place.path}: has no line end within {_ROW_BYTES // 2**20} MiB; a row must be "
                "shorter"
            )
        else:
            rest = text
    if rest:
        yield rest


def parsed(text: bytes, place: TextPlace, types: Mapping[str, Any], line: int = 1) -> Any:
    """Return the rows of a block as a record batch; None if it has none.

    Parameters
    ----------
    text : bytes
        The block as it stands in the file.
    place : TextPlace
        Its place.
    types : mapping of str to pyarrow.DataType
        The wanted columns and their types.
    line : int
        The number of its first line, for messages.

    Raises
    ------
    DataSetError
        As :func:`dkde.rows.csv_reading.batches_of`.
    """
    import pyarrow as pa

    layout = place.layout
    if layout.has_comments:
        text, _ = uncommented(text, has_rows=not place.has_header)
    if not text.strip(b" \r\n" if layout.separator == " " else b"\r\n"):
        return None
    if not place.has_header and text.startswith(_MARK):
        text = b"\n" + text  # pyarrow would pass over such a mark at the start of any text
    read = Text(io.BytesIO(text), place.path, layout.separator, line)
    batches = list(batches_of(read, place, types, len(text) + 2**10))
    if len(batches) < 2:
        return batches[0] if batches else None
    (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


def _checked(text: bytes, place: TextPlace, types: Mapping[str, Any], line: int = 1) -> Any:
    """Return the rows of a block, in which no integer was rounded."""
    import pyarrow as pa

    batch = parsed(text, place, types, line)
    if batch is None:
        return None
    floats = (name for name, kind in types.items() if pa.types.is_floating(kind))
    if large := large_columns(batch, floats):
        raw = parsed(text, place, dict.fromkeys(large, pa.binary()), line)
        check_integers(iter([raw]), large, place)
    return batch


def survey(
    file: IO[bytes],
    place: TextPlace,
    types: Mapping[str, Any],
    size: int,
    found: Callable[[int, int], Any],
) -> Iterator[Any]:
    """Read a file once, and yield its rows as record batches.

    Parameters
    ----------
    file : binary file
        The content.
    place : TextPlace
        The file.
    types : mapping of str to pyarrow.DataType
        The wanted columns and their types.
    size : int
        The bytes of a block.
    found : callable
        Called with the bytes and the rows of each block, in order.

    Raises
    ------
    DataSetError
        When the text is not as its first lines say.
    InputError
        When an integer would be rounded.
    """
    n_threads = min(_THREADS, cpu_count() or 1)
    waiting: deque[tuple[bytes, TextPlace, Future[Any]]] = deque()
    row, line, n_comments = 0, 1, 0

    def collected() -> Any:
        nonlocal row, line, n_comments
        text, where, future = waiting.popleft()
        if isinstance(future.exception(), DkdeError):
            # Once more, as only now the numbers of its rows and lines are known.
            where = TextPlace(where.path, where.layout, row, where.has_header)
            batch = _checked(text, where, types, line)
        else:
            batch = future.result()
        n_rows = 0 if batch is None else len(batch)
        found(len(text), n_rows)
        row, line = row + n_rows, line + text.count(b"\n")
        if where.layout.has_comments and b"#" in text:
            n_comments += uncommented(text, has_rows=not where.has_header)[1]
        return batch

    with ThreadPoolExecutor(n_threads, thread_name_prefix="dkde-text") as pool:
        try:
            here = place
            for text in pieces(file, place, size):
                waiting.append((text, here, pool.submit(_checked, text, here, types)))
                here = TextPlace(place.path, place.layout, has_header=False)
                if len(waiting) > n_threads and (batch := collected()) is not None:
                    yield batch
            while waiting:
                if (batch := collected()) is not None:
                    yield batch
        finally:
            for _, _, future in waiting:
                future.cancel()
    warn_of_comments(place.path, n_comments)
