"""Log-densities read again from a result, in the form in which a run computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from dkde.estimation.class_rows import ClassPosteriors
from dkde.numerics.logsum import Densities, n_density_rows
from dkde.runs.store import MAIN
from dkde.typing import FloatArray

# The counts of training rows that a result keeps, at most one of them.
_LEFT_OUT = ("n_missing_train", "n_outside_train")


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
    values, errors = (rows_of(result, f"{prefix}{n}", 1) for n in (MAIN, f"{MAIN}_error"))
    # In one array, as a run has them: means then add up in the same order.
    found = Densities.of(np.zeros((n_density_rows(len(values)), values.shape[1])))
    found.values[...], found.errors[...] = values, errors
    for name, counts in (
        (f"{prefix}pairs_evaluated", found.effort.pairs),
        (f"{prefix}rows_read", found.effort.read),
    ):
        if name in result:
            counts[...] = np.ravel(result[name].values)
    found.effort.missing[...] = (left_out(result, prefix) or ("", 0))[1]
    missing = np.isnan(found.values).all(axis=0)
    for counts in found.effort:
        counts[missing] = np.nan
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
    variable = result[name]
    # Test rows have one bandwidth, and no dim for it.
    lacking = n_before == 1 and "bandwidth" not in variable.dims
    values = np.asarray(variable.values, np.float64)[None] if lacking else variable.values
    return np.ascontiguousarray(values.reshape(*values.shape[:n_before], -1))


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
