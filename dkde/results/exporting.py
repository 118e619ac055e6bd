"""The export of results to files of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from dkde.datasets.dataset import is_dataset
from dkde.datasets.sample_files import (
    check_sample_file,
    write_sample_file,
)
from dkde.datasets.streaming import SAMPLES
from dkde.drawing.level_regions import write_geojson
from dkde.errors import DataSetError, InputError
from dkde.inputs.selectors import Catalog
from dkde.results.damage import named_damage
from dkde.rows.side import Rows
from dkde.runs.opened import opened_result
from dkde.runs.result_files import write_file, writer_of
from dkde.stores.file_kinds import SUFFIXES, is_file_name
from dkde.stores.objects import look_at_object
from dkde.stores.store import is_remote, open_store
from dkde.stores.targets import check_place, look
from dkde.typing import ResultLike, StrPath


def export(result: ResultLike, path: StrPath, *, overwrite: bool = False) -> None:
    """Write a result as a table, or as NetCDF.

    A table, ``.csv`` or ``.parquet``, has a line for each row and bandwidth. Its
    columns are ``split`` (``query``, ``train`` of a cross-validation, or ``valid`` and ``test``),
    the rows' dims (``sample`` numbers them, unless the dims have coordinates), their other
    coordinates such as ``label`` (and ``label_name``, where classes have names) and
    ``source_row``, ``bandwidth`` (and ``bandwidth_unit``, where these are kilometres),
    ``log_density``, ``log_density_error``, ``pairs_evaluated`` and ``rows_read``, and
    ``row_weight`` where rows have weights; the last three belong to all bandwidths of a row
    together, and so repeat. The rows of a map are its cells, with ``density`` and
    ``expected_count``. A column that only one split has is empty for the other. Numbers have
    all their digits. Of groups (``by``) the rows of each follow those of the one before, with the
    value in a column of the variable's name. The file is written piece by piece, whatever the size
    of the result.

    NetCDF, ``.nc``, holds the whole result as it is, with its attributes. Of a map of
    :func:`dkde.density_map`, ``.tif`` is a GeoTIFF of its expected counts or else its density,
    with a band for each place along a third axis, and ``.geojson`` has the regions of its levels,
    as :func:`dkde.level_regions`.

    A data set of samples, the output of :func:`dkde.sample`, is written as ``.npy``, ``.csv`` or
    ``.parquet``: the samples alone, whose columns are the features.

    Parameters
    ----------
    result : xarray.Dataset, xarray.DataArray, path or URL
        A result of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`, or the
        path of their output; or labelled log-densities of :func:`dkde.log_density`; or the path of
        a data set of samples.
    path : path or URL
        The file, in a folder or a bucket. It is written whole or not at all.
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
    if isinstance(result, str | os.PathLike) and _is_dataset(result):
        _export_samples(result, path, overwrite=overwrite)
        return
    # Look first: a file that appears while the result is opened must not be replaced.
    seen = look_at_object(path) if is_remote(path) else look(path)
    write = check_export(path, overwrite=overwrite)
    opened = opened_result(result, groups=True)

    def write_named(opened: xr.Dataset, draft: Path) -> None:
        with named_damage(result):
            write(opened, draft)

    write_file(opened, path, seen, write_named)


def _is_dataset(path: str | os.PathLike[str]) -> bool:
    if is_remote(path):
        return is_dataset(open_store(path, read_only=True))
    return os.path.isdir(path) and is_dataset(Path(path))


def _export_samples(
    source: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool
) -> None:
    """Write the samples of a data set as a file.

    Raises
    ------
    InputError, DataSetError
        As :func:`export`; or when the data set holds no samples.
    """
    if not is_file_name(path, "samples"):
        raise InputError(f"{path}: samples are exported as {', '.join(SUFFIXES['samples'])} files")
    seen = check_sample_file(path, overwrite=overwrite, sources=[os.fspath(source)])
    splits = Catalog().splits(os.fspath(source))
    if SAMPLES not in splits:
        raise InputError(
            f"{source}: is a data set without samples; results and samples are exported"
        )
    rows = Rows((splits[SAMPLES],))
    values = rows.read(0, rows.n_rows, decode=True)
    write_sample_file(seen, path, values, splits[SAMPLES].features)


def check_export(
    path: str | os.PathLike[str], *, overwrite: bool = False
) -> Callable[[xr.Dataset, Path], None]:
    """Return the writer of a file, and refuse an unusable one before hours of work.

    Parameters
    ----------
    path : path or URL
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
    is_geojson = Path(path).suffix.lower() in (".geojson", ".json")
    write = write_geojson if is_geojson else writer_of(path)
    check_place(path, f"{Path(path).suffix.lower()} file", overwrite=overwrite)
    if not is_remote(path) and Path(path).exists() and not Path(path).is_file():
        raise DataSetError(f"{path}: is no file; give another name")
    return write
