"""Row filters as expressions of pyarrow, which skips what they rule out while it reads.

Arrow converts what it compares to one type, and fails where a value does not fit. Comparisons for
which this may happen, or which it does not know, are left to NumPy: those of columns of unlike
types, of decimals and of half floats. In an expression they hold for every row.
"""

import json
import math
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
from dkde.rows.filter_values import OPERATORS, Kind, literal_for, unlike, within
from dkde.rows.point_columns import PATH

# Lists of more values than this are looked up at once, and not compared one by one.
_FEW = 20
# The units of lengths of time in a day.
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def is_exact(condition: Condition, schema: pa.Schema) -> bool:
    """Return whether the expression of a condition holds for no row but those that meet it."""
    if isinstance(condition, Joined):
        return all(is_exact(part, schema) for part in condition.parts)
    if any(_path(schema, name) == [] for name in condition.names):
        return False
    kinds = [_decoded(schema.field(name).type) for name in condition.names]
    if isinstance(condition, Missing) or any(map(types.is_null, kinds)):
        # By its statistics, a row group without nulls counts as one without NaN for Arrow.
        return not (isinstance(condition, Missing) and types.is_floating(kinds[0]))
    if any(each(kind) for kind in kinds for each in _LEFT_TO_NUMPY):
        return False
    return len(set(kinds)) == 1 or any(all(map(each, kinds)) for each in _COMPARED_ALIKE)


def expression(condition: Condition, schema: pa.Schema) -> Any:
    """Return an expression of pyarrow that holds for all rows that meet a condition."""
    if isinstance(condition, Joined):
        join = and_ if condition.needs_all else or_
        return reduce(join, (expression(part, schema) for part in condition.parts))
    field, dtype = _field(schema, condition.name), schema.field(condition.name).type
    kind = _kind(dtype, condition.name)
    present = ~field.is_null(nan_is_null=True)
    if isinstance(condition, Missing):
        if not is_exact(condition, schema):
            return pc.scalar(True)
        return ~present if condition.wanted else present
    if "missing" in {_kind(schema.field(name).type, name) for name in condition.names}:
        return pc.scalar(False)  # Arrow compares no columns of null
    if isinstance(condition, Truth):
        check_truth(kind, condition.name)
        return present & (field == pc.scalar(condition.wanted))
    if isinstance(condition, Membership):
        literals = [literal_for(value, kind, condition.name) for value in condition.values]
        if not is_exact(condition, schema):
            return pc.scalar(True)
        found = _among(field, dtype, kind, literals)
        return found if condition.is_in else present & ~found
    if condition.other is not None:
        check_alike(kind, _kind(schema.field(condition.other).type, condition.other), condition)
        if not is_exact(condition, schema):
            return pc.scalar(True)
        other = _field(schema, condition.other)
        found = OPERATORS[condition.operator](field, other)
        return found & present & ~other.is_null(nan_is_null=True)
    assert condition.value is not None
    literal = literal_for(condition.value, kind, condition.name)
    if not is_exact(condition, schema):
        return pc.scalar(True)
    sign, scalar = _compared(condition.operator, literal, dtype, kind)
    if scalar is None:
        return present if sign == "always" else pc.scalar(False)
    found = OPERATORS[sign](field, scalar)
    # NaN differs from every number, but is a missing value here.
    return present & found if sign == "!=" else found


def _path(schema: pa.Schema, name: str) -> list[str] | None:
    """Return where the values of a coordinate are; empty if nowhere, None for other columns."""
    noted = (schema.field(name).metadata or {}).get(PATH)
    return None if noted is None else json.loads(noted)


def _field(schema: pa.Schema, name: str) -> Any:
    return pc.field(*(_path(schema, name) or [name]))


