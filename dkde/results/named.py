"""Several results, each with a name that tables and legends show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import xarray as xr

from dkde.errors import InputError
from dkde.runs.grouped import alone
from dkde.runs.opened import opened_result
from dkde.typing import StrPath


def named_results(results: Any) -> dict[str, Any]:
    """Return results by name, as they were passed and in their order.

    Parameters
    ----------
    results : a result, a path, or a mapping or sequence of these
        A mapping has the names. Otherwise stores have the names of their folders, with as much of
        their paths as tells them apart, and results in memory are "A", "B", ... by their places.

    Raises
    ------
    InputError
        When there is none.
    """
    if isinstance(results, Mapping) and not isinstance(results, xr.Dataset | xr.DataTree):
        found = {str(name): result for name, result in results.items()}
    else:
        # A Dataset is a Mapping, and one result.
        many = list(results) if isinstance(results, list | tuple) else [results]
        found = dict(zip(_names([place_of(result) for result in many]), many, strict=True))
    if not found:
        raise InputError("there are no results; pass at least one")
    return found


def place_of(result: Any) -> str | None:
    """Return the path or URL of a result's store; None of one that never was in a store."""
    if isinstance(result, xr.Dataset):
        result = result.encoding.get("source")
    return os.fspath(result) if isinstance(result, str | os.PathLike) else None


def opened_results(results: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    """Return results opened, by name; of fitted estimators the curves that they have."""
    return {name: _opened(result) for name, result in results.items()}


def _opened(result: Any) -> xr.Dataset:
    curve = getattr(type(result), "_curve", None)
    if curve is not None:
        found: xr.Dataset | None = result._curve()
        if found is None:
            raise InputError(
                f"a {type(result).__name__} with one bandwidth has no curve; KernelDensityCV has"
            )
        return found
    # A curve needs the figures alone: what was selected of a result may have no rows.
    return alone(result) if isinstance(result, xr.Dataset) else opened_result(result)


def _names(places: list[StrPath | None]) -> list[str]:
    """Return a name for each place, all different.

    >>> _names(["runs/A.zarr", "runs/B.zarr/", None])
    ['A.zarr', 'B.zarr', 'C']
    >>> _names(["one/r.zarr", "two/r.zarr", "two/r.zarr"])
    ['one/r.zarr', 'two/r.zarr', 'two/r.zarr (2)']
    """
    split = [None if p is None else os.fspath(p).rstrip("/").split("/") for p in places]
    names: list[str] = []
    for i, parts in enumerate(split):
        if parts is None:
            name = chr(ord("A") + i) if i < 26 else f"result {i + 1}"
        else:
            others = [o for o in split if o is not None and o != parts]
            # The shortest end of the path that no other place has.
            ends = (n for n in range(1, len(parts)) if all(o[-n:] != parts[-n:] for o in others))
            name = "/".join(parts[-next(ends, len(parts)) :])
        number = 2
        while name in names:
            name = f"{name.removesuffix(f' ({number - 1})')} ({number})"
            number += 1
        names.append(name)
    return names
