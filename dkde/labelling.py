"""Labelled results: Dataset variables, coordinates and attributes from bare arrays."""

import json
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.provenance import describe_work, versions
from dkde.engine.work import Work
from dkde.numerics.bandwidth import FloatArray
from dkde.sides import Operand
from dkde.statistics import summarise

LOG_DENSITY = {"units": "nats", "long_name": "log-density"}


def score_variables(values: FloatArray, n_features: int, dim: str) -> dict[str, Any]:
    """Dataset variables from log-densities (bandwidth, rows)."""
    return {
        "log_density": (("bandwidth", dim), values, LOG_DENSITY),
        **{
            name: ("bandwidth", numbers, notes)
            for name, (numbers, notes) in summarise(values, n_features).items()
        },
    }


def at_best(entry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """A variable whose first dimension is the one bandwidth that there is, without it."""
    dims, values, notes = entry
    rest = () if dims == "bandwidth" else dims[1:]
    return rest, values[0], notes


def coordinates_along(q: Operand, dim: str) -> dict[Any, Any]:
    """A query's coordinates along a dimension of that name."""
    labels = xr.Dataset(coords=dict(q.labels()))
    if q.dim in labels.dims:
        labels = labels.rename({q.dim: dim}) if q.dim != dim else labels
    return {name: (dim, np.asarray(coord.values)) for name, coord in labels.coords.items()}


def attributes(seconds: float, **works: Work) -> dict[str, Any]:
    provenance = {
        "versions": versions(),
        **{name: describe_work(work) for name, work in works.items()},
    }
    return {
        "Conventions": "CF-1.11",
        "title": "Kernel density estimate",
        "seconds": seconds,
        "n_features": next(iter(works.values())).plan.n_features,
        "provenance": json.dumps(provenance),
    }
