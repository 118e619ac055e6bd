"""Results as files of other programs: CSV and Parquet tables, NetCDF, GeoTIFF of maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import DataSetError, DkdeError, InputError, one_line
from dkde.numerics.bandwidth import KILOMETRES
from dkde.rows.boxes import Box, Grain, boxes
from dkde.rows.csv_cells import Lines, marked
from dkde.runs.geotiff import write_geotiff
from dkde.runs.grouped import grouped_dim, results_of_groups
from dkde.runs.scored_rows import ScoredRows, scored_rows
from dkde.stores.linked import check_linked
from dkde.stores.objects import SeenObject
from dkde.stores.publishing import drafted
from dkde.stores.store import is_remote
from dkde.stores.targets import Seen

# Writes a result into a file.
Writer = Callable[[xr.Dataset, Path], None]

# The most values that are read at a time, and that one piece of a table is made of. Each piece that
# was read is cut into several tables.
_READ_VALUES = 2**20
_TABLE_VALUES = 2**18
# The column of the bandwidths' unit. Radians have no such column, as tables of the first releases
# had none.
_UNIT = "bandwidth_unit"


def writer_of(path: str | os.PathLike[str]) -> Writer:
    """Return the writer of a file, by its suffix.

    Raises
    ------
    InputError
        When the suffix is not known, or a package that the format needs is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise InputError(
            f"{path}: results are exported as .csv, .parquet, .nc files, maps also as .tif"
        )
    needs, extra, write = _WRITERS[suffix]
    if missing := [name for name in needs if find_spec(name) is None]:
        raise InputError(f'{path}: needs {missing[0]}; pip install "dkde[{extra}]"')
    return write


def write_file(
    result: xr.Dataset, path: str | os.PathLike[str], seen: Seen | SeenObject, write: Writer
) -> None:
    """Write a result as a file, whole or not at all.

    Parameters
    ----------
    seen : Seen or SeenObject
        What was at its place before the work; nothing else is replaced.

    Raises
    ------
    DataSetError
        When it cannot be written.
    """
    with writing_file(path), drafted(path, seen) as draft:
        write(result, draft)


@contextmanager
def writing_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Raise what goes wrong while a file is written as one DataSetError of one line."""
    try:
        yield
    except (DkdeError, MemoryError):
        raise
    except Exception as error:  # pandas, pyarrow and h5py raise many kinds
        raise DataSetError(f"{path}: could not be written ({one_line(error)})") from error


def is_written_by_dkde(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a result that dkde wrote. One in a bucket is not looked into."""
    suffix = Path(path).suffix.lower()
    if is_remote(path):
        return False
    try:
        if suffix == ".csv":
            with open(path, encoding="utf-8") as file:
                heads = file.readline(2**16).rstrip().split(",")
            return heads[0] == "split" and {"bandwidth", "log_density"} <= set(heads)
        if suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return b"dkde_provenance" in (read_schema(path).metadata or {})
        if suffix == ".tif":
            import rasterio

            with rasterio.open(path, driver="GTiff") as raster:
                return "dkde_provenance" in raster.tags()
        check_linked(str(path))
        # Without indexes no coordinate is read.
        with xr.open_dataset(path, engine="h5netcdf", create_default_indexes=False) as found:
            return "log_density" in found and "provenance" in found.attrs
    except Exception:  # a damaged file, or one of another kind: each format raises its own errors
        return False


def _write_csv(result: xr.Dataset, path: Path) -> None:
    """Write the table as CSV, with one line of heads."""
    sides = _sides(result)
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = _columns(sides)
        for number, frame in enumerate(_frames(sides, columns)):
            for name in columns:
                if frame[name].dtype.kind == "O" and name != "split":  # text, of any type of it
                    frame[name] = frame[name].map(marked)
            frame.columns = list(map(marked, frame.columns))
            # The shortest digits that read back as the same number.
            frame.to_csv(Lines(file), index=False, header=number == 0, lineterminator=Lines.end)


