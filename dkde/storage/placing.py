"""Put a data set in its place: all of it, or nothing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError, InputError
from dkde.storage.dataset import is_dataset
from dkde.storage.importers import SourceSplit
from dkde.storage.importers.source import Array
from dkde.storage.writing import ImportProgress, write_dataset


def place_dataset(
    store: str | os.PathLike[str],
    splits: Sequence[SourceSplit],
    *,
    attributes: Mapping[str, Any],
    orders: Mapping[str, Array] | None = None,
    extras: Mapping[str, Mapping[str, Array]] | None = None,
    overwrite: bool = False,
    progress: ImportProgress | None = None,
) -> None:
    """Write a data set beside its place, and rename it when it is complete.

    Parameters
    ----------
    attributes, orders, extras, progress
        As for :func:`dkde.storage.writing.write_dataset`.
    overwrite : bool
        Replace a data set that is there already. Anything else is never replaced.

    Raises
    ------
    InputError, DataSetError
    """
    target = check_target(store, overwrite=overwrite)
    try:
        hidden = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            # mkdtemp's folder is private; the one in it has the permissions that users expect.
            write_dataset(
                hidden / "new",
                splits,
                attributes=attributes,
                orders=orders or {},
                extras=extras or {},
                progress=progress,
            )
            _move_into_place(hidden, target)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        raise DataSetError(f"{target}: could not be written ({error})") from error


def check_target(
    store: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    sources: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """The folder that a data set is to be written to, if it may be.

    Parameters
    ----------
    sources : paths
        What is read, and must not lie in it.

    Raises
    ------
    InputError, DataSetError
    """
    if "://" in str(store):
        raise InputError(f"{store}: data sets are written into local folders; copy it from there")
    target = Path(os.path.realpath(store))
    if not target.parent.is_dir():
        raise DataSetError(f"{store}: the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise DataSetError(f"{store}: the folder {target.parent} may not be written")
    for source in sources:
        if Path(source).exists() and Path(os.path.realpath(source)).is_relative_to(target):
            raise DataSetError(f"{store}: the source {source} lies in it; choose another store")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return target
    if not (target.is_dir() and is_dataset(target)):
        raise DataSetError(
            f"{store}: exists and is no data set of dkde; it is never overwritten, choose "
            "another path"
        )
    if not overwrite:
        raise DataSetError(
            f"{store}: exists already; choose another path, or overwrite it (--overwrite)"
        )
    return target


def _move_into_place(hidden: Path, target: Path) -> None:
    new, old = hidden / "new", hidden / "old"
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if replaced:
            old.rename(target)
        raise


def dkde_version() -> str:
    """For attributes."""
    try:
        return importlib.metadata.version("dkde")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
