"""Data frames as rows: the features are the numeric columns, or the columns named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dkde.datasets.formats.arrow_values import Column
from dkde.datasets.formats.tables import check_lists, no_numbers
from dkde.errors import InputError, NoVariableError, some, warn
from dkde.inputs.arrays import check_listed, checked, whole
from dkde.inputs.frame_columns import FLOAT, is_plain, kind_of_column, numbers_of
from dkde.inputs.frame_values import values_as_they_are
from dkde.numerics.exact import check_exact
from dkde.rows.columns import TableSource
from dkde.rows.feature_choice import NO_SUCH, left_out_line, of_a_list
from dkde.rows.row_filter import no_such
from dkde.rows.side import Part
from dkde.rows.sources import ArraySource
from dkde.typing import Array


def frame_of(data: Any, role: str) -> pd.DataFrame | None:
    """Return any table as a data frame of pandas; return None for anything else.

    Raises
    ------
    InputError
        When it is a table of another package, and pyarrow, which reads it, is not installed.
    """
    if isinstance(data, pd.DataFrame):
        return data
    if hasattr(data, "compute") and hasattr(data, "columns") and hasattr(data, "dtypes"):
        return frame_of(data.compute(), role)  # a data frame of Dask
    if not (hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__")):
        return None
    if not (hasattr(data, "columns") or hasattr(data, "schema")):
        return None  # a Series of another package also has a stream, but is one column
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError(
            f'{role} is a table, and reading it needs pyarrow; pip install "dkde[tables]"'
        ) from None
    found: pd.DataFrame = pa.table(data).to_pandas(types_mapper=pd.ArrowDtype)
    return found


def part_of_frame(
    frame: pd.DataFrame, role: str, features: tuple[str, ...] | None, others: Any = None
) -> Part:
    """Return the rows of a data frame.

    Parameters
    ----------
    frame : DataFrame
        The table.
    role : str
        The name of the table, for messages.
    features : tuple of str, optional
        The columns that the user names as features.
    others : sequence of str, optional
        The features of the other side. If the table has them all, they are the features here.

    Raises
    ------
    InputError
        When a named column does not exist or holds no numbers, or no column holds numbers.
    """
    names = [name if isinstance(name, str) else None for name in frame.columns]
    wanted = features
    # If all columns are plain numbers, the frame is read whole without a copy, and columns are
    # chosen later.
    all_plain = all(map(is_plain, frame.dtypes))
    if wanted is None and others is not None and set(others) <= set(names) and not all_plain:
        wanted = tuple(others)
    if features is not None and None in names and len(names) == len(features):
        wanted = None  # columns without names: the names are given to them in order
    if wanted is not None and all_plain and set(wanted) == set(names):
        wanted = None
    held = [kind_of_column(frame.iloc[:, i]) for i in range(len(names))]
    # By position and not by name: two columns of a data frame may have one name.
    places = _places(frame, role, held, names if wanted is not None else [], wanted)
    left_out = {}
    if features is None:
        rest = sorted({*range(len(held))} - {*places})
        is_number = [column.dtype is not None and column.is_quantity for column in held]
        left_out = {
            str(frame.columns[i]): NO_SUCH if is_number[i] else held[i].kind
            for i in rest
            if is_number[i] or wanted is None  # where the other side decides, text is no news
        }
    chosen = {str(frame.columns[i]): held[i] for i in places}
    array = checked(_array(frame, role, places, held), role)
    # ``beside`` of the source finds weights in columns that are no features.
    source = TableSource(
        array,
        lambda name, what: _column(frame, role, name, what),
        lambda name: column_as_it_is(frame, role, name),
    )
    (part,) = whole(source, role).parts
    taken = [names[i] for i in places]
    # A column of lists makes several features, emb_0, emb_1, ...
    expanded = [
        each for name, i in zip(taken, places, strict=True) for each in held[i].names(name or "")
    ]
    units = tuple(held[i].units for i in places for _ in range(held[i].n_features))
    is_named = None not in taken and len(set(expanded)) == len(expanded)
    return replace(
        part,
        features=tuple(expanded) if is_named else None,
        units=units if any(units) else None,
        opened=features if features and expanded != taken else None,
        left_out=left_out,
        converted={name: column.converted for name, column in chosen.items() if column.converted},
    )


def numbers_alone(data: Any, role: str, others: Sequence[str] | None = None) -> Any:
    """Return a table without the columns that are features only if they are named.

    These are columns of bools, categories, times and text; there is a warning of those left out.
    Integers that an array would round are refused, also in lists.

    Parameters
    ----------
    data : table, or array-like
        The data. Anything that is no table is returned unchanged.
    role : str
        The name of the data, for messages.
    others : sequence of str, optional
        The features of the other side. They are kept whatever they hold, and other columns are
        left out without a warning.

    Raises
    ------
    InputError
        When no column of numbers is left, or an integer is beyond 2**53.
    """
    frame = frame_of(data, role)
    if frame is None:
        check_listed(data, role)
        return data
    held = [kind_of_column(frame.iloc[:, i]) for i in range(frame.shape[1])]
    known = frozenset(others or ())
    taken = [
        i
        for i, (name, column) in enumerate(zip(frame.columns, held, strict=True))
        if name in known or (column.dtype is not None and column.is_quantity)
    ]
    if len(taken) < len(held):
        kinds = {str(name): column for name, column in zip(frame.columns, held, strict=True)}
        if not taken:
            raise InputError(no_numbers(role, kinds))
        left_out = {
            str(frame.columns[i]): held[i].kind for i in range(len(held)) if i not in {*taken}
        }
        data = frame.iloc[:, taken]
        if others is None:
            way = "make numbers of those that are to be features"
            warn(left_out_line(role, [str(name) for name in data.columns], left_out, way))
    # The conversion to numbers is made for its check of large integers; the result is not used.
    for i in taken:
        column, dtype = held[i], frame.dtypes.iloc[i]
        is_float = is_plain(dtype) and dtype.kind == "f"
        if not is_float and column.dtype is not None and column.width is None and not column.units:
            numbers_of(frame.iloc[:, i], column, FLOAT, _where(frame, role, i))
    return data


def column_named(data: Any, role: str, name: str, what: str) -> Array:
    """Return a column of a table by its name, one number for each row.

    Parameters
    ----------
    data : table
        The table.
    role : str
        The name of the table, for messages.
    name : str
        The name of the column.
    what : str
        The purpose of the column, for messages.

    Raises
    ------
    InputError
        When the data are no table, or have no such column of numbers.
    """
    frame = frame_of(data, role)
    if frame is None:
        raise InputError(f"{role}: has no names, so none of its columns is {name!r}, {what}")
    source = _column(frame, role, name, what)
    return source.read(0, source.shape[0])


def column_as_it_is(frame: pd.DataFrame, role: str, name: str) -> ArraySource:
    """Return a column of any name and kind, for a row filter."""
    known = list(map(str, frame.columns))
    if known.count(name) != 1:
        raise no_such(role, name, known)
    return ArraySource(values_as_they_are(frame.iloc[:, known.index(name)]))


def _column(frame: pd.DataFrame, role: str, name: str, what: str) -> ArraySource:
    """Return a column of any name, one number for each row; ``what`` is its purpose."""
    if list(frame.columns).count(name) != 1:
        known = some([str(each) for each in frame.columns])
        if name in list(frame.columns):
            raise InputError(f"{role}: has two columns {name!r} to be {what}; it has {known}")
        raise NoVariableError(f"{role}: has no variable {name!r} to be {what}; it has {known}")
    found = part_of_frame(frame[[name]], role, (name,)).source
    if found.shape[1] > 1:
        raise InputError(f"{role}: column {name!r} holds lists; {what} are one number for each row")
    return ArraySource(found.read(0, found.shape[0])[:, 0])


def _places(
    frame: pd.DataFrame,
    role: str,
    held: Sequence[Column],
    names: Sequence[str | None],
    wanted: tuple[str, ...] | None,
) -> list[int]:
    """Return the positions of the features among the columns."""
    if wanted is None:
        found = [i for i, each in enumerate(held) if each.dtype is not None and each.is_quantity]
        if not found and len(frame.columns):
            kinds = {str(frame.columns[i]): column for i, column in enumerate(held)}
            raise InputError(no_numbers(role, kinds))
        check_lists(role, {str(frame.columns[i]): held[i] for i in found})
        return found
    for name in wanted:
        if names.count(name) != 1:
            what = "two columns" if name in names else "no feature"
            known = some([str(each) for each in frame.columns])
            way = of_a_list(name, [str(each) for each in frame.columns])
            raise InputError(f"{role}: has {what} {name!r}; it has {known}{way}")
        kind = held[names.index(name)]
        if kind.dtype is None:
            raise InputError(f"{role}: column {name!r} holds {kind.kind}, and features are numbers")
    return [names.index(name) for name in wanted]


def _array(frame: pd.DataFrame, role: str, places: Sequence[int], held: Sequence[Column]) -> Array:
    """Return the features as one array; plain columns are not copied one by one."""
    if all(is_plain(frame.dtypes.iloc[i]) for i in places):
        every = list(places) == list(range(len(held)))
        array = np.asarray(frame if every else frame.iloc[:, list(places)])
        if array.dtype.kind == "f":
            # A float column makes floats of all columns, and rounds large integers of the others.
            for i in places:
                check_exact(frame.iloc[:, i].to_numpy(), _where(frame, role, i))
        # pandas may answer with objects for mixed dtypes; then each column is converted below.
        if array.dtype.kind in "iuf":
            return array
    dtype = np.result_type(*(held[i].dtype for i in places))
    rows = np.empty((len(frame), sum(held[i].n_features for i in places)), dtype)
    at = 0
    for i in places:
        values = numbers_of(frame.iloc[:, i], held[i], dtype, _where(frame, role, i))
        rows[:, at : at + held[i].n_features] = values.reshape(len(frame), -1)
        at += held[i].n_features
    return rows


def _where(frame: pd.DataFrame, role: str, column: int) -> str:
    return f"{role}: column {frame.columns[column]!r}"
