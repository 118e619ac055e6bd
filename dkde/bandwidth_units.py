"""Bandwidths of results, in the unit in which they were given: kilometres, radians or none."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from dkde.bandwidth_matrix import BandwidthMatrix
from dkde.labelling import provenance_of
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, KILOMETRES, RADIANS, FloatArray


def bandwidth_unit(result: xr.Dataset) -> str | None:
    """The unit of a result's bandwidths; None where they are no angles.

    Results that were stored without one hold radians, and say so in their options.
    """
    unit = result["bandwidth"].attrs.get("units") if "bandwidth" in result.variables else None
    if unit not in (KILOMETRES, RADIANS):
        unit = provenance_of(result).get("options", {}).get("bandwidth_unit")
    return unit if unit in (KILOMETRES, RADIANS) else None


def as_now(result: xr.Dataset) -> xr.Dataset:
    """A result as it would be written now: on the sphere with two features, and units.

    Older ones say three features, of the unit vectors, and hold bandwidths without a unit.
    """
    if (unit := bandwidth_unit(result)) is None:
        return result
    units = {"units": unit}
    bare = [
        name for name in ("bandwidth", "best_bandwidth")
        if name in result.variables and "units" not in result[name].attrs
    ]  # fmt: skip
    for name in bare:
        variable = result[name].variable
        result = result.assign({name: (variable.dims, variable.values, variable.attrs | units)})
    return result if result.attrs.get("n_features") != 3 else result.assign_attrs(n_features=2)


def in_unit(bandwidth: float, given: str | None, wanted: str | None) -> float:
    """A bandwidth of one unit in another; as it is where one has none.

    Examples
    --------
    >>> round(in_unit(6371.0088, "km", "radian"), 12)
    1.0
    """
    if given == wanted or None in (given, wanted):
        return bandwidth
    return bandwidth / EARTH_RADIUS_KM if wanted == RADIANS else bandwidth * EARTH_RADIUS_KM


def with_unit(bandwidth: float, unit: str | None) -> str:
    """A bandwidth as people read it.

    Examples
    --------
    >>> with_unit(500.0, "km"), with_unit(0.25, "radian"), with_unit(0.25, None)
    ('500 km', '0.25 radians', '0.25')
    """
    return f"{bandwidth:.6g}" + {KILOMETRES: " km", RADIANS: " radians"}.get(unit or "", "")


def told(matrix: BandwidthMatrix, bandwidths: FloatArray | None = None) -> Any:
    """A coordinate of a matrix's bandwidths, or of others, in the unit in which they were given."""
    return ("bandwidth", matrix.told(bandwidths), matrix.notes)


def best_variable(matrix: BandwidthMatrix, best: float) -> Any:
    """The variable of the best bandwidth, in the unit in which they were given."""
    notes = {"long_name": "bandwidth of the highest mean", **matrix.notes}
    return ((), float(matrix.told(best)), notes)


def told_as(result: xr.Dataset, matrix: BandwidthMatrix) -> xr.Dataset:
    """A result that was there already, its bandwidths in the unit in which they are given now."""
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
    """A result with other numbers for its bandwidths."""
    values = convert(np.asarray(result["bandwidth"].values, np.float64))
    found = result.assign_coords(bandwidth=("bandwidth", values, notes))
    if "best_bandwidth" in found:
        best = float(convert(np.asarray(found["best_bandwidth"].values, np.float64)))
        kept = found["best_bandwidth"].attrs | notes
        found = found.assign(best_bandwidth=((), best, kept))
    provenance = provenance_of(result)
    options = {**provenance.get("options", {}), "bandwidth_unit": notes["units"]}
    return found.assign_attrs(provenance=json.dumps(provenance | {"options": options}))
