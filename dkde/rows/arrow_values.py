"""Values of Arrow's columns as arrays of numbers, with NaN for missing values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dkde.errors import InputError
from dkde.numerics.exact import LARGEST, check_exact, rounded
from dkde.rows.as_numbers import as_days
from dkde.rows.points import Points, coordinates_of_arrow
from dkde.typing import Array

# What truths are converted to, in the words of a warning.
TRUTHS = "0 and 1"


@dataclass(frozen=True)
class Column:
    """The kind of a column's values.

    Parameters
    ----------
    dtype : numpy.dtype, optional
        The dtype of its numbers, in which a missing value can be NaN; None if it holds no
        numbers.
    kind : str
        The kind of its values, in words for messages.
    is_quantity : bool
        Whether its numbers are a feature by default.
    width : int, optional
        The length of its lists, for a column of lists of numbers.
    units : str, optional
        The unit of numbers that are made of times.
    points : Points, optional
        The coordinates, for a column of points.
    """

    dtype: np.dtype[Any] | None
    kind: str
    is_quantity: bool = True
    width: int | None = None
    units: str | None = None
    points: Points | None = None

    @property
    def n_features(self) -> int:
        """Return the number of features in the column."""
        return 1 if self.width is None else self.width

    @property
    def converted(self) -> str | None:
        """Return what its values are converted to, or None if they are numbers."""
        return TRUTHS if self.kind == "bool" else self.units

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of its features; those of a list are numbered by position.

        Examples
        --------
        >>> Column(np.dtype("f4"), "lists of 2 numbers", width=2).names("emb")
        ('emb_0', 'emb_1')
        """
        if self.points is not None:
            return self.points.names
        return (name,) if self.width is None else tuple(f"{name}_{i}" for i in range(self.width))

    @property
    def feature_units(self) -> tuple[str | None, ...]:
        """Return the unit of each of its features."""
        return (self.units,) * self.n_features if self.points is None else self.points.units


def column_of_points(points: Points) -> Column:
    """Return the kind of a column of points, which is two features: x and y."""
    return Column(np.dtype(np.float64), "points", width=2, points=points)


def column_of_coordinate(points: Points, axis: int) -> Column:
    """Return the kind of one coordinate of a column of points, as a column of its own."""
    alone = Points(points.crs, points.names[axis : axis + 1], points.units[axis : axis + 1])
    return Column(np.dtype(np.float64), "coordinates of points", points=alone)


def column_of_type(kind: Any, *, may_miss: bool, length: int | None = None) -> Column:
    """Return the kind of a column of an Arrow type.

    Parameters
    ----------
    kind : pyarrow.DataType
    may_miss : bool
        Whether some values are missing, so that integers have to be floats.
    length : int, optional
        The length of lists whose type does not fix it.
    """
    from pyarrow import types

    if types.is_null(kind):
        return Column(None, "no values")
    # The numbers of a dictionary are codes in no order of size.
    if types.is_dictionary(kind):
        return Column(None, "categories")
    # Truths and times are numbers only when the user names them: is_quantity is False.
    if types.is_boolean(kind):
        return Column(_number(kind, may_miss), "bool", is_quantity=False)
    if types.is_timestamp(kind) or types.is_date(kind):
        return Column(np.dtype(np.float64), "timestamps", False, units="days since 1970-01-01")
    if types.is_duration(kind):
        return Column(np.dtype(np.float64), "lengths of time", False, units="days")
    # A list of numbers is several features. One of truths, of lists or of no length is none.
    if _is_list(kind):
        number = _number(kind.value_type, may_miss)
        length = kind.list_size if types.is_fixed_size_list(kind) else length
        if number is None or types.is_boolean(kind.value_type) or not length:
            return Column(None, str(kind))
        return Column(number, f"lists of {length} numbers", width=length)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return Column(_number(kind, may_miss), "text" if text else str(kind))


