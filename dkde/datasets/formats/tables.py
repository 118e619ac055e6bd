"""Tables of any format: the choice of the columns that are features, and rows made of columns.

Tables are Arrow's: pyarrow reads a file, one batch at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.formats.arrow_labels import label_texts, numbered
from dkde.datasets.formats.files import reading
from dkde.datasets.formats.source import ReadOptions, Source, SourceSplit
from dkde.errors import DataSetError, InputError, NoVariableError, some
from dkde.rows.arrow_values import Column, values_of
from dkde.rows.feature_choice import of_a_list
from dkde.rows.row_source import RowSource
from dkde.stores.limits import check_unpacked
from dkde.stores.listed_files import Url
from dkde.typing import Array

# The names that pandas and Dask give to columns without a name: in text that they read, and for the
# row numbers in Parquet. Such a column counts rows, and would be a wrong feature.
_NUMBERING = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__|__null_dask_index__")
_NO_NAME = "without a name, as a count of rows is"


@dataclass(frozen=True)
class TableFile:
    """One file of a table.

    Parameters
    ----------
    path : pathlib.Path or Url
    columns : mapping of str to Column
        Every column of the file, in order.
    named : bool
        Whether the names stand in the file; otherwise they are made from positions.
    stream : callable, (names) -> iterator of record batches
        Returns these columns of every row, in order: columns of numbers as numbers, all others as
        text. Raises DataSetError for a cell that is not of its column's kind.
    n_rows : int, optional
        Number of rows, if the file states it.
    count : callable, optional, (names) -> int
        Returns the number of rows after these columns were checked, if that is known without a
        stream.
    main : str, optional
        The geometry that gives the features, where the file names one.
    """

    path: Path | Url
    columns: Mapping[str, Column]
    named: bool
    stream: Callable[[Sequence[str]], Iterator[Any]]
    n_rows: int | None = None
    count: Callable[[Sequence[str]], int] | None = None
    main: str | None = None


@dataclass(frozen=True)
class Table:
    """The files of a table, in the order of their rows.

    Parameters
    ----------
    files : sequence of TableFile
    checksum : callable, optional
        Returns the checksum of the files' bytes; None where it would take too long. It is called
        after the rows were counted.
    full_checksum : callable, optional
        Returns that checksum, however long it takes.
    rows : callable, optional, (names of columns, dtype) -> RowSource
        Returns these columns as a source that a task reads, for a format that allows it.
    """

    files: Sequence[TableFile]
    checksum: Callable[[], str] | None
    full_checksum: Callable[[], str] | None = None
    rows: Callable[[Sequence[str], np.dtype[Any]], RowSource] | None = None


def need_pyarrow(path: Path | Url) -> None:
    """Refuse a table if pyarrow, an optional dependency, is not installed.

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


