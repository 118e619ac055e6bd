"""Values of Arrow's columns as arrays: of numbers, what is missing is NaN; and of labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.metadata import class_words
from dkde.errors import DataSetError, InputError
from dkde.numerics.exact import LARGEST, check_exact, rounded
from dkde.rows.as_numbers import as_days
from dkde.typing import Array

TRUTHS = "0 and 1"
_INTEGER = re.compile(r"\s*[+-]?\d+\s*")
_MAX_CLASSES = 2**16


@dataclass(frozen=True)
class Column:
    """The kind of a column's values.

    Parameters
    ----------
    dtype : numpy.dtype, optional
        What its numbers are, with NaN for those that are missing; None where it holds none.
    kind : str
        In words.
    is_quantity : bool
        Whether its numbers are a feature if nobody says so.
    width : int, optional
        How many numbers a row has, where it has a list of them.
    units : str, optional
        What the numbers are measured in, where they are made of times.
    """

    dtype: np.dtype[Any] | None
    kind: str
    is_quantity: bool = True
    width: int | None = None
    units: str | None = None

    @property
    def n_features(self) -> int:
        """Number of features in the column."""
        return 1 if self.width is None else self.width

    @property
    def converted(self) -> str | None:
        """The conversion of its values, where they are not numbers."""
        return TRUTHS if self.kind == "bool" else self.units

    def names(self, name: str) -> tuple[str, ...]:
        """Return the names of its features; a list's are its positions.

        Examples
        --------
        >>> Column(np.dtype("f4"), "lists of 2 numbers", width=2).names("emb")
        ('emb_0', 'emb_1')
        """
        return (name,) if self.width is None else tuple(f"{name}_{i}" for i in range(self.width))


def column_of_type(kind: Any, *, may_miss: bool, length: int | None = None) -> Column:
    """Return what a column of a type of Arrow holds.

    Parameters
    ----------
    kind : pyarrow.DataType
    may_miss : bool
        Whether some values are missing, so that integers have to be floats.
    length : int, optional
        Of lists, how long they are, where their type does not say.
    """
    from pyarrow import types

    if types.is_null(kind):
        return Column(None, "no values")
    if types.is_dictionary(kind):
        return Column(None, "categories")
    if types.is_boolean(kind):
        return Column(_number(kind, may_miss), "bool", is_quantity=False)
    if types.is_timestamp(kind) or types.is_date(kind):
        return Column(np.dtype(np.float64), "timestamps", False, units="days since 1970-01-01")
    if types.is_duration(kind):
        return Column(np.dtype(np.float64), "lengths of time", False, units="days")
    if _is_list(kind):
        number = _number(kind.value_type, may_miss)
        length = kind.list_size if types.is_fixed_size_list(kind) else length
        if number is None or types.is_boolean(kind.value_type) or not length:
            return Column(None, str(kind))
        return Column(number, f"lists of {length} numbers", width=length)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return Column(_number(kind, may_miss), "text" if text else str(kind))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _number(kind: Any, may_miss: bool) -> np.dtype[Any] | None:
    """The dtype of a type's numbers, if it is of numbers."""
    from pyarrow import types

    if types.is_floating(kind) or (types.is_integer(kind) and not may_miss):
        found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return found
    if types.is_decimal(kind) or (may_miss and (types.is_integer(kind) or types.is_boolean(kind))):
        return np.dtype(np.float64)
    return np.dtype(np.uint8) if types.is_boolean(kind) else None


def first_length(column: Any) -> int | None:
    """The length of the first list of a column that is not missing; None where there is none."""
    import pyarrow.compute as pc

    lengths = pc.drop_null(pc.list_value_length(column))
    return int(lengths[0].as_py()) if len(lengths) else None


