"""Foreign Zarr stores and NetCDF files as sources of selectors, with groups as their splits."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import zarr

from dkde.datasets.dataset import is_dataset
from dkde.errors import DkdeError, InputError
from dkde.inputs.decoding import encoding_of, source_of
from dkde.inputs.groups import Group
from dkde.rows.bare import is_masked, node_at
from dkde.rows.columns import chosen_by_name
from dkde.rows.places import Place, groups_of, kind_of, refuse_references, resolved
from dkde.rows.row_dims import UNNAMED
from dkde.rows.side import Part
from dkde.stores.harmless import CodecError
from dkde.stores.publishing import is_there
from dkde.stores.repositories import is_icechunk
from dkde.stores.store import is_remote, open_store
from dkde.stores.versions import pinned


def path_of(name: str) -> Path:
    """Return a name as a path, with ~ expanded unless a file of that name exists."""
    return Path(name if is_there(name) else os.path.expanduser(name))


def is_known(name: str) -> bool:
    """Return whether a name is that of an existing file or folder, or of scikit-learn's digits."""
    return (
        name == "digits"
        or is_there(name)
        or os.path.exists(os.path.expanduser(name))
        or is_icechunk(name)
    )


def divisions(name: str) -> Iterator[tuple[str, str]]:
    """Yield a name whole, then split before each ``::``, the longest source first."""
    stop = len(name)
    while stop > 0:
        yield name[:stop], name[stop:]
        stop = name.rfind("::", 0, stop)


def parted(name: str) -> tuple[str, str]:
    """Return a name split at ``::``: the source, and its group or split.

    As in selectors, the source is the longest name that exists: file names may hold ``::``.

    Examples
    --------
    >>> parted("s3://bucket/tree.zarr::cruise/7"), parted("no such file")
    (('s3://bucket/tree.zarr', 'cruise/7'), ('no such file', ''))
    """
    if is_remote(name):  # whether a URL exists would cost a request: its first :: counts
        source, _, within = name.partition("::")
        return source, within.strip("/")
    for source, within in divisions(name):
        if is_known(source):
            return source, within[2:].strip("/")
    return name, ""


def place_of(name: str) -> Place | None:
    """Return the place that SOURCE or SOURCE::GROUP names; None if it is not a foreign one."""
    source, group = parted(name)
    if is_icechunk(source):
        path = pinned(source)
    else:
        path = source.rstrip("/") if is_remote(source) else str(path_of(source))
        refuse_references(path)
    kind = kind_of(path)
    if kind == "zarr" and is_dataset(open_store(path, read_only=True)):
        kind = None
    # One file reached by two links is one place, so that shared rows are noticed.
    whole = path if is_remote(path) else os.path.realpath(path)
    return None if kind is None else resolved(Place(whole, kind, group))


def listing(name: str) -> str | None:
    """Return the variables and groups of a store or file as text; None if unusable or a result."""
    try:
        place = place_of(name)
        if place is None:
            return None
        group = Group.open(place, name)
    except CodecError:
        raise
    except DkdeError:
        return None
    groups = groups_of(place)
    below = f"the groups {', '.join(groups)}" if groups else ""
    # A result of dkde is no source of rows; it has this variable at its root.
    if "log_density" in group.variables and not below:
        return None
    variables = group.listing if group.variables else ""
    return " and ".join(filter(None, [variables, below])) or None


