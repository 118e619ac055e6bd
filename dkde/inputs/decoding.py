"""Opened foreign Zarr arrays, decoded as their attributes say."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from xarray.conventions import decode_cf_variable

from dkde.errors import InputError
from dkde.rows.bare import is_masked, meant_dtype, same_bits, variable_of
from dkde.rows.boxes import Grain
from dkde.rows.row_source import Derived, RowSource, Step
from dkde.rows.side import Encoding
from dkde.rows.sources import ZarrSource
from dkde.rows.variables import VariablesSource
from dkde.stores.absent import watched
from dkde.typing import Array


@dataclass(frozen=True, eq=False)
class DecodedSource(Derived):
    """An opened array that xarray decodes by its attributes as rows are read.

    Parameters
    ----------
    wrapped : ZarrSource
        The array as it is stored, by which the rows are known.
    decoded : VariablesSource
        The same array as a variable.
    """

    wrapped: ZarrSource
    decoded: VariablesSource
    step: Step = field(default=Step(), init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return self.decoded.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values."""
        return self.decoded.dtype

    @property
    def copies(self) -> int:
        """Number of copies that exist while rows are read."""
        return self.decoded.copies

    @property
    def grain(self) -> Grain:
        """Where reading is best cut."""
        return self.decoded.grain

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return self.decoded.chunk_of(rows)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        with self.wrapped.being_read(start, stop):
            return self.decoded.read(start, stop)


@dataclass(frozen=True)
class Resigned(Step):
    """Integers whose bits are those of the stored ones, in another dtype."""

    meant: np.dtype[Any]

    @property
    def changes(self) -> tuple[Any, ...]:
        """The dtype."""
        return (self.meant.str,)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.meant

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the integers."""
        return rows.astype(self.meant, copy=False)


@dataclass(frozen=True)
class NoneMissing(Step):
    """The refusal of stored numbers that mark missing values.

    Parameters
    ----------
    marks : tuple
        The stored numbers that stand for missing ones.
    what : str
        What the numbers are, for messages.
    """

    marks: tuple[Any, ...]
    what: str

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the numbers as they are."""
        missing = np.isin(rows, self.marks)
        if missing.any():
            raise missing_one(self.what, start + int(missing.argmax()))
        return rows


def missing_one(what: str, row: int) -> InputError:
    """Return the error that refuses a missing number where each row needs one."""
    return InputError(
        f"{what}: that of row {row} is missing (masked, NA, or a fill value); each row needs one"
    )


def encoding_of(array: zarr.Array[Any], what: str) -> Encoding:
    """Return how an array's values are encoded, from its attributes.

    Parameters
    ----------
    what : str
        For messages.

    Raises
    ------
    InputError
        When they say it by what is no number.
    """
    attributes = dict(array.attrs)
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    try:
        return Encoding(float(scale), float(offset))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"{what}: the Zarr array's scale_factor {scale!r} or add_offset {offset!r} is no number"
        ) from None


def source_of(array: zarr.Array[Any]) -> RowSource:
    """Return the numbers of an opened array, of the sign that its attributes say."""
    source, dtype = ZarrSource(array), meant_dtype(dict(array.attrs), np.dtype(array.dtype))
    return source if dtype == source.dtype else Derived(source, Resigned(dtype))


def decoded(array: "zarr.Array[Any]", what: str, *, is_vector: bool = False) -> RowSource | None:
    """Return an array decoded by xarray if it marks values as missing; else None.

    Parameters
    ----------
    is_vector : bool
        Whether there is one number a row.
    """
    if not _may_miss(array):
        return None
    variable = decode_cf_variable(what, variable_of(watched(array)))
    dims = (str(variable.dims[0]),)
    found = VariablesSource([variable], dims, variable.shape[:1], [what], is_vector=is_vector)
    return DecodedSource(ZarrSource(array), found)


def opened_vector(array: "zarr.Array[Any]", what: str, *, may_miss: bool = True) -> RowSource:
    """Return one number a row, from an array of one dim.

    Parameters
    ----------
    what : str
        What they are, for messages.
    may_miss : bool
        Whether numbers may be missing, which are NaN then; else they are refused as they are read.

    Raises
    ------
    InputError
        When its attributes say by what is no number how values are stored.
    """
    source, encoding = source_of(array), encoding_of(array, what)
    if may_miss and (found := decoded(array, array.basename, is_vector=True)) is not None:
        return found
    if not encoding.is_identity:
        if not may_miss:
            raise InputError(
                f"{what} must be integers; those of the Zarr array are stored with "
                f"{_said(encoding)}, and so are none"
            )
        return Derived(source, encoding)
    marks = _marks(array)
    return Derived(source, NoneMissing(marks, what)) if marks else source


def _may_miss(array: "zarr.Array[Any]") -> bool:
    """Return whether an array of numbers says which of them stand for missing ones."""
    return is_masked(dict(array.attrs)) and np.dtype(array.dtype).kind in "iufb"


def _marks(array: "zarr.Array[Any]") -> tuple[Any, ...]:
    """Return the stored values that stand for missing ones."""
    if not _may_miss(array):
        return ()
    attributes = variable_of(array).attrs
    known = (attributes.get(key) for key in ("_FillValue", "missing_value"))
    marks = [mark for each in known if each is not None for mark in np.ravel(each).tolist()]
    meant = meant_dtype(attributes, array.dtype)
    return tuple(marks if meant == array.dtype else (same_bits(mark, meant) for mark in marks))


def _said(encoding: Encoding) -> str:
    if encoding.scale == 1.0:
        return f"an add_offset of {encoding.offset:g}"
    return f"a scale_factor of {encoding.scale:g}"
