"""Rows that are added to a result, as a job: its works are those of the added rows alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.provenance import describe_side
from dkde.engine.work import Work
from dkde.errors import warn
from dkde.estimation.added_rows import FirstRows, methods_of
from dkde.estimation.checks_of_added import check_added, check_bounds, check_continues, spent_in
from dkde.estimation.extended_call import Added, derived_in
from dkde.estimation.resuming import take_up
from dkde.estimation.stored_densities import stored_densities
from dkde.inputs.noted_files import noted_files
from dkde.numerics.logsum import Densities
from dkde.runs.job import Compute, Job
from dkde.runs.origin import provenance_of
from dkde.runs.record import asked_now, circumstances
from dkde.runs.same_call import check_same_call
from dkde.runs.store import ResultStore, State

# The pieces of work of which a result keeps log-densities: the first of these that it has, and the
# test rows of a sweep.
_SCORED = ("score", "valid", "grid")
_TEST = "test"


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
        _warn_of_lost(first, whole)
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

    def answer(self, compute: Compute, methods: Mapping[str, str]) -> xr.Dataset:
        """Add up the log-densities of both parts, and return the result of all rows."""
        said: dict[str, str] = {}

        def added_up(name: str, work: Work) -> Densities:
            rows = self.known.get(name)
            # The test rows of a sweep are scored anew where another bandwidth is the best now.
            if rows is None or not rows.are_of(work):
                found = compute(name, work)
                said[name] = methods[name]
                spent.append(spent_in(found))
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


def _warn_of_lost(first: Any, whole: Any) -> None:
    """Warn of coordinates of the scored rows that the added ones do not have."""
    if lost := [str(name) for name in first.coords if name not in whole.coords]:
        warn(f"the added rows have no {', '.join(lost)}, which is left out of the result")


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
