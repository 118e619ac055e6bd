"""Rows added to a finished result, at the cost of the added rows alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import xarray as xr

from dkde.engine import task
from dkde.errors import Argument, DataSetError, InputError, Remedy, held_warnings, warn
from dkde.estimation.extend_job import ExtendJob
from dkde.estimation.extended_call import Added, check_extendable, derived_in
from dkde.estimation.performing import perform
from dkde.progress import ProgressLike
from dkde.runs.output_names import file_of, place_of
from dkde.runs.record import engine_of, given
from dkde.runs.roots import version_of
from dkde.runs.run import Manner, Run
from dkde.runs.store import ResultStore, State
from dkde.stores.repositories import becomes_repository, plain
from dkde.stores.store import is_remote
from dkde.typing import ResultLike, StrPath


def extend(
    result: ResultLike,
    *,
    train: StrPath | None = None,
    query: StrPath | None = None,
    derived: str = "keep",
    tol: float | None = None,
    output: StrPath | None = None,
    restart: bool = False,
    retry_failed: bool = False,
    anywhere: bool = False,
    sources: Mapping[str, str] | None = None,
    trust_sources: bool = False,
    progress: ProgressLike = None,
) -> xr.Dataset:
    """Add training rows, or rows that are scored, to a finished result.

    Sums over training rows add up. The rows that the result scored are scored under the added
    training rows alone, and added rows under all training rows. A run of all rows gives the same
    numbers within the bounds on the errors of both. Like any run it goes on after a kill; its
    result takes the place of the first one in one step.

    Parameters
    ----------
    result : path, URL or xarray.Dataset
        A finished result of :func:`dkde.score`, :func:`dkde.sweep`, or of
        :func:`dkde.cross_validate` with leave-one-out or with folds by a column, whose rows were
        given by selectors.
    train, query : str or path
        Selectors of the rows to add. Of a sweep, ``query`` adds validation rows; of a
        cross-validation, ``train`` adds rows that are scored too. Names of splits are those of the
        source of the call, and conditions, features and weights by name are those of the call.
    derived : {"keep", "refuse"}
        What becomes of bandwidths by rules, covariances and principal components, which were
        derived from the first training rows: they stay as they are, with a warning, and are named
        in the result; or the extension is refused.
    tol : float, optional
        The tolerance of the new sums, and of the extended result; by default that of the result.
    output : path or URL, optional
        The place of the extended result, which leaves the first one as it is. By default it
        replaces the first one.
    restart : bool
        Begin an extension anew that was interrupted, or another one in its place.
    retry_failed, anywhere, progress
        As for :func:`dkde.score`.
    sources, trust_sources
        As for :func:`dkde.verify`.

    Returns
    -------
    xarray.Dataset
        As from the function that made the result, of all rows. ``log_density_error`` has bounds on
        the errors of both parts together. ``attrs["provenance"]`` has, as ``extended``, the rows
        and fingerprints of each part, what stays derived from the first rows, and
        ``tolerance_spent``, the largest bound relative to max(1, \\|log p\\|).

    Raises
    ------
    InputError
        When rows have other features or units, or are there already; when the result has figures
        that do not follow from its log-densities; when its bounds are above the tolerance.
    DataSetError
        When the result is not complete, its data have changed, or another engine revision made it.
    MemoryLimitError, ClusterError
    """
    if derived not in ("keep", "refuse"):
        raise InputError(Argument("derived"), f" is {derived!r}; choose one of: keep, refuse")
    name = plain(_path_of(result))
    if output is None or place_of(output) == place_of(name):
        output = name
    if output == name and is_remote(name) and not becomes_repository(name):
        raise InputError(
            f"{name}: lies in a bucket, where no result is replaced in one step; name another "
            "place for the extended one, as ",
            Argument("output"),
        )
    if file_of(name) is not None:
        raise InputError(
            f"{name}: is a file; rows are added to a result in a store, as its call makes it with "
            "an output that ends in .zarr"
        )
    ResultStore.at(name).run.put_back()  # the first result, where a kill met its replacement
    store, state = ResultStore.finished(name)
    plan = _checked_plan(name, state)
    added = Added.of(train, query, plan["call"])
    frozen = derived_in(plan["call"]["arguments"]) if added.train is not None else {}
    if frozen and derived == "refuse":
        words = ", ".join(f"{argument} ({value})" for argument, value in frozen.items())
        raise InputError(
            f"{name}: {words} was derived from its first rows; keep it as it is with ",
            Argument("derived", "keep"), ", or make the result anew of all rows",
        )  # fmt: skip
    asked = given(train=added.train, query=added.query, tol=tol) | {"derived": derived}
    look, version = ResultStore.at(output).look(), version_of(state.attributes)
    if not restart:
        _check_begun(name, look, version)
    asked |= {"version": version}
    with held_warnings():
        job = ExtendJob.of(store, state, added, tol, asked, sources, trusting=trust_sources)
    told = {**(sources or {}), **added.places}
    # A first call replaces the result; the same call again goes on.
    replaces = output == name and (look.present is None or look.is_complete)
    replaced = version if output == name else None
    manner = Manner(restart or replaces, retry_failed, anywhere, told, replaced)
    run = Run(output, manner, tables=plan["call"]["function"] != "cross_validate")
    if not replaces and not restart and (look.is_complete or run.is_finished_file):
        return perform(job.whole, run, progress)  # a result that is there is of these rows, or not
    for argument, value in frozen.items():
        warn(
            f"{argument} ({value}) stays as it was derived from the first {job.n_derived} training "
            "rows"
        )
    return perform(job, run, progress)


def _path_of(result: Any) -> str:
    """Return the path of a result's store."""
    if isinstance(result, str | os.PathLike):
        return os.fspath(result)
    place: Any = result.encoding.get("source") if isinstance(result, xr.Dataset) else None
    if place is None and isinstance(result, xr.Dataset) and "run" in result.attrs:
        place = json.loads(result.attrs["run"]).get("place")
    if place is None:
        raise InputError(
            "the result to extend is in memory alone; rows are added to one with an output, whose "
            "rows were given by selectors of files or stores"
        )
    return str(place)


