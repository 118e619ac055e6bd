"""Where a command's files go: checked before the work."""

import os
from collections.abc import Mapping
from pathlib import Path

# What a folder of a Zarr store holds, of version 3 or 2.
_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")


def check_file(path: str | None, what: str) -> None:
    """Refuse a file's path early, before hours of work.

    Raises
    ------
    DataSetError
        When it is a folder, or its own folder is missing or may not be written to.
    """
    if path is None:
        return
    if path == "-":
        raise _data_set_error(
            f"-: the {what} needs a name; for figures on standard output there is --json"
        )
    from dkde import check_place

    check_place(path, what)


def check_store(path: str | None, *, overwrite: bool) -> None:
    """Refuse a result store's path early; ``dkde`` itself looks more closely.

    Raises
    ------
    DataSetError
        When something is there that is not to be overwritten, the folder above is not, or it
        lies in another Zarr store.
    """
    if path is None:
        return
    if path == "-":
        raise _data_set_error("-: the store needs a name; it is a folder")
    if "://" in path:  # dkde itself looks at what is there
        return
    for folder in Path(os.path.realpath(path)).parents:
        if any((folder / mark).exists() for mark in _ZARR_MARKS):
            raise _data_set_error(f"{path}: lies in the Zarr store {folder}; write it elsewhere")
    if Path(path).exists() and not overwrite:
        raise _data_set_error(f"{path}: is there already; give another name, or --overwrite")
    _check_parent(path)


def check_apart(data: str, outputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that would replace each other, or the data.

    Parameters
    ----------
    data : str
        What is read.
    outputs : mapping of option to path, or None

    Raises
    ------
    DataSetError
    """
    given = {role: path for role, path in outputs.items() if path is not None}
    places: dict[str, Path] = {}
    for role, path in {"DATA": data, **given}.items():
        place = Path(os.path.realpath(path))
        for other, taken in places.items():
            # A folder of files may well get another one.
            if place == taken or (other != "DATA" and _nested(place, taken)):
                raise _data_set_error(
                    f"{path}: {other} and {role} are one place; give each its own"
                )
        places[role] = place


def _nested(a: Path, b: Path) -> bool:
    return a.is_relative_to(b) or b.is_relative_to(a)


def _check_parent(path: str) -> None:
    parent = Path(os.path.realpath(path)).parent
    if not parent.is_dir():
        raise _data_set_error(f"{path}: there is no folder {parent} to write it into")
    if not os.access(parent, os.W_OK):
        raise _data_set_error(f"{path}: the folder {parent} may not be written to")


def _data_set_error(message: str) -> Exception:
    from dkde import DataSetError

    return DataSetError(message)
