"""The opening of sources by name, with their splits as parts of rows."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.dataset import Split, is_dataset, open_splits
from dkde.datasets.formats import (
    TABLE_SUFFIXES,
    Source,
    SourceSplit,
    csv,
    is_table,
    is_table_url,
    is_text,
    load_split,
    read_source,
)
from dkde.datasets.formats.files import is_pattern, reading
from dkde.errors import DkdeError, InputError
from dkde.inputs.foreign import Groups, listing, parted, path_of, place_of
from dkde.rows.column_steps import TableSource
from dkde.rows.frame_values import values_of_arrow
from dkde.rows.place_names import as_called, role_asked
from dkde.rows.places import refuse_references
from dkde.rows.row_source import RowSource
from dkde.rows.side import Part
from dkde.rows.sources import ArraySource, NpySource, ZarrSource
from dkde.rows.table_files import TableFiles
from dkde.rows.tensor_file import TensorSource
from dkde.stores.listed_files import Url, has_wildcards
from dkde.stores.repositories import is_icechunk
from dkde.stores.store import is_remote
from dkde.stores.versions import pinned

# The number of rows that give the range of values of a file that is no data set.
_RANGE_SAMPLE = 1024


def open_source(
    name: str,
    features: tuple[str, ...] | None,
    row_dim: tuple[str, ...] | None = None,
    *,
    called: str | None = None,
    decimal: str | None = None,
) -> Mapping[str, Part]:
    """Return the splits of a source, by name and in order, as parts with all rows.

    Parameters
    ----------
    name : str
        A path or URL, a pattern of tables, or "digits".
    features : tuple of str, optional
        The wanted columns. A source whose columns have no names has all of its columns.
    row_dim : tuple of str, optional
        The dims along which rows lie, where variables have others, too.
    called : str, optional
        The name of the source in messages and results, if that is another.
    decimal : str, optional
        The decimal mark of numbers in text, if it is not a point; other sources have none.

    Raises
    ------
    DataSetError
        When the source cannot be opened.
    InputError
        When it lacks one of the columns.
    """
    label = called or name
    source, within = parted(name)
    if is_icechunk(source):  # from here on it is the snapshot that the name means now
        name = "::".join(filter(None, [pinned(source), within]))
    elif not is_remote(source):
        refuse_references(str(path_of(source)))
    if features is not None and (place := place_of(name)) is not None:
        return Groups(label, place, features, row_dim)
    try:
        return _open_own(name, features, label, decimal)
    except DkdeError:
        place = None if listing(name) is None else place_of(name)
        if place is None:
            raise
        return Groups(label, place, None, row_dim)


def _open_own(
    name: str, features: tuple[str, ...] | None, label: str, decimal: str | None
) -> Mapping[str, Part]:
    if is_remote(name):
        return _open_url(name.rstrip("/"), features, label, decimal)
    path = path_of(name)
    # A Zarr folder that is no data set also goes this way: opening it raises the right error.
    if is_dataset(path) or (path / "zarr.json").exists():
        place = str(path.resolve())
        return {key: _stored(label, place, split) for key, split in open_splits(path).items()}
    # Splits are read later, perhaps from another working directory.
    path = path.absolute() if path.exists() or is_pattern(path) else path
    if is_table(path):
        return _opened_table(label, path, features, decimal)
    return _Imported(label, path, read_source(path))


def _open_url(
    url: str, features: tuple[str, ...] | None, label: str, decimal: str | None
) -> Mapping[str, Part]:
    """Return the splits of a data set in a bucket, or of a table there."""
    if has_wildcards(url) or url.lower().endswith(TABLE_SUFFIXES):
        return _opened_table(label, Url(url), features, decimal)
    try:
        return {key: _stored(label, url, split) for key, split in open_splits(url).items()}
    except DkdeError:
        # Only then: the listing of a large data set would take long.
        if not is_table_url(url):
            raise
        return _opened_table(label, Url(url), features, decimal)


def _opened_table(
    label: str, path: Path | Url, features: tuple[str, ...] | None, decimal: str | None
) -> Mapping[str, Part]:
    decimal = decimal if decimal is not None and is_text(path) else None
    source, features = _read_table(path, features, decimal)
    # Then it is these that tell the rows, and not the file alone.
    told_by = [each for each in (features, decimal) if each is not None]
    if told_by:
        told, full = source.checksum, source.full_checksum
        source = replace(
            source,
            checksum=told and _with(told, told_by),
            full_checksum=full and partial(_full_with, full, told_by),
        )
    return _Imported(label, path, source, features, decimal)


def _with(checksum: str, told_by: Sequence[Any]) -> str:
    """Return the checksum of a table that is read in some way: columns, a decimal mark."""
    text = " ".join(map(str, (checksum, *told_by)))
    return hashlib.sha256(text.encode()).hexdigest()


def _full_with(full: Callable[[], str], told_by: Sequence[Any]) -> str:
    return _with(full(), told_by)


def _read_table(
    path: Path | Url, features: tuple[str, ...] | None, decimal: str | None
) -> tuple[Source, tuple[str, ...] | None]:
    """Read a table with some of its columns, and return it with their names in the table.

    A latitude and a longitude may have other names in the table than the user gives.
    """
    try:
        return read_source(path, columns=features, decimal=decimal), features
    except InputError:
        if features is None or not any(map(role_asked, features)):
            raise
        # Read it without a choice to learn the names of all columns.
        plain = read_source(path, decimal=decimal)
        known = [*(plain.splits[0].features or ()), *plain.left_out]
        called = as_called(features, known, None, str(path))
        if called == features:
            raise
    return read_source(path, columns=called, decimal=decimal), called


def _part(source: RowSource, split: Split | SourceSplit, **more: Any) -> Part:
    """Return all rows of a split as a part, with the split's metadata."""
    return Part(
        source,
        0,
        split.n_rows,
        encoding=split.encoding,
        image_shape=split.image_shape,
        layout=split.layout,
        features=split.features,
        units=split.units,
        crs=split.crs,
        classes=split.classes,
        **more,
    )


