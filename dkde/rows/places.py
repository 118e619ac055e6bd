"""Foreign Zarr stores and NetCDF files: their detection, and their variables decoded by xarray."""

from __future__ import annotations

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
from dkde.stores.harmless import CodecError
from dkde.stores.json_text import object_from_json
from dkde.stores.linked import check_linked, linked_files
from dkde.stores.store import Records, is_remote, open_store, stamps
from dkde.stores.versions import snapshot_of

# The files that mark a folder as a Zarr store, of version 3 or 2.
ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup", ".zarray")
# The first bytes of NetCDF 4 files, which are HDF5, and of classic ones.
_HDF5, _CLASSIC = b"\x89HDF\r\n\x1a\n", b"CDF"
_NETCDF_NAMES = (".nc", ".nc4", ".cdf", ".netcdf")
# A longer file of JSON is not looked into: it takes too long, only for a better message.
_LONGEST_REFERENCES = 2**26
# The largest number of groups that a message names.
_NAMED = 8


@dataclass(frozen=True)
class Place:
    """A group of a Zarr store or a NetCDF file, or one array of it.

    Parameters
    ----------
    path : str
        The absolute path of the store or file, or its URL.
    kind : {"zarr", "hdf5", "classic"}
        The format; "classic" is NetCDF 3 and its 64-bit formats.
    group : str
        The path of the group in the store; empty for the root.
    array : str, optional
        The one array of the group that is meant. Empty where the whole store is one array.
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
        """Return the name of the array; a store that is one array gives it its own name."""
        return Path(self.path).stem if self.array == "" else self.array

    def within(self, name: str) -> str:
        """Return the path in the store of an array of this group."""
        return self.group if self.array == "" else f"{self.group}/{name}".lstrip("/")

    def stamp(self, names: tuple[str, ...]) -> Any:
        """Return a stamp of the content of some variables: sizes, and times or ETags."""
        if self.kind != "zarr":
            status = os.stat(self.path)
            # HDF5 can read values from other files, which change on their own.
            known = str(self), status.st_size, status.st_mtime_ns
            linked = [(path, *_stamped(path)) for path in self._linked(names)]
            return (*known, linked) if linked else known
        if not is_remote(self.path):
            folders = [Path(self.path, self.within(name)) for name in names]
            files = [path for folder in folders for path in sorted(folder.rglob("*"))]
            found = [(str(path), path.stat()) for path in files if path.is_file()]
            return str(self), [(name, s.st_size, s.st_mtime_ns) for name, s in found]
        store = open_store(self.path, read_only=True)
        if (snapshot := snapshot_of(store)) is not None:
            return snapshot, [self.within(name) for name in names]
        return str(self), [stamps(store, self.within(name)) for name in names]

    def _linked(self, names: tuple[str, ...]) -> dict[str, bool]:
        """Return the other files that variables are read from, and which of these exist."""
        return linked_files(self.path, self.group, names) if self.kind == "hdf5" else {}

    def warn_of_lost_files(self, names: tuple[str, ...]) -> None:
        """Warn of missing files that variables link to: HDF5 reads fill values in their place."""
        linked = self._linked(names)
        if lost := [path for path, there in linked.items() if not there]:
            warn(
                f"{self}: {len(lost)} of {len(linked)} files that {', '.join(names)} are read from "
                f"are missing ({some(lost, 3)}); fill values are read for them, put them back"
            )

    def check_there(self, name: str) -> None:
        """Refuse an array whose metadata no longer exist: its chunks would read as missing values.

        Zarr returns the fill value for any chunk that does not exist, and raises nothing.

        Raises
        ------
        DataSetError
            When the metadata of the array ``name`` do not exist.
        """
        if self.kind != "zarr":
            return
        above = f"{self.within(name)}/".lstrip("/")
        if not (_has(self.path, f"{above}zarr.json") or _has(self.path, f"{above}.zarray")):
            raise DataSetError(
                f"{self}: {name} was removed after it was opened, and its values would be read as "
                "missing; put it back"
            )


def _stamped(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:  # a missing file reads as fill values; the stamp changes when it comes back
        return -1, -1
    return status.st_size, status.st_mtime_ns


# ``kind_of`` looks for several records of a store in a row: the store is opened once for all.
@lru_cache(maxsize=16)
def _records(url: str) -> Records:
    return Records(open_store(url, read_only=True), url)


def _has(store: str, key: str) -> bool:
    """Return whether a store, by folder or URL, has a record."""
    return _records(store).has(key) if "://" in store else os.path.exists(os.path.join(store, key))


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """Return the kind of a path by its first look: "zarr", "hdf5", "classic", or None."""
    text = os.fspath(path)
    if "://" in text and text.lower().endswith(_NETCDF_NAMES):
        # Such a URL cannot be read. This kind leads to the error that says so.
        return "hdf5"
    if "://" in text or os.path.isdir(text):
        return "zarr" if any(_has(text, mark) for mark in ZARR_MARKS) else None
    if not os.path.isfile(text):  # a pipe would be waited for, without end
        return None
    try:
        with open(text, "rb") as file:
            head = file.read(len(_HDF5))
    except OSError:
        return None
    if head == _HDF5:
        return "hdf5"
    return "classic" if head[:3] == _CLASSIC and head[3:4] in (b"\1", b"\2", b"\5") else None


def refuse_references(path: str) -> None:
    """Refuse a file or a folder of references to chunks in other files, as kerchunk writes them.

    Without what reads them, a folder of these would be taken for a store that lacks all its chunks.

    Raises
    ------
    InputError
    """
    folder = os.path.isdir(path)
    place = os.path.join(path, ".zmetadata") if folder else path
    if not os.path.isfile(place) or not (folder or path.lower().endswith((".json", ".jsn"))):
        return
    try:
        if os.path.getsize(place) > _LONGEST_REFERENCES:
            return
        found = object_from_json(Path(place).read_bytes()) or {}
    except OSError:
        return  # opening it says so
    if "record_size" in found if folder else isinstance(found.get("refs"), dict):
        raise InputError(
            f"{path}: holds references to chunks in other files (kerchunk); open it in Python, "
            'xarray.open_dataset(path, engine="kerchunk"), and pass the Dataset'
        )


@dataclass(frozen=True, eq=False)
class Decoded:
    """The decoded variables of a group.

    Parameters
    ----------
    variables : mapping of str to xarray.Variable
        The variables, by name.
    coordinates : frozenset of str
        The names of those that are coordinates.
    undecodable : mapping of str to str
        The names of variables that xarray cannot decode, and why.
    attributes : mapping
        The attributes of the group.
    """

    variables: Mapping[str, xr.Variable]
    coordinates: frozenset[str] = frozenset()
    undecodable: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)


def open_variables(place: Place, name: str) -> Decoded:
    """Return the variables of a group, decoded by the CF conventions; no values are read.

    Parameters
    ----------
    place : Place
        The group, or one array of it.
    name : str
        The name for messages.

    Raises
    ------
    InputError
        When a package that the format needs is missing, or there is no such group.
    DataSetError
        When the group cannot be opened.
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
            f"{name}: could not be opened by xarray ({one_line(error)}); it is damaged, or not a "
            "Dataset"
        ) from error
    undecodable: dict[str, str] = {}
    variables = dict(raw)
    if place.array == "":
        variables = {str(place.array_name): next(iter(variables.values()))}
    if place.kind == "zarr":  # a folder lists its arrays in any order; the rows' columns need one
        variables = {key: variables[key] for key in sorted(variables, key=str)}
    try:
        decoded, _, coordinates = _decode(variables, attributes)
    except Exception:
        # One variable with faulty attributes must not hide the others: find the faulty ones by
        # decoding each alone, and decode the rest together, as coordinates need.
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
    if place.array is not None:  # keep the array, and the coordinates that locate its values
        found = {key: v for key, v in found.items() if key in named or key == place.array_name}
        undecodable = {key: why for key, why in undecodable.items() if key == place.array_name}
    return Decoded(found, named, undecodable, attributes)


