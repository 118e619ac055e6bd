"""The footers of Parquet files: schemas, numbers of rows and missing values, read once each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from dkde.errors import DataSetError, DkdeError, one_line
from dkde.rows.arrow_values import (
    Column,
    column_of_coordinate,
    column_of_points,
    column_of_type,
    first_length,
)
from dkde.rows.parquet_pages import CheckedPages
from dkde.rows.partitions import KIND, partitions_of
from dkde.rows.point_columns import Coordinate, coordinates_in
from dkde.rows.points import points_of_field
from dkde.rows.row_source import check_row
from dkde.stores.limits import check_unpacked
from dkde.stores.listed_files import Listed

SUFFIXES = (".parquet", ".parq", ".pq")
# The end of a file that is read for its footer; a longer footer costs a second reading.
_TAIL_BYTES = 2**15
# Footers read at once: a bucket answers in parallel, and files on a disk nearly so.
_THREADS = 16
# Rows that are read at a time where one column is searched for missing values or a first list.
_FIRST_ROWS, _LIST_ROWS = 2**16, 2**10
# The bytes that are read at a time from each column of a file on disk, or in a bucket.
_BUFFER_BYTES, _REMOTE_BYTES = 2**18, 2**22
# The largest page that writers make by default, and the one that memory is planned for.
_PAGE_BYTES = 2**20
# Columns up to this number are planned alike for any row groups.
_FEW = 10


@dataclass(frozen=True)
class Footer:
    """The properties of one file.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    schema : pyarrow.Schema
        The columns.
    missing : mapping of str to bool or None
        For columns of whole numbers: whether some are missing; None if only the values say so.
    digest : str
        A digest of the footer's bytes.
    column_bytes : int
        The bytes of a column in the largest row group, on average, as they are decoded.
    all_column_bytes : int
        The same of all row groups together.
    """

    n_rows: int
    schema: Any
    missing: Mapping[str, bool | None]
    digest: str
    column_bytes: int
    all_column_bytes: int


@lru_cache(maxsize=4)
def footers(files: Listed) -> tuple[Footer, ...]:
    """Read the footers of files, several at once; each is read once.

    Raises
    ------
    DataSetError
        When one is no Parquet file, or cannot be read.
    """
    if len(files) == 1:
        return (_footer(files, 0),)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="dkde-footers") as pool:
        found = list(pool.map(lambda i: _footer(files, i), range(len(files))))
    # Most files of a table have one schema: it is held once. Older versions of pyarrow have no hash
    # of one with notes.
    schemas: dict[Any, Any] = {}
    return tuple(
        replace(each, schema=schemas.setdefault(_key(each.schema), each.schema)) for each in found
    )


def _key(schema: Any) -> tuple[Any, ...]:
    return (schema.remove_metadata(), *sorted((schema.metadata or {}).items()))


def _footer(files: Listed, i: int) -> Footer:
    path = files.path(i)
    try:
        tail, footer = tail_of(files, i)
        found = _parsed(path, tail, footer)
        # A byte for each, at least, is held of rows that are read: a footer may declare any number.
        check_unpacked(
            path, f"what is kept of its {found.n_rows} rows", found.n_rows, files.sizes[i]
        )
        return found
    except (DkdeError, MemoryError):
        raise
    except Exception as error:
        raise DataSetError(f"{path}: not readable as Parquet ({one_line(error)})") from error


def tail_of(files: Listed, i: int) -> tuple[bytes, bytes]:
    """Return the end of a file that holds its footer, and the footer alone."""
    size = files.sizes[i]
    with files.open(i) as file:
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read() or b""
        if tail[-4:] == b"PARE":
            raise DataSetError(f"{files.path(i)}: is encrypted; decrypt it, and write it again")
        if tail[-4:] != b"PAR1" or size < 12:
            raise DataSetError(
                f"{files.path(i)}: is no Parquet file, or was cut off; fetch it again"
            )
        length = int.from_bytes(tail[-8:-4], "little")
        if length + 8 > size:
            raise DataSetError(f"{files.path(i)}: is damaged; fetch it again")
        if length + 8 > len(tail):
            file.seek(size - length - 8)
            tail = file.read() or b""
    return tail, tail[-8 - length : -8]


def _parsed(path: str, tail: bytes, footer: bytes) -> Footer:
    import pyarrow as pa
    from pyarrow import parquet, types

    file = parquet.ParquetFile(pa.BufferReader(tail))
    metadata, schema = file.metadata, file.schema_arrow
    if len(set(schema.names)) < len(schema):
        twice = next(name for name, n in Counter(schema.names).items() if n > 1)
        raise DataSetError(f"{path}: has two columns {twice!r}; rename one")
    if any(_is_list(field.type) for field in schema):
        _check_lists(path, metadata)
    missing: dict[str, bool | None] = {}
    numbers: dict[str, int] = {}
    for field in schema:
        whole = field.type.value_type if _is_list(field.type) else field.type
        if not (types.is_integer(whole) or types.is_boolean(whole)):
            continue
        if not (field.nullable or _is_list(field.type)):
            missing[field.name] = False
            continue
        if not numbers:
            paths = (metadata.schema.column(k).path for k in range(metadata.num_columns))
            numbers = {path: k for k, path in enumerate(paths)}
        # The numbers of a list are a column below it; writers call it "element" or "item".
        is_part = (field.name, f"{field.name}.list.element", f"{field.name}.list.item")
        number = next((numbers[each] for each in is_part if each in numbers), None)
        missing[field.name] = None if number is None else _is_missing(metadata, number)
    digest = hashlib.sha256(footer).hexdigest()[:16]
    # pandas notes the numbers of a file's rows in its schema: without them most schemas are equal.
    kept = {key: value for key, value in (schema.metadata or {}).items() if key == b"geo"}
    sizes = [metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups)]
    largest, whole = (
        n // max(1, metadata.num_columns) for n in (max(sizes, default=0), sum(sizes))
    )
    schema = schema.with_metadata(kept or None)
    return Footer(metadata.num_rows, schema, missing, digest, largest, whole)


def _check_lists(path: str, metadata: Any) -> None:
    """Refuse lists of which one would fill the memory: a dictionary makes any number of values."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for k in range(metadata.num_columns):
            n_values = group.column(k).num_values // max(1, group.num_rows)
            check_row(path, n_values)


