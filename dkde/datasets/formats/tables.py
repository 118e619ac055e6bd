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

from dkde.datasets.formats.arrow_values import Column, values_of
from dkde.datasets.formats.files import checksum_files, reading
from dkde.datasets.formats.globs import files_of
from dkde.datasets.formats.labels import encode, numbered
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit
from dkde.errors import DataSetError, InputError, NoVariableError, some
from dkde.rows.feature_choice import of_a_list
from dkde.typing import Array

# What pandas calls columns that have no name: where it read them, and rows' numbers in Parquet.
_NUMBERING = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
_NO_NAME = "without a name, as a count of rows is"


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
        If a column that was asked for is not there, or holds no numbers; or if there are lists
        beside other numbers, and nobody says which are the features.
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
    held = {column: first.columns[column] for column in chosen}
    units = tuple(column.units for column in held.values() for _ in range(column.n_features))
    split = SourceSplit(
        options.split,
        n_rows=n_rows,
        n_features=sum(column.n_features for column in held.values()),
        dtype=dtype,
        batches=partial(_batches, tables, chosen, dtype, what),
        labels={} if labels is None else {"label": labels},
        features=_names(first, held) if first.named or options.columns else None,
        classes={} if classes is None else {"label": classes},
        units=units if any(units) else None,
    )
    left_out = {} if options.columns is not None else _left_out(tables, chosen, options.label)
    converted = {name: column.converted for name, column in held.items() if column.converted}
    checksum = checksum_files([table.path for table in tables])
    return Source(path, name, checksum, (split,), left_out, converted)


def _names(first: TableFile, held: Mapping[str, Column]) -> tuple[str, ...]:
    """The names of the features, those of lists among them."""
    names = [each for name, column in held.items() for each in column.names(name)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"{first.path}: {twice!r} is a column, and a number of a list too; rename the column"
        )
    return tuple(names)


def _left_out(
    tables: Sequence[TableFile], chosen: Sequence[str], label: str | None
) -> dict[str, str]:
    """The columns that are no features, and why."""
    return {
        name: _NO_NAME if _NUMBERING.fullmatch(name) else column.kind
        for name, column in tables[0].columns.items()
        if name not in chosen and name != label
    }


def _choose(tables: Sequence[TableFile], options: ReadOptions) -> list[str]:
    first = tables[0]
    known = list(first.columns)
    wanted = [*(options.columns or ()), *([options.label] if options.label is not None else [])]
    for column in wanted:
        if column not in known:
            raise NoVariableError(
                f"{first.path}: has no column {column!r}; it has {some(known)}"
                f"{of_a_list(column, known)}"
            )
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
        raise DataSetError(no_numbers(str(first.path), first.columns))
    check_lists(str(first.path), {name: first.columns[name] for name in chosen})
    return chosen


def no_numbers(name: str, columns: Mapping[str, Column]) -> str:
    """Return the message that a table has no features, unless some are named."""
    kinds = some([f"{column} ({held.kind})" for column, held in columns.items()])
    others = [column for column, held in columns.items() if held.dtype is not None]
    way = f"; {some(others)} can be features if they are named (features=)" if others else ""
    return f"{name}: has no column of numbers; it has {kinds}{way}"


def check_lists(name: str, chosen: Mapping[str, Column]) -> None:
    """Refuse to guess whether the features are a column of lists or what stands beside it.

    Raises
    ------
    InputError
    """
    lists = [column for column, held in chosen.items() if held.width is not None]
    if not lists or len(chosen) == 1:
        return
    others = [column for column in chosen if column != lists[0]]
    raise InputError(
        f"{name}: {lists[0]} is a column of {chosen[lists[0]].kind}, and {some(others)} "
        f"{'is one' if len(others) == 1 else 'are some'} of numbers too; say which are the "
        f"features: --features {lists[0]}, or --features {','.join(others[:4])} (features=, or "
        "--columns of an import)"
    )


def _check_columns(
    table: TableFile, first: TableFile, wanted: Sequence[str], *, whole: bool
) -> None:
    """Refuse a set of files whose columns differ."""
    missing = [c for c in (first.columns if whole else wanted) if c not in table.columns]
    more = [c for c in table.columns if c not in first.columns] if whole else []
    if missing or more:
        has = f"has no column {missing[0]!r}" if missing else f"has a column {more[0]!r} more"
        raise DataSetError(
            f"{table.path}: {has}, unlike {first.path.name}; files that are read together have "
            "the same columns (name those that are wanted: --features, or --columns of an import)"
        )
    for name in wanted:
        widths = [each.columns[name].width for each in (table, first)]
        if widths[0] != widths[1]:
            kinds = [each.columns[name].kind for each in (table, first)]
            raise DataSetError(
                f"{table.path}: column {name!r} holds {kinds[0]}, and {kinds[1]} in "
                f"{first.path.name}; files that are read together have rows of one width"
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
    """Return the number of rows, their labels, and the labels' meanings."""
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
    n_features = sum(tables[0].columns[name].n_features for name in chosen)
    for table in tables:
        start = 1
        with reading(table.path, what):
            for batch in table.stream(chosen):
                if not len(batch):
                    continue
                rows = np.empty((len(batch), n_features), dtype)
                at = 0
                for name in chosen:
                    held, where = table.columns[name], f"{table.path}: column {name!r}"
                    values = values_of(batch.column(name), held, dtype, where, start)
                    rows[:, at : at + held.n_features] = values.reshape(len(batch), -1)
                    at += held.n_features
                yield rows
                start += len(batch)
