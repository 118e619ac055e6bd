"""Kinds of files that dkde writes, by the suffixes of their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from dkde.typing import StrPath

Written = Literal["result", "samples"]

# Results that are tables of rows, those with all that a store has, and rasters of maps.
TABLES, WHOLE, RASTERS = (".csv", ".parquet"), (".nc",), (".tif",)
SUFFIXES: dict[Written, tuple[str, ...]] = {
    "result": TABLES + WHOLE + RASTERS,
    "samples": (".npy", *TABLES),
}


def is_file_name(path: StrPath, written: Written) -> bool:
    """Return whether what is written to a path becomes a file by its name, and no store.

    Examples
    --------
    >>> is_file_name("a.csv", "result"), is_file_name("a.npy", "result")
    (True, False)
    """
    # Earlier versions made stores of such names.
    return Path(path).suffix.lower() in SUFFIXES[written] and not os.path.isdir(path)
