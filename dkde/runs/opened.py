"""Results that are opened again: from memory, or from the store of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from dkde.errors import DataSetError, DkdeError, InputError, Remedy, one_line
from dkde.inputs.moved import Whereabouts, told_of
from dkde.rows.hdf5_chunks import check_all_chunks
from dkde.runs.geotiff import has_result, raster_result
from dkde.runs.grouped import alone, grouped_dim, results_of_groups
from dkde.runs.origin import as_now
from dkde.runs.plan_schema import check_plan
from dkde.runs.store import MAIN, ResultStore
from dkde.stores.file_kinds import RASTERS, WHOLE
from dkde.stores.json_text import from_json
from dkde.stores.linked import check_linked
from dkde.typing import ResultLike

# A key of a result's encoding: the present paths of its data, by former ones.
_SOURCES = "dkde_sources"
# Another: whether the user trusts all that the result names.
_TRUSTING = "dkde_trust_sources"


def opened_results(
    results: Sequence[Any],
    sources: Mapping[str, str] | None = None,
    *,
    groups: bool = False,
    trusting: bool = False,
) -> list[xr.Dataset]:
    """Return results, opened lazily, which know where their data lie now.

    Parameters
    ----------
    sources : mapping of str to path, optional
        Present paths of their data, as for :func:`dkde.verify`. Each must be named by one of them.
    groups : bool
        As for :func:`opened_result`.
    trusting : bool
        Whether the user trusts all that the results name.

    Raises
    ------
    InputError, DataSetError
        As :func:`opened_result`; or when sources are named by no result, or are not there.
    """
    found = [opened_result(result, groups=groups) for result in results]
    if not sources and not trusting:
        return found
    told = told_of(sources, map(whereabouts_of, found))
    # Beside the path of the store, which is found there too; a caller's own result stays as it is.
    opened = [result.copy() for result in found]
    for result in opened:
        result.encoding = {**result.encoding, _SOURCES: told, _TRUSTING: trusting}
    return opened


def groups_of(result: ResultLike) -> dict[Any, xr.Dataset]:
    """Return the results of the groups of a result, each as if it had been made alone.

    Parameters
    ----------
    result : xarray.Dataset, path or URL
        A result of :func:`dkde.score` or :func:`dkde.density_map` with ``by``; or the path of one.

    Returns
    -------
    dict
        By the values of the variable. Each has its own bandwidths as coordinate, and can be passed
        to any function that takes a result, as can ``result.sel(label=7)``.

    Raises
    ------
    InputError
        When the result has no groups.
    DataSetError
        When it is damaged or not complete.

    Examples
    --------
    >>> import dkde
    >>> found = dkde.score("test", "train", "scott", by="label", source="digits")
    >>> groups = dkde.groups_of(found)
    >>> {label: round(float(groups[label].bandwidth[0]), 4) for label in (0, 1)}
    {0: 0.9336, 1: 0.9333}
    """
    opened = opened_result(result, groups=True)
    dim = grouped_dim(opened)
    if dim is None:
        raise InputError("the result has no groups; score or map with by=")
    values = opened[dim].values
    keys = values if values.dtype.kind in "mM" else values.tolist()
    return dict(zip(keys, results_of_groups(opened).values(), strict=True))


def opened_result(result: Any, *, groups: bool = False) -> xr.Dataset:
    """Return a result, opened lazily where it lies in a store.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path or URL
        A result of :func:`dkde.score` or any other call that makes one; labelled log-densities of
        :func:`dkde.log_density`; or the path of an output.
    groups : bool
        Whether it may be of groups (``by``), along a dim of theirs.

    Raises
    ------
    InputError
        When it is not a result.
    DataSetError
        When there is no store of a result at the path, or it is not complete.
    """
    found = _opened(result)
    if (dim := grouped_dim(found)) is not None and not groups:
        raise InputError(
            f"the result is of {found.sizes[dim]} groups, by {dim}; select one (result.sel({dim}="
            "...)), or take them one by one with dkde.groups_of"
        )
    return alone(found)


def _opened(result: Any) -> xr.Dataset:
    """Return a result as it lies in its store."""
    if isinstance(result, xr.DataArray):
        result = result.to_dataset(name=MAIN)
        if "bandwidth" not in result.coords:
            raise InputError(
                "the log-densities have no coordinate bandwidth; pass them as dkde.log_density "
                "returned them"
            )
        # A single bandwidth is a scalar coordinate there, and a dim of length one in results.
        if "bandwidth" not in result.dims:
            result = result.expand_dims("bandwidth")
    if isinstance(result, str | os.PathLike) and is_netcdf(result):
        return netcdf_result(result)
    if isinstance(result, str | os.PathLike):
        store, _ = ResultStore.finished(result)
        opened = as_now(store.open())
        opened.encoding["source"] = os.fspath(result)  # where xarray, too, records the path
        return opened
    if (
        not isinstance(result, xr.Dataset)
        or "bandwidth" not in result.get(MAIN, xr.DataArray()).dims
    ):
        raise InputError(
            f"a {type(result).__name__} without log_density along bandwidth is no result of dkde; "
            "pass what score, sweep or cross_validate returned, or the path of its output"
        )
    return as_now(result)


def is_netcdf(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a result that was written as NetCDF."""
    return Path(path).suffix.lower() in WHOLE and os.path.isfile(path)


def is_finished(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a file that a run became, and that says of which one."""
    is_raster = Path(path).suffix.lower() in RASTERS and os.path.isfile(path)
    return is_netcdf(path) or (is_raster and has_result(path))


def finished_result(path: str | os.PathLike[str]) -> xr.Dataset:
    """Return the result in a file that a run became: of a GeoTIFF what that holds.

    Raises
    ------
    DataSetError
        When it cannot be read, or is no result.
    """
    is_raster = Path(path).suffix.lower() in RASTERS
    return as_now(raster_result(path)) if is_raster else netcdf_result(path)


def netcdf_result(path: str | os.PathLike[str]) -> xr.Dataset:
    """Return a result that was written as NetCDF, opened lazily.

    Raises
    ------
    DataSetError
        When it cannot be read, or is no result.
    """
    try:
        # Opening reads coordinates whole.
        check_linked(os.fspath(path))
        check_all_chunks(os.fspath(path))
        found = xr.open_dataset(path, engine="h5netcdf")
    except DkdeError:
        raise
    except Exception as error:  # xarray and h5netcdf raise many kinds
        raise DataSetError(f"{path}: could not be opened ({one_line(error)})") from error
    if MAIN not in found or "provenance" not in found.attrs:
        found.close()
        raise DataSetError(f"{path}: is no result of dkde")
    found.encoding["source"] = os.fspath(path)
    return as_now(found)


def recorded_run(result: xr.Dataset, name: str) -> dict[str, Any]:
    """Return the record of a finished run from the attributes of its result.

    Raises
    ------
    DataSetError
        When the result has none.
    """
    try:
        found = from_json(result.attrs["run"])
    except (KeyError, ValueError, TypeError):
        found = None
    if not isinstance(found, dict) or "sessions" not in found:
        raise DataSetError(
            f"{name}: does not say how it was made; give another name, or begin it anew ",
            Remedy("restart"),
        )
    return check_plan(name, found, "give another name, or begin it anew ", Remedy("restart"))


def whereabouts_of(result: xr.Dataset) -> Whereabouts:
    """Return the places of a result and its data, then and now."""
    where = Whereabouts.of_result(result.attrs, result.encoding.get("source"))
    trusting = bool(result.encoding.get(_TRUSTING))
    return where.telling(result.encoding.get(_SOURCES), trusting=trusting)
