"""Integers beyond 2**53, which float64 cannot all represent; distances are computed in it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError

# Up to here float64 holds every integer; beyond it, two may become the same number.
LARGEST = 2**53


def beyond(values: npt.NDArray[Any]) -> tuple[int, ...] | None:
    """Return where the first integer beyond 2**53 is; None where there is none.

    Examples
    --------
    >>> beyond(np.array([[1, 2**53], [2**53 + 1, 3]])), beyond(np.array([1e300]))
    ((1, 0), None)
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or not values.size:
        return None
    # Without a mask for all values: nearly always there is none. Unsigned integers have no lower
    # end to compare, and NumPy would refuse -2**53 for them.
    if values.max() <= LARGEST and (values.dtype.kind == "u" or values.min() >= -LARGEST):
        return None
    found = (values > LARGEST) | (values < -LARGEST)
    return tuple(map(int, np.argwhere(found)[0]))


def rounded(where: str, value: Any) -> InputError:
    """Return the error that refuses an integer beyond 2**53.

    Parameters
    ----------
    where : str
        The source, the row and the column.
    """
    return InputError(
        f"{where} is {value}, an integer beyond 2**53, where float64 cannot tell all integers "
        "apart: subtract an origin first, or leave that column out"
    )


def check_exact(values: npt.NDArray[Any], where: str, start: int = 0) -> None:
    """Refuse integers beyond 2**53 among the values of one column.

    Parameters
    ----------
    where : str
        The source and the column, for the message.
    start : int
        The number of the first row.

    Raises
    ------
    InputError
    """
    found = beyond(values)
    if found is not None:
        raise rounded(f"{where}, row {start + found[0]},", values[found])
