"""Results in the formats of other programs: CSV and Parquet tables, NetCDF."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from dkde.errors import DataSetError, DkdeError, InputError, one_line
from dkde.numerics.bandwidth import KILOMETRES
from dkde.results.scored import ScoredRows, named_damage, opened_result, scored_rows
from dkde.rows.boxes import Box, Grain, boxes
from dkde.stores.publishing import drafted
from dkde.stores.targets import check_place, look

# The most values that are read at a time, and that one piece of a table is made of. Each piece that
# was read is cut into several tables.
_READ_VALUES = 2**20
_TABLE_VALUES = 2**18
# The column of the bandwidths' unit. Radians have no such column, as tables of the first releases
# had none.
_UNIT = "bandwidth_unit"


def export(result: Any, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a result as a table, or as NetCDF.

    A table, ``.csv`` or ``.parquet``, has a line for each row and bandwidth. Its
    columns are ``split`` (``query``, ``train`` of a cross-validation, or ``valid`` and ``test``),
    the rows' dims (``sample`` numbers them, unless the dims have coordinates), their other
    coordinates such as ``label`` (and ``label_name``, where classes have names) and
    ``source_row``, ``bandwidth`` (and ``bandwidth_unit``, where these are kilometres),
    ``log_density``, ``log_density_error``, ``pairs_evaluated`` and ``rows_read``, and
    ``row_weight`` where rows have weights; the last three belong to all bandwidths of a row
    together, and so repeat. A column that only one split has is empty for the other. Numbers have
    all their digits. The file is written piece by piece, whatever the size of the result.

    NetCDF, ``.nc``, holds the whole result as it is, with its attributes.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path or URL
        A result of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`, or the
        path of their output; or labelled log-densities of :func:`dkde.log_density`.
    path : path
        The file. It is written whole or not at all.
    overwrite : bool
        Replace a file that is there. A folder is not replaced, nor a file that appeared or changed
        since the call began.

    Raises
    ------
    InputError
        When the suffix is not known, a package that the format needs is not installed, or the
        argument is not a result.
    DataSetError
        When the result is damaged or not complete, something is there already, or the file
        cannot be written.

    Examples
    --------
    >>> import dkde, os, tempfile
    >>> import csv
    >>> scores = dkde.score("test[:2]", "train", [1.0, 2.0], source="digits")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scores.csv")
    ...     dkde.export(scores, path)
    ...     with open(path, newline="") as file:
    ...         table = list(csv.DictReader(file))
    >>> [(row["split"], row["sample"], row["label"], row["bandwidth"]) for row in table]
    [('query', '0', '2', '1.0'), ('query', '0', '2', '2.0'),
     ('query', '1', '3', '1.0'), ('query', '1', '3', '2.0')]
    >>> [float(row["log_density"]) for row in table] == scores.log_density.values.T.ravel().tolist()
    True
    """
    # Look first: a file that appears while the result is opened must not be replaced.
    seen = look(path)
    write = check_export(path, overwrite=overwrite)
    opened = opened_result(result)
    try:
        with drafted(path, seen) as draft, named_damage(result):
            write(opened, draft)
    except (DkdeError, MemoryError):
        raise
    except Exception as error:  # pandas, pyarrow and h5py raise many kinds
        raise DataSetError(f"{path}: could not be written ({one_line(error)})") from error


def check_export(
    path: str | os.PathLike[str], *, overwrite: bool = False
) -> Callable[[xr.Dataset, Path], None]:
    """Return the writer of a file, and refuse an unusable one before hours of work.

    Parameters
    ----------
    path : path
        The file, as for :func:`export`.
    overwrite : bool
        Whether a file that is there may be replaced.

    Returns
    -------
    callable
        The writer, which takes a result and the path of a draft.

    Raises
    ------
    InputError, DataSetError
        As :func:`export`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise InputError(f"{path}: results are exported as {', '.join(_WRITERS)} files")
    needs, extra, write = _WRITERS[suffix]
    if missing := [name for name in needs if find_spec(name) is None]:
        raise InputError(f'{path}: needs {missing[0]}; pip install "dkde[{extra}]"')
    if "://" in os.fspath(path):
        raise InputError(f"{path}: is a URL; export to a file on this machine")
    check_place(path, f"{suffix} file", overwrite=overwrite)
    if Path(path).exists() and not Path(path).is_file():
        raise DataSetError(f"{path}: is no file; give another name")
    return write


def _write_csv(result: xr.Dataset, path: Path) -> None:
    """Write the table as CSV, with one line of heads."""
    sides = scored_rows(result)
    with path.open("w", encoding="utf-8", newline="") as file:
        for number, frame in enumerate(_frames(sides, _columns(sides))):
            # The shortest digits that read back as the same number.
            frame.to_csv(file, index=False, header=number == 0, lineterminator="\n")


def _write_parquet(result: xr.Dataset, path: Path) -> None:
    """Write the table as Parquet, with the provenance in the file's metadata."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    sides = scored_rows(result)
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
_WRITERS: dict[str, tuple[tuple[str, ...], str, Callable[[xr.Dataset, Path], None]]] = {
    ".csv": ((), "", _write_csv),
    ".parquet": (("pyarrow",), "tables", _write_parquet),
    ".nc": (("h5netcdf", "h5py"), "netcdf", _write_netcdf),
}


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
