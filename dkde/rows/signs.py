"""Integers whose attribute ``_Unsigned`` says that they are stored with the other sign."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from dkde.rows.row_source import RowSource, Wrapping
from dkde.rows.sources import ZarrSource
from dkde.typing import Array


@dataclass(frozen=True, eq=False)
class ResignedSource(Wrapping):
    """A source of integers whose bits are those of integers of another dtype."""

    wrapped: RowSource
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows."""
        return self.wrapped.shape

    @property
    def changes(self) -> tuple[Any, ...]:
        """Changes made to the stored values."""
        return (*self.wrapped.changes, self.dtype.str)

    def read(self, start: int, stop: int) -> Array:
        """Read the rows from start up to stop."""
        return self.wrapped.read(start, stop).astype(self.dtype, copy=False)


def source_of(array: "zarr.Array[Any]") -> RowSource:
    """Return the numbers of an opened array, of the sign that its attributes say."""
    source, dtype = ZarrSource(array), meant_dtype(dict(array.attrs), np.dtype(array.dtype))
    return source if dtype == source.dtype else ResignedSource(source, dtype)


def meant_dtype(attributes: Mapping[str, Any], stored: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of stored numbers, unsigned or not as the attributes say.

    Examples
    --------
    >>> meant_dtype({"_Unsigned": "true"}, np.dtype("i1"))
    dtype('uint8')
    """
    other = {("i", "true"): "u", ("u", "false"): "i"}.get(
        (stored.kind, str(attributes.get("_Unsigned")))
    )
    return stored if other is None else np.dtype(stored.str.replace(stored.kind, other))
