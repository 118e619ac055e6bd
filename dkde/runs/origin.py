"""The provenance that a result holds, and the unit of its bandwidths."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from dkde.numerics.bandwidth import EARTH_RADIUS_KM, KILOMETRES, RADIANS
from dkde.numerics.kernels import VONMISES_FISHER, get_kernel
from dkde.runs.plan_schema import is_provenance
from dkde.stores.json_text import from_json


def counted(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description of work that counts the user's features.

    A place on the sphere has two, latitude and longitude. The work itself is done with unit
    vectors, which have three: one more, also where there are further features.
    """
    # Copied level by level: the caller keeps the description that it passed.
    found = dict(described)
    if not get_kernel(found["kernel"]).sphere:
        return found
    for name in ("query", "train"):
        counts = {word: found[name][word] - 1 for word in ("features", "stored_features")}
        found[name] = {**found[name], **counts}
    found["plan"] = {**found["plan"], "n_features": found["plan"]["n_features"] - 1}
    return found


def recounted(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored description of work that counts the user's features.

    Older versions stored the number of features of unit vectors.
    """
    is_of_unit_vectors = (
        described["kernel"] == VONMISES_FISHER.name and described["query"]["features"] == 3
    )
    return counted(described) if is_of_unit_vectors else dict(described)


def provenance_of(result: xr.Dataset) -> dict[str, Any]:
    """Return a result's provenance; empty where it holds none that can be read."""
    try:
        found = from_json(result.attrs.get("provenance", "{}"))
    except (ValueError, TypeError):
        return {}
    return found if is_provenance(found) else {}


def bandwidth_unit(result: xr.Dataset) -> str | None:
    """Return the unit of a result's bandwidths; None where they are not angles.

    Older results have no unit on the variable. They hold radians, and their options say so.
    """
    # Where the variable has no unit of dkde's, the options of the call decide.
    unit = result["bandwidth"].attrs.get("units") if "bandwidth" in result.variables else None
    if unit not in (KILOMETRES, RADIANS):
        unit = provenance_of(result).get("options", {}).get("bandwidth_unit")
    return unit if unit in (KILOMETRES, RADIANS) else None


def as_now(result: xr.Dataset) -> xr.Dataset:
    """Return a result in the form in which it would be written now.

    Older results on the sphere count three features, those of the unit vectors, and their
    bandwidths have no unit.
    """
    if (unit := bandwidth_unit(result)) is None:
        return result
    units = {"units": unit}
    bare = [
        name for name in ("bandwidth", "best_bandwidth")
        if name in result.variables and "units" not in result[name].attrs
    ]  # fmt: skip
    for name in bare:
        # Assigned as a bare tuple, since attributes set in place would change the caller's result.
        variable = result[name].variable
        result = result.assign({name: (variable.dims, variable.values, variable.attrs | units)})
    return result if result.attrs.get("n_features") != 3 else result.assign_attrs(n_features=2)


def in_unit(bandwidth: float, given: str | None, wanted: str | None) -> float:
    """Convert a bandwidth from one unit to another; leave it as it is where one has none.

    Examples
    --------
    >>> round(in_unit(6371.0088, "km", "radian"), 12)
    1.0
    """
    if given == wanted or None in (given, wanted):
        return bandwidth
    return bandwidth / EARTH_RADIUS_KM if wanted == RADIANS else bandwidth * EARTH_RADIUS_KM


def with_unit(bandwidth: float, unit: str | None) -> str:
    """Return a bandwidth as text, with its unit.

    Examples
    --------
    >>> with_unit(500.0, "km"), with_unit(0.25, "radian"), with_unit(0.25, None)
    ('500 km', '0.25 radians', '0.25')
    """
    return f"{bandwidth:.6g}" + {KILOMETRES: " km", RADIANS: " radians"}.get(unit or "", "")
