"""Foreign variables and arrays (Zarr, NetCDF, HDF5) as rows of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from dkde.datasets.formats.files import checksum_files, reading
from dkde.datasets.formats.source import (
    ReadOptions,
    Source,
    SourceSplit,
    array_batches,
    stored_dtype,
)
from dkde.errors import InputError, warn
from dkde.inputs.foreign import Groups
from dkde.rows.places import Place
from dkde.rows.row_source import RowSource
from dkde.typing import Array

NAME = "variables"


def read_others(
    source: str, place: Place, options: ReadOptions, row_dim: tuple[str, ...] | None = None
) -> Source:
    """Open the variables that ``columns`` name, or the one array that the source is.

    Rows are read a few MB at a time, as they are decoded.

    Raises
    ------
    InputError
        When nobody says which variables are the features, or they make no rows.
    DataSetError
        When they cannot be read.
    """
    groups = Groups(source, place, options.columns, row_dim)
    if place.array is None and groups.asked() is None:
        what = "a Zarr store" if place.kind == "zarr" else "a NetCDF or HDF5 file"
        raise InputError(
            f"{source}: is {what}, which needs no import: dkde score {source} --features A,B (dkde "
            f"info says what there is); to import it, say which variables are the features "
            f"(--columns A,B), or name one array, {source}::NAME"
        )
    if options.label is not None:
        raise InputError(f"{source}: label is of tables, and this is {place.kind}")
    part = groups[""]
    for note in part.notes:
        warn(f"{source}: {note}")
    split = SourceSplit(
        options.split,
        n_rows=len(part),
        n_features=part.source.shape[1],
        dtype=stored_dtype(part.source.dtype, source),
        batches=lambda: _batches(part.source),
        scale_factor=part.encoding.scale,
        add_offset=part.encoding.offset,
        features=part.features,
    )
    with reading(Path(place.path), "data"):
        checksum = checksum_files(_files(place))
    return Source(Path(source), NAME, checksum, (split,))


def _batches(source: RowSource) -> Iterator[Array]:
    for start, stop in pairwise(source.cuts(0, source.shape[0])):
        yield from array_batches(source.read(start, stop))


def _files(place: Place) -> list[Path]:
    """Return the files that hold a group or an array: one file, or all in its folder."""
    if place.kind != "zarr":
        return [Path(place.path)]
    root = Path(place.path, place.within(place.array or "") if place.array else place.group)
    return sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names)
