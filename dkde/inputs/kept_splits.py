"""Splits of files and data sets with the rows that a filter keeps, for imports and descriptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from dkde.datasets.dataset import LABELS, Split
from dkde.datasets.formats import csv
from dkde.datasets.formats.files import files_of, reading
from dkde.datasets.formats.source import (
    Source,
    SourceSplit,
    array_batches,
    checked_batches,
    load_split,
)
from dkde.datasets.metadata import Meta
from dkde.inputs.filtering import kept_rows
from dkde.inputs.operands import selected
from dkde.rows.filtered import kept_of
from dkde.rows.frame_values import values_of_arrow
from dkde.rows.kept import Kept
from dkde.rows.row_filter import RowFilter
from dkde.rows.row_source import RowSource
from dkde.rows.side import Part, Rows
from dkde.rows.sources import ArraySource, Numbers
from dkde.typing import Array


def kept_source(source: Source, chosen: RowFilter, decimal: str | None = None) -> Source:
    """Return a file with only the rows of each split that a filter keeps.

    Rows are streamed as before; only the columns of the filter are looked at first.

    Parameters
    ----------
    source : Source
        The file, or folder of files.
    chosen : RowFilter
        The filter. It may name any column of a table, and the labels of other files.
    decimal : str, optional
        The decimal mark of numbers in text.

    Raises
    ------
    InputError
        When a column does not exist, is compared with another kind of value, or no row is kept.
    """
    return replace(
        source, splits=tuple(_kept(source, each, chosen, decimal) for each in source.splits)
    )


def _kept(
    source: Source, split: SourceSplit, chosen: RowFilter, decimal: str | None
) -> SourceSplit:
    part = _part(source, split, chosen, decimal)
    kept = kept_rows(selected(Rows((part,))), chosen)
    rows, batches = None, partial(_kept_batches, split, kept)
    if split.rows is not None:  # then only what is needed of these rows is read
        rows = kept_of(split.rows, kept)
        batches = partial(batches_of, rows)
    numbers = kept.numbers(0, kept.n_rows)
    return replace(
        split,
        n_rows=kept.n_rows,
        batches=batches,
        labels={name: np.asarray(values)[numbers] for name, values in split.labels.items()},
        whole=None,
        rows=rows,
        kept=kept,
    )


def _part(source: Source, split: SourceSplit, chosen: RowFilter, decimal: str | None) -> Part:
    """Return the rows of a split as the filter needs them: not all of them have to be read."""
    several = len(source.splits) > 1
    beside: dict[str, RowSource] = {
        name: ArraySource(np.asarray(values)) for name, values in split.labels.items()
    }
    rows: RowSource = Numbers(split.n_rows)
    features, classes = None, split.classes
    if split.rows is not None:  # tables of which tasks read any column
        rows = split.rows
    elif source.format == csv.NAME:
        # As in any table, the names are those of its columns: the label is one of these, as text.
        path, classes = Path(source.path), {}
        beside = {name: _text_column(path, name, decimal or ".") for name in chosen.names}
    elif set(chosen.names) & {*(split.features or ())} - {*beside}:
        rows, features = ArraySource(load_split(split)), split.features
    return Part(
        rows,
        0,
        split.n_rows,
        f"{source.path}::{split.name}" if several else str(source.path),
        encoding=split.encoding,
        coordinates=beside,
        features=features,
        classes=classes,
    )


def _text_column(path: Path, name: str, decimal: str) -> ArraySource:
    arrays = []
    for file in files_of(path):
        with reading(file, "CSV"):
            arrays += csv.column_as_it_is(file, name, decimal)
    return ArraySource(values_of_arrow(arrays))


def kept_stored(part: Part, split: Split, chosen: RowFilter) -> SourceSplit:
    """Return the rows of a data set's split that a filter keeps, as a split to be read.

    Parameters
    ----------
    part : Part
        All rows of the split, with its labels.
    split : Split
        The split.
    chosen : RowFilter
        The filter, on features and labels.

    Raises
    ------
    InputError
        As :func:`kept_source`.
    """
    kept = kept_rows(selected(Rows((part,))), chosen)
    labels = {name: part.coordinates[name] for name in LABELS if name in part.coordinates}
    return SourceSplit(
        split.name,
        kept.n_rows,
        split.n_features,
        split.x.dtype,
        partial(batches_of, kept_of(part.source, kept)),
        labels={
            name: kept_of(values, kept).read(0, kept.n_rows) for name, values in labels.items()
        },
        kept=kept,
        **{field.name: getattr(split, field.name) for field in fields(Meta)},
    )


def batches_of(source: RowSource) -> Iterator[Array]:
    """Yield the rows of a source in batches, each of whole chunks where possible."""
    for start, stop in pairwise(source.cuts(0, source.shape[0])):
        yield from array_batches(source.read(start, stop))


def _kept_batches(split: SourceSplit, kept: Kept) -> Iterator[Array]:
    at = 0
    for batch in checked_batches(split):
        mask = kept.mask(at, at + len(batch))
        at += len(batch)
        if mask.any():
            yield batch[mask]