def values_of(column: Any, held: Column, dtype: np.dtype[Any], where: str, start: int) -> Array:
    """Return a column, or a batch of it, as numbers (rows,), or of lists (rows, width).

    Parameters
    ----------
    column : pyarrow.Array or pyarrow.ChunkedArray
    held : Column
    dtype : numpy.dtype
        That all features have in common.
    where : str
        The source and the column, for messages.
    start : int
        The number of the first row, for messages.

    Raises
    ------
    InputError
        When lists are of uneven length, or integers are rounded in that dtype.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if held.width is not None:
        lengths = pc.fill_null(pc.list_value_length(column), held.width)
        uneven = np.flatnonzero(lengths.to_numpy(zero_copy_only=False) != held.width)
        if len(uneven):
            raise InputError(
                f"{where}: row {start + int(uneven[0])} has a list of "
                f"{lengths[int(uneven[0])].as_py()} numbers and others have {held.width}; lists "
                "that are features are of one length"
            )
        there = column.is_valid().to_numpy(zero_copy_only=False)
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
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_floating(kind) and not column.null_count:
        values: Array = column.to_numpy(zero_copy_only=False)
        return values
    if dtype.kind == "f" and types.is_integer(kind):
        whole = column.fill_null(0).to_numpy(zero_copy_only=False)
        check_exact(whole.reshape(-1, width), where, start)
    if types.is_boolean(kind):  # which Arrow casts to whole numbers, and not to all floats
        column = column.cast(pa.uint8())
    cast = column.cast(pa.from_numpy_dtype(dtype), safe=not types.is_integer(kind))
    if types.is_decimal(kind) and kind.scale <= 0:
        _check_decimals(column, where, start)
    found: Array = cast.to_numpy(zero_copy_only=False)
    return found


def _check_decimals(column: Any, where: str, start: int) -> None:
    """Refuse whole decimals beyond 2**53."""
    for i, value in enumerate(column.to_pylist() if column.type.precision > 15 else []):
        if value is not None and abs(value) > LARGEST:
            raise rounded(f"{where}, row {start + i},", value)


def label_texts(column: Any, path: Path, label: str, start: int) -> Any:
    """Return a column of labels, of a batch, as a dictionary of its texts.

    Parameters
    ----------
    column : pyarrow.Array
    path, label : pathlib.Path, str
        For messages.
    start : int
        The batch's first row.

    Returns
    -------
    pyarrow.DictionaryArray

    Raises
    ------
    DataSetError
        If one is missing.
    """
    import pyarrow as pa

    missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.any():
        row = start + int(np.argmax(missing)) + 1
        raise DataSetError(
            f"{path}: column {label!r}, the label, is empty or NA in row {row}; leave such rows "
            "out, or call the class something else"
        )
    return column.cast(pa.string()).dictionary_encode()


def numbered(
    batches: Sequence[Any], path: Path, label: str
) -> tuple[Array, tuple[str, ...] | None]:
    """Labels from the texts of a column, and what they stand for.

    Parameters
    ----------
    batches : sequence of pyarrow.DictionaryArray
        As :func:`label_texts` returns them; at least one.

    Returns
    -------
    labels : array of int64
        Whole numbers as they are; else numbers of the texts, in their order.
    classes : tuple of str or None
        The texts as words, in their order.

    Raises
    ------
    DataSetError
        If they cannot be labels.
    """
    import pyarrow as pa

    joined = pa.chunked_array(batches).unify_dictionaries().combine_chunks()
    texts, codes = joined.dictionary.to_pylist(), joined.indices.to_numpy(zero_copy_only=False)
    values = [number for number in map(_whole, texts) if number is not None]
    if len(values) == len(texts):
        if not all(-(2**63) <= value < 2**63 for value in values):
            raise DataSetError(f"{path}: column {label!r}, the label, has numbers beyond 64 bits")
        return np.array(values, np.int64)[codes], None
    if len(texts) > _MAX_CLASSES:
        raise DataSetError(
            f"{path}: column {label!r} has {len(texts)} different texts; is it a label?"
        )
    order = sorted(texts)
    try:
        words = class_words(order)
    except DataSetError as error:
        raise DataSetError(f"{path}: column {label!r}, the label: {error}") from None
    place = {text: i for i, text in enumerate(order)}
    return np.array([place[text] for text in texts], np.int64)[codes], words


def _whole(text: str) -> int | None:
    """The whole number that a text is, as 3 and 3.0 are."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