def check_names(path: Path | Url, names: Sequence[str]) -> None:
    """Refuse two columns of the same name.

    Raises
    ------
    DataSetError
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataSetError(f"{path}: has two columns {name!r}; rename one")
        seen.add(name)


def read_table(
    path: Path | Url,
    options: ReadOptions,
    *,
    name: str,
    what: str,
    open_files: Callable[[], Table],
) -> Source:
    """Read the columns, the number of rows and the labels of files; rows are streamed later.

    Parameters
    ----------
    path : pathlib.Path or Url
        A file, or a pattern or a folder of several.
    options : ReadOptions
    name, what : str
        The name of the format, as users write it, and in words for messages.
    open_files : callable, () -> Table

    Raises
    ------
    InputError
        If a chosen column is not there, or holds no numbers; or if there are lists beside other
        numbers, and no columns were chosen.
    DataSetError
        If the files are damaged, empty, or differ in their columns.
    """
    need_pyarrow(path)
    table_of_all = open_files()
    tables = table_of_all.files
    chosen = _choose(tables, options)
    # The first file decides. Without chosen columns all files must have the same ones: a column
    # that only some files have would otherwise be left out in silence.
    first = tables[0]
    for table in tables:
        _check_columns(table, first, [*chosen, *([options.label] if options.label else [])],
                       whole=options.columns is None)  # fmt: skip
    dtype = np.result_type(*(_number(table, column) for table in tables for column in chosen))
    n_rows, labels, classes = _rows_and_labels(tables, chosen, options.label, what)
    if not n_rows:
        raise DataSetError(f"{path}: holds no rows")
    held = {column: first.columns[column] for column in chosen}
    if table_of_all.rows is None:  # they are loaded, and text is unpacked twice: from gzip, too
        n_bytes = n_rows * dtype.itemsize * sum(column.n_features for column in held.values())
        n_stored = sum(Path(str(table.path)).stat().st_size for table in tables)
        check_unpacked(str(path), f"its {n_rows} rows", n_bytes, n_stored)
    rows = table_of_all.rows and table_of_all.rows(chosen, dtype)
    batches = partial(_batches, tables, chosen, dtype, what)
    units = tuple(unit for column in held.values() for unit in column.feature_units)
    split = SourceSplit(
        options.split,
        n_rows=n_rows,
        n_features=sum(column.n_features for column in held.values()),
        dtype=dtype,
        batches=batches if rows is None else partial(_pieces, rows),
        labels=labels,
        # Names made from positions say nothing, unless the user chose columns by them.
        features=_names(first, held) if first.named or options.columns else None,
        classes=classes,
        units=units if any(units) else None,
        rows=rows,
        crs=crs_of(list(held.values())),
    )
    taken = {*chosen, options.label}  # of tables with many thousands of columns
    left_out = {
        column: _NO_NAME if _NUMBERING.fullmatch(column) else why_no_feature(each)
        for column, each in first.columns.items()
        if options.columns is None and column not in taken
    }
    converted = {name: column.converted for name, column in held.items() if column.converted}
    checksum = table_of_all.checksum and table_of_all.checksum()
    return Source(path, name, checksum, (split,), left_out, converted, table_of_all.full_checksum)


def _names(first: TableFile, held: Mapping[str, Column]) -> tuple[str, ...]:
    """Return the names of the features; a column of lists has one name for each position."""
    names = [each for name, column in held.items() for each in column.names(name)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        if any(
            column.points is not None and twice in column.points.names for column in held.values()
        ):
            raise InputError(
                f"{first.path}: {twice!r} is a coordinate of points that are named, too; leave one "
                "of them out"
            )
        raise InputError(
            f"{first.path}: {twice!r} is the name of a column, and of a position in a column of "
            "lists too; rename the column"
        )
    return tuple(names)


def _choose(tables: Sequence[TableFile], options: ReadOptions) -> list[str]:
    """Return the names of the columns that are features: the user's choice, or all numbers."""
    first = tables[0]
    wanted = [*(options.columns or ()), *([options.label] if options.label is not None else [])]
    for column in wanted:
        if column not in first.columns:  # which also knows the coordinates of points
            known = list(first.columns)
            raise NoVariableError(
                f"{first.path}: has no column {column!r}; it has {some(known)}"
                f"{of_a_list(column, known)}"
            )
        if wanted.count(column) > 1:
            raise InputError(f"{first.path}: column {column!r} is named twice; leave one out")
    if options.columns is not None:
        return list(options.columns)
    # By default: columns of quantities. Truths, times, the label and row numbers are none.
    chosen = by_default(
        {
            name: column
            for name, column in first.columns.items()
            if name != options.label and not _NUMBERING.fullmatch(name)
        },
        first.main,
    )
    if not chosen:
        raise DataSetError(no_numbers(str(first.path), first.columns))
    check_lists(str(first.path), {name: first.columns[name] for name in chosen})
    return chosen


def by_default(columns: Mapping[Any, Column], main: Any) -> list[Any]:
    """Return the columns that are features where nobody names any: of quantities, or of points.

    Parameters
    ----------
    columns : mapping
        The columns.
    main : str, optional
        The geometry that gives the features, where there are several.
    """
    found = [key for key, each in columns.items() if each.dtype is not None and each.is_quantity]
    points = [key for key in found if columns[key].points is not None]
    # A geometry says where a row is: the numbers beside it say what is there.
    return ([main] if main in points else points[:1]) or found


def why_no_feature(column: Column) -> str:
    """Return the reason why a column is left out where the features are chosen by default."""
    return "beside the geometry" if column.dtype is not None and column.is_quantity else column.kind


def crs_of(columns: Sequence[Column]) -> str | None:
    """Return the coordinate reference system of columns, if they hold points."""
    known = (column.points.crs for column in columns if column.points is not None)
    return next(known, None)


def no_numbers(name: str, columns: Mapping[str, Column]) -> str:
    """Return the message that a table has no columns of numbers, with those that can be named."""
    kinds = some([f"{column} ({held.kind})" for column, held in columns.items()])
    others = [column for column, held in columns.items() if held.dtype is not None]
    way = f"; name {some(others)} to make features of them (features=)" if others else ""
    return f"{name}: has no column of numbers; it has {kinds}{way}"


