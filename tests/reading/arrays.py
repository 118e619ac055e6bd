"""Arrays without names: in memory, lazy, in files."""

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import zarr
from reading.container import (
    ANY,
    GARBAGE,
    INTEGERS,
    Array,
    Place,
    Side,
    as_text,
    container,
    is_installed,
    matrix,
    with_nan,
)
from reading.truth import Table


def laid_out(array: Array, place: Place) -> tuple[Array, str]:
    """The same values, otherwise in memory."""
    way = place.pick("C", "F", "big-endian", "strided", "read-only")
    if way == "F":
        array = np.asfortranarray(array)
    elif way == "big-endian":
        array = array.astype(array.dtype.newbyteorder(">"))
    elif way == "strided":
        array = np.repeat(array, 2, axis=0)[::2]
    elif way == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array, f"{way} {array.dtype}"


@container("NumPy", is_named=False, dtypes=(*ANY, "b1"))
def _numpy(table: Table, names: Sequence[str], place: Place) -> Side:
    return Side(*laid_out(with_nan(*matrix(table, names)), place))


def masked(values: Array, missing: npt.NDArray[np.bool_]) -> Any:
    return np.ma.MaskedArray(np.where(missing, np.array(GARBAGE, values.dtype), values), missing)


@container("NumPy, masked", is_named=False)
def _masked(table: Table, names: Sequence[str], place: Place) -> Side:
    values, missing = matrix(table, names)
    return Side(masked(values, missing), str(values.dtype))


@container("lists", is_named=False)
def _lists(table: Table, names: Sequence[str], place: Place) -> Side:
    return Side(with_nan(*matrix(table, names)).tolist())


@container("Dask", is_named=False)
def _dask(table: Table, names: Sequence[str], place: Place) -> Side:
    values, note = laid_out(with_nan(*matrix(table, names)), place)
    return Side(da.from_array(values, chunks=place.chunks(*values.shape)), note)


# Of float16 Dask itself warns, as its fill value overflows.
@container("Dask, masked", is_named=False, dtypes=("f8", "f4", *INTEGERS))
def _dask_masked(table: Table, names: Sequence[str], place: Place) -> Side:
    values = masked(*matrix(table, names))
    return Side(da.from_array(values, chunks=place.chunks(*values.shape)), str(values.dtype))


def zarr_array(values: Array, store: Any, place: Place) -> str:
    version = int(place.pick(2, 3))
    array = zarr.create_array(
        store, shape=values.shape, dtype=values.dtype, chunks=place.chunks(*values.shape),
        zarr_format=version,
    )  # fmt: skip
    array[:] = values
    return f"v{version} {values.dtype}"


def marked(values: Array, missing: npt.NDArray[np.bool_], rng: np.random.Generator) -> Any:
    """An opened array whose attributes say which number stands for a missing one."""
    mark = values.dtype.type(GARBAGE)
    stored = np.where(missing, mark, values)
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=stored.shape, dtype=stored.dtype, chunks=(3,)
    )
    array[:] = stored
    array.attrs[str(rng.choice(["_FillValue", "missing_value"]))] = mark.item()
    return array


@container("Zarr array", is_named=False)
def _zarr(table: Table, names: Sequence[str], place: Place) -> Side:
    values = with_nan(*matrix(table, names))
    store = zarr.storage.MemoryStore()
    note = zarr_array(values, store, place)
    return Side(zarr.open_array(store, mode="r"), note)


@container("bare Zarr array", is_path=True, is_named=False)
def _bare_zarr(table: Table, names: Sequence[str], place: Place) -> Side:
    values, path = with_nan(*matrix(table, names)), str(place.folder / "bare.zarr")
    if place.chance(0.3):
        da.from_array(values, chunks=place.chunks(*values.shape)).to_zarr(path)
        return Side(path, f"by Dask, {values.dtype}")
    return Side(path, zarr_array(values, path, place))


@container("npy", is_path=True, is_named=False, dtypes=(*ANY, "b1"))
def _npy(table: Table, names: Sequence[str], place: Place) -> Side:
    values, note = laid_out(with_nan(*matrix(table, names)), place)
    np.save(place.folder / "rows.npy", values)
    return Side(str(place.folder / "rows.npy"), note)


@container("npz", is_path=True, is_named=False)
def _npz(table: Table, names: Sequence[str], place: Place) -> Side:
    values, note = laid_out(with_nan(*matrix(table, names)), place)
    save = place.pick(np.savez, np.savez_compressed)
    save(place.folder / "rows.npz", a=values)
    return Side(str(place.folder / "rows.npz"), note)


@container("CSV without names", is_path=True, is_named=False)
def _plain_csv(table: Table, names: Sequence[str], place: Place) -> Side:
    values, missing = matrix(table, names)
    path = place.folder / "plain.csv"
    cells = [[as_text(v) for v in row] for row in values.tolist()]
    lines = [
        ",".join("NA" if gone else cell for cell, gone in zip(row, there, strict=True))
        for row, there in zip(cells, missing, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return Side(str(path))


if is_installed("jax"):
    # JAX has 32 bits at most, unless it is told otherwise.
    @container("JAX", is_named=False, dtypes=("f4", "f2", "i4", "i2", "i1", "u1", "u2", "u4"))
    def _jax(table: Table, names: Sequence[str], place: Place) -> Side:
        import jax

        values = with_nan(*matrix(table, names))
        is_wide = values.dtype.itemsize > 4
        made = values if is_wide else jax.numpy.asarray(values)
        return Side(made, str(made.dtype))


class Tensor:
    """A tensor with DLPack and nothing else."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.values.__dlpack_device__()


@container("DLPack", is_named=False)
def _tensor(table: Table, names: Sequence[str], place: Place) -> Side:
    values = with_nan(*matrix(table, names))
    return Side(Tensor(values), str(values.dtype))


if is_installed("safetensors"):

    @container("safetensors", is_path=True, is_named=False, dtypes=(*ANY, "b1"))
    def _safetensors(table: Table, names: Sequence[str], place: Place) -> Side:
        from safetensors.numpy import save_file

        values = np.ascontiguousarray(with_nan(*matrix(table, names)))
        save_file({"rows": values}, place.folder / "rows.safetensors")
        return Side(str(place.folder / "rows.safetensors"), str(values.dtype))
