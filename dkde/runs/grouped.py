"""Results of groups: one density for each value of a variable, along a dim of these values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from dkde.rows.filter_values import value_words
from dkde.runs.origin import provenance_of
from dkde.stores.scratch import concatenated
from dkde.typing import FloatArray

T = TypeVar("T")
# The attribute of a result that names the dim of its groups.
GROUPED_BY = "grouped_by"
# The bandwidths of each group.
GROUP_BANDWIDTH = "group_bandwidth"
_GROUP_SCALE, _GROUP_FEATURE = "group_scale", "group_feature"
# The names that results of groups have beside those of others.
OF_GROUPS = frozenset({GROUP_BANDWIDTH, _GROUP_SCALE, _GROUP_FEATURE})
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


def results_of_groups(result: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the results of the groups by their names, ``label=7``, each as if it were alone.

    Parameters
    ----------
    result : xarray.Dataset
        A result along a dim of groups.
    """
    dim = grouped_dim(result)
    assert dim is not None
    words = value_words(result[dim].values)
    return {f"{dim}={word}": alone(result.isel({dim: i})) for i, word in enumerate(words)}


def alone(result: xr.Dataset) -> xr.Dataset:
    """Return the result of a group that was selected as if it had been made alone.

    Any other result is returned as it is.
    """
    dim = result.attrs.get(GROUPED_BY)
    if not isinstance(dim, str) or dim in result.dims or dim not in result.coords:
        return result
    provenance = provenance_of(result)
    (word,) = value_words(np.atleast_1d(result[dim].values))
    own: dict[str, Any] = next(
        (each for each in provenance.pop(_OF_GROUPS, []) if each.get("value") == word), {}
    )
    found = result.drop_vars([name for name in (dim, GROUP_BANDWIDTH) if name in result.variables])
    if GROUP_BANDWIDTH in result and "bandwidth" in result.dims:
        bandwidths = result[GROUP_BANDWIDTH]
        found = found.assign_coords(bandwidth=("bandwidth", bandwidths.values, bandwidths.attrs))
    found.attrs = {key: value for key, value in result.attrs.items() if key != GROUPED_BY}
    found.attrs["provenance"] = json.dumps(provenance | own)
    found.encoding = dict(result.encoding)
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


def combined(
    dim: str,
    values: Any,
    results: Sequence[xr.Dataset],
    asked: Sequence[str],
    scales: FloatArray | None = None,
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
    scales : array (n_groups, n_features), optional
        Of the features in the C of each group, where these differ.
    """
    first = results[0]
    bandwidths = np.array([each["bandwidth"].values for each in results])
    notes = first["bandwidth"].attrs
    variables: dict[Any, Any] = {}
    for name, variable in first.data_vars.items():
        if name == _GROUP_SCALE:
            continue
        if name in _OF_ALL:
            variables[name] = variable.variable
            continue
        stacked = concatenated([each[name].values[np.newaxis] for each in results])
        variables[name] = ((dim, *variable.dims), stacked, variable.attrs)
    coords = {name: each.variable for name, each in first.coords.items()}
    if (bandwidths != bandwidths[0]).any():
        coords["bandwidth"] = ("bandwidth", np.array(asked, object), {"long_name": "as asked for"})
    variables[GROUP_BANDWIDTH] = ((dim, "bandwidth"), bandwidths, notes)
    if scales is not None:
        notes = {"long_name": "scale of each feature: square root of the diagonal of C"}
        variables[_GROUP_SCALE] = ((dim, _GROUP_FEATURE), scales, notes)
    if dim in coords:
        coords[f"query_{dim}"] = coords.pop(dim)
    coords[dim] = (dim, np.asarray(values), {"long_name": "value of the training rows"})
    words = value_words(np.asarray(values))
    return xr.Dataset(variables, coords, _attributes(dim, words, results))


def _attributes(dim: str, words: Sequence[str], results: Sequence[xr.Dataset]) -> dict[str, Any]:
    """Return the attributes of a result of groups, with the provenance of each."""
    every = [provenance_of(each) for each in results]
    common = {
        key: value
        for key, value in every[0].items()
        if all(other.get(key) == value for other in every)
    }
    own: list[Mapping[str, Any]] = [
        {"value": word, **{key: value for key, value in each.items() if key not in common}}
        for word, each in zip(words, every, strict=True)
    ]
    provenance = {**common, _OF_GROUPS: own}
    return {**results[0].attrs, "provenance": json.dumps(provenance), GROUPED_BY: dim}
