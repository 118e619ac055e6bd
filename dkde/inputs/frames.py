"""Data frames as rows: the features are the numeric columns, or the columns named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from dkde.datasets.formats.tables import (
    check_lists,
    crs_of,
    no_numbers,
)
from dkde.errors import InputError, NoVariableError, some, warn
from dkde.inputs.arrays import check_listed, checked, whole
from dkde.inputs.arrow_tables import frame_through_arrow
from dkde.inputs.frame import Frame, frame_of_pandas
from dkde.inputs.frame_choice import (
    check_numbers,
    left_out_columns,
    names_of,
    place_of_points,
    places_of,
    read_columns,
    wanted_columns,
)
from dkde.inputs.frame_columns import FLOAT, is_plain, numbers_of
from dkde.numerics.exact import check_exact
from dkde.rows.arrow_values import Column
from dkde.rows.column_steps import TableSource
from dkde.rows.feature_choice import left_out_line
from dkde.rows.frame_values import values_as_they_are
from dkde.rows.row_filter import no_such
from dkde.rows.side import Part
from dkde.rows.sources import ArraySource
from dkde.typing import Array


def frame_of(data: Any, role: str) -> Frame | None:
    """Return a table of any package, whose columns are read as needed; None for anything else.

    Raises
    ------
    InputError
        When it is a table of another package, and pyarrow, which reads it, is not installed.
    """
    if isinstance(data, type):  # a class has the attributes of its tables
        return None
    if isinstance(data, Frame):
        return data
    if isinstance(data, pd.DataFrame):
        return frame_of_pandas(data)
    if isinstance(data, pd.Series) and str(data.dtype) == "geometry":  # a GeoSeries is one column
        return frame_of_pandas(data.to_frame("geometry"))
    return frame_through_arrow(data, role)


def opened(data: Any, role: str) -> Any:
    """Return a table of another package than pandas, or with points, as a table that is read once.

    Plain data frames of pandas, and data that are no table, are returned unchanged.
    """
    is_plain_frame = isinstance(data, pd.DataFrame) and not hasattr(data, "_geometry_column_name")
    if is_plain_frame or isinstance(data, np.ndarray | list | tuple):
        return data
    found = frame_of(data, role)
    return data if found is None else found


def part_of_frame(
    frame: Frame, role: str, features: tuple[str, ...] | None, others: Any = None
) -> Part:
    """Return the rows of a table; only the columns that are features are read.

    Parameters
    ----------
    frame : Frame
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
    wanted = wanted_columns(frame, names, features, others)
    places, taken, held = read_columns(frame, role, names, wanted)
    left_out = {}
    if features is None:
        left_out = left_out_columns(frame, places, is_chosen=wanted is not None)
    if wanted is None:
        check_lists(role, dict(zip(map(str, taken.columns), held, strict=True)))
    array = checked(_array(taken, role, held), role)
    # ``beside`` of the source finds weights in columns that are no features.
    source = TableSource(
        array,
        lambda name, what: _column(frame, role, name, what),
        lambda name: column_as_it_is(frame, role, name),
    )
    (part,) = whole(source, role).parts
    # A column of lists makes several features, emb_0, emb_1, ...
    chosen = [names[i] for i in places]
    expanded = [
        each for name, column in zip(chosen, held, strict=True) for each in column.names(name or "")
    ]
    units = tuple(unit for column in held for unit in column.feature_units)
    is_named = None not in chosen and len(set(expanded)) == len(expanded)
    # Coordinates of points may be named as features, too: these are chosen later.
    is_whole = features is not None and set(features) <= set(names)
    return replace(
        part,
        features=tuple(expanded) if is_named else None,
        units=units if any(units) else None,
        opened=features if is_whole and expanded != chosen else None,
        left_out=left_out,
        converted={
            str(name): column.converted
            for name, column in zip(taken.columns, held, strict=True)
            if column.converted
        },
        crs=crs_of(held),
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
    if not isinstance(data, pd.DataFrame):
        check_listed(data, role)
        return data
    data = _without_categories(data, others or ())
    frame = frame_of_pandas(data)
    held = [frame.kind(i) for i in range(len(frame.columns))]
    known = frozenset(others or ())
    taken = [
        i
        for i, (name, column) in enumerate(zip(frame.columns, held, strict=True))
        if name in known or (column.dtype is not None and column.is_quantity)
    ]
    if len(taken) < len(held):
        if not taken:
            raise InputError(no_numbers(role, frame.kinds))
        left_out = {
            str(frame.columns[i]): held[i].kind for i in range(len(held)) if i not in {*taken}
        }
        data = data.iloc[:, taken]
        if others is None:
            way = "make numbers of those that are to be features"
            warn(left_out_line(role, [str(name) for name in data.columns], left_out, way))
    # The conversion to numbers is made for its check of large integers; the result is not used.
    for j, i in enumerate(taken):
        column, dtype = held[i], data.dtypes.iloc[j]
        is_float = is_plain(dtype) and dtype.kind == "f"
        if not is_float and column.dtype is not None and column.width is None and not column.units:
            numbers_of(data.iloc[:, j], column, FLOAT, _where(data, role, j))
    return data


def _without_categories(data: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a frame in which some columns hold numbers in place of categories of numbers.

    An array would have the least integer where a category is missing.
    """
    found = {}
    for name in {*names} & {*data.columns}:
        dtype = data.dtypes[name]
        if isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype.kind in "iuf":
            kind = dtype.categories.dtype
            # NumPy's integers cannot be missing; those of pandas of the same width can.
            is_bare = is_plain(kind) and kind.kind != "f"
            found[name] = pd.array(np.empty(0, kind)).dtype if is_bare else kind
    return data.astype(found) if found else data


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


def column_as_it_is(frame: Frame, role: str, name: str) -> ArraySource:
    """Return a column of any name and kind, for a row filter."""
    known = list(map(str, frame.columns))
    if known.count(name) != 1:
        if name not in known and (made := _coordinate(frame, role, name)) is not None:
            return ArraySource(made)
        raise no_such(role, name, names_of(frame))
    values, _ = frame.read([known.index(name)])
    return ArraySource(values_as_they_are(values.iloc[:, 0]))


def _column(frame: Frame, role: str, name: str, what: str) -> ArraySource:
    """Return a column of any name, one number for each row; ``what`` is its purpose."""
    labels = list(frame.columns)
    if labels.count(name) != 1:
        known = some([str(each) for each in labels])
        if name in labels:
            raise InputError(f"{role}: has two columns {name!r} to be {what}; it has {known}")
        if (made := _coordinate(frame, role, name)) is not None:
            return ArraySource(made)
        raise NoVariableError(f"{role}: has no variable {name!r} to be {what}; it has {known}")
    taken, held = frame.read(places_of(frame, role, labels, [name]))
    check_numbers(role, [name], held)
    if held[0].width is not None:
        raise InputError(f"{role}: column {name!r} holds lists; {what} are one number for each row")
    return ArraySource(_array(taken, role, held)[:, 0])


def _coordinate(frame: Frame, role: str, name: str) -> Array | None:
    """Return a coordinate of the table's points by its name; None if no points have it."""
    place = place_of_points(frame, name)
    if place is None:
        return None
    taken, held = frame.read([place])
    points = held[0].points
    assert points is not None
    return _array(taken, role, held)[:, points.names.index(name)]


def _array(frame: pd.DataFrame, role: str, held: Sequence[Column]) -> Array:
    """Return the features as one array; plain columns are not copied one by one."""
    if all(map(is_plain, frame.dtypes)):
        array = np.asarray(frame)
        if array.dtype.kind == "f":
            # A float column makes floats of all columns, and rounds large integers of the others.
            for i in range(frame.shape[1]):
                check_exact(frame.iloc[:, i].to_numpy(), _where(frame, role, i))
        # pandas may answer with objects for mixed dtypes; then each column is converted below.
        if array.dtype.kind in "iuf":
            return array
    dtype = np.result_type(*(column.dtype for column in held))
    rows = np.empty((len(frame), sum(column.n_features for column in held)), dtype)
    at = 0
    for i, column in enumerate(held):
        values = numbers_of(frame.iloc[:, i], column, dtype, _where(frame, role, i))
        rows[:, at : at + column.n_features] = values.reshape(len(frame), column.n_features)
        at += column.n_features
    return rows


def _where(frame: pd.DataFrame, role: str, column: int) -> str:
    return f"{role}: column {frame.columns[column]!r}"
