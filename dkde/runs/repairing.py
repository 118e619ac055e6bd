"""Repair of a damaged run, the locks of processes that have ended, and leftovers of killed ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dkde.errors import DataSetError, InputError, warn
from dkde.runs.output_names import RUN, output_of
from dkde.runs.result_keys import left_in
from dkde.runs.sessions import Ledger, being_written
from dkde.runs.stages import Stage
from dkde.runs.store import ResultStore
from dkde.stores.staging import stages_of
from dkde.stores.store import is_remote
from dkde.typing import StrPath


def repair(path: StrPath) -> dict[str, Any]:
    """Make what is left of a damaged run usable, and say what is lost.

    The blocks that are whole stay; those that are damaged are removed, and the same call computes
    them anew. A complete result is not written to.

    Parameters
    ----------
    path : path or URL
        The output.

    Returns
    -------
    dict
        ``lost`` and ``repaired``, lists of what was found, in words; ``kept``, the number of
        blocks that are whole.

    Raises
    ------
    DataSetError
        When there is no run, another process is at work on it, or the record of its call is lost
        with its copy: then it can only be begun anew.
    """
    store, state = ResultStore.found(path)
    if state.is_complete:
        raise DataSetError(
            f"{store.name}: is complete; dkde verify says whether it is whole, and what is damaged "
            "is made again by the same call with --restart"
        )
    place, present = store.run, state.present
    if present is None:
        _ = state.plan  # raises, with what to do
        raise DataSetError(f"{store.name}: there is no run to repair")
    records = place.records(present.known_id)
    ledger = Ledger(records)
    if at_work := ledger.at_work():
        raise being_written(store.name, at_work[0])
    lost, repaired, kept = [], [], 0
    if place.restore(present):
        repaired.append("the record of its call was damaged, and is restored from its copy")
    for name in ledger.drop_damaged():
        repaired.append(f"{name} was damaged, and is removed")
    for name in records.names(""):
        if not Stage.is_one(records, name):
            continue
        n_kept, n_lost, words = Stage.repaired(records, name)
        kept += n_kept
        repaired += words
        if n_lost:
            were = "1 block of {} was" if n_lost == 1 else f"{n_lost} blocks of {{}} were"
            lost.append(f"{were.format(name)} damaged; the same call computes what is lost")
    for name in place.remove_leftovers():
        repaired.append(f"{name}, of a run that was given up, is removed")
    return {"lost": lost, "repaired": repaired, "kept": kept}


def unlock(path: StrPath) -> list[str]:
    """Break the locks of processes that have ended without saying so, and return who they were.

    A lock of another machine is passed over a minute after its last heartbeat, and this breaks it
    at once. If its process goes on after all, both compute the same blocks, and nothing is lost.

    Parameters
    ----------
    path : path or URL
        The output.

    Raises
    ------
    DataSetError
        When there is no run, a process of this machine is at work on it, or the record of its call
        is lost with its copy: then no lock stands in the way of one that is begun anew.
    """
    store, state = ResultStore.found(path)
    if state.present is None:
        raise DataSetError(f"{store.name}: no run is under way")
    ledger = Ledger(store.run.records(state.present.known_id))
    # On another machine only heartbeats could be seen, and the user knows better.
    if at_work := ledger.at_work_here():
        raise being_written(store.name, at_work[0])
    return [session.who for session in ledger.unlock()]


def clean(path: StrPath, *, remove: bool = False) -> list[str]:
    """Find what killed processes have left at an output, or at all outputs in a folder.

    Found are folders of runs that were begun anew, what is left of a run whose result has
    appeared, files that were being written, and, in a bucket, objects of an older result that
    nobody reads. A run that can go on is none of them.

    Parameters
    ----------
    path : path or URL
        An output; or a folder of outputs.
    remove : bool
        Whether they are removed.

    Returns
    -------
    list of str
        Where they lie.

    Raises
    ------
    InputError
        When there is nothing of that name.
    DataSetError
        When something cannot be read or removed. In a folder of outputs a warning says so, and the
        others are looked at.
    """
    outputs = _outputs(path)
    if outputs == [output_of(path)]:
        return _cleaned(outputs[0], remove=remove)
    found: list[str] = []
    for output in outputs:
        try:
            found += _cleaned(output, remove=remove)
        except DataSetError as error:  # one that is damaged does not stand in the way of others
            warn(str(error))
    return found


def _cleaned(output: str, *, remove: bool) -> list[str]:
    """Return what is left over at an output, and remove it if asked to."""
    found: list[str] = []
    store = ResultStore.at(output)
    state = store.look()
    if state.is_complete and state.present is not None:
        found.append(store.run.path)
        if remove:
            store.run.finish(str(state.content.get("id")))
    if store.run.is_empty:
        found.append(store.run.path)
        if remove:
            store.run.remove_leftovers()
    names = store.run.leftovers()
    found += [f"{store.run.path}/{name}" for name in names]
    if remove and names:
        store.run.remove_leftovers()
    if is_remote(output):
        if state.is_complete:
            stale = left_in(store.records.keys(""), store.listed_arrays())
            found += [f"{store.name}/{key}" for key in stale]
            if remove:
                for key in stale:
                    store.records.delete(key)
        return found
    for stage in stages_of(Path(os.path.realpath(output))):
        if stage.is_dead() and stage.is_spare():
            found.append(str(stage.folder))
            if remove:
                stage.remove()
    return found


def _outputs(path: StrPath) -> list[str]:
    """Return the outputs that a path names: itself, or those in a folder."""
    path = os.fspath(path)
    output = output_of(path)
    if is_remote(path) or ResultStore.at(output).look().is_result or os.path.isfile(path):
        return [output]
    if not os.path.isdir(path):
        raise InputError(f"{path}: there is no output or folder of this name")
    found = set()
    for name in os.listdir(path):
        # The hidden folder of R.zarr is called .R.zarr.xxxxxxxx.
        hidden = name[1:].rpartition(".")[0] if name.startswith(".") else ""
        found.add(os.path.join(path, hidden or name.removesuffix(RUN)))
    return sorted(found)
