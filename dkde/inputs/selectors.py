"""Selectors: text that names rows of a source.

A selector is one or more terms ``[SOURCE::]SPLIT[a:b]``, joined by ``+``, or ``SPLIT[label=7]`` for
the rows of one value of a label, or of any other column. SOURCE is the path or URL
of a data set, or any file that can be imported. The name of a file alone means its only split;
``all`` means every split in order. SOURCE can also be a foreign Zarr store or NetCDF file: its
groups are the splits, and its name alone means the root.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from dkde.datasets.formats.files import is_pattern
from dkde.errors import InputError
from dkde.inputs.dividing import of_value
from dkde.inputs.filtering import filtered
from dkde.inputs.foreign import Groups, divisions, is_known
from dkde.inputs.grammar import Term, is_url, parse
from dkde.inputs.opening import open_source
from dkde.inputs.operands import Operand, aligned_parts, selected
from dkde.inputs.trusted import Trust
from dkde.rows.feature_choice import FeatureChoice
from dkde.rows.kept import Kept
from dkde.rows.side import Part, Rows
from dkde.rows.side_choices import SideChoices
from dkde.stores.repositories import plain
from dkde.stores.store import refuse_credentials
from dkde.typing import Names, Text


class Catalog:
    """The sources that selectors name, each opened once.

    Parameters
    ----------
    default : str, optional
        The source of selectors that name none.
    features : sequence of str, or mapping of str to sequence of str, optional
        The names of the features of a row; a mapping has those of each side by its role, as
        ``{"train": [...], "query": [...]}``. In foreign Zarr stores and NetCDF files these are
        variables, which are read where they lie. In Datasets they are variables, by default the
        data variables. In tables they are columns, by default those of numbers; booleans and times
        are features only if they are named. In data sets they are columns, by default all.
    where : str or mapping of str to str, optional
        The condition that rows meet, such as ``"year == 2020"``; others are left out. It may be
        given by role, like each option below.
    row_dim : str, sequence of str or mapping, optional
        The dim, or dims, along which rows lie, where a variable has several. Other dims hold the
        features of a row; without other dims, each number is a row.
    lat, lon : str or mapping, optional
        The names of the features that are a latitude and a longitude in degrees. Without
        ``features``, these two are the features.
    decimal : {".", ","}, optional
        The decimal mark of numbers in CSV; with a comma, semicolons or tabs separate columns.

    Raises
    ------
    InputError
        When features or dims are no names, a name occurs twice, or the decimal mark is another.
    """

    def __init__(
        self,
        default: str | os.PathLike[str] | None = None,
        features: Names | None = None,
        *,
        where: Text | None = None,
        row_dim: Names | None = None,
        lat: Text | None = None,
        lon: Text | None = None,
        decimal: str | None = None,
    ) -> None:
        if decimal not in (None, ".", ","):
            raise InputError(f"decimal is {decimal!r}; it must be a point or a comma")
        self.decimal = None if decimal == "." else decimal
        self._default = os.fspath(default) if isinstance(default, os.PathLike) else default
        self.choices = SideChoices.of(
            features=features, row_dim=row_dim, lat=lat, lon=lon, where=where
        )
        # By the name, and by the options with which it was opened.
        self._opened: dict[tuple[Any, ...], Mapping[str, Part]] = {}
        # For one call: the warnings about columns so far, and the names of weights. None outside of
        # a call.
        self.said: set[str] | None = None
        self.beside: tuple[str, ...] = ()
        # Maps a name to the present place of the source; a resumed run whose data moved sets it.
        self._located: Callable[[str], str] = str
        self._trust: Trust | None = None
        self._folder: str | None = None  # where names begin, if not in the working directory

    @property
    def choice(self) -> FeatureChoice:
        """Return the choice for all sides, or for the one of :meth:`for_role`."""
        return self.choices.common

    @property
    def features(self) -> tuple[str, ...] | None:
        """Return the names of the features, if the user gives them."""
        return self.choice.features

    def choosing(self, **said: Any) -> Catalog:
        """Return a catalog with the same default source, and other options for its rows.

        Parameters
        ----------
        said : str, sequence of str, mapping or None
            ``features``, ``where``, ``row_dim``, ``lat`` and ``lon``; None keeps the catalog's own
            option, and an option by role the own one of other roles.
        """
        choices = self.choices.updated(**said)
        return self if choices == self.choices else self._with(choices)

    def for_role(self, role: str) -> Catalog:
        """Return the catalog with the options for the side of a role, and the same sources."""
        if not self.choices.by_role:
            return self
        other = copy(self)
        other.choices = self.choices.alone(role)
        return other

    @property
    def everywhere(self) -> Catalog:
        """Return the catalog of one side without its condition: all rows, from the same sources."""
        other = copy(self)
        other.choices = replace(self.choices, common=replace(self.choice, where=None))
        return other

    @property
    def literal(self) -> Catalog:
        """Return a catalog that matches latitude and longitude by their exact names only."""
        return self._with(self.choices.literal)

    def _with(self, choices: SideChoices) -> Catalog:
        # Sources were opened for other columns, so they are opened again.
        other = copy(self)
        other.choices, other._opened = choices, {}
        return other

    def for_a_call(self, beside: Sequence[Any] = ()) -> Catalog:
        """Return the same catalog, with the same opened sources, for one call of a function.

        A function that passes its catalog to another shares the set of warnings with it, so that
        each is given once.

        Parameters
        ----------
        beside : sequence
            The weights of the call. Columns with these names are features only if they are named
            as features.
        """
        other = copy(self)
        other.said = set() if self.said is None else self.said
        names = [name for name in beside if isinstance(name, str)]
        other.beside = tuple(dict.fromkeys([*self.beside, *names]))
        return other

    def located(
        self, place: Callable[[str], str], folder: str | None = None, trust: Trust | None = None
    ) -> Catalog:
        """Return a catalog of the same names, with sources at other places.

        Parameters
        ----------
        place : callable
            Maps a name to where it is; to itself where that is nowhere.
        folder : str, optional
            The folder in which names begin. A source that lies there keeps its name in messages
            and results; one that lies elsewhere is called by its path.
        trust : Trust, optional
            The places that are opened, where a result names the sources; all of them if None.
        """
        other = copy(self)
        other._located, other._folder, other._trust, other._opened = place, folder, trust, {}
        return other

    @property
    def location(self) -> str | None:
        """Return the place of the default source, as an absolute path if it exists on disk."""
        if self._default is None:
            return None
        place = _placed(self._default, self._located)
        return os.path.abspath(place) if os.path.exists(place) else place

    def splits(self, source: str | None = None) -> Mapping[str, Part]:
        """Return the splits of a source, by name and in order, as parts with all rows.

        A split of a file is read when it is first looked up; splits of data sets and .npy files
        are not.

        Parameters
        ----------
        source : str, optional
            The source; the default one if None.

        Raises
        ------
        DataSetError
            When the source cannot be opened.
        """
        name = os.fspath(source) if source is not None else self._default
        if name is None:
            return {}
        # A PlaceName equals its text, and may be found where that text is not.
        roles = [getattr(feature, "role", None) for feature in self.features or ()]
        key = (name, self.features, *roles, self.choice.row_dim)
        if key not in self._opened:
            place = _placed(name, self._located)
            if self._trust is not None:
                self._trust.check(place)
            called = name if place == in_folder(self._folder, name) else place
            self._opened[key] = open_source(
                place, self.features, self.choice.row_dim, called=called, decimal=self.decimal
            )
        return self._opened[key]

    def rows(self, selector: str) -> Rows:
        """Return the rows that a selector names; of these, those that ``where`` keeps.

        For a data set, only metadata are read, and for large Parquet only footers. Any other file
        is read once for its checksum. Unless it is Parquet, large CSV or an .npy, a split of it is
        loaded into memory when it is first selected, and kept; the other pictures of an MNIST
        pickle stay in memory too.

        Raises
        ------
        InputError
            When the selector cannot be parsed, or names no split, or names a range that is empty
            or out of bounds.
        DataSetError
            When a source cannot be opened.
        """
        return filtered(self.selected(selector), self.choice.where, selector).rows

    def selected(self, selector: str) -> Operand:
        """Return the rows that a selector names as a side, before its filters are applied.

        Raises
        ------
        InputError, DataSetError
            As :meth:`rows`.
        """
        refuse_credentials(selector)
        terms = parse(selector, exists=self._exists, is_file=self._is_file)
        chosen = [each for term in terms for each in self._resolve(term)]
        parts = aligned_parts([part for part, _ in chosen], selector, self.features)
        return replace(selected(Rows(parts)), of_values=tuple(kept for _, kept in chosen))

    def _exists(self, name: str) -> bool:
        sees = is_source if self._trust is None else self._trust.sees
        return name == self._default or sees(self._located(name))

    def _is_file(self, name: str) -> bool:
        # A split of the default source has precedence over a file of the same name.
        return name not in self._split_names() and self._exists(name)

    def _split_names(self) -> Mapping[str, Part]:
        """Return the splits of the default source, opened with the columns of any side."""
        # It may lack the columns of this side, which is then not of this source.
        opened = (found for (name, *_), found in self._opened.items() if name == self._default)
        return next(opened, None) or self.splits()

    def _resolve(self, term: Term) -> list[tuple[Part, Kept | None]]:
        """Return the parts that a term names, and of which rows if not all; or refuse it."""
        if term.source is None and self._is_file(term.split):
            known, source = self.splits(term.split), term.split
            if len(known) > 1:
                names = ", ".join(known)
                raise InputError(
                    f"{source}: has several splits ({names}); write {source}::{next(iter(known))}"
                )
            return [_chosen(part, term) for part in known.values()]
        known, source = self.splits(term.source), term.source or self._default or ""
        if not known:
            raise InputError(f"{term.split}: no such file, and no data set to look for it in")
        # A split named "all" takes precedence over the word for all splits.
        if term.split == "all" and "all" not in known:
            if any(mark == ":" for _, mark, _ in term.choices):
                raise InputError(f"{source}: all takes no range; give one to each split")
            return [_chosen(part, term) for part in known.values()]
        if term.split not in known:
            # For a foreign store, the missing features are the likelier mistake; say that first.
            if isinstance(known, Groups):
                known.check_features_named()
            raise InputError(
                f"{source}: has no split {term.split!r}, nor is there such a file; "
                f"it has {', '.join(filter(None, known)) or 'none but its root'}"
            )
        return [_chosen(known[term.split], term)]


def _placed(name: str, located: Callable[[str], str]) -> str:
    """Return the present place of a source, whose name may end in a group after ``::``."""
    for source, group in divisions(name):
        if (place := located(source)) != source:
            return place + group
    return name


def in_folder(folder: str | None, name: str) -> str:
    """Return the path that a name means in a folder; the name, if it is a whole path or a URL."""
    name = plain(name)
    if folder is None or "://" in name or os.path.isabs(os.path.expanduser(name)):
        return name
    path = os.path.join(folder, name)
    # Brackets may be a pattern's, or a file's own; those of the folder are never a pattern's.
    is_file = os.path.exists(path) or not is_pattern(name)
    return path if is_file else os.path.join(glob.escape(folder), name)


def _chosen(part: Part, term: Term) -> tuple[Part, Kept | None]:
    """Return the range of a part that a term names, and which of its rows have the value."""
    kept: Kept | None = None
    for first, mark, second in term.choices:
        if mark == "=":
            kept = of_value(part, first, second)
        elif kept is None:
            start, stop = _range(part.name, len(part), first, second)
            part = replace(part, start=part.start + start, stop=part.start + stop)
        else:
            name = f"{part.name}{term.chosen.partition(']')[0]}]"
            kept = kept.only(*_range(name, kept.n_rows, first, second))
    return part, kept


def _range(name: str, n: int, first: str, last: str) -> tuple[int, int]:
    """Return a range of ``n`` rows as a term has it; negative numbers count from the end."""
    written = f"[{first}:{last}]"
    start = int(first) if first else 0
    stop = int(last) if last else n
    start, stop = (row + n if row < 0 else row for row in (start, stop))
    if start >= stop:
        raise InputError(f"{name}{written} holds no rows")
    if start < 0 or stop > n:
        raise InputError(f"{name}{written} is out of range: it has {n} rows")
    return start, stop


def is_source(name: str) -> bool:
    """Return whether a name may be that of a source, without opening it."""
    if "://" in name:  # opening it shows whether it exists; asking here would cost requests
        return is_url(name)
    # Brackets may be a pattern or a range. A pattern matches at least one file.
    return is_known(name) or (
        is_pattern(name) and next(glob.iglob(name, recursive=True), None) is not None
    )