def _compared(sign: str, literal: Any, dtype: pa.DataType, kind: Kind) -> tuple[str, Any]:
    """Return a comparison with a literal as one with a scalar of the column's range.

    Without a scalar it is "always", for every value that is present, or "never".
    """
    plain = _decoded(dtype)
    if kind != "number" or types.is_floating(plain):
        return sign, _literal(literal, plain, kind)
    if types.is_duration(plain):
        lowest, highest = -(2**63), 2**63 - 1
        # Lengths of time are compared in days, and stored in whole seconds or parts of them.
        literal = literal * _PER_DAY[plain.unit]
        literal = round(literal) if math.isfinite(literal) else literal
    else:
        lowest, highest = (0, 2**64 - 1) if types.is_uint64(plain) else (-(2**63), 2**63 - 1)
    if not lowest <= literal <= highest:
        is_below = literal < lowest
        holds = {"!=": True, "==": False, "<": not is_below, "<=": not is_below}
        return ("always" if holds.get(sign, is_below) else "never"), None
    if literal != math.floor(literal):  # between two whole numbers
        if sign in ("==", "!="):
            return ("always" if sign == "!=" else "never"), None
        whole = math.floor(literal)
        sign, literal = ("<=", whole) if sign in ("<", "<=") else (">", whole)
    return sign, _literal(int(literal), plain, kind)


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
    if types.is_binary(dtype) or types.is_large_binary(dtype):  # text of other programs, in UTF-8
        return "text"
    if types.is_duration(dtype):
        return "number"
    if types.is_timestamp(dtype) or types.is_date(dtype):
        return "time"
    if types.is_null(dtype):
        return "missing"
    raise unlike(name, f"values of {dtype}")


def _decoded(dtype: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, whether they are in a dictionary or not."""
    return dtype.value_type if types.is_dictionary(dtype) else dtype


# Types whose comparisons are left to NumPy, which compares decimals as correctly rounded float64.
_LEFT_TO_NUMPY = (
    types.is_float16, types.is_decimal, types.is_string_view, types.is_binary,
    types.is_large_binary,
)  # fmt: skip


# Unlike types of which Arrow compares all values: those of one function.
_COMPARED_ALIKE = (
    lambda kind: types.is_integer(kind) and not types.is_uint64(kind),
    lambda kind: types.is_float32(kind) or types.is_float64(kind),
    lambda kind: types.is_string(kind) or types.is_large_string(kind),
)


def _among(field: Any, dtype: pa.DataType, kind: Kind, literals: Sequence[Any]) -> Any:
    """Return whether a column of a type is one of some values."""
    pairs = [_compared("==", literal, dtype, kind) for literal in literals]
    values = [value for _, value in pairs if value is not None]
    known = {value.type for value in values}
    # A cast must not fail for any value of the column.
    fits = known == {dtype} or (known == {pa.int64()} and types.is_integer(dtype))
    if len(values) > _FEW and (fits or known == {pa.string()}) and not types.is_uint64(dtype):
        (kind_of_all,) = known
        held = pa.array([value.as_py() for value in values], kind_of_all)
        found = field.cast(kind_of_all).isin(held)
        if types.is_floating(kind_of_all) and any(value.as_py() == 0 for value in values):
            # Zero has two signs, which are one number in a comparison and two in a list.
            found = found | (field == pa.scalar(0, kind_of_all))
        return found
    return reduce(or_, (field == value for value in values), pc.scalar(False))


def _literal(value: Any, dtype: pa.DataType, kind: Kind) -> pa.Scalar:
    """Return a literal as a scalar of Arrow that is compared with a column's values."""
    if kind == "time":
        return _arrow_time(value, dtype)
    if kind != "number":
        return pa.scalar(value)
    # As NumPy does: the literal takes the column's type, so that float32 is compared in float32.
    if types.is_floating(dtype):
        with np.errstate(over="ignore"):
            return pa.scalar(np.dtype(dtype.to_pandas_dtype()).type(value), dtype)
    if types.is_duration(dtype):
        return pa.scalar(value, dtype)
    return pa.scalar(value, pa.uint64() if types.is_uint64(dtype) else pa.int64())


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
