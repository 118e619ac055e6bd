"""Tables of other packages than pandas, through Arrow: their types first, then the columns needed.

All packages of tables hand their columns over as a stream of Arrow's. Tables that are a query, as
those of DuckDB, and lazy frames of Polars, are asked for the needed columns alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from dkde.errors import InputError, some
from dkde.inputs.frame import Frame
from dkde.inputs.frame_columns import kind_of_column
from dkde.rows.arrow_values import Column, column_of_points, column_of_type
from dkde.rows.feature_choice import LOOKED_AT
from dkde.rows.points import first_shape, main_geometry, points_of_field

# Reads the columns of these names as a table of pyarrow.
_Read = Callable[[Sequence[str]], Any]


def frame_through_arrow(data: Any, role: str) -> Frame | None:
    """Return a table of any package that knows Arrow; None if the data are no such table.

    Parameters
    ----------
    data : table
        Of Polars (also lazy), pyarrow (also a reader, a scanner or a data set of files), DuckDB,
        Hugging Face, Ibis, or of any package with the Arrow PyCapsule interface.
    role : str
        The name of the table, for messages.

    Raises
    ------
    InputError
        When it is a collection of tables, or can be read once only and was read, or pyarrow,
        which reads it, is not installed.
    """
    package = type(data).__module__.partition(".")[0]
    if package == "narwhals":
        return frame_through_arrow(data.to_native(), role)
    has_stream = hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")
    is_query = hasattr(data, "select") and hasattr(data, "limit")
    is_files = package == "pyarrow" and hasattr(data, "to_table")
    is_lazy_polars = package == "polars" and is_query
    is_hugging_face = package == "datasets" and hasattr(data, "with_format")
    if not (has_stream or is_files or is_lazy_polars or is_hugging_face):
        return None
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            f'{role} is a table, and reading it needs pyarrow; pip install "dkde[tables]"'
        ) from None
    if is_hugging_face:
        return _of_hugging_face(data, role)
    if is_files:
        return _of_files(data)
    return _of_query(data, package) if is_query else _of_stream(data, role)


def _of_files(data: Any) -> Frame:
    """Return a data set of files, or a scanner of them, as pyarrow has them."""
    if not hasattr(data, "schema"):  # a scanner, whose columns are chosen already
        return _lazy(data.projected_schema.empty_table(), lambda names: data.to_table())
    return _lazy(data.schema.empty_table(), lambda names: data.to_table(columns=list(names)))


def _of_hugging_face(data: Any, role: str) -> Frame:
    name = type(data).__name__
    if isinstance(data, dict):
        first = next(iter(data), "train")
        raise InputError(
            f"{role} is a {name} with the splits {some([*data])}; pass one of them, as "
            f"data[{first!r}]"
        )
    if not hasattr(data, "data"):
        raise InputError(
            f"{role} is an {name}, which has no table of its rows; load it without streaming=True"
        )
    # The labels of classes are integers in Arrow, and in no order of size.
    kinds = {name: type(kind).__name__ for name, kind in data.features.items()}
    classes = {name: "categories" for name, kind in kinds.items() if kind == "ClassLabel"}
    return _lazy(
        data.features.arrow_schema.empty_table(),
        lambda names: data.select_columns(list(names)).with_format("arrow")[:],
        classes,
    )


def _of_query(data: Any, package: str) -> Frame:
    """Return a table that selects columns itself: of Polars, DuckDB or Ibis."""
    # Columns of a frame in memory can be looked at; those of a query would have to be computed.
    is_held = package == "polars" and not hasattr(data, "collect")

    def chosen(names: Sequence[str]) -> Any:
        # DuckDB takes texts as expressions: names with spaces have to be quoted.
        quoted = ['"' + name.replace('"', '""') + '"' for name in names]
        return _collected(data.select(*(quoted if package == "duckdb" else names)))

    some_rows = data.limit(LOOKED_AT if is_held else 0)
    read = chosen if is_held else _in_one_order(chosen)
    if package != "polars":
        return _lazy(_collected(some_rows), read)
    import pyarrow as pa

    held, others = {}, {}
    for name, kind in data.collect_schema().items():
        # Older versions of Polars abort the process where they are asked for such a column.
        if str(kind) == "Object":
            others[name] = "Object"
            continue
        try:
            held[name] = _collected(some_rows.select(name)).column(0)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # Arrow has no such type, but the column may stand beside those that are wanted.
            others[name] = str(kind)
    n_rows = min(map(len, held.values()), default=0)
    names = data.collect_schema().names()
    return _lazy(pa.table({name: held.get(name, pa.nulls(n_rows)) for name in names}), read, others)


def _in_one_order(read: _Read) -> _Read:
    """Return a reader of a query that refuses rows in another order than those of its first answer.

    Queries are computed anew each time. Without an order of their own, the rows of a join, for
    instance, may come otherwise each time, and weights would be those of other rows.
    """
    first: dict[str, str] = {}

    def checked(names: Sequence[str]) -> Any:
        found = read([*dict.fromkeys([*first, *names])])
        digests = {name: _digest(found.column(name)) for name in found.column_names}
        changed = next((name for name in first if first[name] != digests[name]), None)
        if changed is not None:
            raise InputError(
                f"the query's rows came in another order, or with other values of {changed!r}, "
                "when they were computed again for another column; sort it, or compute it first "
                "(collect(), to_arrow_table())"
            )
        first.update(digests)
        return found

    return checked


def _digest(column: Any) -> str:
    """Return a digest of a column's numbers."""
    from pyarrow import types

    values = column.combine_chunks()
    if types.is_dictionary(values.type):  # of which Arrow does not decode all kinds
        return hashlib.sha256(repr(values.to_pylist()).encode()).hexdigest()
    while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
        values = values.flatten()
    numbers = values.to_numpy(zero_copy_only=False)
    content = repr(values.to_pylist()).encode() if numbers.dtype == object else numbers.tobytes()
    return hashlib.sha256(content).hexdigest()


