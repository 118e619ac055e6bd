"""Zarr stores and NetCDF files of others: what is one, and its variables, decoded by xarray."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xarray as xr
import zarr
from xarray.conventions import decode_cf_variables

from dkde.errors import DataSetError, DkdeError, InputError, one_line, some, warn
from dkde.rows.bare import groups_at, node_at, variables_at
from dkde.stores.door import CodecError
from dkde.stores.linked import linked_files
from dkde.stores.store import Records, is_remote, open_store, stamps

# What a folder of a Zarr store holds, of version 3 or 2.
ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup", ".zarray")
_HDF5, _CLASSIC = b"\x89HDF\r\n\x1a\n", b"CDF"
_NETCDF_NAMES = (".nc", ".nc4", ".cdf", ".netcdf")
# Groups that a message names.
_NAMED = 8


@dataclass(frozen=True)
class Place:
    """A group of a Zarr store or a NetCDF file, or one array of it.

    Parameters
    ----------
    path : str
        Absolute, or a URL.
    kind : {"zarr", "hdf5", "classic"}
    group : str
        Empty for the root.
    array : str, optional
        The one array of the group that is meant. Empty where a store is an array as a whole.
    """

    path: str
    kind: str
    group: str = ""
    array: str | None = None

    def __str__(self) -> str:
        within = "/".join(filter(None, [self.group, self.array]))
        return f"{self.path}::{within}" if within else self.path

    @property
    def array_name(self) -> str | None:
        """Return the name of its array; the store's name if that is all it holds."""
        return Path(self.path).stem if self.array == "" else self.array

    def within(self, name: str) -> str:
        """Return where in the store an array of its group lies."""
        return self.group if self.array == "" else f"{self.group}/{name}".lstrip("/")

    def stamp(self, names: tuple[str, ...]) -> Any:
        """Return a stamp of some variables' content: sizes, and times or ETags."""
        if self.kind != "zarr":
            status = os.stat(self.path)
            known = str(self), status.st_size, status.st_mtime_ns
            linked = [(path, *_stamped(path)) for path in self._linked(names)]
            return (*known, linked) if linked else known
        if not is_remote(self.path):
            folders = [Path(self.path, self.within(name)) for name in names]
            files = [path for folder in folders for path in sorted(folder.rglob("*"))]
            found = [(str(path), path.stat()) for path in files if path.is_file()]
            return str(self), [(name, s.st_size, s.st_mtime_ns) for name, s in found]
        store = open_store(self.path, read_only=True)
        return str(self), [stamps(store, self.within(name)) for name in names]

    def _linked(self, names: tuple[str, ...]) -> dict[str, bool]:
        """The files that variables are read from beside this one, and whether they are there."""
        return linked_files(self.path, self.group, names) if self.kind == "hdf5" else {}

    def warn_of_lost_files(self, names: tuple[str, ...]) -> None:
        """Warn where a file is not there whose values would be taken to be the fill value."""
        linked = self._linked(names)
        if lost := [path for path, there in linked.items() if not there]:
            warn(
                f"{self}: {len(lost)} of {len(linked)} files that {', '.join(names)} are read from "
                f"are not there ({some(lost, 3)}) and count as the fill value; put them back"
            )

    def check_there(self, name: str) -> None:
        """Refuse a store that is gone: its chunks would read as missing values.

        Raises
        ------
        DataSetError
        """
        if self.kind != "zarr":
            return
        above = f"{self.within(name)}/".lstrip("/")
        if not (_has(self.path, f"{above}zarr.json") or _has(self.path, f"{above}.zarray")):
            raise DataSetError(
                f"{self}: {name} is gone since it was opened, and would read as missing; put it "
                "back"
            )


def _stamped(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # it counts as the fill value, until it is there
        return -1, -1
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=16)
def _records(url: str) -> Records:
    return Records(open_store(url, read_only=True), url)


def _has(store: str, key: str) -> bool:
    """Return whether a store, a folder or a URL, has a record."""
    return _records(store).has(key) if "://" in store else os.path.exists(os.path.join(store, key))


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return a path's apparent kind: "zarr", "hdf5", "classic" (NetCDF 3), or None."""
    text = os.fspath(path)
    if "://" in text and text.lower().endswith(_NETCDF_NAMES):
        return "hdf5"
    if "://" in text or os.path.isdir(text):
        return "zarr" if any(_has(text, mark) for mark in ZARR_MARKS) else None
    try:
        with open(text, "rb") as file:
            head = file.read(len(_HDF5))
    except OSError:
        return None
    if head == _HDF5:
        return "hdf5"
    return "classic" if head[:3] == _CLASSIC and head[3:4] in (b"\1", b"\2", b"\5") else None


