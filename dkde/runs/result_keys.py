"""The keys of a result's store that belong to it, by the names that Zarr's metadata allow.

Users keep files of their own in the folder of a result. Where one is replaced, or what an older one
left is removed, all that has another name than Zarr gives is theirs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from dkde.runs.roots import ROOT
from dkde.stores.json_text import object_from_json
from dkde.stores.store import PARTIAL

# In the record of a result's run: the names of the variables that it has written.
VARIABLES = "variables"
# Of an array: its metadata and its chunks.
_OF_ARRAY = re.compile(r"([^/]+)/(?:zarr\.json|c((?:/\d+)*))")
# The blocks that earlier versions kept within a result.
_OF_EARLIER_RUN = re.compile(
    r"run/(?:plan\.json|(?:locks|sessions)/\w+\.json|.+/(?:zarr\.json|failed-\d+-\d+\.json|c|\d+))"
)
# What Zarr and dkde call a file that is being written: a killed process may have left it.
_BEING_WRITTEN = re.compile(
    rf"(?:zarr|c|\d+)\.[0-9a-f]{{32}}{re.escape(PARTIAL)}"
    rf"|\..*\.[0-9a-f]{{32}}{re.escape(PARTIAL)}"
)


def listed_in(root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of the arrays that a root lists, by name; empty where it lists none."""
    consolidated = root.get("consolidated_metadata")
    listed = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    return listed if isinstance(listed, dict) else {}


def own_in(root: Mapping[str, Any], listed: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the listed arrays that the result itself has written.

    A user may have added others, which xarray puts into the same list. Results of versions that did
    not note their variables are known by the checksums that all chunks of theirs carry.

    Parameters
    ----------
    root : mapping
        The metadata of the root.
    listed : mapping of str to dict
        The metadata of all arrays, by name.
    """
    attributes = root.get("attributes")
    run = attributes.get("run") if isinstance(attributes, dict) else None
    known = (object_from_json(run.encode()) or {}) if isinstance(run, str) else {}
    names = known.get(VARIABLES)
    if isinstance(names, list):
        return {name: array for name, array in listed.items() if name in names}
    return {name: array for name, array in listed.items() if _has_checksums(array)}


def _has_checksums(array: Any) -> bool:
    """Return whether all chunks of an array carry a checksum; of a damaged one it is assumed."""
    try:
        codecs = [codec["name"] for codec in array["codecs"]]
    except (LookupError, TypeError):
        return not (isinstance(array, Mapping) and array.get("node_type") == "group")
    return "crc32c" in codecs


def is_of_result(key: str, listed: Mapping[str, Any]) -> bool:
    """Return whether a key of a result's store belongs to the result.

    Parameters
    ----------
    key : str
        The key, from the folder of the result.
    listed : mapping of str to dict
        The metadata of its arrays, by name; empty where they are unknown, as of a result that was
        not complete: then all keys are its own whose form is that of an array's.

    Examples
    --------
    >>> x = {"shape": [7], "chunk_grid": {"configuration": {"chunk_shape": [5]}}}
    >>> [is_of_result(key, {"x": x}) for key in ("x/zarr.json", "x/c/1", "x/c/2", "x/notes.txt")]
    [True, True, False, False]
    """
    if key == ROOT or _OF_EARLIER_RUN.fullmatch(key) or is_being_written(key):
        return True
    match = _OF_ARRAY.fullmatch(key)
    if match is None or (listed and match[1] not in listed):
        return False
    counts = _n_chunks(listed.get(match[1]))
    if match[2] is None or counts is None:
        return True
    place = [int(number) for number in match[2].split("/")[1:]]
    return len(place) == len(counts) and all(k < n for k, n in zip(place, counts, strict=True))


def is_being_written(key: str) -> bool:
    """Return whether a key's name is that of a file that is being written."""
    return _BEING_WRITTEN.fullmatch(key.rpartition("/")[2]) is not None


def others_in(folder: Path, root: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is in the folder of a result and does not belong to it, by its path in there.

    Links are not followed: what they lead to is not lost. The walk takes about as long as to
    remove the folder.

    Parameters
    ----------
    folder : pathlib.Path
    root : mapping
        The metadata of its root.
    """
    listed = listed_in(root)
    written = own_in(root, listed)
    own = {*written, "run"}
    if not listed:  # one that was not complete
        own |= {name for name in os.listdir(folder) if (folder / name / ROOT).is_file()}
    for above, folders, names in os.walk(folder):
        within = os.path.relpath(above, folder).replace(os.sep, "/")
        start = "" if within == "." else f"{within}/"
        if not start:
            yield from sorted(set(folders) - own)
            folders[:] = sorted(own.intersection(folders))
        yield from (key for name in sorted(names) if not is_of_result(key := start + name, written))


def left_in(keys: Iterable[str], listed: Mapping[str, Any]) -> list[str]:
    """Return the keys that an older result has left in a bucket, and that nobody reads.

    Parameters
    ----------
    keys : iterable of str
        All keys of the store.
    listed : mapping of str to dict
        The metadata of the arrays of the result that is there.
    """
    rest = [key for key in keys if not is_of_result(key, listed) or key.startswith("run/")]
    # A folder that holds other things too, as another store, is a user's.
    theirs = {key.partition("/")[0] for key in rest if not is_of_result(key, {})}
    return [key for key in rest if is_of_result(key, {}) and key.partition("/")[0] not in theirs]


def _n_chunks(array: Any) -> list[int] | None:
    """Return the numbers of chunks along the dims of an array; None where they are unknown."""
    try:
        sizes = array["chunk_grid"]["configuration"]["chunk_shape"]
        return [ceil(n / size) for n, size in zip(array["shape"], sizes, strict=True)]
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None  # damaged
