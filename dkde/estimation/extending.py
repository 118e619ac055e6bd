"""Rows added to a finished result, at the cost of the added rows alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine import task
from dkde.engine.provenance import describe_side
from dkde.engine.work import Work
from dkde.errors import Argument, DataSetError, InputError, warn
from dkde.estimation.added_rows import FirstRows, methods_of
from dkde.estimation.checks_of_added import check_added, check_bounds, check_continues, spent_in
from dkde.estimation.extended_call import Added, check_extendable, derived_in
from dkde.estimation.performing import perform
from dkde.estimation.resuming import take_up
from dkde.estimation.stored_densities import stored_densities
from dkde.inputs.noted_files import noted_files
from dkde.numerics.logsum import Densities
from dkde.progress import ProgressLike
from dkde.runs.job import Compute, Job
from dkde.runs.origin import provenance_of
from dkde.runs.record import asked_now, circumstances, engine_of, given
from dkde.runs.run import Manner, Run
from dkde.runs.same_call import check_same_call
from dkde.runs.store import ResultStore, State
from dkde.stores.store import is_remote
from dkde.typing import ResultLike, StrPath

# The pieces of work of which a result keeps log-densities: the first of these that it has, and the
# test rows of a sweep.
_SCORED = ("score", "valid", "grid")
_TEST = "test"


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
    name = _path_of(result)
    if output is None or os.path.realpath(output) == os.path.realpath(name):
        output = name
    if output == name and is_remote(name):
        raise InputError(
            f"{name}: lies in a bucket, where no result is replaced in one step; name another "
            "place for the extended one, as ",
            Argument("output"),
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
    job = ExtendJob.of(store, state, added, tol, asked, sources, trusting=trust_sources)
    told = {**(sources or {}), **added.places}
    look = ResultStore.at(output).look()
    # A first call replaces the result; the same call again goes on.
    replaces = output == name and (look.present is None or look.is_complete)
    manner = Manner(restart or replaces, retry_failed, anywhere, told)
    run = Run(output, manner, tables="fold" not in job.whole_dims)
    if not replaces and not restart and look.is_complete:
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


@dataclass(frozen=True, eq=False)
class ExtendJob:
    """Rows that are added to a result: see :class:`dkde.runs.job.Job`.

    Parameters
    ----------
    whole : Job
        The call of all rows, which makes the result from their log-densities.
    known : mapping of str to FirstRows
        The log-densities that the first result keeps, by the names of pieces of work.
    record : mapping
        The record of the call of all rows, ready for JSON.
    noted : mapping
        What the provenance says of the parts, ready for JSON.
    name : str
        The name of the first result, for messages.
    """

    call: Mapping[str, Any] | None
    whole: Job
    known: Mapping[str, FirstRows]
    works: Mapping[str, Work]
    record: Mapping[str, Any]
    noted: Mapping[str, Any]
    name: str
    former: None = None

    @classmethod
    def of(
        cls,
        store: ResultStore,
        state: State,
        added: Added,
        tol: float | None,
        asked: Mapping[str, Any],
        sources: Mapping[str, str] | None,
        *,
        trusting: bool,
    ) -> ExtendJob:
        """Prepare the call that made a result, and that of all rows.

        Parameters
        ----------
        store, state
            Of the result.
        asked : mapping
            The arguments of the call, for its record.
        """
        plan, name = state.plan, store.name
        assert plan is not None

        def unchanged(job: Job) -> Job:
            now = {"asked": asked_now(job.works), "call": job.call}
            check_same_call(name, plan, now, job, sources or {})
            return job

        first = take_up(state, unchanged, sources, trusting=trusting)
        main = next(each for each in _SCORED if each in first.works)
        n_derived = plan["call"].get("derived_from") or first.works[main].train.rows.n_rows
        call = added.to(plan["call"], n_derived, tol)

        def continued(job: Job) -> Job:
            check_continues(first.works[main], job.works[main], added.roles)
            return job

        of_all = replace(state, content={**plan, "call": call})
        told = {**(sources or {}), **added.places}
        whole = take_up(of_all, continued, told, trusting=trusting)
        check_added(name, first.works[main], whole.works[main])
        result = first.reread(store.open(), name)
        known = _known(first, whole, result)
        check_bounds(name, known[main].stored, whole.works[main].task)
        works = {
            piece: work
            for each, rows in known.items()
            for piece, work in rows.works(each, whole.works[each]).items()
        }
        record = {
            "function": "extend", "source": plan["call"]["source"], "folder": os.getcwd(),
            "arguments": {"result": name, **asked},
        }  # fmt: skip
        noted = _noted(plan, first.works[main], whole.works[main], result, n_derived)
        return cls(record, whole, known, works, _record_of(whole, call), noted, name)

    @property
    def n_derived(self) -> int:
        """Return the number of training rows from which anything is derived."""
        return int(self.noted["derived_from"])

    @property
    def whole_dims(self) -> tuple[str, ...]:
        """Return the dims of the result beside those of its rows."""
        return ("fold",) if "grid" in self.known else ()

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Add up the log-densities of both parts, and return the result of all rows."""
        said: dict[str, str] = {}

        def added_up(name: str, work: Work) -> Densities:
            rows = self.known.get(name)
            # The test rows of a sweep are scored anew where another bandwidth is the best now.
            if rows is None or not rows.are_of(work):
                found = compute(name, work)
                said[name] = methods[name]
                return found
            found = rows.densities(name, work, compute)
            check_bounds(self.name, found, work.task)
            spent.append(spent_in(found))
            said[name] = methods_of(name, rows.works(name, work), methods)
            return found

        spent: list[float] = []
        result = self.whole.answer(added_up, said)
        extended = {**self.noted, "tolerance_spent": max(spent)}
        provenance = {**provenance_of(result), "extended": extended}
        return result.assign_attrs(
            provenance=json.dumps(provenance), run=json.dumps(dict(self.record))
        )

    def reread(self, finished: xr.Dataset, name: str) -> xr.Dataset:
        """Return a stored result in the form that this call asks for."""
        return self.whole.reread(finished, name)