def _is_missing(metadata: Any, number: int) -> bool | None:
    """Return whether a column has missing values; None if a row group has no statistics of it."""
    found = False
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(number).statistics
        if known is None or not known.has_null_count:
            return None
        found |= known.null_count > 0
    return found


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


class FileColumns(Mapping[str, Column]):
    """The columns of one file and its partitions, each judged when it is first asked for.

    The coordinates of points can be asked for by their names, too, and are not counted.

    Parameters
    ----------
    files : Listed
    i : int
        The number of the file.
    """

    def __init__(self, files: Listed, i: int) -> None:
        self._files, self._i = files, i
        self._footer = footers(files)[i]
        self._known: dict[str, Column] = {}
        # A column of a file comes before a partition of the same name, which repeats it.
        names = dict.fromkeys([*self._footer.schema.names, *partitions(files)])
        self._names = tuple(names)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        plain = name in self._footer.schema.names or name in partitions(self._files)
        return plain or bool(coordinates_of(self._files, [str(name)]))

    def __getitem__(self, name: str) -> Column:
        if name not in self._known:
            if name not in self:
                raise KeyError(name)
            self._known[name] = self._judged(name)
        return self._known[name]

    def _judged(self, name: str) -> Column:
        if name in self._footer.schema.names:
            return self._column(name)
        if made := coordinates_of(self._files, [name]):
            return column_of_coordinate(made[name].points, made[name].axis)
        return self._partition(name)

    def _column(self, name: str) -> Column:
        """Return the kind of a column; its integers are floats if some values are missing."""
        from pyarrow import types

        field = self._footer.schema.field(name)
        if (points := points_of_field(field, self._footer.schema.metadata)) is not None:
            return column_of_points(points)
        kind = field.type
        # A type fixes the length of lists only for some; for the others the first list does.
        length = None
        if types.is_list(kind) or types.is_large_list(kind):
            length = self._length(name)
        found = column_of_type(kind, may_miss=False, length=length)
        # Most files declare every column as nullable, whether values are missing or not, so whole
        # numbers are searched for missing values. Floats have NaN and need no search.
        if found.dtype is None or found.dtype.kind not in "iu":
            return found
        missing = self._footer.missing.get(name)
        if missing is None:
            missing = self._search(name)
        return column_of_type(kind, may_miss=True, length=length) if missing else found

    def _partition(self, name: str) -> Column:
        values = partitions(self._files)[name]
        found = column_of_type(values.type, may_miss=values.null_count > 0)
        kind = f"{KIND} of {found.kind}" if found.dtype is None or found.units else KIND
        return replace(found, kind=kind, is_quantity=False)

    def _length(self, name: str) -> int | None:
        """Return the length of the first list of a column, None if there is no list."""
        with closing(self._batches(name, _LIST_ROWS)) as batches:
            lengths = (first_length(batch.column(name)) for batch in batches)
            return next((length for length in lengths if length is not None), None)

    def _search(self, name: str) -> bool:
        """Return whether a column or its lists have missing values, from the values."""
        with closing(self._batches(name, _FIRST_ROWS)) as batches:
            columns = (batch.column(name) for batch in batches)
            return any(
                c.null_count or (hasattr(c, "flatten") and c.flatten().null_count) for c in columns
            )

    def _batches(self, name: str, n_rows: int) -> Generator[Any, None, None]:
        file = opened(self._files, self._i, 1)
        try:
            yield from file.iter_batches(n_rows, columns=[name])
        finally:
            file.close(force=True)  # without force, a file that Python opened stays open


