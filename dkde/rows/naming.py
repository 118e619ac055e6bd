"""Names of a source's rows, columns and variables in messages."""

import numpy as np

from dkde.rows.row_source import RowSource, innermost
from dkde.rows.sources import ZarrSource
from dkde.rows.variables import Joined, VariablesSource


def row_name(source: RowSource, row: int) -> str:
    """``row 220``; of a grid with its place in it, ``row 220 (N_PROF 5, N_LEVELS 20)``."""
    source = innermost(source)
    if not isinstance(source, VariablesSource) or len(source.sizes) < 2:
        return f"row {row}"
    place = zip(source.dims, np.unravel_index(row, source.sizes), strict=True)
    return f"row {row} ({', '.join(f'{dim} {index}' for dim, index in place)})"


def column_name(features: tuple[str, ...] | None, column: int) -> str:
    """Return the name of a column, or its number where columns have no names."""
    return f"column {column}" if features is None else features[column]


def variable_name(source: RowSource) -> str | None:
    """Return the name of a source of one value a row, if it has one."""
    source = innermost(source)
    if isinstance(source, Joined):
        return variable_name(source.sources[0])
    if isinstance(source, VariablesSource):
        return source.names[0] or None
    # An array that is a store of its own has no name.
    return source.array.basename or None if isinstance(source, ZarrSource) else None
