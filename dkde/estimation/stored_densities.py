"""Log-densities read again from a result, in the form in which a run computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from dkde.estimation.class_rows import ClassPosteriors
from dkde.numerics.logsum import Densities, n_density_rows
from dkde.numerics.piecewise import pieces
from dkde.runs.store import MAIN
from dkde.stores.scratch import room, room_beside
from dkde.typing import Array, FloatArray

# The counts of training rows that a result keeps, at most one of them.
_LEFT_OUT = ("n_missing_train", "n_outside_train")


def loaded(result: xr.Dataset) -> xr.Dataset:
    """Return a result whose variables are in memory, or on the disk where its rows are many.

    They are read chunk by chunk, and lie in the folder for temporary files.
    """
    main = result[MAIN]
    rows = room(main.shape, main.dtype, total=result.nbytes)
    found = {}
    for name, variable in result.variables.items():
        data = variable.data
        if not isinstance(data, da.Array) or variable.dtype.kind not in "fiubmM":
            found[name] = variable.load()
            continue
        values = rows if name == MAIN else room_beside(rows, variable.shape, variable.dtype)
        _fill(values, data)
        found[name] = variable.copy(data=values)
    data = {name: found[name] for name in result.data_vars}
    return result.assign(data).assign_coords(
        {name: found[name] for name in result.coords if name not in result.xindexes}
    )


def stored_densities(result: xr.Dataset, prefix: str = "") -> Densities:
    """Return the log-densities of a result (n_bandwidths, rows), with errors and effort.

    Rows that were left out have NaN for all of these, as in a run.

    Parameters
    ----------
    result : xarray.Dataset
        Without a dim of groups.
    prefix : str
        ``"test_"`` for the test rows of a sweep.
    """
    values, errors = (_as_rows(result, f"{prefix}{n}", 1) for n in (MAIN, f"{MAIN}_error"))
    # In one array, as a run has them: means then add up in the same order.
    shape = n_density_rows(len(values)), values.shape[1]
    found = Densities.of(
        room(shape) if isinstance(values, da.Array) else room_beside(values, shape)
    )
    _fill(found.values, values)
    _fill(found.errors, errors)
    for name, counts in (
        (f"{prefix}pairs_evaluated", found.effort.pairs),
        (f"{prefix}rows_read", found.effort.read),
    ):
        _fill(counts, result[name].data.ravel() if name in result else np.zeros(1))
    found.effort.missing[...] = (left_out(result, prefix) or ("", 0))[1]
    for rows in pieces(found.values):
        missing = np.isnan(found.values[:, rows]).all(axis=0)
        for counts in found.effort:
            counts[rows][missing] = np.nan
    return found


def left_out(result: xr.Dataset, prefix: str = "") -> tuple[str, int] | None:
    """Return which variable says how many training rows were left out, and the number.

    None where the result says nothing of it.
    """
    for name in _LEFT_OUT:
        if f"{prefix}{name}" in result:
            return f"{prefix}{name}", int(result[f"{prefix}{name}"])
    return None


def stored_posteriors(result: xr.Dataset) -> ClassPosteriors:
    """Return the posteriors of a result with classes."""
    values, errors = (rows_of(result, n, 2) for n in ("log_posterior", "log_posterior_error"))
    return ClassPosteriors(values, errors, stored_densities(result))


def rows_of(result: xr.Dataset, name: str, n_before: int) -> FloatArray:
    """Return a variable with its rows, whatever dims they have, along one last axis.

    Parameters
    ----------
    n_before : int
        The number of dims before those of the rows; one that is not there has length 1.
    """
    return np.ascontiguousarray(_as_rows(result, name, n_before))


def _as_rows(result: xr.Dataset, name: str, n_before: int) -> Any:
    """Return what :func:`rows_of` does, lazily where the variable is lazy."""
    variable = result[name]
    # Test rows have one bandwidth, and no dim for it.
    lacking = n_before == 1 and "bandwidth" not in variable.dims
    values = variable.data.astype(np.float64, copy=False)[None] if lacking else variable.data
    return values.reshape(*values.shape[:n_before], -1)


def _fill(array: Array, values: Any) -> None:
    """Fill an array, chunk by chunk where the values are lazy."""
    if isinstance(values, da.Array):
        # Here, and not on a cluster, whose workers would fill arrays of their own.
        da.store(values, array, lock=False, scheduler="threads")
    else:
        array[...] = values


def alike(values: FloatArray, n_rows: int) -> Densities:
    """Return log-densities that are the same for all rows.

    The mean of their exponentials, and any quantile of them, is the value that is given. It so
    stands for log-densities that a result does not keep, and of which it keeps only that figure.

    Parameters
    ----------
    values : array (n_bandwidths,)
    """
    found = Densities.of(np.zeros((n_density_rows(len(values)), n_rows)))
    found.values[...] = values[:, None]
    return found


def at_bandwidths(found: Densities, chosen: slice | Sequence[int]) -> Densities:
    """Return log-densities at some of their bandwidths, as a run has them."""
    values, errors = found.values[chosen], found.errors[chosen]
    return Densities.of(Densities(values, errors, found.effort).stacked())
