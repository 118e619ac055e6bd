"""What xarray has: DataArrays, Datasets of variables, grids, and the stores that it writes."""

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import xarray as xr
from reading.container import INTEGERS, Array, Place, Side, container, matrix, quiet, with_nan
from reading.frames import plain_series
from reading.truth import LENGTHS, LISTS, NUMBERS, TEXT, TIMES, TRUTHS, Table


def labels(place: Place, n: int) -> dict[str, Any]:
    """Coordinates beside the rows: text, some of it missing, and numbers of rows."""
    found: dict[str, Any] = {}
    if place.chance(0.3):
        names = np.array([f"st {i}" for i in range(n)], object)
        if place.chance(0.3):
            names[0] = np.nan
        found["station"] = (place.dim, names)
    if place.chance(0.2):
        found[place.dim] = (place.dim, np.arange(n) + 3)
    return found


@container("DataArray", is_one_type=True)
def _dataarray(table: Table, names: Sequence[str], place: Place) -> Side:
    table = table.taking([name for name in table.names if table[name].kind == NUMBERS])
    values = with_nan(*matrix(table, table.names))
    other = place.pick("feature", "variable")
    array = xr.DataArray(
        values,
        dims=(place.dim, other),
        coords={other: list(table.names)} | labels(place, len(table)),
    )
    if other == "feature" and place.chance():
        array = array.transpose("feature", place.dim)
    if place.chance():
        array = array.chunk(dict(zip(array.dims, place.chunks(*array.shape), strict=True)))
    return Side(array, f"{array.dims} {array.dtype}")