@dataclass(frozen=True, eq=False)
class Decoded:
    """The variables of a group, by name, which of them are coordinates, and what is undecodable."""

    variables: Mapping[str, xr.Variable]
    coordinates: frozenset[str] = frozenset()
    undecodable: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def open_variables(place: Place, name: str) -> Decoded:
    """The variables of a group, decoded by CF's conventions, their values yet to be read.

    Parameters
    ----------
    name : str
        For messages.

    Raises
    ------
    InputError
        When what it needs is not installed, or there is no such group.
    DataSetError
        When it cannot be opened.
    """
    try:
        raw, attributes = _raw(place)
    except DkdeError:
        raise
    except Exception as error:
        groups = _groups(place)
        if place.group and groups and f"/{place.group.strip('/')}" not in groups:
            raise InputError(
                f"{name}: there is no such group; there are {', '.join(groups[:_NAMED])}"
            ) from error
        raise DataSetError(
            f"{name}: could not be opened by xarray ({one_line(error)}); it is damaged, or no "
            "Dataset"
        ) from error
    undecodable: dict[str, str] = {}
    variables = dict(raw)
    if place.array == "":
        variables = {str(place.array_name): next(iter(variables.values()))}
    if place.kind == "zarr":  # which come as the folder lists them, in no order of their own
        variables = {key: variables[key] for key in sorted(variables, key=str)}
    try:
        decoded, _, coordinates = _decode(variables, attributes)
    except Exception:
        for key, variable in raw.items():
            try:
                _decode({key: variable}, {})
            except Exception as error:
                undecodable[str(key)] = one_line(error)
                del variables[key]
        decoded, _, coordinates = _decode(variables, attributes)
    found = {str(key): variable for key, variable in decoded.items()}
    axes = {key for key, variable in found.items() if variable.dims == (key,)}
    named = frozenset({*map(str, coordinates), *axes})
    if place.array is not None:  # and what says where its values lie
        found = {key: v for key, v in found.items() if key in named or key == place.array_name}
        undecodable = {key: why for key, why in undecodable.items() if key == place.array_name}
    return Decoded(found, named, undecodable, attributes)


def _raw(place: Place) -> tuple[dict[Any, xr.Variable], Mapping[Any, Any]]:
    """Return a group's raw variables and attributes, as xarray opens it, or of unnamed dims."""
    try:
        found = _open(place, xr.open_dataset)
        return dict(found.variables), found.attrs
    except DkdeError:
        raise
    except Exception:
        if place.kind != "zarr":
            raise
        store = open_store(place.path, read_only=True)
        found = variables_at(store, place.group, str(place.array_name))
        if not found:
            raise
        node = node_at(store, place.group)
        return dict(found), {} if node is None else dict(node.attrs)


def resolved(place: Place) -> Place:
    """The place itself, or that of an array if its group is none but an array."""
    if place.array is not None or (place.kind != "zarr" and not place.group):
        return place
    if place.kind == "zarr":
        if not is_remote(place.path):
            folder = Path(place.path, place.group)
            is_array = (folder / ".zarray").exists() or _says_array(folder / "zarr.json")
        else:
            node = node_at(open_store(place.path, read_only=True), place.group)
            is_array = isinstance(node, zarr.Array)
    else:
        is_array = _is_variable(place)
    if not is_array:
        return place
    above, _, name = place.group.rpartition("/")
    return replace(place, group=above, array=name)


def _says_array(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_bytes()).get("node_type") == "array")
    except (OSError, ValueError, AttributeError):
        return False


def _is_variable(place: Place) -> bool:
    """Return whether a name is a variable of the group above, and not a group."""
    above, _, name = place.group.rpartition("/")
    try:
        if place.group in [group.strip("/") for group in _groups(place)]:
            return False
        return name in _open(replace(place, group=above), xr.open_dataset).variables
    except CodecError:
        raise
    except Exception:
        return False


def groups_of(place: Place) -> list[str]:
    """The groups below a place that have variables, by their names from there, for messages."""
    above = f"/{place.group}/" if place.group else "/"
    return [g.removeprefix(above) for g in _groups(place) if g.startswith(above) and g != above]


def _decode(variables: Mapping[Hashable, xr.Variable], attributes: Any) -> Any:
    # Lengths of time are those that say so. Others in hours are numbers: a feature may be one.
    lengths = {
        str(name): str(variable.attrs.get("dtype", "")).startswith("timedelta64")
        for name, variable in variables.items()
    }
    return decode_cf_variables(variables, attributes, decode_timedelta=lengths)


def _open(place: Place, opener: Callable[..., Any]) -> Any:
    options: dict[str, Any] = {"decode_cf": False}
    if opener is xr.open_dataset:
        # Of indexes each would be read whole.
        options |= {"chunks": None, "cache": False, "create_default_indexes": False}
        if place.kind != "classic":
            options["group"] = place.group or None
    with warnings.catch_warnings():
        # Of metadata that are not consolidated, which is no matter here.
        warnings.simplefilter("ignore")
        if place.kind == "zarr":
            store = open_store(place.path, read_only=True)
            return opener(store, engine="zarr", **options)
        return opener(place.path, engine=_engine(place), **options)


def _groups(place: Place) -> list[str]:
    try:
        found = [name for name, data in _open(place, xr.open_groups).items() if data.variables]
    except CodecError:
        raise
    except Exception:
        found = [] if place.kind != "zarr" else groups_at(open_store(place.path, read_only=True))
    return sorted(found) if place.kind == "zarr" else found  # as the variables of either


def _engine(place: Place) -> str:
    """Return the xarray engine that reads a NetCDF file.

    Raises
    ------
    InputError
        When none is there.
    """
    if is_remote(place.path):
        raise InputError(
            f"{place.path}: NetCDF is read where it lies on a file system; copy it to one, or "
            "write it as Zarr"
        )
    if place.kind == "classic":
        with open(place.path, "rb") as file:
            is_wide = file.read(4)[3:] == b"\5"
        if not is_wide:
            return "scipy"
        if find_spec("netCDF4") is None:
            raise InputError(
                f"{place.path}: is NetCDF in its 64-bit data format, which needs netCDF4; "
                "pip install netCDF4"
            )
        return "netcdf4"
    for module, engine in (("h5netcdf", "h5netcdf"), ("netCDF4", "netcdf4")):
        if find_spec(module) is not None:
            return engine
    raise InputError(f'{place.path}: NetCDF needs h5netcdf; pip install "dkde[netcdf]"')
