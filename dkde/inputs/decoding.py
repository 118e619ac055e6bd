"""Zarr arrays that a user opened, decoded as their attributes say."""

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
        The stored array, which gives the rows their identity.
    decoded : VariablesSource
        The same array as a variable, which reads the values.
    """

    wrapped: ZarrSource
    decoded: VariablesSource
    # Decoding is done by the variable, so the step below changes nothing.
    step: Step = field(default=Step(), init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the rows."""
        return self.decoded.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.decoded.dtype

    @property
    def copies(self) -> int:
        """Return the number of copies that exist while rows are read."""
        return self.decoded.copies

    @property
    def grain(self) -> Grain:
        """Return the best cuts for reading: chunk borders, or runs of several chunks."""
        return self.decoded.grain

    def chunk_of(self, rows: Array) -> Array:
        """Return the number of the chunk in which each row lies."""
        return self.decoded.chunk_of(rows)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        with self.wrapped.being_read(start, stop):
            return self.decoded.read(start, stop)


@dataclass(frozen=True)
class OtherSign(Step):
    """Integers with the bits of the stored ones, read as signed or unsigned.

    Parameters
    ----------
    meant : dtype
        The dtype that the stored bits stand for.
    """

    meant: np.dtype[Any]

    @property
    def changes(self) -> tuple[Any, ...]:
        """Return the dtype, as the key of this change."""
        return (self.meant.str,)

    def dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of the values."""
        return self.meant

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the integers in the dtype that is meant."""
        return rows.astype(self.meant, copy=False)


@dataclass(frozen=True)
class RefuseMissing(Step):
    """A check that no stored number marks a missing value.

    Parameters
    ----------
    marks : tuple
        The stored numbers that mark missing values.
    what : str
        The name of the numbers, for messages.
    """

    marks: tuple[Any, ...]
    what: str

    def apply(self, rows: Array, start: int, source: RowSource) -> Array:
        """Return the numbers unchanged; refuse marks of missing values."""
        missing = np.isin(rows, self.marks)
        if missing.any():
            raise missing_one(self.what, start + int(missing.argmax()))
        return rows


def missing_one(what: str, row: int) -> InputError:
    """Return the error for a missing number where each row needs one."""
    return InputError(
        f"{what}: row {row} has a missing value (masked, NA, or a fill value); each row needs one"
    )


def encoding_of(array: zarr.Array[Any], what: str) -> Encoding:
    """Return how an array's values are encoded, from its attributes.

    Parameters
    ----------
    array : zarr.Array
        The array.
    what : str
        The name of the values, for messages.

    Raises
    ------
    InputError
        When ``scale_factor`` or ``add_offset`` is no number.
    """
    attributes = dict(array.attrs)
    scale, offset = attributes.get("scale_factor", 1.0), attributes.get("add_offset", 0.0)
    try:
        return Encoding(float(scale), float(offset))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(
            f"{what}: the Zarr array's scale_factor {scale!r} or add_offset {offset!r} is no "
            "number; correct its attributes"
        ) from None


def source_of(array: zarr.Array[Any]) -> RowSource:
    """Return the numbers of an opened array, signed or unsigned as its attributes say."""
    source, dtype = ZarrSource(array), meant_dtype(dict(array.attrs), np.dtype(array.dtype))
    return source if dtype == source.dtype else Derived(source, OtherSign(dtype))


def decoded(array: "zarr.Array[Any]", what: str, *, is_vector: bool = False) -> RowSource | None:
    """Return an array decoded by xarray if it marks values as missing; otherwise None.

    Parameters
    ----------
    array : zarr.Array
        The array.
    what : str
        The name of the values, for messages.
    is_vector : bool
        True if the array has one number for each row.
    """
    if not _may_miss(array):
        return None
    # Chunks that do not exist read as the fill value, and so as missing: they are noted.
    variable = decode_cf_variable(what, variable_of(watched(array)))
    dims = (str(variable.dims[0]),)
    found = VariablesSource([variable], dims, variable.shape[:1], [what], is_vector=is_vector)
    return DecodedSource(ZarrSource(array), found)


def opened_vector(array: "zarr.Array[Any]", what: str, *, may_miss: bool = True) -> RowSource:
    """Return one number for each row, from an array with one dim.

    Parameters
    ----------
    array : zarr.Array
        The array.
    what : str
        The name of the numbers, for messages.
    may_miss : bool
        True if numbers may be missing; they become NaN. Otherwise they are refused as they are
        read.

    Raises
    ------
    InputError
        When ``scale_factor`` or ``add_offset`` is no number, or integers are stored with one.
    """
    source, encoding = source_of(array), encoding_of(array, what)
    if may_miss and (found := decoded(array, array.basename, is_vector=True)) is not None:
        return found
    if not encoding.is_identity:
        # Numbers of which none may be missing are groups, which are integers.
        if not may_miss:
            raise InputError(
                f"{what} must be integers; the Zarr array stores values with "
                f"{_encoding_text(encoding)}, so they are not integers"
            )
        return Derived(source, encoding)
    # Marks of missing values would look like groups of their own.
    marks = _marks(array)
    return Derived(source, RefuseMissing(marks, what)) if marks else source


def _may_miss(array: "zarr.Array[Any]") -> bool:
    """Return whether an array of numbers has marks of missing values in its attributes."""
    return is_masked(dict(array.attrs)) and np.dtype(array.dtype).kind in "iufb"


def _marks(array: "zarr.Array[Any]") -> tuple[Any, ...]:
    """Return the stored numbers that mark missing values, in the dtype that is meant."""
    if not _may_miss(array):
        return ()
    attributes = variable_of(array).attrs
    # Either attribute may hold one mark or several.
    known = (attributes.get(key) for key in ("_FillValue", "missing_value"))
    marks = [mark for each in known if each is not None for mark in np.ravel(each).tolist()]
    meant = meant_dtype(attributes, array.dtype)
    return tuple(marks if meant == array.dtype else (same_bits(mark, meant) for mark in marks))


def _encoding_text(encoding: Encoding) -> str:
    if encoding.scale == 1.0:
        return f"an add_offset of {encoding.offset:g}"
    return f"a scale_factor of {encoding.scale:g}"
