"""The call that began a run, prepared again from its store, even where its data were moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dkde.engine.work import Work
from dkde.errors import Call, DataSetError, DkdeError, InputError, Remedy, some
from dkde.estimation.classifying import ClassifyJob
from dkde.estimation.cross_validation import CrossValidationJob, Scheme
from dkde.estimation.map_preparing import map_job
from dkde.estimation.options import RECORDED, Options
from dkde.estimation.scoring import score_job
from dkde.estimation.sweeping import SweepJob
from dkde.inputs.moved import Whereabouts, told_of
from dkde.inputs.selectors import Catalog, in_folder
from dkde.runs.job import Job
from dkde.runs.record import asked_where_it_was, cut_as_recorded, differences
from dkde.runs.same_call import OtherCallError
from dkde.runs.store import State
from dkde.stores.current_folder import current_folder

T = TypeVar("T")
_SOURCES = Remedy("sources")
# The names of weights in a record, by the roles of a sweep.
_WEIGHTS = {"train": "weights", "valid": "valid_weights", "test": "test_weights"}
_SCHEME = ("folds", "shuffle", "random_state", "refine", "per_feature")


def job_of(call: Mapping[str, Any], catalog: Catalog) -> Job:
    """Prepare a recorded call, which is one of the schema (:mod:`dkde.runs.plan_schema`).

    Raises
    ------
    InputError
        When its data cannot be used.
    DataSetError
        When its data cannot be opened.
    """
    function = call["function"]
    if function == "extend":
        raise being_extended(call["arguments"]["result"])
    given = {name: value for name, value in call["arguments"].items() if name not in RECORDED}
    options = Options.of_record(call["arguments"])
    if call.get("derived_from") is not None:  # of a result to which rows were added
        given["derived_from"] = call["derived_from"]
    # By cases, and not by looking up names from a store: those could be anything.
    if function == "score":
        return score_job(catalog, options, **given)
    if function == "classify":
        return ClassifyJob.of(catalog, options, **given)
    if function == "density_map":
        return map_job(catalog, options, **given)
    if function == "sweep":
        weights = {role: given.pop(name, None) for role, name in _WEIGHTS.items()}
        rows = {role: given.pop(role, None) for role in _WEIGHTS}
        return SweepJob.of(catalog, options, rows=rows, weights=weights, **given)
    scheme = Scheme(**{name: given.pop(name) for name in _SCHEME if name in given})
    return CrossValidationJob.of(catalog, options, scheme=scheme, **given)


def being_extended(name: str) -> InputError:
    """Return the error of a run that adds rows to a result, which its own call alone finishes."""
    return InputError(
        f"{name}: rows are being added to it, which is not finished; ", Call.MAKE_SAME,
        " of extend again, or begin it anew ", Remedy("restart"),
    )  # fmt: skip


class _Attempt:
    """One attempt at a call, with its data at their first places or beside the store.

    Parameters
    ----------
    plan : mapping
        The record of the run.
    where : Whereabouts
        The places of its store and data, then and now.
    beside_first : bool
        Whether data are looked for beside the store before their first places.
    """

    def __init__(self, plan: Mapping[str, Any], where: Whereabouts, *, beside_first: bool) -> None:
        self.plan = plan
        self.where, self._beside_first = where, beside_first
        self._found: dict[str, str] = {}
        folder = where.folder
        # Relative names begin in the folder where the run began. None where that is gone, or is
        # the present folder anyway.
        is_other = folder is not None and os.path.isdir(folder) and folder != current_folder()
        self._folder = folder if is_other else None

    @property
    def moved(self) -> list[str]:
        """Return the data that were found at another place, as text: the name and the place."""
        names: dict[str, str] = {}
        for name, place in self._found.items():
            if place != self._as_begun(name):
                names.setdefault(place, name)
        return [f"{name} at {place}" for place, name in names.items()]

    def is_like(self, other: _Attempt) -> bool:
        """Return whether this attempt finds all data at the same places as another one."""
        return all(self._place(name) == place for name, place in other._found.items())

    def job(self) -> Job:
        """Prepare the call, with its data at the places of this attempt."""
        call = self.plan["call"]
        words = ("features", "where", "row_dim", "lat", "lon", "decimal")
        choice = {name: call.get(name) for name in words}
        catalog = Catalog(call["source"], **choice).located(
            self._place, self._folder, self.where.trust
        )
        # A map's template is a file too, which no selector names.
        if isinstance(like := call["arguments"].get("like"), str):
            self.where.trust.check(like)
        return job_of(call, catalog)

    def _as_begun(self, name: str) -> str:
        """Return the path that a name meant when the run began, or the name if it is no path."""
        path = in_folder(self._folder, name)
        if path == name or self.where.trust.sees(path):
            return path
        # The digits need no file, and of a group's name it is the part before ``::`` that leads on.
        return name if name == "digits" or "::" in name else path

    def _place(self, name: str) -> str:
        """Return the present path of a name; it is looked for once."""
        if name not in self._found:
            begun = self._as_begun(name)
            # What only the working directory has is no part of the run.
            is_there = name == "digits" or self.where.trust.sees(in_folder(self._folder, name))
            as_named = not self._beside_first and is_there and self.where.told_place(name) is None
            self._found[name] = begun if as_named else next(self.where.elsewhere(name), begun)
        return self._found[name]


def _attempts(
    state: State, sources: Mapping[str, str] | None, trusting: bool
) -> Iterator[_Attempt]:
    """Yield the attempts at the call, each with other places of its data.

    Raises
    ------
    DataSetError
        When the store does not hold the call.
    InputError
        When the sources are none of the call's, or are not there.
    """
    plan = state.plan
    if plan is None or plan["call"] is None:
        raise DataSetError(
            f"{state.name}: does not hold the call that began it, which had arrays in memory; ",
            Call.MAKE_SAME,
            " again",
        )
    where = Whereabouts.of(plan, state.name)
    where = where.telling(told_of(sources, [where]), trusting=trusting)
    # If the store was moved, data that lay beside it were probably moved with it.
    first = _Attempt(plan, where, beside_first=where.has_moved)
    yield first
    second = _Attempt(plan, where, beside_first=not where.has_moved)
    if not second.is_like(first):
        yield second


def take_up(
    state: State,
    do: Callable[[Job], T],
    sources: Mapping[str, str] | None = None,
    *,
    trusting: bool = False,
) -> T:
    """Prepare the call that began a run, pass it to a function, and return the outcome.

    Parameters
    ----------
    state : State
        The content of the run's store.
    do : callable
        Takes the job. It refuses a job that is not the run's, which is then tried with data at
        other places.
    sources : mapping of str to path, optional
        Present paths of the call's data, by former ones.
    trusting : bool
        Open all data that the store names, wherever they are.

    Raises
    ------
    DataSetError
        When the store does not hold the call, or its data have changed.
    """
    refused: DkdeError | None = None
    for attempt in _attempts(state, sources, trusting):
        try:
            job = attempt.job()
        except InputError as error:
            refused = refused or error
            continue
        except DataSetError as error:
            raise _with_advice(error, state, sources) from error
        try:
            return do(job)
        except (OtherCallError, InputError) as error:
            # The first refusal is the likeliest: its data were the first to be looked for.
            if refused is None:
                refused = error
                if isinstance(error, OtherCallError) and attempt.moved:
                    refused = OtherCallError(error.message, f" (found {some(attempt.moved, 3)})")
    assert refused is not None
    raise _with_advice(refused, state, sources)


def _with_advice(refused: DkdeError, state: State, sources: Mapping[str, str] | None) -> DkdeError:
    """Return the refusal, with what to do where data of the call are at none of the places."""
    where = Whereabouts.of(state.plan, state.name)
    if sources or all(where.present(name) is not None for name in where.sources):
        return refused
    return type(refused)(refused.message, "; if it was moved, say where it is now ", _SOURCES)


@dataclass(frozen=True)
class Again:
    """The pieces of work of a call that is made again.

    Parameters
    ----------
    works : mapping of str to Work
    job : Job
        The call, with these works.
    otherwise : str, optional
        Where an older version did other work for the same call: what it did, for messages.
    """

    works: Mapping[str, Work]
    job: Job
    otherwise: str | None = None

    @classmethod
    def of(cls, job: Job, works: Mapping[str, Work], otherwise: str | None = None) -> Again:
        """Return the pieces of work of a job, in other blocks than its own."""
        return cls(works, replace(job, works=works), otherwise)


def works_of(
    state: State, sources: Mapping[str, str] | None = None, *, trusting: bool = False
) -> Again:
    """Return the pieces of work of the call that made a result, on the same data.

    Parameters
    ----------
    sources : mapping of str to path, optional
    trusting : bool
        As for :func:`take_up`.

    Raises
    ------
    DataSetError
        When the store does not hold the call, or its data were moved and have changed.
    """
    as_named: Again | None = None
    refused: DkdeError | None = None
    for attempt in _attempts(state, sources, trusting):
        try:
            job = attempt.job()
        except DkdeError as error:
            refused = refused or error  # the data may be at the other places
            continue
        then = attempt.plan["asked"]
        where = attempt.where
        works = cut_as_recorded(job.works, attempt.plan)
        unlike = next(differences(then, asked_where_it_was(works, then, where)), None)
        if unlike is None:
            return Again.of(job, works)
        if job.former is not None and job.former.was_asked(attempt.plan, where):
            return Again.of(job, works, job.former.made)
        if not attempt.moved:
            # The same files have changed, or only their times have: the comparison of blocks that
            # are computed again will show it.
            as_named = Again.of(job, works)
        else:
            how = "its content differs, or the sizes and times of its files"
            refused = refused or DataSetError(
                f"{state.name}: found {some(attempt.moved, 3)}, which is not the data of the "
                f"result: {how if ' content ' in unlike else unlike}",
                *(() if sources else ("; put the data back, or say where they are ", _SOURCES)),
            )
    if as_named is not None:
        return as_named
    assert refused is not None
    raise _with_advice(refused, state, sources)
