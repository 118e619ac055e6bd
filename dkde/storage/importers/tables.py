"""Tables, whatever their format: which columns are features, and rows made of columns.

Tables are Arrow's: a file is read by pyarrow, a batch at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.errors import DataSetError, InputError, NoVariableError, some, warn
from dkde.storage.importers.files import checksum_files, reading
from dkde.storage.importers.globs import files_of
from dkde.storage.importers.labels import encode, numbered
from dkde.storage.importers.source import Array, ReadOptions, Source, SourceSplit

# What pandas calls columns that have no name: where it read them, and rows' numbers in Parquet.
_NUMBERING = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")


@dataclass(frozen=True)
class Column:
    """What a column holds.

    Parameters
    ----------
    dtype : numpy.dtype, optional
        What its numbers are, with NaN for those that are missing; None where it holds none.
    kind : str
        In words.
    is_quantity : bool
        Whether its numbers are a feature if nobody says so.
    """

    dtype: np.dtype[Any] | None
    kind: str
    is_quantity: bool = True


@dataclass(frozen=True)
class TableFile:
    """One file of a table.

    Parameters
    ----------
    path : pathlib.Path
    columns : mapping of str to Column
        Every column, in order.
    named : bool
        Whether the names are the file's own.
    stream : callable, (names) -> iterator of record batches
        Those columns of every row, in order; what are numbers as numbers, all else as text.
        Raises DataSetError for a cell that is none.
    n_rows : int, optional
        Where the file says so.
    """

    path: Path
    columns: Mapping[str, Column]
    named: bool
    stream: Callable[[Sequence[str]], Iterator[Any]]
    n_rows: int | None = None


def need_pyarrow(path: Path) -> None:
    """Say what is missing, if it is.

    Raises
    ------
    InputError
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            f'{path}: reading tables needs pyarrow; pip install "dkde[tables]"'
        ) from None


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse columns of one name.

    Raises
    ------
    DataSetError
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataSetError(f"{path}: has two columns {name!r}; rename one")
        seen.add(name)


def reader(
    name: str, what: str, open_file: Callable[[Path, str | None], TableFile]
) -> Callable[[Path, ReadOptions], Source]:
    """The importer of a format of tables: `read_table` with these arguments."""
    return partial(read_table, name=name, what=what, open_file=open_file)


def read_table(
    path: Path,
    options: ReadOptions,
    *,
    name: str,
    what: str,
    open_file: Callable[[Path, str | None], TableFile],
) -> Source:
    """Look through the files for their columns, rows and labels; the rows are streamed later.

    Parameters
    ----------
    name, what : str
        The format, as users write it and in words.
    open_file : callable, (Path, label column or None) -> TableFile

    Raises
    ------
    InputError
        If a column that was asked for is not there, or holds no numbers.
    DataSetError
        If the files are damaged, empty, or differ in their columns.
    """
    need_pyarrow(path)
    tables: list[TableFile] = []
    for file in files_of(path):
        with reading(file, what):
            tables.append(open_file(file, options.label))
    chosen = _choose(tables, options)
    first = tables[0]
    for table in tables:
        _check_columns(table, first, [*chosen, *([options.label] if options.label else [])],
                       whole=options.columns is None)  # fmt: skip
    dtype = np.result_type(*(_number(table, column) for table in tables for column in chosen))
    n_rows, labels, classes = _look_through(tables, chosen, options.label, what)
    if not n_rows:
        raise DataSetError(f"{path}: holds no rows")
    split = SourceSplit(
        options.split,
        n_rows=n_rows,
        n_features=len(chosen),
        dtype=dtype,
        batches=partial(_batches, tables, chosen, dtype, what),
        labels={} if labels is None else {"label": labels},
        features=tuple(chosen) if first.named or options.columns else None,
        classes={} if classes is None else {"label": classes},
    )
    rest = () if options.columns is not None else first.columns
    left_out = tuple(c for c in rest if c not in chosen and c != options.label)
    checksum = checksum_files([table.path for table in tables])
    return Source(path, name, checksum, (split,), left_out)


