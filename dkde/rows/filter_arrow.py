"""Row filters as expressions of pyarrow, which skips what they rule out while it reads."""

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from dkde.rows.filter_conditions import (
    Condition,
    Joined,
    Membership,
    Missing,
    Truth,
    check_alike,
    check_truth,
)
from dkde.rows.filter_values import OPERATORS, Kind, Literal, literal_for, unlike, within

# Lists of more values than this are looked up at once, and not compared one by one.
_FEW = 20
# The units of lengths of time in a day.
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def expression(condition: Condition, schema: pa.Schema) -> Any:
    """Return a condition as an expression of pyarrow."""
    if isinstance(condition, Joined):
        join = and_ if condition.needs_all else or_
        return reduce(join, (expression(part, schema) for part in condition.parts))
    field, dtype = pc.field(condition.name), schema.field(condition.name).type
    kind = _kind(dtype, condition.name)
    present = ~field.is_null(nan_is_null=True)
    if isinstance(condition, Missing):
        return ~present if condition.wanted else present
    if "missing" in {_kind(schema.field(name).type, name) for name in condition.names}:
        return pc.scalar(False)  # Arrow compares no columns of null
    if isinstance(condition, Truth):
        check_truth(kind, condition.name)
        return present & (field == pc.scalar(condition.wanted))
    if isinstance(condition, Membership):
        found = _among(
            field,
            dtype,
            [_literal(value, dtype, kind, condition.name) for value in condition.values],
        )
        return found if condition.is_in else present & ~found
    if condition.other is not None:
        other_kind = _kind(schema.field(condition.other).type, condition.other)
        check_alike(kind, other_kind, condition)
        other = pc.field(condition.other)
        found = OPERATORS[condition.operator](field, other)
        return found & present & ~other.is_null(nan_is_null=True)
    assert condition.value is not None
    found = OPERATORS[condition.operator](
        field, _literal(condition.value, dtype, kind, condition.name)
    )
    # NaN differs from every number, but is a missing value here.
    return present & found if condition.operator == "!=" else found


def _kind(dtype: pa.DataType, name: str) -> Kind:
    """Return the kind of a column of Arrow.

    Raises
    ------
    InputError
        When its values are of no kind that a filter compares.
    """
    if types.is_dictionary(dtype):
        return _kind(dtype.value_type, name)
    if types.is_boolean(dtype):
        return "truth"
    if types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    if types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype):
        return "text"
    if types.is_duration(dtype):
        return "number"
    if types.is_timestamp(dtype) or types.is_date(dtype):
        return "time"
    if types.is_null(dtype):
        return "missing"
    raise unlike(name, f"values of {dtype}")


def _among(field: Any, dtype: pa.DataType, values: Sequence[pa.Scalar]) -> Any:
    """Return whether a column of a type is one of some values."""
    known = {value.type for value in values}
    # A cast must not fail for any value of the column.
    fits = known == {dtype} or (known == {pa.int64()} and types.is_integer(dtype))
    if len(values) > _FEW and (fits or known == {pa.string()}) and not types.is_uint64(dtype):
        (kind,) = known
        return field.cast(kind).isin(pa.array([value.as_py() for value in values], kind))
    return reduce(or_, (field == value for value in values), pc.scalar(False))


def _literal(value: Literal, dtype: pa.DataType, kind: Kind, name: str) -> Any:
    """Return a literal as a scalar of Arrow that is compared with a column.

    Raises
    ------
    InputError
        When the literal is of another kind than the column.
    """
    if types.is_dictionary(dtype):
        dtype = dtype.value_type
    found = literal_for(value, kind, name)
    if kind == "time":
        return _arrow_time(found, dtype)
    if kind != "number":
        return pa.scalar(found)
    if types.is_duration(dtype):  # a number of days
        parts = _PER_DAY[dtype.unit]
        return pa.scalar(round(found * parts), dtype)
    # As NumPy does: the literal takes the column's type, so that float32 is compared in float32.
    if types.is_floating(dtype):
        typed = np.dtype(dtype.to_pandas_dtype()).type(found)
        return pa.scalar(typed, dtype)
    if isinstance(found, float) and found.is_integer() and abs(found) < 2.0**63:
        found = int(found)
    if isinstance(found, int):
        if types.is_uint64(dtype) and 0 <= found < 2**64:
            return pa.scalar(int(found), pa.uint64())
        if not -(2**63) <= found < 2**63:
            found = float(found)
    return pa.scalar(int(found) if isinstance(found, bool) else found)


def _arrow_time(time: np.datetime64, dtype: pa.DataType) -> pa.Scalar:
    if types.is_date(dtype):
        inside = within(time, "D")
        if np.datetime_data(inside)[0] == "D":
            return pa.scalar(inside.astype(int).item(), pa.date32())
        unit, zone = np.datetime_data(inside)[0], None
    else:
        inside, zone = within(time, dtype.unit), dtype.tz
        unit = np.datetime_data(inside)[0]
    unit, inside = ("s", inside.astype("M8[s]")) if unit in ("h", "m") else (unit, inside)
    return pa.scalar(inside.astype(np.int64).item(), pa.timestamp(unit, zone))