def _stored(name: str, place: str, opened: Split) -> Part:
    """Return the rows of a split of a data set; only metadata are read."""
    coordinates = {**opened.labels, "source_row": opened.source_row}
    return _part(
        ZarrSource(opened.x, complete=True),
        opened,
        name=f"{name}::{opened.name}",
        identity=f"{place}::{opened.name}",
        checksum=opened.checksum,
        value_range=opened.display_range or opened.actual_range,
        coordinates={key: ZarrSource(a, complete=True) for key, a in coordinates.items()},
    )


def _resolved(path: Path | Url) -> str:
    return str(path if isinstance(path, Url) else path.resolve())


class _Imported(Mapping[str, Part]):
    """The splits of a file that is no data set; each is loaded on first use.

    Parameters
    ----------
    name : str
        The name that the user gave, for messages.
    path : Path or Url
        The file or folder.
    source : Source
        The file as its format reads it.
    features : tuple of str, optional
        The columns that were chosen, as the table names them.
    decimal : str, optional
        The decimal mark of numbers in text, if it is not a point.
    """

    def __init__(
        self,
        name: str,
        path: Path | Url,
        source: Source,
        features: tuple[str, ...] | None = None,
        decimal: str | None = None,
    ) -> None:
        self._name, self._path, self._features = name, path, features
        self._decimal = decimal
        self._format, self._checksum = source.format, source.checksum
        self._full_checksum = source.full_checksum
        self._left_out, self._converted = source.left_out, source.converted
        self._names = [split.name for split in source.splits]
        self._waiting = {split.name: split for split in source.splits}
        self._loaded: dict[str, Part] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, split: object) -> bool:
        return split in self._names  # the inherited one would load it

    def __getitem__(self, split: str) -> Part:
        if split not in self._loaded:
            self._loaded[split] = self._load(self._waiting[split])
            # The SourceSplit may hold the rows in memory too. It is dropped: one copy is enough.
            self._waiting.pop(split, None)
        return self._loaded[split]

    def _source(self, split: SourceSplit) -> RowSource:
        """Return the rows of a split; files of which tasks read ranges are not loaded."""
        if self._format in ("npy", "safetensors"):
            path = Path(self._path)
            with reading(path, "NumPy array" if self._format == "npy" else "safetensors"):
                if self._format == "npy":
                    return NpySource.open(path)
                return TensorSource.open(path, split.name)
        if isinstance(split.rows, TableFiles):
            return split.rows.with_beside(self._column)
        if is_table(self._path):
            named = self._as_it_is if self._format == csv.NAME else None
            return TableSource(load_split(split), self._column, named)
        return ArraySource(load_split(split))

    def _column(self, name: str, what: str) -> RowSource:
        """Read another column of the table, one number for each row; ``what`` is its purpose."""
        (split,) = read_source(self._path, columns=[name], decimal=self._decimal).splits
        if split.n_features > 1:
            raise InputError(
                f"{self._name}: column {name!r} holds lists of {split.n_features} numbers; "
                f"{what} are one number for each row"
            )
        if isinstance(split.rows, TableFiles):
            return split.rows.vector()
        return ArraySource(load_split(split)[:, 0])

    def _as_it_is(self, name: str) -> RowSource:
        """Read another column of the text, of any kind."""
        arrays = csv.column_as_it_is(Path(self._path), name, self._decimal or ".")
        return ArraySource(values_of_arrow(arrays))

    def _load(self, split: SourceSplit) -> Part:
        """Return the loaded rows of a split, with the range of its first values."""
        opened = self._source(split)
        sample = split.encoding.decode(opened.read(0, min(split.n_rows, _RANGE_SAMPLE)))
        finite = sample[np.isfinite(sample)]
        return _part(
            opened,
            split,
            name=self._name if len(self) == 1 else f"{self._name}::{split.name}",
            identity=f"{_resolved(self._path)}::{split.name}",
            checksum=self._checksum,
            full_checksum=self._full_checksum,
            value_range=(float(finite.min()), float(finite.max())) if finite.size else None,
            coordinates={key: ArraySource(label) for key, label in split.labels.items()},
            left_out=self._left_out,
            converted=self._converted,
            opened=self._features,
            decimal=self._decimal,
        )
