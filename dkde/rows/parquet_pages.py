"""The pages of Parquet files, whose sizes are checked as their bytes are read.

A page says in its header to how many bytes it unpacks, and pyarrow takes the memory for it before
it unpacks anything. So headers are looked at as they come from the file, before pyarrow sees them.
The footer says where columns begin; each header, where the next one is.

References
----------
The Apache Parquet format, parquet.thrift (PageHeader); the compact protocol of Apache Thrift.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from dkde.errors import DataSetError
from dkde.stores.limits import check_unpacked

# A header holds a few numbers, and the least and the largest value, which may be long text.
_HEADER_BYTES, _LONG_HEADER_BYTES = 2**12, 2**20
# The bytes of a value of a dictionary in memory, and of the levels of a value of a page.
_VALUE_BYTES, _LEVEL_BYTES = 8, 4
# The numbers of fields of a header, and the types of pages.
_TYPE, _UNPACKED, _PACKED, _N_VALUES, _DICTIONARY = 1, 2, 3, 1, 2
# The fields that hold what is known of data pages, dictionaries, and data pages of version 2, by
# the types of pages; readers pass over pages of other types.
_KINDS = {0: 5, _DICTIONARY: 7, 3: 8}
_STRUCT = 12
_LARGEST = 2**31 - 1
# Some writers left the header of a dictionary out of a column's size, so that pyarrow reads up to
# so many bytes beyond it (PARQUET-816).
_BEYOND = 100


@dataclass
class _Column:
    """A column of a row group: the place of its next page, its end, and the values to come."""

    at: int
    end: int
    n_values: int

    def has_page(self, start: int, stop: int) -> bool:
        """Return whether its next page begins before the end of bytes that are read."""
        # What lies beyond its size is of another column, unless it was read to there.
        is_read = start < self.end or self.at >= self.end
        return self.n_values > 0 and is_read and self.at < min(stop, self.end + _BEYOND)


class CheckedPages:
    """A file whose pages are checked as they are read.

    Parameters
    ----------
    file : file
    name : str
        Its path, for messages.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        self._columns: list[_Column] = []
        self._starts: list[int] = []
        self._reach: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def begin(self, metadata: Any) -> None:
        """Check pages from now on, by the metadata of the file's footer."""
        columns = []
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(metadata.num_columns)):
                start = column.data_page_offset
                if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < start:
                    start = column.dictionary_page_offset
                end = start + column.total_compressed_size
                columns.append(_Column(start, end, column.num_values))
        self._columns = sorted(columns, key=lambda column: column.at)
        self._starts = [column.at for column in self._columns]
        # Ranges of bytes may overlap in a forged footer: those of columns up to each end here.
        self._reach = list(accumulate((c.end + _BEYOND for c in self._columns), max))

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises
        ------
        DataSetError
            When a page that begins in them would unpack to too much.
        """
        start = self._file.tell()
        data: bytes = self._file.read(size)
        stop = start + len(data)
        first = bisect_right(self._reach, start)
        for column in self._columns[first : bisect_right(self._starts, stop)]:
            while column.has_page(start, stop):
                at = column.at - start
                self._check(column, data[at : at + _HEADER_BYTES] if at >= 0 else b"", stop)
        return data

    def _check(self, column: _Column, head: bytes, back: int) -> None:
        """Check the page that is next in a column, of which the first bytes may be known."""
        try:
            fields, length = _struct(head, 0)
        except IndexError:  # the header ends in the next bytes
            self._file.seek(column.at)
            head = self._file.read(_LONG_HEADER_BYTES)
            self._file.seek(back)
            try:
                fields, length = _struct(head, 0)
            except (IndexError, RecursionError, ValueError):
                raise self._damaged() from None
        except (RecursionError, ValueError):
            raise self._damaged() from None
        try:
            kind, unpacked, packed = fields[_TYPE], fields[_UNPACKED], fields[_PACKED]
            n_values = fields[_KINDS[kind]][_N_VALUES] if kind in _KINDS else 0
        except (KeyError, TypeError):
            raise self._damaged() from None
        # Of numbers that are too long, readers take the last bits.
        if min(unpacked, packed, n_values) < 0 or max(kind, packed, n_values) > _LARGEST:
            raise self._damaged()
        check_unpacked(self._name, "a page", unpacked, packed)
        if kind == _DICTIONARY:
            check_unpacked(self._name, "a dictionary", n_values * _VALUE_BYTES, packed)
        else:
            check_unpacked(self._name, "the values of a page", n_values * _LEVEL_BYTES, packed)
            column.n_values -= n_values
        column.at += length + packed

    def _damaged(self) -> DataSetError:
        return DataSetError(f"{self._name}: a page of it is damaged; fetch it again")


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned number, seven bits to a byte, and the place after it."""
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        shift += 7
        if byte < 128 or shift > 63:
            return found, at


def _signed(data: bytes, at: int) -> tuple[int, int]:
    found, at = _number(data, at)
    return (found >> 1) ^ -(found & 1), at


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct by their numbers, and the place after it.

    Raises
    ------
    IndexError
        When the bytes end before it.
    ValueError
        When a field is there twice: readers may take either.
    """
    fields: dict[int, Any] = {}
    number = 0
    while byte := data[at]:
        at += 1
        if byte >> 4:
            number += byte >> 4
        else:
            number, at = _signed(data, at)
        if number in fields:
            raise ValueError
        fields[number], at = _value(data, at, byte & 15)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    """Return a value of a kind of the compact protocol, and the place after it.

    Numbers, structs and texts are all that headers hold; of others IndexError says so.
    """
    if kind in (1, 2):  # the kind is the value
        return kind == 1, at
    if kind == 3:
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _signed(data, at)
    if kind == 8:
        length, at = _number(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind == _STRUCT:
        return _struct(data, at)
    raise IndexError
