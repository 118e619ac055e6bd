"""Row filters of CSV files: their columns are read block by block, as they are."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from dkde.rows.csv_source import CsvSource
from dkde.rows.frame_values import values_of_arrow
from dkde.rows.kept import Masking
from dkde.rows.row_filter import RowFilter


def masking(source: CsvSource, chosen: RowFilter) -> Masking:
    """Return how the rows of CSV files that a filter keeps are found.

    Parameters
    ----------
    source : CsvSource
        The rows. The filter may name any column of the files.
    chosen : RowFilter
        The filter.

    Raises
    ------
    NoVariableError
        When a column does not exist.
    """
    assert source.others is not None
    return Masking(partial(_mask, source.others(chosen.names), chosen), source.cuts, True)


def _mask(columns: CsvSource, chosen: RowFilter, start: int, stop: int) -> npt.NDArray[np.bool_]:
    """Return whether a filter holds for each row."""
    found, at = np.zeros(stop - start, bool), 0
    for batch in columns.arrow(start, stop, chosen.names):
        values = {name: values_of_arrow([batch.column(name)]) for name in chosen.names}
        found[at : at + len(batch)] = chosen.mask(values)
        at += len(batch)
    return found
