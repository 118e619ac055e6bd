"""Labelled results: Dataset variables, coordinates and attributes from bare arrays."""

import json
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.provenance import describe_work, versions
from dkde.engine.work import Work
from dkde.errors import InputError, some, warn
from dkde.estimation.density_units import LOG_DENSITY_ERROR, log_density_notes
from dkde.estimation.row_weights import Weighted
from dkde.estimation.statistics import summarise
from dkde.inputs.operands import Operand
from dkde.numerics.machine import target
from dkde.runs.origin import counted
from dkde.runs.store import RESULT_FORMAT, ROW_WEIGHT
from dkde.stores.scratch import piecewise
from dkde.typing import Array, FloatArray

# Attributes of the variables of a result.
PAIRS_EVALUATED = {
    "units": "1",
    "long_name": "training rows whose kernel or exact distance was evaluated",
}
ROWS_READ = {"units": "1", "long_name": "training rows that were read"}


def score_variables(
    found: Weighted, n_features: float, dim: str, units: str | None = None
) -> dict[str, Any]:
    """Return Dataset variables from log-densities (bandwidth, rows).

    Parameters
    ----------
    found : Weighted
    n_features : float
        The dimensions by which bits are divided; NaN where bits make no sense.
    dim : str
        The dim of the rows.
    units : str, optional
        The unit of the density, where it is known.
    """
    values, errors, effort = found.densities
    return {
        "log_density": (("bandwidth", dim), values, log_density_notes(units)),
        "log_density_error": (("bandwidth", dim), errors, LOG_DENSITY_ERROR),
        "pairs_evaluated": (dim, whole_numbers(effort.pairs), PAIRS_EVALUATED),
        "rows_read": (dim, whole_numbers(effort.read), ROWS_READ),
        **{
            name: ("bandwidth", numbers, notes)
            for name, (numbers, notes) in summarise(
                found.values, n_features, found.positive
            ).items()
        },
        **found.variables(dim),
    }


def whole_numbers(effort: FloatArray) -> Array:
    """Return effort as integers; 0 for rows with missing values, for which it is NaN."""
    return piecewise(np.nan_to_num, effort, dtype=np.int64)