@lru_cache(maxsize=4)
def partitions(files: Listed) -> dict[str, Any]:
    """Return the partitions of files by name, less those that are columns of the files."""
    names = footers(files)[0].schema.names
    found = partitions_of(files.root, files.names)
    return {name: values for name, values in found.items() if name not in names}


def coordinates_of(files: Listed, names: Iterable[str]) -> dict[str, Coordinate]:
    """Return those of some names that are coordinates of points, and no columns of the files."""
    schema = footers(files)[0].schema
    plain = {*schema.names, *partitions(files)}
    lacking = [name for name in names if name not in plain]
    # Without such names the CRS, for which pyproj is needed, is not looked at.
    known = _coordinates(files) if lacking else {}
    return {name: known[name] for name in lacking if name in known}


@lru_cache(maxsize=4)
def _coordinates(files: Listed) -> dict[str, Coordinate]:
    return coordinates_in(footers(files)[0].schema)


def opened(files: Listed, i: int, n_columns: int) -> Any:
    """Open a file for reading in bounded memory."""
    import pyarrow as pa
    from pyarrow import parquet

    pages = CheckedPages(files.open(i), files.path(i))
    # Through a buffer, and not one row group at a time: some files have a single row group.
    file = parquet.ParquetFile(
        pa.PythonFile(pages, mode="r"),
        buffer_size=buffer_bytes(files, n_columns),
        pre_buffer=False,
    )
    pages.begin(file.metadata)
    return file


def buffer_bytes(files: Listed, n_columns: int) -> int:
    """Return the bytes of a column that are read at a time; fewer where there are many columns."""
    most = _REMOTE_BYTES if files.is_remote else _BUFFER_BYTES
    return max(2**14, min(most, 32 * most // max(1, n_columns)))


def state_bytes(files: Listed, n_columns: int) -> int:
    """Return the bytes that an opened file holds while its rows are read: buffers and pages."""
    known = footers(files)
    largest = max((footer.column_bytes for footer in known), default=0)
    whole = sum(footer.all_column_bytes for footer in known)
    size = buffer_bytes(files, n_columns)
    # Small row groups need less. Few columns are planned as in one row group nevertheless, so that
    # a plan does not depend on the number of files.
    return max(
        n_columns * _column_state(largest, size), min(n_columns, _FEW) * _column_state(whole, size)
    )


def _column_state(column: int, size: int) -> int:
    """Return the bytes that are held of a column with so many bytes, read with such a buffer."""
    # A page as it is stored and decoded, and a dictionary: at most about the whole column of a row
    # group, and half of it as it is stored.
    return min(size, column) + min(3 * _PAGE_BYTES, column + column // 2)


def identity_of(files: Listed, wanted: Sequence[Any] = ()) -> Any:
    """Return a stamp of files: their place, names, sizes, times or ETags, and footers."""
    digest = hashlib.sha256("".join(each.digest for each in footers(files)).encode()).hexdigest()
    return (*files.stamp(), digest, *wanted)