def _write_parquet(result: xr.Dataset, path: Path) -> None:
    """Write the table as Parquet, with the provenance in the file's metadata."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    sides = _sides(result)
    columns = _columns(sides)
    # Parquet needs its schema before the first row, and the sides differ in columns: the schema is
    # made from the first row of each.
    firsts = [
        _frame(side, side.values.isel(dict.fromkeys(side.dims, slice(0, 1)))) for side in sides
    ]
    found = [pa.Schema.from_pandas(first, preserve_index=False) for first in firsts]
    merged = pa.unify_schemas(found, promote_options="permissive")
    notes = {"dkde_provenance": result.attrs.get("provenance", "{}")}
    schema = pa.schema([merged.field(name) for name in columns], metadata=notes)
    with ParquetWriter(path, schema) as writer:
        for frame in _frames(sides, columns):
            table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
            writer.write_table(table.replace_schema_metadata(schema.metadata))


def _write_netcdf(result: xr.Dataset, path: Path) -> None:
    # The encoding is that of the Zarr store, whose codecs NetCDF does not know.
    result.drop_encoding().to_netcdf(path, engine="h5netcdf")


# By suffix: the packages that are needed, the extra that installs them, and the writer.
_WRITERS: dict[str, tuple[tuple[str, ...], str, Writer]] = {
    ".csv": ((), "", _write_csv),
    ".parquet": (("pyarrow",), "tables", _write_parquet),
    ".nc": (("h5netcdf", "h5py"), "netcdf", _write_netcdf),
    ".tif": (("rioxarray",), "geo", write_geotiff),
}


def _sides(result: xr.Dataset) -> list[ScoredRows]:
    """Return the rows of a result by role; of groups one after the other, with their values."""
    if (dim := grouped_dim(result)) is None:
        return scored_rows(result)
    groups = zip(result[dim].values, results_of_groups(result).values(), strict=True)
    return [
        replace(side, values=side.values.assign_coords({dim: value}))
        for value, group in groups
        for side in scored_rows(group)
    ]


def _columns(sides: Sequence[ScoredRows]) -> list[str]:
    """Return the columns of all sides, each once: positions, coordinates, scores."""
    if any("split" in (*side.dims, *side.coordinates) for side in sides):
        raise InputError(
            "the rows have a dim or coordinate 'split', which is a column of every table; rename it"
        )
    names = [
        "split",
        *(name for side in sides for name in side.dims),
        *(name for side in sides for name in _known(side)),
        "bandwidth",
        *([_UNIT] if any(side.unit == KILOMETRES for side in sides) else []),
        *(str(name) for side in sides for name in side.values.data_vars),
    ]
    # A dict keeps the first of equal names, in order.
    return list(dict.fromkeys(names))


def _frames(sides: Sequence[ScoredRows], columns: Sequence[str]) -> Iterator[Any]:
    """Yield pieces of the table, with all its columns, as pandas frames."""
    for side in sides:
        n_bandwidths = side.values.sizes["bandwidth"]
        for box in _pieces(_sizes(side.values, side.dims), _READ_VALUES // n_bandwidths):
            piece = _numbered(side, box).load()
            sizes = _sizes(piece, side.dims)
            for inner in _pieces(sizes, _TABLE_VALUES // n_bandwidths):
                frame = _frame(side, piece.isel(dict(zip(side.dims, inner, strict=True))))
                yield frame.reindex(columns=columns)


def _sizes(values: xr.Dataset, dims: Sequence[str]) -> list[int]:
    return [values.sizes[dim] for dim in dims]


def _numbered(side: ScoredRows, box: Sequence[slice]) -> xr.Dataset:
    """Return a piece of a side, with row numbers along dims without coordinates."""
    piece = side.values.isel(dict(zip(side.dims, box, strict=True)))
    return piece.assign_coords(
        {
            dim: np.arange(numbers.start, numbers.stop)
            for dim, numbers in zip(side.dims, box, strict=True)
            if dim not in piece.coords
        }
    )


def _frame(side: ScoredRows, piece: xr.Dataset) -> Any:
    """Return a piece as a table: rows in order, and the bandwidths of each row."""
    table = piece.to_dataframe(dim_order=[*side.dims, "bandwidth"]).reset_index()
    table.insert(0, "split", side.split)
    if side.unit == KILOMETRES:
        table[_UNIT] = side.unit
    for name in (*side.dims, *side.coordinates):
        if table[name].dtype == object and not isinstance(table[name].iloc[0], str):
            table[name] = table[name].map(str)  # times of calendars that pandas does not know
    for name, called in _named(side).items():
        table[called] = table[name].map(side.names(name))
    return table


def _known(side: ScoredRows) -> list[str]:
    """Return the columns of a side's coordinates, with names beside coded values."""
    named = _named(side)
    return [each for name in side.coordinates for each in (name, named.get(name)) if each]


def _named(side: ScoredRows) -> dict[str, str]:
    """Return the coordinates whose values have names, and their columns."""
    return {
        name: f"{name}_name"
        for name in side.coordinates
        if side.names(name) and f"{name}_name" not in side.values.variables
    }


def _pieces(sizes: Sequence[int], most: int) -> Iterator[Box]:
    """Yield boxes that cover an array in the order of its elements.

    A box has at most so many elements, and at least one.

    Examples
    --------
    >>> [[(s.start, s.stop) for s in box] for box in _pieces([3, 2], 4)]
    [[(0, 2), (0, 2)], [(2, 3), (0, 2)]]
    >>> [[(s.start, s.stop) for s in box] for box in _pieces([2, 3], 2)]
    [[(0, 1), (0, 2)], [(0, 1), (2, 3)], [(1, 2), (0, 2)], [(1, 2), (2, 3)]]
    """
    # A result of a single row may have no dims.
    if not sizes:
        yield ()
    elif 0 not in sizes:
        most = max(1, most)
        grain = Grain.of(sizes, [range(size) for size in sizes], most, most)
        for start, stop in pairwise(grain.cuts(0, prod(sizes))):
            yield from boxes(start, stop, sizes)