def _raw(place: Place) -> tuple[dict[Any, xr.Variable], Mapping[Any, Any]]:
    """Return a group's raw variables and attributes; dims without names get names."""
    try:
        found = _open(place, xr.open_dataset)
        return dict(found.variables), found.attrs
    except DkdeError:
        raise
    except Exception:
        if place.kind != "zarr":
            raise
        # xarray refuses Zarr arrays whose dims have no names. These are opened without it.
        store = open_store(place.path, read_only=True)
        found = variables_at(store, place.group, str(place.array_name))
        if not found:
            raise
        node = node_at(store, place.group)
        return dict(found), {} if node is None else dict(node.attrs)


def resolved(place: Place) -> Place:
    """Return the place; if its group is in fact an array, the place of that array."""
    if place.array is not None or (place.kind != "zarr" and not place.group):
        return place
    if place.kind == "zarr":
        if not is_remote(place.path):
            # On a file system the metadata files say it, and nothing has to be opened.
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
        found = object_from_json(path.read_bytes()) or {}
    except OSError:
        return False
    return found.get("node_type") == "array"


def _is_variable(place: Place) -> bool:
    """Return whether a place's last name is a variable of the group above, and not a group."""
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
    """Return the groups below a place that have variables, by their paths relative to it."""
    above = f"/{place.group}/" if place.group else "/"
    return [g.removeprefix(above) for g in _groups(place) if g.startswith(above) and g != above]


