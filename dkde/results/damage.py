"""Damage in the stores of results, found where reading them fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import xarray as xr

from dkde.errors import DataSetError, DkdeError, Remedy, one_line
from dkde.runs.status import read_all
from dkde.runs.store import ResultStore


@contextmanager
def named_damage(*results: Any) -> Iterator[None]:
    """If reading fails within, look for damage in the stores of results, and report it.

    Parameters
    ----------
    *results : xarray.Dataset, path or URL
        The results as the user passed them; those in memory have no store to look at.

    Raises
    ------
    DataSetError
        When a chunk is missing or damaged, or a store cannot be read as a result; an error of a
        result in memory is raised as it is.
    """
    try:
        yield
    except (DkdeError, MemoryError):
        raise
    except Exception as error:
        # Zarr and xarray raise many kinds of errors for a damaged chunk, without its name. Reading
        # the whole store chunk by chunk finds which one it is.
        for result in results:
            place = result.encoding.get("source") if isinstance(result, xr.Dataset) else result
            if isinstance(place, str | os.PathLike):
                try:
                    read_all(ResultStore.found(place)[0])
                except DataSetError as damage:
                    raise damage from error
                raise DataSetError(
                    f"{place}: cannot be read as a result ({one_line(error)}); its metadata are "
                    "damaged, or of another version of dkde; make the result again ",
                    Remedy("restart"),
                ) from error
        raise
