"""Other files that an HDF5 file's variables are read from.

A variable may lie in another file by an external link, as a virtual dataset, or as raw bytes.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError
from dkde.stores.current_folder import current_folder

# In the name of a virtual dataset's sources %b stands for the block's number, and %% for %.
_BLOCK = re.compile(r"%(%|b)")


def linked_files(path: str, group: str, names: tuple[str, ...]) -> dict[str, bool]:
    """Return the other files that some variables of an HDF5 file are read from.

    Parameters
    ----------
    path, group : str
        The path of the HDF5 file, and of the group in it.
    names : tuple of str
        The names of the variables in the group.

    Returns
    -------
    dict of str to bool
        The paths of the other files, in order, and whether each exists; empty where h5py is not
        installed.
    """
    if find_spec("h5py") is None:
        return {}
    import h5py

    found: dict[str, bool] = {}
    seen: set[tuple[str, str]] = set()
    with h5py.File(path, "r") as file:
        for name in names:
            _follow(file, f"/{group}/{name}", found, seen)
    found.pop(os.path.abspath(path), None)
    return found


def check_linked(path: str) -> None:
    """Refuse an HDF5 file that leads to a pipe or a device: opening these may block, or never end.

    Raises
    ------
    DataSetError
    """
    for place in all_linked(path):
        if os.path.exists(place) and not os.path.isfile(place):
            raise DataSetError(
                f"{path}: leads to {place}, which is no regular file: reading it may block; take "
                "the link away"
            )


def all_linked(path: str) -> tuple[str, ...]:
    """Return the paths of all other files that an HDF5 file leads to, and those that these do.

    None of them is opened by HDF5 that is no regular file.
    """
    if find_spec("h5py") is None:
        return ()
    found = {path: None}
    waiting = [path]
    while waiting:
        home = waiting.pop()
        if not os.path.isfile(home) or not _is_hdf5(home):
            continue
        status = os.stat(home)
        for place in _linked_in(home, status.st_size, status.st_mtime_ns):
            if place not in found:
                found[place] = None
                waiting.append(place)
    del found[path]
    return tuple(found)


@lru_cache(maxsize=64)
def _linked_in(home: str, size: int, changed: int) -> tuple[str, ...]:
    """Return the paths that links and datasets in a file of a size and a time lead to."""
    import h5py

    found: list[str] = []

    def visit(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            found.append(_at(link.filename, home, "HDF5_EXT_PREFIX"))
        if not isinstance(link, h5py.HardLink):
            return
        with suppress(KeyError, OSError):  # what cannot be opened is not read either
            dataset = file[name]
            if isinstance(dataset, h5py.Dataset):
                for raw, *_ in dataset.external or ():
                    found.append(_at(raw, home, "HDF5_EXTFILE_PREFIX", beside=False))
                for source in dataset.virtual_sources() if dataset.is_virtual else ():
                    found.extend(_named(source.file_name, home))

    with h5py.File(home, "r") as file:
        file.visititems_links(visit)
    return tuple(dict.fromkeys(found))


def _is_hdf5(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _follow(file: Any, name: str, found: dict[str, bool], seen: set[tuple[str, str]]) -> None:
    """Add the files that one dataset is read from, and those that these are read from."""
    import h5py

    # Links may lead in a circle: each dataset is followed once.
    if (file.filename, name) in seen:
        return
    seen.add((file.filename, name))
    _follow_links(file, name, found)
    try:
        dataset = file[name]
    except (KeyError, OSError):
        return  # the link leads nowhere; reading the variable reports it
    if not isinstance(dataset, h5py.Dataset):
        return
    home = dataset.file.filename
    found[os.path.abspath(home)] = True
    for raw, *_ in dataset.external or ():
        _add(found, _at(raw, home, "HDF5_EXTFILE_PREFIX", beside=False))
    if not dataset.is_virtual:
        return
    for source in dataset.virtual_sources():
        for place in _named(source.file_name, home):
            _add(found, place)
            if os.path.exists(place):
                with h5py.File(place, "r") as other:
                    _follow(other, source.dset_name, found, seen)


def _follow_links(file: Any, name: str, found: dict[str, bool]) -> None:
    """Add the files that the links on the path to a dataset lead through."""
    import h5py

    at: Any = file["/"]
    parts = [part for part in name.split("/") if part]
    for number, part in enumerate(parts):
        link = at.get(part, getlink=True) if isinstance(at, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            place = _at(link.filename, at.file.filename, "HDF5_EXT_PREFIX")
            _add(found, place)
            if os.path.exists(place):
                with h5py.File(place, "r") as other:
                    rest = "/".join([link.path.strip("/"), *parts[number + 1 :]])
                    _follow_links(other, rest, found)
            return
        if isinstance(link, h5py.SoftLink):
            above = "" if link.path.startswith("/") else at.name
            # A soft link may lead to an external one: follow the rest of the path from its target.
            rest = "/".join([above.rstrip("/"), link.path.strip("/"), *parts[number + 1 :]])
            if rest.strip("/") != name.strip("/"):
                _follow_links(at.file, rest, found)
            return
        at = at.get(part) if link is not None else None


def _named(name: str, home: str) -> Iterator[str]:
    """Yield the sources of a virtual dataset; a name with %b stands for a file for each block."""
    if name == ".":
        yield os.path.abspath(home)
    elif "%b" in name:
        pattern = _BLOCK.sub(lambda m: "*" if m[1] == "b" else "%", glob.escape(name))
        yield from sorted(glob.glob(_at(pattern, home, "")))
    else:
        yield _at(name.replace("%%", "%"), home, "HDF5_VDS_PREFIX")


def _at(name: str, home: str, prefix: str, *, beside: bool = True) -> str:
    """Return where HDF5 looks for a file.

    It looks below the folder that an environment variable names (`prefix`), then beside the file
    that names it, then in the working directory.
    """
    origin = os.path.dirname(os.path.abspath(home))
    set_prefix = os.environ.get(prefix, "").replace("${ORIGIN}", origin)
    folders = [f for f in (set_prefix, origin if beside else "", current_folder()) if f]
    places = [os.path.abspath(Path(folder, name)) for folder in folders]
    return next((place for place in places if os.path.exists(place)), places[0])


def _add(found: dict[str, bool], place: str) -> None:
    found[os.path.abspath(place)] = os.path.exists(place)