def _known(first: Any, whole: Any, result: xr.Dataset) -> dict[str, FirstRows]:
    """Return the log-densities that a result keeps, by the names of their pieces of work."""
    validation = getattr(whole, "validation", None)
    fitted = whole.fitted if validation is None else validation.fitted
    main = next(each for each in _SCORED if each in first.works)
    n_train = first.works[main].train.rows.n_rows
    found = {main: FirstRows(fitted, stored_densities(result), fitted.bandwidths, n_train)}
    if _TEST in first.works:
        best = np.asarray(result["bandwidth"].values) == float(result["best_bandwidth"])
        stored = stored_densities(result, "test_")
        found[_TEST] = FirstRows(fitted, stored, fitted.bandwidths[best], n_train)
    return found


def _record_of(whole: Job, call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the call of all rows, as if it had begun a run."""
    stamps: list[Any] = []

    def seen(stamp: Any) -> Any:
        stamps.append(stamp)
        return stamp

    asked = asked_now(whole.works, seen)
    files = noted_files(stamps)
    return {
        "asked": asked, "machine": circumstances(whole.works), "call": dict(call),
        **({"files": files} if files else {}),
    }  # fmt: skip


def _noted(
    plan: Mapping[str, Any], first: Work, whole: Work, result: xr.Dataset, n_derived: int
) -> dict[str, Any]:
    """Return what the provenance of an extended result says of its parts."""
    runs = provenance_of(result).get("extended", {}).get("runs", [])
    if not runs:
        sides = {"train": first.train, "query": first.query}
        runs = [
            {role: _described(describe_side(each, compared=True)) for role, each in sides.items()}
        ]
    runs[-1] |= {"id": plan.get("id"), "seconds": result.attrs.get("seconds")}
    added = {}
    for role in ("train", "query"):
        before, after = getattr(first, role).rows, getattr(whole, role)
        described = _described(describe_side(after, compared=True), len(before.parts))
        if described["parts"]:
            added[role] = {**described, "rows": after.rows.n_rows - before.n_rows}
    frozen = derived_in(plan["call"]["arguments"])
    return {"runs": [*runs, added], "derived_from": n_derived, "derived": frozen}


def _described(side: Mapping[str, Any], first: int = 0) -> dict[str, Any]:
    """Return the number of rows of a side, and the content of its parts from a number on."""
    keys = ("name", "start", "stop", "checksum", "fingerprint")
    parts = [{key: part[key] for key in keys} for part in side["parts"][first:]]
    return {"rows": side["rows"], "parts": parts}
