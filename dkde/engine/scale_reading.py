"""Reading of the scales of rows' bandwidths, with the refusal of numbers that cannot be used."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.numerics.exact import check_exact
from dkde.numerics.row_scales import LARGEST_SCALE, LEAST_SCALE, wrong_scales
from dkde.rows.side import Side
from dkde.rows.sources import in_memory
from dkde.typing import FloatArray


def read_scales(
    side: Side, start: int, stop: int, missing: npt.NDArray[np.bool_] | None = None
) -> FloatArray | None:
    """Return the scales of the bandwidths of a range of rows, if they have any.

    Parameters
    ----------
    missing : array (rows,), optional
        A mask of rows that are left out: their scales may be anything.

    Raises
    ------
    InputError
        When a scale is no positive number, or is out of range.
    """
    if side.scales is None:
        return None
    read = side.scales.read(start, stop)
    check_exact(read, f"{side.rows.label}: the bandwidth scales", start)
    scales = np.asarray(read, np.float64)
    wrong = wrong_scales(scales)
    if missing is not None:
        wrong &= ~missing
    if wrong.any():
        row = int(wrong.argmax())
        part, source_row = side.rows.locate(start + row)
        variable = side.scales.variable_name
        named = "" if variable is None else f", {variable},"
        raise InputError(
            f"{part.name}: the bandwidth scale of {part.source.row_name(source_row)}{named} is "
            f"{scales[row]:g}; it must be a number between {LEAST_SCALE:g} and {LARGEST_SCALE:g}"
        )
    return scales


def check_scales(side: Side) -> None:
    """Refuse scales in memory that cannot be used, before anything is read.

    Where rows may be left out, the scale of such a row may be anything: the check is then made
    when rows are read.

    Raises
    ------
    InputError
    """
    if side.scales is None or side.rows.drops_missing or not in_memory(side.scales):
        return
    for start, stop in pairwise(side.scales.cuts(0, side.rows.n_rows)):
        read_scales(side, start, stop)


def range_of_scales(side: Side) -> tuple[float, float]:
    """Return the least and the largest scale of all rows; ones where rows have none.

    The scales of all rows are read for it.

    Raises
    ------
    InputError
        When a scale cannot be used.
    """
    if side.scales is None:
        return 1.0, 1.0
    least, largest = np.inf, 0.0
    for start, stop in pairwise(side.scales.cuts(0, side.rows.n_rows)):
        missing = None
        if side.rows.drops_missing:
            missing = np.isnan(np.asarray(side.scales.read(start, stop), np.float64))
        found = read_scales(side, start, stop, missing)
        assert found is not None
        least = min(least, np.nanmin(found, initial=np.inf))
        largest = max(largest, np.nanmax(found, initial=0.0))
    # All scales may be missing, which the blocks refuse.
    return (float(least), float(largest)) if largest > 0 else (1.0, 1.0)