def _is_list(kind: Any) -> bool:
    """Return whether an Arrow type is one of its three kinds of lists."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _number(kind: Any, may_miss: bool) -> np.dtype[Any] | None:
    """Return the dtype of the numbers of an Arrow type, or None if it has no numbers."""
    from pyarrow import types

    # NumPy's integers and truths have no value for a missing one, hence float64 with NaN.
    if types.is_floating(kind) or (types.is_integer(kind) and not may_miss):
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return found
    if types.is_decimal(kind) or (may_miss and (types.is_integer(kind) or types.is_boolean(kind))):
        return np.dtype(np.float64)
    return np.dtype(np.uint8) if types.is_boolean(kind) else None


def first_length(column: Any) -> int | None:
    """Return the length of the first list of a column that is not missing; None without one."""
    import pyarrow.compute as pc

    lengths = pc.drop_null(pc.list_value_length(column))
    return int(lengths[0].as_py()) if len(lengths) else None


def values_of(column: Any, held: Column, dtype: np.dtype[Any], where: str, start: int) -> Array:
    """Return a column, or a batch of it, as numbers (rows,), or lists as (rows, width).

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
    held : Column
        The kind of the column.
    dtype : numpy.dtype
        The dtype that all features have in common.
    where : str
        The source and the column, for messages.
    start : int
        The number of the first row, for messages.

    Raises
    ------
    InputError
        When lists differ in length, or integers would be rounded in that dtype.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if held.points is not None:
        return coordinates_of_arrow(column, where, start)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if held.width is not None:
        # A missing list counts as one of the right length, and becomes a row of NaN.
        lengths = pc.fill_null(pc.list_value_length(column), held.width)
        uneven = np.flatnonzero(lengths.to_numpy(zero_copy_only=False) != held.width)
        if len(uneven):
            raise InputError(
                f"{where}: row {start + int(uneven[0])} has a list of "
                f"{lengths[int(uneven[0])].as_py()} numbers, and other lists have {held.width}; "
                "lists that are features must have one length"
            )
        there = column.is_valid().to_numpy(zero_copy_only=False)
        # `flatten` skips missing lists, so their rows are put back below.
        flat = _numbers(column.flatten(), dtype, where, start, held.width)
        if there.all():
            return flat.reshape(-1, held.width)
        rows = np.full((len(column), held.width), np.nan, dtype)
        rows[there] = flat.reshape(-1, held.width)
        return rows
    if held.units is not None:
        days, _ = as_days(column.to_numpy(zero_copy_only=False))
        return days
    return _numbers(column, dtype, where, start)


def _numbers(column: Any, dtype: np.dtype[Any], where: str, start: int, width: int = 1) -> Array:
    """Return numbers in a dtype; refuse integers that it would round.

    Parameters
    ----------
    width : int
        Numbers in a row, by which messages count rows.
    """
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    # Without a cast: the caller's assignment converts floats, and no copy is made here.
    if types.is_floating(kind) and not column.null_count:
        values: Array = column.to_numpy(zero_copy_only=False)
        return values
    if dtype.kind == "f" and types.is_integer(kind):
        whole = column.fill_null(0).to_numpy(zero_copy_only=False)
        check_exact(whole.reshape(-1, width), where, start)
    if types.is_boolean(kind):  # Arrow casts truths to integers, but not to every float
        column = column.cast(pa.uint8())
    # Integers were checked above, with a message that names the row; Arrow's own check is off.
    cast = column.cast(pa.from_numpy_dtype(dtype), safe=not types.is_integer(kind))
    if types.is_decimal(kind) and kind.scale <= 0:
        _check_decimals(column, where, start)
    found: Array = cast.to_numpy(zero_copy_only=False)
    return found


def _check_decimals(column: Any, where: str, start: int) -> None:
    """Refuse whole decimals beyond 2**53; a precision of 15 digits or less cannot hold one."""
    for i, value in enumerate(column.to_pylist() if column.type.precision > 15 else []):
        if value is not None and abs(value) > LARGEST:
            raise rounded(f"{where}, row {start + i},", value)
