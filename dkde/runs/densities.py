"""Densities of a result, of which it holds the logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import DataSetError, DkdeError, InputError, Remedy, one_line, warn
from dkde.runs.grouped import GROUPED_BY, grouped_dim
from dkde.runs.opened import opened_result
from dkde.runs.store import MAIN
from dkde.typing import FloatArray, ResultLike

# The attribute of a log-density that holds the unit of the density itself.
DENSITY_UNITS = "density_units"
# Attributes of the log-densities that say nothing of the densities.
_OF_LOGARITHM = ("units", "long_name", "comment", DENSITY_UNITS)


def density(result: ResultLike, *, relative: bool = False) -> xr.DataArray:
    """Return the densities of a result.

    They have a name, a unit and a label of their own, for plots.
    The exponential of the log-densities has the same values, but ``np.exp`` leaves it the name and
    the unit of the logarithm. In many dimensions densities may be larger or smaller than any
    number that float64 holds: they become inf or 0 then, with a warning, or, of lazy results,
    without one.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path or URL
        A result of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`, or the
        path of their output; or labelled log-densities of :func:`dkde.log_density`.
    relative : bool
        Whether densities are divided by the largest one at each bandwidth (and of each group of
        ``by``), which is 1 then. None
        of these is too large.

    Returns
    -------
    xarray.DataArray
        ``density``, in the dims and with the coordinates of ``log_density``. The unit is the
        inverse product of those of the features, ``"km-2 day-1"``, where these are known; on the
        sphere it is ``"sr-1"``.

    Raises
    ------
    InputError
        When it is no result, or its scores are of a kernel that is no density.
    DataSetError
        When there is no store of a result at the path, or it is not complete.

    Examples
    --------
    >>> import dkde, numpy as np
    >>> rows = np.array([[0.0], [1.0], [4.0]])
    >>> found = dkde.density(dkde.score(np.array([[0.5], [2.0]]), rows, 1.0))
    >>> found.name, found.values.round(3)
    ('density', array([[0.235, 0.117]]))
    """
    source = _log_densities(result)
    logarithms = source
    if relative:
        apart = ("bandwidth", source.attrs.get(GROUPED_BY))
        dims = [dim for dim in source.dims if dim not in apart]
        logarithms = source - source.where(np.isfinite(source)).max(dims)
    found: xr.DataArray = xr.apply_ufunc(
        _exponential, logarithms, dask="parallelized", output_dtypes=[float]
    )
    if found.chunks is None:
        _warn_of_range(logarithms.values, found.values)
    notes: dict[str, Any] = {"long_name": "probability density"}
    if relative:
        notes = {"units": "1", "long_name": "density relative to the largest one"}
    elif DENSITY_UNITS in source.attrs:
        notes["units"] = source.attrs[DENSITY_UNITS]
    found = found.rename("density")
    left_out = (*_OF_LOGARITHM, GROUPED_BY)
    found.attrs = {n: note for n, note in source.attrs.items() if n not in left_out} | notes
    return found


def _log_densities(result: Any) -> xr.DataArray:
    """Return the log-densities of a result; refuse scores of a kernel that is no density."""
    if isinstance(result, xr.DataArray):
        # It keeps its dims: with one bandwidth it has no dim for it.
        if result.name not in (MAIN, f"test_{MAIN}"):
            raise InputError(
                f"the DataArray is called {result.name!r} and not {MAIN!r}; pass log-densities as "
                "dkde returned them"
            )
        return result
    opened = opened_result(result, groups=True)
    if "bits_per_dimension" in opened and "mean_log_likelihood" in opened:
        # Where a kernel is no density there are means, and no bits.
        names = ("bits_per_dimension", "mean_log_likelihood")
        try:
            undefined, no_mean = (np.isnan(opened[name].values) for name in names)
        except DkdeError:
            raise
        except Exception as error:  # damaged chunks and metadata raise almost anything
            raise DataSetError(
                f"the result could not be read ({one_line(error)}); make it again ",
                Remedy("restart"),
            ) from error
        if (undefined & ~no_mean).any():
            raise InputError(
                "the result holds scores of a kernel that is no density of so many features; "
                "they have no densities"
            )
    found = opened[MAIN]
    dim = grouped_dim(opened)
    return found if dim is None else found.assign_attrs({GROUPED_BY: dim})


def _exponential(values: FloatArray) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        found: FloatArray = np.exp(values)
    return found


def _warn_of_range(logarithms: FloatArray, densities: FloatArray) -> None:
    """Warn of densities that float64 does not hold."""
    too_large = int((np.isinf(densities) & np.isfinite(logarithms)).sum())
    too_small = int(((densities == 0) & np.isfinite(logarithms)).sum())
    found = [
        f"{n} densities are too {words} for float64 and are {value}"
        for n, words, value in ((too_large, "large", "inf"), (too_small, "small", "0"))
        if n
    ]
    if found:
        warn(f"{'; '.join(found)}: use the log-densities, or relative=True")
