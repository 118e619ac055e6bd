"""Data frames and tables in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
from reading.container import NO_HALVES, Place, Side, container, is_installed, with_nan
from reading.truth import (
    LENGTHS,
    LIST,
    LISTS,
    MARKED,
    NUMBERS,
    TEXT,
    TIMES,
    TRUTHS,
    Column,
    Table,
)

_FRAME = (TRUTHS, TIMES, LENGTHS, TEXT, LISTS)


def frame(table: Table, series: Callable[[Column], Any]) -> pd.DataFrame:
    return pd.DataFrame({column.name: series(column) for column in table.columns})


def objects(column: Column) -> Any:
    """Python's own values, None where they are missing."""
    values = column.values
    if column.kind in (TIMES, LENGTHS):
        values = [pd.Timestamp(v) if column.kind == TIMES else pd.Timedelta(v) for v in values]
    elif column.kind == LISTS:
        values = list(values)
    else:
        values = values.tolist()
    found = np.empty(len(column), object)
    for i, (value, gone) in enumerate(zip(values, column.missing, strict=True)):
        found[i] = None if gone else value
    return found


def plain_series(column: Column) -> Any:
    if column.kind == NUMBERS:
        return with_nan(column.values, column.missing)
    if column.kind in (TIMES, LENGTHS):
        nothing = np.array("NaT", column.values.dtype)
        return np.where(column.missing, nothing, column.values)
    if column.kind == TRUTHS and not column.missing.any():
        return column.values
    return pd.Series(objects(column), dtype=object)


@container("pandas", holds=_FRAME)
def _pandas(table: Table, names: Sequence[str], place: Place) -> Side:
    made = frame(table, plain_series)
    if place.chance(0.3):
        made.index = pd.Index(place.rng.permutation(len(table)) + 7)
    for name in table.of(TIMES):
        if place.chance(0.3):
            made[name] = made[name].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    return Side(made, str(dict(made.dtypes)), may_refuse=lists_in(table, names))


def lists_in(table: Table, names: Sequence[str]) -> str:
    return "lists in a frame" if {LIST} & set(names) & set(table.names) else ""


def nullable_series(column: Column) -> Any:
    values, missing = column.values, column.missing.copy()
    if column.kind == NUMBERS:
        if values.dtype.kind == "f":
            wide = values.astype(np.float32 if values.dtype.itemsize < 8 else np.float64)
            return pd.arrays.FloatingArray(wide, missing)
        return pd.arrays.IntegerArray(values.copy(), missing)
    if column.kind == TRUTHS:
        return pd.arrays.BooleanArray(values.copy(), missing)
    return plain_series(column)


@container("pandas, nullable", holds=_FRAME)
def _nullable(table: Table, names: Sequence[str], place: Place) -> Side:
    made = frame(table, nullable_series)
    return Side(made, str(dict(made.dtypes)), may_refuse=lists_in(table, names))


def arrow_array(column: Column, *, fixed: bool = True) -> Any:
    """An Arrow array, with nulls."""
    if column.kind == LISTS:
        kind = pa.from_numpy_dtype(column.values.dtype)
        width = column.values.shape[1]
        values = [
            None if gone else row
            for row, gone in zip(column.values.tolist(), column.missing, strict=True)
        ]
        return pa.array(values, pa.list_(kind, width) if fixed else pa.list_(kind))
    if column.kind in (TEXT, MARKED):
        return pa.array(objects(column), pa.string())
    return pa.array(column.values, mask=column.missing)


@container("pandas, Arrow", holds=_FRAME)
def _arrow(table: Table, names: Sequence[str], place: Place) -> Side:
    def series(column: Column) -> Any:
        values = arrow_array(column)
        return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([values])))

    made = frame(table, series)
    return Side(made, str(dict(made.dtypes)), may_refuse=lists_in(table, names))


@container("pandas, objects", holds=_FRAME)
def _objects(table: Table, names: Sequence[str], place: Place) -> Side:
    made = frame(table, lambda column: pd.Series(objects(column), dtype=object))
    return Side(made, may_refuse="numbers as objects")


@container("pandas, categories", holds=(TEXT,))
def _categories(table: Table, names: Sequence[str], place: Place) -> Side:
    made = frame(table, lambda column: pd.Series(objects(column)).astype("category"))
    return Side(made, may_refuse="numbers as categories")


@container("structured array")
def _structured(table: Table, names: Sequence[str], place: Place) -> Side:
    made = frame(table, plain_series).to_records(index=False)
    return Side(made, may_refuse="a structured array")


@container("Arrow table", holds=_FRAME)
def _arrow_table(table: Table, names: Sequence[str], place: Place) -> Side:
    return Side(arrow_table(table), may_refuse="an Arrow table")


def arrow_table(table: Table) -> Any:
    return pa.table({column.name: arrow_array(column) for column in table.columns})


@container("Dask frame", holds=(TRUTHS, TIMES, LENGTHS, TEXT))
def _dask_frame(table: Table, names: Sequence[str], place: Place) -> Side:
    made = frame(table, nullable_series)
    return Side(dd.from_pandas(made, npartitions=int(place.pick(1, 3))), str(dict(made.dtypes)))


@container("Arrow data set", holds=_FRAME)
def _arrow_data_set(table: Table, names: Sequence[str], place: Place) -> Side:
    made = pyarrow.dataset.dataset(arrow_table(table))
    return Side(made, may_refuse="lists in a frame" if LIST in table.names else "")


if is_installed("polars"):

    @container("Polars", holds=_FRAME, dtypes=NO_HALVES)
    def _polars(table: Table, names: Sequence[str], place: Place) -> Side:
        import polars

        made = polars.from_arrow(arrow_table(table))
        return Side(place.pick(made, made.lazy()), may_refuse=lists_in(table, names))


if is_installed("duckdb"):
    # Lengths of time become intervals of months, days and nanoseconds there.
    @container("DuckDB", holds=(TRUTHS, TIMES, TEXT, LISTS), dtypes=NO_HALVES)
    def _duckdb(table: Table, names: Sequence[str], place: Place) -> Side:
        import duckdb

        made = duckdb.from_arrow(arrow_table(table))
        return Side(made, may_refuse=lists_in(table, names))


if is_installed("datasets"):

    @container("Hugging Face", holds=(TRUTHS, TIMES, LENGTHS, TEXT, LISTS))
    def _hugging_face(table: Table, names: Sequence[str], place: Place) -> Side:
        import datasets

        made = datasets.Dataset(arrow_table(table))
        return Side(made, str(made.features), may_refuse=lists_in(table, names))
