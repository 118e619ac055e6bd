"""Selectors: which rows of which source, as users write them.

``[SOURCE::]SPLIT[a:b]``, joined by ``+``. SOURCE is a data set or any file that can be
imported; a file name alone stands for its only split; ``all`` for every split in order.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dkde.errors import InputError
from dkde.storage.dataset import is_dataset, open_split, splits
from dkde.storage.importers import load_split, read_source
from dkde.storage.rows import Encoding, Part, Rows
from dkde.storage.sources import ArraySource, NpySource, ZarrSource

_TERM = re.compile(
    r"(?:(?P<source>.+?)::)?(?P<split>[^\[\]]+?)(?:\[(?P<start>-?\d*):(?P<stop>-?\d*)\])?"
)
_GRAMMAR = "write [SOURCE::]SPLIT[a:b], several joined by +"
_RANGE_SAMPLE = 1024


@dataclass(frozen=True)
class _Term:
    source: str | None
    split: str
    start: str
    stop: str


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

    def splits(self, source: str | None = None) -> Mapping[str, Part]:
        """The splits of a source, by name and in order, as parts that hold all their rows.

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
        """The rows that a selector names; nothing is read.

        Raises
        ------
        InputError
            When it cannot be read, names no split, or a range that is empty or not there.
        DataSetError
            When a source cannot be opened.
        """
        parts = [part for term in _parse(selector, self._is_source) for part in self._resolve(term)]
        widths = {part.source.shape[1] for part in parts}
        if len(widths) > 1:
            counts = ", ".join(f"{part.label} has {part.source.shape[1]}" for part in parts)
            raise InputError(f"{selector}: features differ: {counts}")
        return Rows(tuple(parts))

    def _is_source(self, name: str) -> bool:
        return name not in self.splits() and (Path(name).exists() or name == "digits")

    def _resolve(self, term: _Term) -> list[Part]:
        if term.source is None and self._is_source(term.split):
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
            if term.start or term.stop:
                raise InputError(f"{source}: all takes no range; give one to each split")
            return list(known.values())
        if term.split not in known:
            raise InputError(
                f"{source}: has no split {term.split!r}, nor is there such a file; "
                f"it has {', '.join(known)}"
            )
        return [_slice(known[term.split], term)]


def _parse(selector: str, is_source: Callable[[str], bool]) -> list[_Term]:
    # A file's name may hold a "+" or brackets: one that is there is taken as it is.
    pieces = [selector] if is_source(selector) else selector.split("+")
    terms = []
    for piece in pieces:
        match = _TERM.fullmatch(piece.strip())
        if match is None:
            raise InputError(f"selector {selector!r} cannot be read; {_GRAMMAR}")
        terms.append(
            _Term(match["source"], match["split"], match["start"] or "", match["stop"] or "")
        )
    return terms


def _slice(part: Part, term: _Term) -> Part:
    n = len(part)
    start = int(term.start) if term.start else 0
    stop = int(term.stop) if term.stop else n
    start, stop = (row + n if row < 0 else row for row in (start, stop))
    if start >= stop:
        raise InputError(f"{part.name}[{term.start}:{term.stop}] holds no rows")
    if start < 0 or stop > n:
        raise InputError(f"{part.name}[{term.start}:{term.stop}] is out of range: it has {n} rows")
    return replace(part, start=start, stop=stop)


def _open(name: str) -> dict[str, Part]:
    path = Path(name)
    # A folder with Zarr metadata that is no data set: let the data set's own error say so.
    if is_dataset(path) or (path / "zarr.json").exists():
        return {split: _stored(name, path, split) for split in splits(path)}
    return _foreign(name, path)


def _stored(name: str, path: Path, split: str) -> Part:
    opened = open_split(path, split)
    coordinates = {**opened.labels, "source_row": opened.source_row}
    return Part(
        ZarrSource(opened.x),
        0,
        opened.n_rows,
        name=f"{name}::{split}",
        encoding=Encoding(opened.scale_factor, opened.add_offset),
        identity=f"{path.resolve()}::{split}",
        checksum=opened.checksum,
        value_range=opened.actual_range,
        image_shape=opened.image_shape,
        layout=opened.layout,
        coordinates={key: ZarrSource(array) for key, array in coordinates.items()},
    )


def _foreign(name: str, path: Path) -> dict[str, Part]:
    source = read_source(path)
    parts = {}
    for split in source.splits:
        opened = NpySource.open(path) if source.format == "npy" else ArraySource(load_split(split))
        encoding = Encoding(split.scale_factor, split.add_offset)
        sample = encoding.decode(opened.read(0, min(split.n_rows, _RANGE_SAMPLE)))
        parts[split.name] = Part(
            opened,
            0,
            split.n_rows,
            name=name if len(source.splits) == 1 else f"{name}::{split.name}",
            encoding=encoding,
            identity=f"{path.resolve()}::{split.name}",
            checksum=source.checksum,
            value_range=(float(np.nanmin(sample)), float(np.nanmax(sample))),
            image_shape=split.image_shape,
            layout=split.layout,
            coordinates={
                key: ArraySource(np.asarray(label)) for key, label in split.labels.items()
            },
        )
    return parts