def check_lists(name: str, chosen: Mapping[str, Column]) -> None:
    """Refuse to guess whether the features are a column of lists or the other columns.

    Raises
    ------
    InputError
    """
    lists = [column for column, held in chosen.items() if held.width is not None]
    if not lists or len(chosen) == 1:
        return
    others = [column for column in chosen if column != lists[0]]
    # To take both together, or one of them alone, would be a silent guess.
    raise InputError(
        f"{name}: {lists[0]} is a column of {chosen[lists[0]].kind}, and {some(others)} "
        f"{'has' if len(others) == 1 else 'have'} numbers too; say which are the "
        f"features: --features {lists[0]}, or --features {','.join(others[:4])} (features=, or "
        "--columns of an import)"
    )


def _check_columns(
    table: TableFile, first: TableFile, wanted: Sequence[str], *, whole: bool
) -> None:
    """Refuse a file whose columns differ from those of the first file.

    All columns are compared if `whole`, else only the wanted ones.
    """
    missing = [c for c in (first.columns if whole else wanted) if c not in table.columns]
    more = [c for c in table.columns if c not in first.columns] if whole else []
    if missing or more:
        has = f"has no column {missing[0]!r}" if missing else f"has one more column, {more[0]!r}"
        raise DataSetError(
            f"{table.path}: {has}, unlike {first.path.name}; files that are read together must "
            "have the same columns (or name the wanted ones: --features, or --columns of an "
            "import)"
        )
    # Rows of another width would not fit the array of the rows.
    for name in wanted:
        widths = [each.columns[name].width for each in (table, first)]
        if widths[0] != widths[1]:
            kinds = [each.columns[name].kind for each in (table, first)]
            raise DataSetError(
                f"{table.path}: column {name!r} holds {kinds[0]}, but {kinds[1]} in "
                f"{first.path.name}; files that are read together must have rows of one width"
            )


def _number(table: TableFile, column: str) -> np.dtype[Any]:
    """Return the dtype of a column's numbers; refuse a column without numbers."""
    found = table.columns[column]
    if found.dtype is None:
        raise InputError(
            f"{table.path}: column {column!r} holds {found.kind}, and features must be numbers; "
            "leave it out"
        )
    return found.dtype


def _rows_and_labels(
    tables: Sequence[TableFile], chosen: list[str], label: str | None, what: str
) -> tuple[int, dict[str, Array], dict[str, tuple[str, ...]]]:
    """Return the number of rows, their labels, and the labels' meanings."""
    texts: list[Any] = []
    n_rows = 0
    for table in tables:
        # Parquet states its number of rows: without labels nothing has to be read.
        if label is None and table.n_rows is not None:
            n_rows += table.n_rows
            continue
        # Text is parsed to its end here in any case. Reading the chosen columns with it finds
        # cells that are no numbers now, and not when half of the data set is written.
        wanted = chosen if table.n_rows is None else []
        with reading(table.path, what):
            if label is None and table.count is not None:
                n_rows += table.count(wanted)
                continue
            start = 0
            for batch in table.stream([*wanted, *([label] if label is not None else [])]):
                if label is not None:
                    texts.append(label_texts(batch.column(label), table.path, label, start))
                start += len(batch)
            n_rows += start
    if label is None or not n_rows:
        return n_rows, {}, {}
    # Numbered over all files at once, so that a class has the same number in each.
    labels, classes = numbered(texts, tables[0].path, label)
    return n_rows, {"label": labels}, {} if classes is None else {"label": classes}


def _pieces(rows: RowSource) -> Iterator[Array]:
    """Yield the rows of a source, a few at a time."""
    for start, stop in pairwise(rows.cuts(0, rows.shape[0])):
        yield rows.read(start, stop)


def _batches(
    tables: Sequence[TableFile], chosen: list[str], dtype: np.dtype[Any], what: str
) -> Iterator[Array]:
    """Yield the rows of all files, one file after the other, in a common dtype."""
    n_features = sum(tables[0].columns[name].n_features for name in chosen)
    for table in tables:
        start = 1  # rows are counted from 1 in messages
        with reading(table.path, what):
            for batch in table.stream(chosen):
                if not len(batch):
                    continue
                # Column by column into one array; a list fills as many of its columns as it has
                # numbers.
                rows = np.empty((len(batch), n_features), dtype)
                at = 0
                for name in chosen:
                    held, where = table.columns[name], f"{table.path}: column {name!r}"
                    values = values_of(batch.column(name), held, dtype, where, start)
                    rows[:, at : at + held.n_features] = values.reshape(len(batch), -1)
                    at += held.n_features
                yield rows
                start += len(batch)
