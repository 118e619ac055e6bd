"""Checks of a command's output files, before the work."""

import os
from collections.abc import Mapping
from pathlib import Path

from dkde_cli.group import Refusal


def check_file(path: str | None, what: str) -> None:
    """Refuse a file's path early, before hours of work.

    Raises
    ------
    Refusal, DataSetError
        When it is a folder, or its own folder is missing or may not be written to.
    """
    if path is None:
        return
    if path == "-":
        raise Refusal(f"-: the {what} needs a name; for figures on standard output there is --json")
    from dkde import check_place

    check_place(path, what)


def check_store(path: str | None) -> None:
    """Refuse a store's path early; ``dkde`` itself looks at what is there.

    Raises
    ------
    Refusal, DataSetError
        When the folder above is missing or may not be written to, or it lies in another Zarr
        store.
    """
    if path is None:
        return
    if path == "-":
        raise Refusal("-: the store needs a name; it is a folder")
    # A URL is looked at once, later; and a file may be the data, which is said first.
    if "://" in path or os.path.isfile(path):
        return
    from dkde import check_place

    check_place(path, "store", is_store=True)


def check_apart(data: str, outputs: Mapping[str, str | None]) -> None:
    """Refuse outputs that would replace each other, or the data.

    Parameters
    ----------
    data : str
        What is read.
    outputs : mapping of option to path, or None

    Raises
    ------
    Refusal
    """
    given = {role: path for role, path in outputs.items() if path is not None}
    places: dict[str, Path] = {}
    for role, path in {"DATA": data, **given}.items():
        place = Path(os.path.realpath(path))
        for other, taken in places.items():
            # A folder of files may well get another one.
            if place == taken or (other != "DATA" and _nested(place, taken)):
                raise Refusal(f"{path}: {other} and {role} are one place; give each its own")
        places[role] = place


def _nested(a: Path, b: Path) -> bool:
    return a.is_relative_to(b) or b.is_relative_to(a)