def _decode(variables: Mapping[Hashable, xr.Variable], attributes: Any) -> Any:
    # Only variables that were stored as timedelta64 are lengths of time. xarray would decode all
    # in units of time, but a variable in hours may well be a feature.
    lengths = {
        str(name): str(variable.attrs.get("dtype", "")).startswith("timedelta64")
        for name, variable in variables.items()
    }
    return decode_cf_variables(variables, attributes, decode_timedelta=lengths)


def _open(place: Place, opener: Callable[..., Any]) -> Any:
    # xarray reads a coordinate whole to make its index.
    options: dict[str, Any] = {"decode_cf": False, "create_default_indexes": False}
    options |= {"chunks": None, "cache": False}
    if opener is xr.open_dataset and place.kind != "classic":
        options["group"] = place.group or None
    with warnings.catch_warnings():
        # xarray warns of metadata that are not consolidated; reading them costs little here.
        warnings.simplefilter("ignore")
        if place.kind == "zarr":
            store = open_store(place.path, read_only=True)
            return opener(store, engine="zarr", **options)
        if place.kind == "hdf5":
            check_linked(place.path)
        return opener(place.path, engine=_engine(place), **options)


def _groups(place: Place) -> list[str]:
    try:
        found = [name for name, data in _open(place, xr.open_groups).items() if data.variables]
    except CodecError:
        raise
    except Exception:
        found = [] if place.kind != "zarr" else groups_at(open_store(place.path, read_only=True))
    # As with variables: a folder has no order of its own, a file has one.
    return sorted(found) if place.kind == "zarr" else found


def _engine(place: Place) -> str:
    """Return the xarray engine that reads a NetCDF file.

    Raises
    ------
    InputError
        When the package that reads this format is not installed, or the file is remote.
    """
    if is_remote(place.path):
        raise InputError(
            f"{place.path}: NetCDF is read from a file system only; copy the file to one, or write "
            "the data as Zarr"
        )
    if place.kind == "classic":
        with open(place.path, "rb") as file:
            is_wide = file.read(4)[3:] == b"\5"  # CDF-5, which scipy does not read
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
