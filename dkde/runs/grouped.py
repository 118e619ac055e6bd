"""Results of groups: one density for each value of a variable, along a dim of these values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from dkde.runs.origin import provenance_of

T = TypeVar("T")
# The attribute of a result that names the dim of its groups.
GROUPED_BY = "grouped_by"
# The bandwidths of each group.
GROUP_BANDWIDTH = "group_bandwidth"
# The key of the provenance with what is said of each group alone.
_OF_GROUPS = "groups"
# Variables that are the same for all groups, as they are of the rows or of the cells.
_OF_ALL = frozenset(
    {"row_weight", "n_missing", "n_outside", "cell_length", "cell_area", "cell_volume"}
)


def grouped_dim(result: xr.Dataset) -> str | None:
    """Return the dim of a result's groups; None where it has none, or one of them was selected."""
    dim = result.attrs.get(GROUPED_BY)
    return dim if isinstance(dim, str) and dim in result.dims else None


def groups_of(result: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the results of the groups by their names, ``label=7``, each as if it were alone.

    Parameters
    ----------
    result : xarray.Dataset
        A result along a dim of groups.
    """
    dim = grouped_dim(result)
    assert dim is not None
    of_groups = provenance_of(result).get(_OF_GROUPS, [])
    names = [f"{dim}={word}" for word in group_words(result[dim].values)]
    found = {}
    for i, name in enumerate(names):
        one = result.isel({dim: i}, drop=True)
        if GROUP_BANDWIDTH in one:
            bandwidths = one[GROUP_BANDWIDTH]
            one = one.assign_coords(bandwidth=("bandwidth", bandwidths.values, bandwidths.attrs))
            one = one.drop_vars(GROUP_BANDWIDTH)
        attrs = {key: value for key, value in result.attrs.items() if key != GROUPED_BY}
        provenance = {k: v for k, v in provenance_of(result).items() if k != _OF_GROUPS}
        provenance |= of_groups[i] if i < len(of_groups) else {}
        one.attrs = attrs | {"provenance": json.dumps(provenance)}
        one.encoding = dict(result.encoding)
        found[name] = one
    return found


def of_each_group(works: Mapping[str, T]) -> dict[str, T]:
    """Return the first of a job's works, which depends on no other; of groups that of each.

    Examples
    --------
    >>> list(of_each_group({"valid": 1, "test": 2}))
    ['valid']
    >>> list(of_each_group({"score_0": 1, "sample_0": 2, "score_1": 3, "sample_1": 4}))
    ['score_0', 'score_1']
    """
    first = next(iter(works))
    stem, _, number = first.rpartition("_")
    if not number.isdigit():
        return {first: works[first]}
    return {name: work for name, work in works.items() if name.rpartition("_")[0] == stem}


def group_words(values: Any) -> list[str]:
    """Return the values of groups as text; times without a time of day are dates.

    Examples
    --------
    >>> group_words(np.array([7, 8])), group_words(np.array(["2020-01-01"], "M8[ns]"))
    (['7', '8'], ['2020-01-01'])
    """
    found = np.asarray(values)
    if found.dtype.kind == "M":
        days = found.astype("M8[D]")
        found = days if (days == found).all() else found.astype("M8[s]")
    return [str(value) for value in found]


def combined(
    dim: str, values: Any, results: Sequence[xr.Dataset], asked: Sequence[str]
) -> xr.Dataset:
    """Return one result of the results of groups, along a new dim.

    Coordinates of the rows that have the name of the dim are called ``query_NAME``.

    Parameters
    ----------
    dim : str
        The dim of the groups.
    values : array (n_groups,)
        Its coordinate.
    results : sequence of xarray.Dataset
        The result of each group; all have the same variables.
    asked : sequence of str
        The bandwidths as the call gave them: the coordinate where groups differ in theirs.
    """
    first = results[0]
    bandwidths = np.array([each["bandwidth"].values for each in results])
    notes = first["bandwidth"].attrs
    variables: dict[Any, Any] = {}
    for name, variable in first.data_vars.items():
        if name in _OF_ALL:
            variables[name] = variable.variable
            continue
        stacked = np.stack([each[name].values for each in results])
        variables[name] = ((dim, *variable.dims), stacked, variable.attrs)
    coords = {name: each.variable for name, each in first.coords.items()}
    if (bandwidths != bandwidths[0]).any():
        coords["bandwidth"] = ("bandwidth", np.array(asked, object), {"long_name": "as asked for"})
    variables[GROUP_BANDWIDTH] = ((dim, "bandwidth"), bandwidths, notes)
    if dim in coords:
        coords[f"query_{dim}"] = coords.pop(dim)
    coords[dim] = (dim, np.asarray(values), {"long_name": "value of the training rows"})
    return xr.Dataset(variables, coords, _attributes(dim, results))


def _attributes(dim: str, results: Sequence[xr.Dataset]) -> dict[str, Any]:
    """Return the attributes of a result of groups, with the provenance of each."""
    every = [provenance_of(each) for each in results]
    common = {
        key: value
        for key, value in every[0].items()
        if all(other.get(key) == value for other in every)
    }
    own: list[Mapping[str, Any]] = [
        {key: value for key, value in each.items() if key not in common} for each in every
    ]
    provenance = {**common, _OF_GROUPS: own}
    return {**results[0].attrs, "provenance": json.dumps(provenance), GROUPED_BY: dim}
