"""Selectors: which rows of which source, as users write them.

``[SOURCE::]SPLIT[a:b]``, joined by ``+``. SOURCE is a data set, by its path or URL, or any file
that can be imported; a file name alone stands for its only split; ``all`` for every split in order.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dkde.errors import InputError
from dkde.storage.dataset import Split, is_dataset, open_splits
from dkde.storage.grammar import Term, parse
from dkde.storage.importers import Source, SourceSplit, load_split, read_source
from dkde.storage.rows import Encoding, Part, Rows
from dkde.storage.sources import ArraySource, NpySource, ZarrSource
from dkde.storage.stores import is_remote, refuse_credentials

_RANGE_SAMPLE = 1024
# As far as a selector can hold it: +, :: and brackets are the grammar's own.
_URL = re.compile(r"[a-z][a-z0-9]*://(?:(?!::)[^+\[\]\s])+")


class Catalog:
    """The sources that selectors name, each opened once.

    Parameters
    ----------
    default : str, optional
        The source of selectors that name none.
    """

    def __init__(self, default: str | None = None) -> None:
        self._default = default
        self._opened: dict[str, Mapping[str, Part]] = {}

    @property
    def location(self) -> str | None:
        """The default source, by its whole path where it is a file."""
        name = self._default
        return os.path.abspath(name) if name is not None and os.path.exists(name) else name

    def splits(self, source: str | None = None) -> Mapping[str, Part]:
        """The splits of a source, by name and in order, as parts that hold all their rows.

        Of a file that is no data set, and no .npy, a split is read when it is first looked up.

        Raises
        ------
        DataSetError
            When the source cannot be opened.
        """
        name = source if source is not None else self._default
        if name is None:
            return {}
        if name not in self._opened:
            self._opened[name] = _open(name)
        return self._opened[name]

    def rows(self, selector: str) -> Rows:
        """The rows that a selector names.

        Of a data set nothing is read but what describes it. Any other file is read through
        once, for its checksum, and unless it is an .npy, a split of it is loaded into memory
        when it is first selected, and kept; an MNIST pickle's other pictures stay in memory too.

        Raises
        ------
        InputError
            When it cannot be read, names no split, or a range that is empty or not there.
        DataSetError
            When a source cannot be opened.
        """
        parts = [part for term in self._parse(selector) for part in self._resolve(term)]
        widths = {part.source.shape[1] for part in parts}
        if len(widths) > 1:
            counts = ", ".join(f"{part.label} has {part.source.shape[1]}" for part in parts)
            raise InputError(f"{selector}: features differ: {counts}")
        return Rows(tuple(parts))

    def _parse(self, selector: str) -> list[Term]:
        refuse_credentials(selector)
        return parse(selector, exists=self._exists, is_file=self._is_file)

    def _exists(self, name: str) -> bool:
        return name == self._default or _exists(name)

    def _is_file(self, name: str) -> bool:
        return name not in self.splits() and self._exists(name)

    def _resolve(self, term: Term) -> list[Part]:
        if term.source is None and self._is_file(term.split):
            known, source = self.splits(term.split), term.split
            if len(known) > 1:
                names = ", ".join(known)
                raise InputError(
                    f"{source}: has several splits ({names}); write {source}::{next(iter(known))}"
                )
            return [_slice(part, term) for part in known.values()]
        known, source = self.splits(term.source), term.source or self._default or ""
        if not known:
            raise InputError(f"{term.split}: no such file, and no data set to look for it in")
        if term.split == "all" and "all" not in known:
            if term.range:
                raise InputError(f"{source}: all takes no range; give one to each split")
            return list(known.values())
        if term.split not in known:
            raise InputError(
                f"{source}: has no split {term.split!r}, nor is there such a file; "
                f"it has {', '.join(known)}"
            )
        return [_slice(known[term.split], term)]


def _slice(part: Part, term: Term) -> Part:
    n = len(part)
    start = int(term.start) if term.start else 0
    stop = int(term.stop) if term.stop else n
    start, stop = (row + n if row < 0 else row for row in (start, stop))
    if start >= stop:
        raise InputError(f"{part.name}{term.range} holds no rows")
    if start < 0 or stop > n:
        raise InputError(f"{part.name}{term.range} is out of range: it has {n} rows")
    return replace(part, start=start, stop=stop)


def _path(name: str) -> Path:
    return Path(name if os.path.exists(name) else os.path.expanduser(name))


def _exists(name: str) -> bool:
    if "://" in name:  # whether it is there is said when it is opened
        return _URL.fullmatch(name) is not None
    # Not Path.exists, which raises for names that are too long to be any.
    return name == "digits" or os.path.exists(name) or os.path.exists(os.path.expanduser(name))


def _open(name: str) -> Mapping[str, Part]:
    if is_remote(name):
        url = name.rstrip("/")
        return {key: _stored(name, url, split) for key, split in open_splits(url).items()}
    path = _path(name)
    # A folder with Zarr metadata that is no data set: let the data set's own error say so.
    if is_dataset(path) or (path / "zarr.json").exists():
        place = str(path.resolve())
        return {key: _stored(name, place, split) for key, split in open_splits(path).items()}
    # Splits are read later, perhaps from another working directory.
    return _Foreign(name, path, read_source(path.absolute() if path.exists() else path))


def _stored(name: str, place: str, opened: Split) -> Part:
    coordinates = {**opened.labels, "source_row": opened.source_row}
    return Part(
        ZarrSource(opened.x, complete=True),
        0,
        opened.n_rows,
        name=f"{name}::{opened.name}",
        encoding=Encoding(opened.scale_factor, opened.add_offset),
        identity=f"{place}::{opened.name}",
        checksum=opened.checksum,
        value_range=opened.display_range or opened.actual_range,
        image_shape=opened.image_shape,
        layout=opened.layout,
        coordinates={key: ZarrSource(a, complete=True) for key, a in coordinates.items()},
    )


class _Foreign(Mapping[str, Part]):
    """The splits of a file that is no data set, each loaded when it is first looked up."""

    def __init__(self, name: str, path: Path, source: Source) -> None:
        self._name, self._path = name, path
        self._format, self._checksum = source.format, source.checksum
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
            # What it was read from may hold the same rows: they are not needed twice.
            self._waiting.pop(split, None)
        return self._loaded[split]

    def _load(self, split: SourceSplit) -> Part:
        is_npy = self._format == "npy"
        opened = NpySource.open(self._path) if is_npy else ArraySource(load_split(split))
        encoding = Encoding(split.scale_factor, split.add_offset)
        sample = encoding.decode(opened.read(0, min(split.n_rows, _RANGE_SAMPLE)))
        finite = sample[np.isfinite(sample)]
        return Part(
            opened,
            0,
            split.n_rows,
            name=self._name if len(self) == 1 else f"{self._name}::{split.name}",
            encoding=encoding,
            identity=f"{self._path.resolve()}::{split.name}",
            checksum=self._checksum,
            value_range=(float(finite.min()), float(finite.max())) if finite.size else None,
            image_shape=split.image_shape,
            layout=split.layout,
            coordinates={
                key: ArraySource(np.asarray(label)) for key, label in split.labels.items()
            },
        )