@container("DataArray of three dims", is_named=False)
def _dataarray_3d(table: Table, names: Sequence[str], place: Place) -> Side:
    values = with_nan(*matrix(table, names))
    n = 2 if len(table) % 2 == 0 else 1
    cube = values.reshape(n, len(table) // n, values.shape[1])
    array = xr.DataArray(cube, dims=("time", place.dim, "feature"))
    # The rows' order is that of the dims that are left.
    return Side(array.transpose(*place.pick(array.dims, ("time", "feature", place.dim))))


def variables_of(table: Table, place: Place) -> dict[str, xr.Variable]:
    """A variable for each column, NaN or NaT where it is missing."""
    found = {}
    for column in table.columns:
        if column.kind == LISTS:
            values, missing = matrix(table, [column.name])
            dims = (place.dim, place.components)
            if place.components == "feature" and place.chance(0.3):
                dims, values, missing = dims[::-1], values.T, missing.T
            found[column.name] = xr.Variable(dims, with_nan(values, missing))
        elif column.kind == TEXT:
            found[column.name] = xr.Variable(place.dim, column.values.astype(str).astype(object))
        else:
            found[column.name] = xr.Variable(place.dim, plain_series(column))
    return found


def dataset_of(table: Table, place: Place) -> xr.Dataset:
    return xr.Dataset(variables_of(table, place), labels(place, len(table)))


def without_missing_truths(table: Table) -> Table:
    """No type of xarray's has missing truths."""
    for name in table.of(TRUTHS):
        table[name].missing[:] = False
    return table


_VARIABLES = (TRUTHS, TIMES, LENGTHS, TEXT, LISTS)


@container("Dataset", holds=_VARIABLES, has_dims=True)
def _dataset(table: Table, names: Sequence[str], place: Place) -> Side:
    dataset = dataset_of(without_missing_truths(table), place)
    if place.chance(0.3):
        dataset = dataset.chunk(place.chunks(len(table))[0])
    return Side(dataset, str(dataset.dtypes))


def grid_of(table: Table) -> xr.Dataset:
    """The axes as coordinates, other columns along both."""
    assert table.sizes is not None
    first, second, *others = table.columns
    shape = table.sizes
    coords = {
        first.name: first.values.reshape(shape)[:, 0],
        second.name: second.values.reshape(shape)[0],
    }
    dims = (first.name, second.name)
    variables = {
        column.name: (dims, with_nan(column.values, column.missing).reshape(shape))
        for column in others
        if column.kind == NUMBERS
    }
    return xr.Dataset(variables, coords)


@container("Dataset, a grid", is_grid=True, dtypes=("f8", "f4"))
def _grid(table: Table, names: Sequence[str], place: Place) -> Side:
    return Side(grid_of(table))


@container("Zarr group", is_path=True, needs_features=True, holds=_VARIABLES, has_dims=True)
def _zarr_group(table: Table, names: Sequence[str], place: Place) -> Side:
    dataset, path = dataset_of(without_missing_truths(table), place), place.folder / "group.zarr"
    version = int(place.pick(2, 3))
    with quiet():
        dataset.to_zarr(path, zarr_format=version, consolidated=place.chance())
    return Side(str(path), f"v{version} {dict(dataset.dtypes)}")


@container(
    "Zarr group, a grid", is_path=True, needs_features=True, is_grid=True, dtypes=("f8", "f4")
)
def _zarr_grid(table: Table, names: Sequence[str], place: Place) -> Side:
    path = place.folder / "grid.zarr"
    with quiet():
        grid_of(table).to_zarr(path, consolidated=False)
    return Side(str(path))


@container("NetCDF 4", is_path=True, needs_features=True, holds=_VARIABLES, has_dims=True,
           dtypes=("f8", "f4", "quarters", *INTEGERS))  # fmt: skip
def _netcdf4(table: Table, names: Sequence[str], place: Place) -> Side:
    return netcdf(table, names, place, "h5netcdf")


@container("NetCDF 3", is_path=True, needs_features=True, has_dims=True,
           holds=(TRUTHS, TIMES, TEXT, LISTS),
           dtypes=("f8", "f4", "quarters", "i4", "i2", "i1"))  # fmt: skip
def _netcdf3(table: Table, names: Sequence[str], place: Place) -> Side:
    return netcdf(table, names, place, "scipy")


def is_packable(values: Array) -> bool:
    """Whether these are quarters that two bytes hold."""
    quarters = values * 4.0
    return bool((quarters == np.round(quarters)).all() and (abs(quarters) < 2**14).all())


def netcdf(table: Table, names: Sequence[str], place: Place, engine: str) -> Side:
    table = without_missing_truths(table)
    dataset, path = dataset_of(table, place), place.folder / "t.nc"
    encoding: dict[str, Any] = {}
    for column in table.columns:
        packable = column.kind == NUMBERS and is_packable(column.values)
        if packable and place.chance():
            dataset[column.name] = dataset[column.name].astype(np.float64)
            encoding[column.name] = {
                "dtype": "i2", "scale_factor": 0.25, "add_offset": 1.0, "_FillValue": -999
            }  # fmt: skip
        elif column.kind == NUMBERS and column.values.dtype.kind == "f" and place.chance():
            encoding[column.name] = {"_FillValue": -999.0}
    with quiet():
        dataset.to_netcdf(path, engine=engine, encoding=encoding)
    return Side(str(path), f"{dict(dataset.dtypes)} {encoding}")


@container("NetCDF 4, a grid", is_path=True, needs_features=True, is_grid=True,
           dtypes=("f8", "f4"))  # fmt: skip
def _netcdf_grid(table: Table, names: Sequence[str], place: Place) -> Side:
    path = place.folder / "grid.nc"
    grid_of(table).to_netcdf(path, engine="h5netcdf")
    return Side(str(path))


@container("HDF5", is_path=True, needs_features=True, holds=(LISTS, TEXT))
def _hdf5(table: Table, names: Sequence[str], place: Place) -> Side:
    path = place.folder / "t.h5"
    with h5py.File(path, "w") as file:
        for column in table.columns:
            if column.kind == TEXT:
                file[column.name] = [str(value) for value in column.values]
                continue
            values, missing = matrix(table, [column.name])
            values = with_nan(values, missing)
            file[column.name] = values if column.kind == LISTS else values[:, 0]
    return Side(str(path))


@container("AnnData", is_path=True, needs_features=True, holds=(LISTS,), only_lists=True)
def _anndata(table: Table, names: Sequence[str], place: Place) -> Side:
    """A file as AnnData writes it."""
    path = place.folder / "t.h5ad"
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "anndata"
        obs = file.create_group("obs")
        obs["_index"] = [f"cell {i}" for i in range(len(table))]
        obs.attrs["_index"] = "_index"
        file["X"] = np.zeros((len(table), 4), np.float32)
        obsm = file.create_group("obsm")
        for column in table.columns:
            obsm[column.name] = with_nan(*matrix(table, [column.name]))
    return Side(f"{path}::obsm")
