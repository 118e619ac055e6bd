"""Log-densities as columns of a data frame, of the same package and with the index of the rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd

from dkde.errors import InputError
from dkde.inputs.dask_frames import is_dask_frame
from dkde.inputs.operands import Operand
from dkde.rows.dask_source import DaskSource
from dkde.rows.row_source import innermost


def check_frame(query: Any) -> None:
    """Refuse rows that are no data frame, and whose scores cannot be asked for as one.

    Raises
    ------
    InputError
    """
    if isinstance(query, pd.DataFrame) or is_dask_frame(query) or _is_polars(query):
        return
    streams = hasattr(query, "__arrow_c_stream__") or hasattr(query, "__arrow_c_array__")
    if not streams or not (hasattr(query, "columns") or hasattr(query, "schema")):
        raise InputError(
            f"as_frame is for rows in a data frame or a table, and these are in {_kind(query)}; "
            "leave it out"
        )


def _kind(query: Any) -> str:
    return "a selector" if isinstance(query, str) else f"an object of {type(query).__name__}"


def _is_polars(query: Any) -> bool:
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(query, polars.DataFrame | polars.LazyFrame)


def framed_like(query: Any, q: Operand, values: Any, names: str | Sequence[str]) -> Any:
    """Return numbers of rows as a column, or columns, like those of the rows' data frame.

    Parameters
    ----------
    query : data frame, or table
        The rows as the user gave them.
    q : Operand
        The rows as they were scored.
    values : array (rows,), or (columns, rows)
        NumPy, or Dask for a data frame of Dask.
    names : str, or sequence of str
        The name of the column, or of each.

    Returns
    -------
    Series or data frame
        Of pandas, with the index of the rows, for pandas; of Dask, with their divisions, for Dask;
        of polars for polars; a table of pyarrow for any other.

    Raises
    ------
    InputError
        When a filter left out rows of a data frame of Dask.
    """
    if is_dask_frame(query):
        return _lazy(query, q, values, names)
    if isinstance(query, pd.DataFrame):
        index = query.index
        if q.kept is not None:  # those of the rows that a filter keeps
            index = index[q.kept.numbers(0, q.rows.n_rows)]
        if isinstance(names, str):
            return pd.Series(values, index=index, name=names)
        return pd.DataFrame(np.transpose(values), index=index, columns=list(names))
    columns = {names: values} if isinstance(names, str) else dict(zip(names, values, strict=True))
    if _is_polars(query):
        import polars as pl

        return pl.Series(names, values) if isinstance(names, str) else pl.DataFrame(columns)
    import pyarrow as pa

    return pa.table(columns)


def _lazy(query: Any, q: Operand, values: da.Array, names: str | Sequence[str]) -> Any:
    """Return a Series or a data frame of Dask, with the index and divisions of the rows."""
    import dask.dataframe as dd

    if q.kept is not None:
        raise InputError(
            "as_frame: the index of the rows that where keeps of a Dask DataFrame is not known; "
            "filter it before, or leave out as_frame"
        )
    source = innermost(q.rows.parts[0].source)
    assert isinstance(source, DaskSource)
    # A chunk for each partition, as the index has them.
    lengths = source.array.chunks[0]
    if isinstance(names, str):
        return dd.from_dask_array(values.rechunk((lengths,)), columns=names, index=query.index)
    rows = values.T.rechunk((lengths, -1))
    return dd.from_dask_array(rows, columns=list(names), index=query.index)
