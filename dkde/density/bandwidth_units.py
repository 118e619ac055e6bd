"""Bandwidths of results, in the unit in which the user gave them."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from dkde.density.bandwidth_matrix import BandwidthMatrix
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, KILOMETRES
from dkde.runs.origin import as_now, bandwidth_unit, provenance_of
from dkde.typing import FloatArray


def told(matrix: BandwidthMatrix, bandwidths: FloatArray | None = None) -> Any:
    """Return a coordinate of bandwidths, in the unit in which they were given."""
    return ("bandwidth", matrix.told(bandwidths), matrix.notes)


def best_variable(matrix: BandwidthMatrix, best: float) -> Any:
    """Return the variable of the best bandwidth, in the unit in which it was given."""
    notes = {"long_name": "bandwidth of the highest mean", **matrix.notes}
    return ((), float(matrix.told(best)), notes)


def told_as(result: xr.Dataset, matrix: BandwidthMatrix) -> xr.Dataset:
    """Return an existing result with its bandwidths in the unit in which they are given now."""
    result = as_now(result)
    unit = None if matrix.angles is None else matrix.angles.unit
    if unit in (None, bandwidth_unit(result)):
        return result
    if unit == KILOMETRES:
        return _retold(result, matrix.told, matrix.notes)
    return _retold(result, lambda lengths: lengths / EARTH_RADIUS_KM, matrix.notes)


def _retold(
    result: xr.Dataset, convert: Callable[[FloatArray], FloatArray], notes: dict[str, str]
) -> xr.Dataset:
    """Return a result with other numbers for its bandwidths."""
    values = convert(np.asarray(result["bandwidth"].values, np.float64))
    found = result.assign_coords(bandwidth=("bandwidth", values, notes))
    if "best_bandwidth" in found:
        best = float(convert(np.asarray(found["best_bandwidth"].values, np.float64)))
        kept = found["best_bandwidth"].attrs | notes
        found = found.assign(best_bandwidth=((), best, kept))
    provenance = provenance_of(result)
    options = {**provenance.get("options", {}), "bandwidth_unit": notes["units"]}
    return found.assign_attrs(provenance=json.dumps(provenance | {"options": options}))
