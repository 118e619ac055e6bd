"""Selectors: text that names rows of a source.

``[SOURCE::]SPLIT[a:b]``, joined by ``+``. SOURCE is a data set, by its path or URL, or any file
that can be imported; a file name alone stands for its only split; ``all`` for every split in order.
Or it is a Zarr store or a NetCDF file of others, whose groups are its splits; its name alone
stands for the root.
"""

import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from dkde.datasets.formats.files import is_pattern
from dkde.errors import InputError
from dkde.inputs.foreign import Groups, divisions, is_known
from dkde.inputs.grammar import Term, parse
from dkde.inputs.opening import open_source
from dkde.inputs.operands import aligned_parts
from dkde.rows.feature_choice import FeatureChoice
from dkde.rows.side import Part, Rows
from dkde.stores.store import refuse_credentials

# As far as a selector can hold it: +, :: and brackets are the grammar's own.
_URL = re.compile(r"[a-z][a-z0-9]*://(?:(?!::)[^+\[\]\s])+")


class Catalog:
    """The sources that selectors name, each opened once.

    Parameters
    ----------
    default : str, optional
        The source of selectors that name none.
    features : sequence of str, optional
        The features of a row, by name: the variables of Zarr stores and NetCDF files of others,
        which are then read where they lie; the variables of Datasets, by default the data
        variables; the columns of tables, by default those of numbers, and of data sets, by
        default all. Booleans and times in tables are features only if they are named.
    row_dim : str or sequence of str, optional
        The dim, or dims, along which rows lie, where a variable has several: other dims hold the
        features of a row, and where there are no others each number is a row.
    lat, lon : str, optional
        The features that are a latitude and a longitude in degrees, whatever they are called;
        without ``features`` these two are the features.

    Raises
    ------
    InputError
        When features or dims are no names, or one is there twice.
    """

    def __init__(
        self,
        default: str | os.PathLike[str] | None = None,
        features: Sequence[str] | None = None,
        *,
        row_dim: str | Sequence[str] | None = None,
        lat: str | None = None,
        lon: str | None = None,
    ) -> None:
        self._default = os.fspath(default) if isinstance(default, os.PathLike) else default
        self.choice = FeatureChoice.of(features, row_dim, lat, lon)
        self._opened: dict[str, Mapping[str, Part]] = {}
        # In the call that this catalog is for: what was said of columns, and names of weights.
        self.said: set[str] | None = None
        self.beside: tuple[str, ...] = ()
        self._located: Callable[[str], str] = str
        self._folder: str | None = None  # where names begin, if not in the working directory

    @property
    def features(self) -> tuple[str, ...] | None:
        """The names of the features, where the user gives them."""
        return self.choice.features

    def choosing(self, **said: Any) -> "Catalog":
        """Return a catalog of the same default, with other options for its rows.

        Parameters
        ----------
        said : str, sequence of str or None
            ``features``, ``row_dim``, ``lat`` and ``lon``; None leaves what it has.
        """
        choice = self.choice.updated(**said)
        return self if choice == self.choice else self._with(choice)

    @property
    def literal(self) -> "Catalog":
        """Return the same sources, with latitude and longitude found by exact name only."""
        return self._with(self.choice.literal)

    def _with(self, choice: FeatureChoice) -> "Catalog":
        other = copy(self)
        other.choice, other._opened = choice, {}
        return other

    def for_a_call(self, beside: Sequence[Any] = ()) -> "Catalog":
        """Return the same catalog, with the same opened sources, for one call of a function.

        What one function hands on to another, both say once.

        Parameters
        ----------
        beside : sequence
            What was given as weights: columns of these names are no features unless these are
            named.
        """
        other = copy(self)
        other.said = set() if self.said is None else self.said
        names = [name for name in beside if isinstance(name, str)]
        other.beside = tuple(dict.fromkeys([*self.beside, *names]))
        return other

    def located(self, place: Callable[[str], str], folder: str | None = None) -> "Catalog":
        """Return a catalog of the same names, with sources at other places.

        Parameters
        ----------
        place : callable
            Maps a name to where it is; to itself where that is nowhere.
        folder : str, optional
            The folder in which names begin. A source that lies there keeps its name in messages
            and results; one that lies elsewhere is called by its path.
        """
        other = copy(self)
        other._located, other._folder, other._opened = place, folder, {}
        return other

    @property
    def location(self) -> str | None:
        """The place of the default source, by its whole path where it is a file."""
        if self._default is None:
            return None
        place = _placed(self._default, self._located)
        return os.path.abspath(place) if os.path.exists(place) else place

    def splits(self, source: str | None = None) -> Mapping[str, Part]:
        """Return the splits of a source, by name and in order, as parts with all rows.

        Of a file that is no data set, and no .npy, a split is read when it is first looked up.

        Raises
        ------
        DataSetError
            When the source cannot be opened.
        """
        name = os.fspath(source) if source is not None else self._default
        if name is None:
            return {}
        if name not in self._opened:
            place = _placed(name, self._located)
            called = name if place == in_folder(self._folder, name) else place
            self._opened[name] = open_source(
                place, self.features, self.choice.row_dim, called=called
            )
        return self._opened[name]

    def rows(self, selector: str) -> Rows:
        """Return the rows that a selector names.

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
        refuse_credentials(selector)
        terms = parse(selector, exists=self._exists, is_file=self._is_file)
        parts = [part for term in terms for part in self._resolve(term)]
        return Rows(aligned_parts(parts, selector, self.features))

    def _exists(self, name: str) -> bool:
        return name == self._default or is_source(self._located(name))

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
            if isinstance(known, Groups):
                known.check_said()
            raise InputError(
                f"{source}: has no split {term.split!r}, nor is there such a file; "
                f"it has {', '.join(filter(None, known)) or 'none but its root'}"
            )
        return [_slice(known[term.split], term)]


def _placed(name: str, located: Callable[[str], str]) -> str:
    """Return where a source lies; its name may end in a group after ``::``."""
    for source, group in divisions(name):
        if (place := located(source)) != source:
            return place + group
    return name


def in_folder(folder: str | None, name: str) -> str:
    """Return the path that a name means in a folder; the name, if it is a whole path or a URL."""
    if folder is None or "://" in name or os.path.isabs(os.path.expanduser(name)):
        return name
    path = os.path.join(folder, name)
    # Brackets may be a pattern's, or a file's own; those of the folder are never a pattern's.
    is_file = os.path.exists(path) or not is_pattern(name)
    return path if is_file else os.path.join(glob.escape(folder), name)


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


def is_source(name: str) -> bool:
    """Return whether a name is that of a source, judged without opening it."""
    if "://" in name:  # whether it is there is said when it is opened
        return _URL.fullmatch(name) is not None
    # Of a pattern it is seen whether it matches anything, or is brackets of a range.
    return is_known(name) or (
        is_pattern(name) and next(glob.iglob(name, recursive=True), None) is not None
    )
