"""Samples as files of other programs: NumPy arrays, CSV and Parquet tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dkde.errors import DataSetError, InputError, one_line
from dkde.rows.csv_cells import write_rows
from dkde.stores.objects import SeenObject, look_at_object
from dkde.stores.publishing import drafted
from dkde.stores.store import is_remote
from dkde.stores.targets import Seen, check_place, look
from dkde.typing import FloatArray, StrPath


def check_sample_file(
    path: StrPath, *, overwrite: bool = False, sources: Iterable[str] = ()
) -> Seen | SeenObject:
    """Refuse a file that may not be written; return what is at its place.

    Parameters
    ----------
    overwrite : bool
        Whether a file that is there may be replaced.
    sources : paths
        The files and stores that are read, none of which may be replaced.

    Raises
    ------
    InputError, DataSetError
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f'{path}: needs pyarrow; pip install "dkde[tables]"')
    check_place(path, f"{suffix} file", overwrite=overwrite)
    if is_remote(path):
        if os.fspath(path) in sources:
            raise DataSetError(f"{path}: is the source of the samples; give another name")
        return look_at_object(path)
    if any(os.path.realpath(source) == os.path.realpath(path) for source in sources):
        raise DataSetError(f"{path}: is the source of the samples; give another name")
    return look(path)


def write_sample_file(
    seen: Seen | SeenObject, path: StrPath, values: FloatArray, names: Sequence[str] | None
) -> None:
    """Write samples as a file, whole or not at all.

    Parameters
    ----------
    values : array (n_samples, n_features)
    names : sequence of str, optional
        The names of the features, which become columns. Without them a CSV has no line of heads,
        and columns of Parquet are x0, x1, ...

    Raises
    ------
    DataSetError
        When it cannot be written, or its place is not as it was seen.
    """
    try:
        with drafted(path, seen) as draft:
            _WRITERS[Path(path).suffix.lower()](draft, values, names)
    except (OSError, ValueError) as error:
        raise DataSetError(f"{path}: could not be written ({one_line(error)})") from error


def _write_npy(path: Path, values: FloatArray, _: Sequence[str] | None) -> None:
    with path.open("wb") as file:  # NumPy would add .npy to the draft's name
        np.save(file, values)


def _write_csv(path: Path, values: FloatArray, names: Sequence[str] | None) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, [] if names is None else [names])
        write_rows(file, (row.tolist() for row in values))


def _write_parquet(path: Path, values: FloatArray, names: Sequence[str] | None) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    heads = [f"x{i}" for i in range(values.shape[1])] if names is None else list(names)
    columns: list[Any] = [np.ascontiguousarray(column) for column in values.T]
    write_table(pa.table(columns, names=heads), path)


_WRITERS: dict[str, Callable[[Path, FloatArray, Sequence[str] | None], None]] = {
    ".npy": _write_npy,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