def at_best(entry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Return a variable without its bandwidth dimension, which has length one."""
    # The bandwidth comes first, if it is there at all.
    dims, values, notes = entry
    names = (dims,) if isinstance(dims, str) else dims
    return (names[1:], values[0], notes) if names[:1] == ("bandwidth",) else entry


# Names of variables and dims of results: coordinates of the query must not have them.
RESERVED = frozenset(
    {
        "bandwidth",
        "log_density",
        "log_density_error",
        "pairs_evaluated",
        "rows_read",
        "mean_log_likelihood",
        "standard_error",
        "bits_per_dimension",
        "n_zero_density",
        "n_rows_at_atol",
        "unusual",
        "unusual_below",
        "n_unusual",
        "n_missing",
        "n_missing_train",
        "n_outside",
        "n_outside_train",
        "best_bandwidth",
        "fold",
        "fold_value",
        "held_out_in",
        "fold_log_likelihood",
        "mean_fold_log_likelihood",
        "least_squares",
        "log_integrated_square",
        "log_mean_density",
        "component",
        "pca_mean",
        "pca_components",
        "pca_variance",
    }
)


def check_names(
    q: Operand,
    role: str,
    *,
    weighted: bool = False,
    others: frozenset[str] = frozenset(),
) -> None:
    """Refuse coordinates whose names a result uses itself.

    Parameters
    ----------
    weighted : bool
        Whether the result holds the weights of the rows.
    others : frozenset of str
        Names of what this result has and most have not.

    Raises
    ------
    InputError
        When a coordinate or dim has such a name.
    """
    # Checked before the work, since xarray would find the clash only after hours of it.
    labels = {str(name) for name in q.labels()}
    taken = RESERVED | {ROW_WEIGHT} if weighted else RESERVED
    if clash := sorted((labels | set(q.dims)) & (taken | others)):
        raise InputError(
            f"{role} has a dim or coordinate {clash[0]!r}, a name that the result needs for "
            "itself; rename it"
        )


def in_own_dims(
    variables: Mapping[str, Any], dim: str, q: Operand, prefix: str = ""
) -> dict[str, Any]:
    """Return variables along ``dim`` in the dims of the rows, which may be several.

    Parameters
    ----------
    variables : mapping of name to (dims, values, attributes)
    dim : str
        The dim of the bare rows, the last one of a variable.
    q : Operand
        The rows.
    prefix : str
        A prefix for the names of the rows' dims.
    """
    dims = tuple(f"{prefix}{name}" for name in q.dims)
    found = {}
    for key, (given, values, *notes) in variables.items():
        names = (given,) if isinstance(given, str) else tuple(given)
        if dim in names:  # the last dim: rows of a grid are in C order
            values = values.reshape(*values.shape[:-1], *q.shape)
            names = (*names[:-1], *dims)
        found[key] = (names, values, *notes)
    return found


def coordinates_along(q: Operand, prefix: str = "") -> dict[Any, Any]:
    """Return a query's coordinates, in a form that a store can hold.

    Levels of a MultiIndex become coordinates of their own. A coordinate that holds neither
    numbers nor times nor text is left out, with a warning.
    """
    labels = xr.Dataset(coords=q.labels())
    # Neither Zarr nor NetCDF holds a MultiIndex. Its levels hold the same values.
    levels = [name for name, index in labels.indexes.items() if index.nlevels > 1]
    labels = labels.reset_index(sorted({str(labels[name].dims[0]) for name in levels}))
    found = {}
    for name, coordinate in labels.coords.items():
        values = _storable(coordinate)
        if values is None:
            kinds = sorted({type(value).__name__ for value in coordinate.values.flat})
            warn(
                f"the coordinate {name!r} holds objects ({some(kinds, 3)}), which a store cannot "
                "hold; it is left out"
            )
            continue
        dims = tuple(f"{prefix}{dim}" for dim in coordinate.dims)
        found[f"{prefix}{name}"] = (dims, values, coordinate.attrs)
    return found


def _storable(coordinate: xr.DataArray) -> Any:
    """Return a coordinate's values in a form that Zarr and NetCDF hold, or None.

    Times of other calendars (cftime) stay as they are: xarray writes them as numbers. Times with
    a time zone become UTC. Missing text becomes empty, as xarray writes it. Missing numbers
    become NaN.
    """
    # A pandas dtype: NumPy has no times with a zone, and would make objects of them.
    if getattr(coordinate.dtype, "tz", None) is not None:
        index = coordinate.variable.to_index_variable().to_index()
        return index.tz_convert(None).to_numpy()
    values = np.asarray(coordinate.values)
    if values.dtype.kind in "UT":
        # Zarr writes objects as strings of variable length, which other readers know.
        values = values.astype(object)
    if values.dtype.kind != "O" or all(isinstance(value, str) for value in values.flat):
        return values
    missing = xr.Variable(coordinate.dims, values).isnull().values
    known = values[~missing]
    if known.size and all(isinstance(value, str) for value in known):
        return np.where(missing, "", values)
    if all(isinstance(value, Real) for value in known):
        return np.where(missing, np.nan, values).astype(np.float64 if missing.any() else None)
    # What is left may be cftime objects: xarray is asked whether it can encode them.
    try:
        encoded = xr.conventions.encode_cf_variable(xr.Variable(coordinate.dims, values))
    except (TypeError, ValueError, AttributeError):
        return None
    return None if encoded.dtype.kind == "O" else values


def attributes(
    seconds: float, asked: dict[str, Any], methods: Mapping[str, str], **works: Work
) -> dict[str, Any]:
    """Return a result's attributes: the options of the call, and the result's provenance.

    Parameters
    ----------
    seconds : float
        The time that the call took.
    asked : dict
        The options.
    methods : mapping
        From the names of works to the methods that computed them, in words.
    **works : Work
        The pieces of work, by name.
    """
    provenance = {
        "versions": versions(),
        "compiled_for": target(),
        "options": asked,
        **{
            name: counted(describe_work(work) | {"method": methods[name]})
            for name, work in works.items()
        },
    }
    # All works of a result score in the same features.
    first = next(iter(works))
    parts = works[first].train.rows.parts
    crs = next((part.crs for part in parts if part.crs), None)
    return {
        **RESULT_FORMAT,
        "Conventions": "CF-1.11",
        "title": "Kernel density estimate",
        "seconds": seconds,
        "n_features": provenance[first]["plan"]["n_features"],
        **({} if crs is None else {"crs": crs}),
        "provenance": json.dumps(provenance),
    }