class Groups(Mapping[str, Part]):
    """The groups of a Zarr store or NetCDF file, each opened on first use.

    The root has an empty name. If it holds variables, it alone is listed, as the source's only
    split; the groups below it can still be opened by name.

    Parameters
    ----------
    name : str
        The name of the source, for messages.
    place : Place
        The store or file.
    features : tuple of str, optional
        The features that the user names.
    row_dim : tuple of str, optional
        The dims along which rows lie, where variables have other dims too.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        features: tuple[str, ...] | None,
        row_dim: tuple[str, ...] | None = None,
    ) -> None:
        self._name, self._place, self._features, self._row_dim = name, place, features, row_dim
        self._opened: dict[str, Part] = {}
        self._root = Group.open(place, name)

    @cached_property
    def _below(self) -> list[str]:
        # Listing the groups of a large store takes long: only on first use.
        return [] if self._place.array is not None else groups_of(self._place)

    @cached_property
    def _listed(self) -> list[str]:
        return [""] if self._root.variables or not self._below else self._below

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def __contains__(self, group: object) -> bool:
        if group in self._opened or group in self._listed or group in self._below:
            return True
        if not isinstance(group, str) or self._place.array is not None:
            return False
        # ``::NAME`` may also name an array; only its own metadata are looked up for that.
        return self._at(group).array is not None

    def check_features_named(self) -> None:
        """Refuse a source of several variables if the user does not name its features.

        Raises
        ------
        InputError
            When nobody says which variables are the features.
        """
        if self.asked() is None and self._place.array is None:
            raise _features_unnamed(self._root)

    def asked(self, group: Group | None = None) -> tuple[str, ...] | None:
        """Return the features that the user names; None if there are none.

        If the user names dims of rows and there is only one variable of numbers, that is meant.
        """
        if self._features is not None or self._row_dim is None:
            return self._features
        numbers = _numbers(self._root if group is None else group)
        return tuple(numbers) if len(numbers) == 1 else None

    def __getitem__(self, group: str) -> Part:
        if group not in self._opened:
            if group and group not in self:
                raise KeyError(group)
            self._opened[group] = self._part(group)
        return self._opened[group]

    def _at(self, group: str) -> Place:
        """Return the place of a group below, or of an array."""
        inner = "/".join(filter(None, [self._place.group, group.strip("/")]))
        return resolved(replace(self._place, group=inner))

    def _part(self, group: str) -> Part:
        """Return the rows of a group, or of the array that the place names."""
        place, here = self._place, self._root
        if group:
            name = f"{self._name}/{group}" if place.group else f"{self._name}::{group}"
            place = self._at(group)
            here = Group.open(place, name)
        if place.array is None:
            features = self.asked(here)
            if features is None:
                raise _features_unnamed(here)
            return rows_of(here, features, self._row_dim)
        part = _array_rows(here, place, self._row_dim)
        # The array's own name chooses it whole; other names choose among its columns.
        alone = (str(place.array_name),)
        return part if self._features in (None, alone) else chosen_by_name(part, self._features)


def _numbers(group: Group) -> list[str]:
    """Return the numeric variables that are not coordinates."""
    return [
        name for name in group.variables
        if group.numeric(name) and name not in group.coordinates and group.fault(name) is None
    ]  # fmt: skip


def _features_unnamed(group: Group) -> InputError:
    """Return the error for a foreign store or file whose features the user does not name."""
    numbers = _numbers(group)
    way = f"--features {numbers[0]}" if len(numbers) == 1 else "--features"
    return InputError(
        f"{group.name}: is no data set of dkde; say which of its variables are the features "
        f"({way}, or features=[...]): {listing(group.name)}"
    )


def _array_rows(group: Group, place: Place, row_dim: tuple[str, ...] | None) -> Part:
    """Return the rows of the one array that a place names.

    Two dims without names are rows and features. A Zarr array with such dims, and without marks of
    missing values, is read as it is stored.
    """
    name = str(place.array_name)
    part = group.part((name,), row_dim)
    variable = group.variables[name]
    is_bare = variable.ndim == 2 and all(str(dim).startswith(UNNAMED) for dim in variable.dims)
    if place.kind != "zarr" or not is_bare or len(part.row_dims or ()) != 1:
        return part
    # Read as stored, scaled integers stay integers until they are used, and take less memory.
    store = open_store(place.path, read_only=True)
    array = node_at(store, place.within(name))
    if not isinstance(array, zarr.Array) or is_masked(dict(array.attrs)):
        return part
    return Part(
        source_of(array), 0, len(part), part.name, encoding_of(array, part.name),
        identity=str(place).replace("::", "/"), opened=(name,),
        dims=part.dims,
    )  # fmt: skip


def rows_of(group: Group, features: tuple[str, ...], row_dim: tuple[str, ...] | None) -> Part:
    """Return the rows made of a group's variables, or of an AnnData table in it.

    Raises
    ------
    InputError
        When the variables do not exist, or are a sparse matrix.
    """
    _refuse_sparse(group)
    if len(features) > 1 or features[0] in group.variables or group.place is None:
        return group.part(features, row_dim)
    # One name that is no variable may be a group: AnnData keeps tables, such as obs, as groups.
    (name,) = features
    place = group.place
    try:
        inner = Group.open(replace(place, group=place.within(name)), f"{place}/{name}")
    except CodecError:
        raise
    except Exception:  # there is no such group; the error of the group above says so best
        return group.part(features, row_dim)
    _refuse_sparse(inner)
    if inner.attributes.get("encoding-type") != "dataframe":
        return group.part(features, row_dim)
    # AnnData notes the order of a table's columns; text columns are no features.
    order = inner.attributes.get("column-order", ())
    columns = [order] if isinstance(order, str) else [str(column) for column in order]
    part = inner.part([column for column in columns if inner.numeric(column)] or columns)
    return replace(part, name=group.name, opened=features)


def _refuse_sparse(group: Group) -> None:
    """Refuse a sparse matrix of AnnData: its arrays would be taken for rows."""
    kind = str(group.attributes.get("encoding-type", ""))
    if kind in ("csr_matrix", "csc_matrix"):
        raise InputError(
            f"{group.name}: is a sparse matrix ({kind}), but rows are read from dense arrays "
            "only; write it as a dense array (toarray()), or take a matrix of obsm"
        )
