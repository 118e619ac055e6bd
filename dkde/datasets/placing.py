"""Put a data set in its place: all of it, or nothing."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from dkde.datasets.claiming import SeenUrl, look_at_url, write_in_place
from dkde.datasets.dataset import is_dataset
from dkde.datasets.formats import SourceSplit
from dkde.datasets.formats.source import RowStream
from dkde.datasets.index import index_dataset
from dkde.datasets.writing import ImportProgress, write_dataset
from dkde.errors import DataSetError
from dkde.stores.publishing import complete, publish, say_what_is_left
from dkde.stores.staging import staged
from dkde.stores.store import is_remote, open_store
from dkde.stores.targets import Seen, check_folder, check_url, look
from dkde.typing import Array

_FOREIGN = "exists and is no data set of dkde; it is never overwritten, choose another path"
_THERE = "exists already; choose another path, or overwrite it (--overwrite)"


def place_dataset(
    seen: Seen | SeenUrl,
    splits: Sequence[SourceSplit | RowStream],
    *,
    attributes: Mapping[str, Any],
    orders: Mapping[str, Array] | None = None,
    extras: Mapping[str, Mapping[str, Array]] | None = None,
    index: bool = False,
    progress: ImportProgress | None = None,
) -> None:
    """Write a data set beside its place, and rename it when it is complete.

    In a bucket, where nothing is renamed, it is written in its place, and marked as complete by
    the last request; what was there is marked as unfinished, and then removed, by the first ones.

    Parameters
    ----------
    seen : Seen or SeenUrl
        The place, as :func:`check_target` found it before the work; nothing else is replaced.
    attributes, orders, extras, progress
        As for :func:`dkde.datasets.writing.write_dataset`.
    index : bool
        Write its index too; in a bucket afterwards, when it is complete without.

    Raises
    ------
    InputError, DataSetError
    """
    content: dict[str, Any] = {
        "attributes": attributes,
        "orders": orders or {},
        "extras": extras or {},
        "progress": progress,
    }
    if isinstance(seen, SeenUrl):
        write_in_place(seen, splits, content)
        if index:
            index_dataset(seen.url)
        return
    try:
        with staged(seen.path) as stage:
            # mkdtemp's folder is private; the one in it has the permissions that users expect.
            write_dataset(LocalStore(stage.new), splits, scratch=stage.folder, **content)
            if index:
                index_dataset(stage.new)
            publish(stage, seen)
    except OSError as error:
        raise DataSetError(f"{seen.path}: could not be written ({error})") from error


def check_target(
    store: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    sources: Iterable[str | os.PathLike[str]] = (),
) -> Seen | SeenUrl:
    """Refuse a place that a data set may not be written to; what is there, to be replaced.

    Files that killed commands left beside it are reported in a warning, and removed where it is
    certain to be that.

    Parameters
    ----------
    overwrite : bool
        Whether a data set that is there already may be replaced. Anything else never is.
    sources : paths, URLs
        What is read, and must not lie in it.

    Raises
    ------
    InputError, DataSetError
    """
    if is_remote(store):
        return _check_url(os.fspath(store).rstrip("/"), overwrite, sources)
    complete(store)
    seen = look(store)
    target = seen.path
    check_folder(store)
    for source in sources:
        if Path(source).exists() and Path(os.path.realpath(source)).is_relative_to(target):
            raise DataSetError(f"{store}: the source {source} lies in it; choose another store")
    say_what_is_left(store, remove=True)
    if seen.what is None or seen.is_empty_folder:
        return seen
    if not (target.is_dir() and is_dataset(target)):
        raise DataSetError(f"{store}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{store}: {_THERE}")
    return seen


def _check_url(url: str, overwrite: bool, sources: Iterable[str | os.PathLike[str]]) -> SeenUrl:
    check_url(url)
    for source in (os.fspath(path) for path in sources):
        if "://" in source and f"{source}/".startswith(f"{url}/"):
            raise DataSetError(f"{url}: the source {source} lies in it; choose another store")
    seen = look_at_url(url)
    if not seen.names:
        return seen
    if not is_dataset(open_store(url, read_only=True)):
        raise DataSetError(f"{url}: {_FOREIGN}")
    if not overwrite:
        raise DataSetError(f"{url}: {_THERE}")
    return seen


def dkde_version() -> str:
    """Return the version of dkde, for attributes."""
    try:
        return importlib.metadata.version("dkde")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
