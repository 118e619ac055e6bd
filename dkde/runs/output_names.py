"""Names of outputs, of the files that some become, and of the folders of their runs.

The run of ``r.zarr`` lies beside it, in ``r.zarr.run``, until the result is complete; so does that
of ``scores.csv``.
"""

from __future__ import annotations

import os
from pathlib import Path

from dkde.stores.file_kinds import SUFFIXES
from dkde.stores.repositories import (
    MAIN_BRANCH,
    SCHEME,
    becomes_repository,
    divided,
    is_icechunk,
    plain,
)
from dkde.stores.store import Records, is_remote, open_store
from dkde.typing import StrPath

RUN = ".run"


def output_of(path: StrPath) -> str:
    """Return the output that a path names: the path itself, or that of a run's folder.

    Examples
    --------
    >>> output_of("scores.csv"), output_of("scores.csv.run/")
    ('scores.csv', 'scores.csv')
    """
    path = plain(path)
    if "://" in path:
        is_remote(path)  # refuses credentials before anything repeats them
    output = path.rstrip("/").removesuffix(RUN)
    if not output or output.endswith("/") or output == path.rstrip("/"):
        return path
    return path if _is_store(path) else output


def file_of(output: StrPath) -> str | None:
    """Return the file that an output becomes, which may be named by its run; None for a store.

    Examples
    --------
    >>> file_of("scores.csv"), file_of("scores.csv.run"), file_of("scores.zarr")
    ('scores.csv', 'scores.csv', None)
    """
    file = os.fspath(output).rstrip("/").removesuffix(RUN)
    if Path(file).suffix.lower() not in SUFFIXES["result"]:
        return None
    # Earlier versions made stores of such names.
    return None if _is_store(file) or (not is_remote(file) and os.path.isdir(file)) else file


def run_of(output: StrPath) -> str:
    """Return the folder of an output's run: beside the output or, of a link, beside its target.

    Examples
    --------
    >>> run_of("scores.csv"), run_of("scores.zarr/")
    ('scores.csv.run', 'scores.zarr.run')
    """
    place = output_of(output).rstrip("/").removeprefix(SCHEME)
    if not is_remote(place) and (
        os.path.islink(place) or os.path.basename(place) in (os.curdir, os.pardir)
    ):
        # A rename ends at a file system's border: the run lies where the result will.
        place = os.path.realpath(place)
    return f"{place}{RUN}"


def place_of(output: StrPath, folder: str = "") -> tuple[str, str]:
    """Return where an output lies, and its branch, tag or snapshot; "" if it is no repository.

    Two names are of one output if these are the same.

    Parameters
    ----------
    folder : str
        Where a relative name begins; by default in the working directory.
    """
    path, version = plain(output), ""
    if becomes_repository(path if "://" in path else os.path.join(folder, path)):
        path, named = divided(path)
        version = named or MAIN_BRANCH
    if "://" in path:
        return path.rstrip("/"), version
    return os.path.realpath(os.path.join(folder, path)), version


def _is_store(path: str) -> bool:
    if is_icechunk(path):
        return "://" not in path
    if is_remote(path):
        return Records(open_store(path, read_only=True), path).has("zarr.json")
    return os.path.isfile(os.path.join(path, "zarr.json"))