def _choose(tables: Sequence[TableFile], options: ReadOptions) -> list[str]:
    first = tables[0]
    known = list(first.columns)
    wanted = [*(options.columns or ()), *([options.label] if options.label is not None else [])]
    for column in wanted:
        if column not in known:
            raise NoVariableError(f"{first.path}: has no column {column!r}; it has {some(known)}")
        if wanted.count(column) > 1:
            raise InputError(f"{first.path}: column {column!r} is asked for twice")
    if options.columns is not None:
        return list(options.columns)
    chosen = [
        name
        for name, column in first.columns.items()
        if column.dtype is not None
        and column.is_quantity
        and name != options.label
        and not _NUMBERING.fullmatch(name)
    ]
    if not chosen:
        kinds = some([f"{name} ({column.kind})" for name, column in first.columns.items()])
        raise DataSetError(f"{first.path}: has no column of numbers; it has {kinds}")
    return chosen


def _check_columns(
    table: TableFile, first: TableFile, wanted: Sequence[str], *, whole: bool
) -> None:
    """Refuse a file of several whose columns are others."""
    missing = [c for c in (first.columns if whole else wanted) if c not in table.columns]
    more = [c for c in table.columns if c not in first.columns] if whole else []
    if missing or more:
        has = f"has no column {missing[0]!r}" if missing else f"has a column {more[0]!r} more"
        raise DataSetError(
            f"{table.path}: {has}, unlike {first.path.name}; files that are read together have "
            "the same columns (name those that are wanted with --columns)"
        )


def _number(table: TableFile, column: str) -> np.dtype[Any]:
    found = table.columns[column]
    if found.dtype is None:
        raise InputError(
            f"{table.path}: column {column!r} holds {found.kind}, and features are numbers"
        )
    return found.dtype


def _look_through(
    tables: Sequence[TableFile], chosen: list[str], label: str | None, what: str
) -> tuple[int, Array | None, tuple[str, ...] | None]:
    """How many rows there are, their labels, and what these stand for."""
    codes: dict[str, int] = {}
    found: list[Array] = []
    n_rows = 0
    for table in tables:
        if label is None and table.n_rows is not None:
            n_rows += table.n_rows
            continue
        wanted = chosen if table.n_rows is None else []  # a format that has to be parsed
        with reading(table.path, what):
            start = 0
            for batch in table.stream([*wanted, *([label] if label is not None else [])]):
                if label is not None:
                    found.append(encode(batch.column(label), codes, table.path, label, start))
                start += len(batch)
            n_rows += start
    if label is None or not n_rows:
        return n_rows, None, None
    return n_rows, *numbered(np.concatenate(found), list(codes), tables[0].path, label)


def _batches(
    tables: Sequence[TableFile], chosen: list[str], dtype: np.dtype[Any], what: str
) -> Iterator[Array]:
    for table in tables:
        with reading(table.path, what):
            for batch in table.stream(chosen):
                if not len(batch):
                    continue
                rows = np.empty((len(batch), len(chosen)), dtype)
                for i, name in enumerate(chosen):
                    rows[:, i] = _values(batch.column(name), dtype, f"{table.path}: {name}")
                yield rows


def _values(column: Any, dtype: np.dtype[Any], where: str) -> Array:
    """A column as numbers; what is missing is NaN."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type) or column.null_count:
        wanted = pa.from_numpy_dtype(dtype)
        try:
            column = column.cast(wanted)
        except pa.ArrowInvalid:
            if not pa.types.is_integer(column.type):
                raise
            warn(
                f"{where} has integers beyond 2**53 and is read as float64, which rounds them; "
                "fill what is missing in it, or take columns of integers alone (--columns)"
            )
            column = column.cast(wanted, safe=False)
    values: Array = column.to_numpy(zero_copy_only=False)
    return values
