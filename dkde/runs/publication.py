"""Publication: a result is written where no reader looks, and appears in one step.

On a file system the result is written in the folder of its run, flushed to the disk, and renamed;
where an older result stands, the two are exchanged. The folder of a run that was begun anew by
another process has been renamed, so that this last step fails. In a bucket the root of the result
is claimed first, and comes back last; each object is written only if it is as it was when the root
had been claimed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import xarray as xr
from zarr.storage import LocalStore

from dkde.errors import DataSetError, Remedy, one_line
from dkde.runs.bucket_publication import publish_in_bucket
from dkde.runs.marks import PLAN
from dkde.runs.place import RunPlace
from dkde.runs.result_keys import listed_in, others_in, own_in
from dkde.runs.roots import ROOT, check_version, is_result, no_result_there, parsed_root
from dkde.runs.store import ResultStore, write_result, writing
from dkde.stores.durable import sync_folder, sync_tree
from dkde.stores.renaming import exchange, move
from dkde.stores.repositories import divided, is_repository
from dkde.stores.store import Records


def publish_store(
    result: xr.Dataset, store: ResultStore, run: str, *, replaces: bool, version: str | None = None
) -> None:
    """Write a result, and let it appear at its place.

    Parameters
    ----------
    run : str
        The id of its run.
    replaces : bool
        Whether an older result may be replaced.
    version : str, optional
        The only one that may be (:func:`dkde.runs.roots.version_of`); in a bucket none is known.

    Raises
    ------
    DataSetError
        When it cannot be written, or the run was begun anew, or its place was taken. The run is
        kept then.
    """
    if store.run.is_local:
        with drafted(store.run, run, "result") as draft:
            with writing(store.records):
                write_result(result, LocalStore(draft))
            target = Path(os.path.realpath(store.name))
            check = partial(check_replaced, name=store.name, replaces=replaces, version=version)
            appear(draft, target, store.run, run, check)
        return
    publish_in_bucket(result, store, run, replaces=replaces)


@contextmanager
def drafted(place: RunPlace, run: str, name: str) -> Iterator[Path]:
    """Yield a path in the folder of a run, where something is written before it appears."""
    folder = place.records(run).folder
    assert folder is not None
    path = folder / name
    _remove(path)  # of a process that was killed
    try:
        yield path
    finally:
        _remove(path)
        if not (folder / PLAN).is_file():  # the run was begun anew, and Zarr made the folder again
            place.remove_leftovers()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def appear(
    draft: Path, target: Path, place: RunPlace, run: str, check: Callable[[Path], None]
) -> None:
    """Move what was written to its place, in one step, unless the run was begun anew.

    Parameters
    ----------
    draft : pathlib.Path
        What was written, in the folder of the run.
    target : pathlib.Path
        Its place.
    check : callable
        Raises if what is at a path may not be replaced.

    Raises
    ------
    DataSetError
    """
    try:
        sync_tree(draft)
        place.check_present(run)
        _appear(draft, target, place.older(run), check)
        sync_folder(target.parent)
    except OSError as error:
        place.check_present(run)
        raise DataSetError(
            f"{place.name}: could not be written ({one_line(error)}); what is done is kept, make "
            "room and start the same run again"
        ) from error


def _appear(draft: Path, target: Path, older: Path, check: Callable[[Path], None]) -> None:
    if not os.path.lexists(target) or _is_empty_folder(target):
        if target.is_dir():
            target.rmdir()
        try:
            move(draft, target)
        except FileExistsError:
            raise DataSetError(
                f"{target}: something was put there by another process while the result was "
                "written, and stays as it is; look at it, and start the same run again"
            ) from None
        return
    check(target)
    if exchange(draft, target):
        try:
            check(draft)  # again: something may have changed the place between the two
        except BaseException:
            exchange(draft, target)
            raise
    elif target.is_dir():
        # Without an exchange there is a moment without a result. If the process is killed in it,
        # whoever goes on with the run, or begins another, moves the older result back first.
        os.rename(target, older)
        try:
            check(older)
            move(draft, target)
        except BaseException:
            with suppress(OSError):
                move(older, target)
            raise
        shutil.rmtree(older, ignore_errors=True)
    else:
        os.replace(draft, target)


def check_replaced(path: Path, name: str, replaces: bool, version: str | None = None) -> None:
    """Refuse to replace what is no result, or holds other files, or was put there meanwhile.

    Parameters
    ----------
    version : str, optional
        The only result that may be replaced.

    Raises
    ------
    DataSetError
    """
    try:
        content: bytes | None = (path / ROOT).read_bytes()
    except OSError:
        content = None
    root = _checked_root(content, name, replaces, version)
    _refuse_others(others_in(path, root), name)


def check_replaced_in(records: Records, replaces: bool, version: str | None = None) -> None:
    """Refuse to replace what is no result in a bucket, or in a branch of a repository.

    Other files of a user stay there. Variables that were added to a result would be listed no more.

    Raises
    ------
    DataSetError
    """
    content = records.get(ROOT)
    if content is None and not records.names(""):
        return
    root = _checked_root(content, records.name, replaces, version)
    # In a repository there is no list of arrays: its names are those of the snapshot.
    listed = listed_in(root) or {
        name: parsed_root(records.get(f"{name}/{ROOT}"))
        for name in records.names("")
        if name != ROOT
    }
    _refuse_others(sorted(set(listed) - set(own_in(root, listed))), records.name)


def _checked_root(
    content: bytes | None, name: str, replaces: bool, version: str | None
) -> dict[str, Any]:
    """Return the root of a result that may be replaced."""
    root = parsed_root(content)
    if not is_result(root):
        raise no_result_there(name, content)
    if not replaces:
        raise DataSetError(
            f"{name}: another process meanwhile put a result there; look at it, and begin this one "
            "anew ",
            Remedy("restart"),
        )
    check_version(name, root["attributes"], version)
    return root


def _refuse_others(others: Iterable[str], name: str) -> None:
    if found := list(islice(others, 3)):
        raise DataSetError(
            f"{name}: holds what is no part of the result ({', '.join(found)}), which would "
            "be lost; move it away, or give another name for the output"
        )


def is_taken(store: ResultStore) -> bool:
    """Return whether anything is at the place of a result; of a repository in its branch."""
    if store.is_repository:
        folder = Path(os.path.realpath(divided(store.name)[0]))
        if store.run.is_local and not is_repository(folder):
            return os.path.lexists(folder) and not _is_empty_folder(folder)
        return bool(store.records.names(""))
    if store.run.is_local:
        place = Path(os.path.realpath(store.name))  # a link whose target is missing is no result
        return os.path.lexists(place) and not _is_empty_folder(place)
    return bool(store.records.names(""))


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not os.listdir(path)
