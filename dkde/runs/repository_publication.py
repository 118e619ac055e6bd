"""Publication in an Icechunk repository: a result is one commit of a branch.

A new repository in a folder is written in the folder of the run, and moved to its place like any
other result. In a repository that is there, all is written first, flushed to the disk, and then the
branch is set to the new snapshot, if it is still at the one that was replaced. A process that is
killed before that leaves objects that no branch leads to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import icechunk
import xarray as xr

from dkde.errors import DataSetError
from dkde.runs.publication import appear, check_replaced_in, drafted
from dkde.runs.roots import no_result_there
from dkde.runs.store import ResultStore, write_result, writing
from dkde.stores.durable import sync_tree
from dkde.stores.repositories import MAIN_BRANCH, divided, is_repository
from dkde.stores.snapshots import is_there, open_repository, storage_of, told
from dkde.stores.store import Records


def publish_in_repository(
    result: xr.Dataset, store: ResultStore, run: str, *, replaces: bool, version: str | None = None
) -> None:
    """Write a result into a repository, and let it appear as one commit.

    Parameters
    ----------
    result, store, run, replaces, version
        As for :func:`dkde.runs.publication.publish_store`. A result that is replaced stays in the
        history.

    Raises
    ------
    DataSetError
        When it cannot be written, or the run was begun anew, or the branch holds something else or
        has moved meanwhile. The run is kept then.
    """
    place, named = divided(store.name)
    branch = named or MAIN_BRANCH
    with told(store.name), writing(store.records):
        if is_there(store.name):
            check = partial(check_replaced_in, replaces=replaces, version=version)
            _publish(result, open_repository(place), branch, store, run, check)
        elif store.run.is_local:
            with drafted(store.run, run, "result.icechunk") as draft:
                repository = icechunk.Repository.create(storage_of(str(draft)))
                _publish(result, repository, branch, None, run)
                refuse = partial(_refuse, name=store.name)
                appear(draft, Path(os.path.realpath(place)), store.run, run, refuse)
        else:
            repository = icechunk.Repository.create(storage_of(place))
            check = partial(check_replaced_in, replaces=replaces, version=version)
            _publish(result, repository, branch, store, run, check)


def _publish(
    result: xr.Dataset,
    repository: icechunk.Repository,
    branch: str,
    store: ResultStore | None,
    run: str,
    check: Callable[[Records], None] | None = None,
) -> None:
    """Commit a result to a branch; a draft, which is no store yet, needs no checks."""
    session = repository.writable_session(branch)
    before = session.snapshot_id
    if store is not None and check is not None:
        check(Records(session.store, store.name))
        session.store.sync_clear()
    write_result(result, session.store)
    snapshot = session.flush("A result of dkde", {"dkde_run": run})
    if store is not None:
        _flush(store)
        store.run.check_present(run)
    try:
        repository.reset_branch(branch, snapshot, from_snapshot_id=before)
    except icechunk.IcechunkError as error:
        if repository.lookup_branch(branch) == before:
            raise
        raise DataSetError(
            f"{'a draft' if store is None else store.name}: another process meanwhile wrote there; "
            "look at it, and start the same run again"
        ) from error
    if store is not None:
        _flush(store)


def _flush(store: ResultStore) -> None:
    """Flush a repository in a folder to the disk, which Icechunk does not do."""
    place, _ = divided(store.name)
    if store.run.is_local:
        sync_tree(Path(os.path.realpath(place)))


def _refuse(path: Path, name: str) -> None:
    """Refuse to replace what was put at the place of a new repository meanwhile."""
    if is_repository(path):
        raise DataSetError(
            f"{name}: another process meanwhile put a repository there; look at it, and start the "
            "same run again"
        )
    raise no_result_there(name, None)