def _collected(data: Any) -> Any:
    import pyarrow as pa

    return pa.table(data.collect() if hasattr(data, "collect") else data)


def _lazy(head: Any, read: _Read, others: Mapping[str, str] | None = None) -> Frame:
    """Return a table that is read by the names of columns.

    Parameters
    ----------
    head : pyarrow.Table
        Its first rows, or none of them, for the types of all columns.
    read : callable
        Reads columns.
    others : mapping of str to str, optional
        The columns that are no features whatever their type is, and their kinds.
    """
    names, others = tuple(head.column_names), others or {}

    def kind(i: int) -> Column:
        if names[i] in others:
            return Column(None, others[names[i]])
        return _kind(head, i) if len(head) else _kind_of_type(head, i)

    def chosen(places: Sequence[int]) -> tuple[pd.DataFrame, list[Column]]:
        table = read([names[i] for i in places]).select([names[i] for i in places])
        return _framed(table), [_kind(table, i, head) for i in range(table.num_columns)]

    return Frame(names, cache(kind), chosen, main=main_geometry(head.schema))


def _of_stream(data: Any, role: str) -> Frame | None:
    """Return a table of a stream, which may be read once only.

    Of a stream that is not in memory, columns that can be no features are let go.
    """
    import pyarrow as pa

    try:
        reader = pa.table(data).to_reader() if not hasattr(data, "__arrow_c_stream__") else (
            pa.RecordBatchReader.from_stream(data)
        )  # fmt: skip
    except pa.ArrowInvalid:  # a single column, which is no table
        return None
    none = reader.schema.empty_table()
    is_held = hasattr(data, "num_rows")
    kept = {
        i for i in range(len(none.schema)) if is_held or _kind_of_type(none, i).dtype is not None
    }
    chunks: list[list[Any]] = [[] for _ in none.schema]
    n_rows = 0
    for batch in reader:
        for i, column in enumerate(batch.columns):
            chunks[i].append(column if i in kept else column[: max(0, LOOKED_AT - n_rows)])
        n_rows += len(batch)
    if not n_rows and isinstance(data, pa.RecordBatchReader):
        raise InputError(
            f"{role} is a reader without rows, or one that was read already; pass its table "
            "(read_all()), which can be read again"
        )
    columns = [pa.chunked_array(c, t) for c, t in zip(chunks, none.schema.types, strict=True)]

    def part(places: Sequence[int]) -> Any:
        fields = [none.schema.field(i) for i in places]
        return pa.table([columns[i] for i in places], pa.schema(fields, none.schema.metadata))

    def read(places: Sequence[int]) -> tuple[pd.DataFrame, list[Column]]:
        gone = next((none.schema.names[i] for i in places if i not in kept), None)
        if gone is not None:
            raise InputError(
                f"{role} is a stream, of which columns without numbers, as {gone!r}, are not kept; "
                "pass its table (read_all())"
            )
        table = part(places)
        return _framed(table), [_kind(table, i) for i in range(table.num_columns)]

    return Frame(
        tuple(none.column_names),
        cache(lambda i: _kind(part([i]), 0)),
        read,
        main=main_geometry(none.schema),
    )


def _kind_of_type(table: Any, i: int) -> Column:
    """Return the kind of a column by its type, whatever its values are."""
    if (points := points_of_field(table.schema.field(i), table.schema.metadata)) is not None:
        return column_of_points(points)
    # Lists of any length may be features: their values decide when they are read.
    return column_of_type(table.schema.field(i).type, may_miss=False, length=1)


def _kind(table: Any, i: int, noted: Any = None) -> Column:
    """Return the kind of a column by its values.

    Parameters
    ----------
    table : pyarrow.Table
        The column's table.
    i : int
        The position of the column.
    noted : pyarrow.Table, optional
        The table whose metadata count, if not those of the first.
    """
    metadata = (table if noted is None else noted).schema.metadata
    points = points_of_field(table.schema.field(i), metadata)
    if points is None:
        return kind_of_column(_series(table.column(i)))
    shape = first_shape(table.column(i))
    return column_of_points(points) if shape in ("Point", None) else Column(None, f"{shape}s")


def _series(column: Any) -> pd.Series[Any]:
    """Return a column of Arrow as one of pandas, without a copy."""
    return pd.Series(pd.arrays.ArrowExtensionArray(column))


def _framed(table: Any) -> pd.DataFrame:
    frame = pd.DataFrame({i: _series(column) for i, column in enumerate(table.columns)})
    frame.columns = pd.Index(table.column_names, dtype=object)
    return frame
