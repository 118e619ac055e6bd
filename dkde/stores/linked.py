"""Other files that an HDF5 file's variables are read from: by links, as virtual, as raw bytes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What counts the blocks of a virtual dataset in the name of its sources.
_BLOCK = re.compile(r"%(%|b)")


def linked_files(path: str, group: str, names: tuple[str, ...]) -> dict[str, bool]:
    """The files that some variables are read from beside the one that names them.

    Parameters
    ----------
    path, group : str
        Of the HDF5 file that names them, and of the group in it.
    names : tuple of str

    Returns
    -------
    dict of str to bool
        Their paths, in order, and whether they are there. Where h5py is not, which would tell,
        there are none.
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


def _follow(file: Any, name: str, found: dict[str, bool], seen: set[tuple[str, str]]) -> None:
    """Add the files that one dataset is read from, and those that these are read from."""
    import h5py

    if (file.filename, name) in seen:
        return
    seen.add((file.filename, name))
    _follow_links(file, name, found)
    try:
        dataset = file[name]
    except (KeyError, OSError):
        return  # the link leads nowhere; who reads it says so
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
    """Add the files that the links on the way to a dataset lead through."""
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
            rest = "/".join([above.rstrip("/"), link.path.strip("/"), *parts[number + 1 :]])
            if rest.strip("/") != name.strip("/"):
                _follow_links(at.file, rest, found)
            return
        at = at.get(part) if link is not None else None


def _named(name: str, home: str) -> Iterator[str]:
    """The sources of a virtual dataset by their name, which may stand for one for each block."""
    if name == ".":
        yield os.path.abspath(home)
    elif "%b" in name:
        pattern = _BLOCK.sub(lambda m: "*" if m[1] == "b" else "%", glob.escape(name))
        yield from sorted(glob.glob(_at(pattern, home, "")))
    else:
        yield _at(name.replace("%%", "%"), home, "HDF5_VDS_PREFIX")


def _at(name: str, home: str, prefix: str, *, beside: bool = True) -> str:
    """Return where HDF5 looks for a file: by a prefix, beside the other file, or here."""
    origin = os.path.dirname(os.path.abspath(home))
    set_prefix = os.environ.get(prefix, "").replace("${ORIGIN}", origin)
    folders = [f for f in (set_prefix, origin if beside else "", os.getcwd()) if f]
    places = [os.path.abspath(Path(folder, name)) for folder in folders]
    return next((place for place in places if os.path.exists(place)), places[0])


def _add(found: dict[str, bool], place: str) -> None:
    found[os.path.abspath(place)] = os.path.exists(place)