def _check_begun(name: str, look: State, version: str) -> None:
    """Refuse to go on with an extension of a result that has changed since.

    Parameters
    ----------
    name : str
        The name of the result.
    look : State
        What is at the output.
    version : str
        Of the result (:func:`dkde.runs.roots.version_of`).

    Raises
    ------
    DataSetError
    """
    if look.present is None or look.is_complete or look.plan is None:
        return
    call = look.plan["call"] or {}
    if call.get("function") != "extend":
        return
    of, then = call["arguments"]["result"], call["arguments"].get("version")
    if place_of(of, call["folder"]) == place_of(name) and then not in (None, version):
        raise DataSetError(
            f"{look.name}: an extension of {name} is not finished there, and {name} is another "
            "result since; it cannot be finished any more: begin one anew in its place ",
            Remedy("restart"), f", or remove {ResultStore.at(look.name).run.path}",
        )  # fmt: skip


def _checked_plan(name: str, state: State) -> dict[str, Any]:
    """Return the record of a finished result; refuse one to which rows cannot be added.

    Raises
    ------
    InputError, DataSetError
    """
    plan = state.plan
    if plan is None or plan["call"] is None:
        raise DataSetError(
            f"{name}: does not hold the call that made it, so that it is not known of which rows "
            "it is; only results of selectors of files or stores can be extended"
        )
    check_extendable(name, plan["call"])
    if (engine := engine_of(plan)) != task.REVISION:
        raise DataSetError(
            f"{name}: was made by engine revision {engine}, and this is {task.REVISION}; make it "
            "anew of all rows"
        )
    return plan
