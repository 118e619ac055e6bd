"""Names of outputs: stores, and files that a run becomes when it is complete.

The run of ``scores.csv`` lies beside it, in the store ``scores.csv.run``, until it is complete.
"""

from __future__ import annotations

import os
from pathlib import Path

from dkde.stores.file_kinds import SUFFIXES
from dkde.stores.store import Records, is_remote, open_store
from dkde.typing import StrPath

_RUN = ".run"


def file_of(output: StrPath) -> str | None:
    """Return the file that an output becomes, which may be named by its run; None for a store.

    Examples
    --------
    >>> file_of("scores.csv"), file_of("scores.csv.run"), file_of("scores.zarr")
    ('scores.csv', 'scores.csv', None)
    """
    file = os.fspath(output).rstrip("/").removesuffix(_RUN)
    if Path(file).suffix.lower() not in SUFFIXES["result"]:
        return None
    # Earlier versions made stores of such names.
    if is_remote(file):
        is_store = Records(open_store(file, read_only=True), file).has("zarr.json")
    else:
        is_store = os.path.isdir(file)
    return None if is_store else file


def run_of(output: StrPath) -> StrPath:
    """Return the store of an output's run: beside the file that it becomes, or the output itself.

    Examples
    --------
    >>> run_of("scores.csv"), run_of("scores.zarr")
    ('scores.csv.run', 'scores.zarr')
    """
    file = file_of(output)
    return output if file is None else f"{file}{_RUN}"
