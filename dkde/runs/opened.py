"""Results that are opened again: from memory, or from the store of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from dkde.errors import Call, DataSetError, InputError, Remedy, one_line
from dkde.inputs.moved import Whereabouts, told_of
from dkde.runs.geotiff import has_result, raster_result
from dkde.runs.origin import as_now
from dkde.runs.store import MAIN, ResultStore
from dkde.stores.file_kinds import RASTERS, WHOLE

# A key of a result's encoding: the present paths of its data, by former ones.
_SOURCES = "dkde_sources"


def opened_results(
    results: Sequence[Any], sources: Mapping[str, str] | None = None
) -> list[xr.Dataset]:
    """Return results, opened lazily, which know where their data lie now.

    Parameters
    ----------
    sources : mapping of str to path, optional
        Present paths of their data, as for :func:`dkde.verify`. Each must be named by one of them.

    Raises
    ------
    InputError, DataSetError
        As :func:`opened_result`; or when sources are named by no result, or are not there.
    """
    found = [opened_result(result) for result in results]
    if not sources:
        return found
    told = told_of(sources, map(whereabouts_of, found))
    # Beside the path of the store, which is found there too; a caller's own result stays as it is.
    opened = [result.copy() for result in found]
    for result in opened:
        result.encoding = {**result.encoding, _SOURCES: told}
    return opened


def opened_result(result: Any) -> xr.Dataset:
    """Return a result, opened lazily where it lies in a store.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path or URL
        A result of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`; labelled
        log-densities of :func:`dkde.log_density`; or the path of an output.

    Raises
    ------
    InputError
        When it is not a result.
    DataSetError
        When there is no store of a result at the path, or it is not complete.
    """
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
        store, state = ResultStore.found(result)
        if not state.is_complete:
            raise DataSetError(
                f"{result}: is not complete; dkde status says how far it is, and ",
                Call.SAME,
                " again goes on",
            )
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
        found = xr.open_dataset(path, engine="h5netcdf")
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
        found = json.loads(result.attrs["run"])
    except (KeyError, ValueError, TypeError):
        found = None
    if not isinstance(found, dict) or not {"asked", "machine", "call", "sessions"} <= set(found):
        raise DataSetError(
            f"{name}: does not say how it was made; give another name, or begin it anew ",
            Remedy("restart"),
        )
    return found


def whereabouts_of(result: xr.Dataset) -> Whereabouts:
    """Return the places of a result and its data, then and now."""
    where = Whereabouts.of_result(result.attrs, result.encoding.get("source"))
    return where.telling(result.encoding.get(_SOURCES))
