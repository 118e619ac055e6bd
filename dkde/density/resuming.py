"""Prepare the call that began a run from its store again, even where its data were moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dkde.density.cross_validation import CrossValidationJob, Scheme
from dkde.density.options import RECORDED, Options
from dkde.density.scoring import ScoreJob
from dkde.density.sweeping import SweepJob
from dkde.engine.work import Work
from dkde.errors import Call, DataSetError, DkdeError, InputError, some
from dkde.inputs.moved import Whereabouts
from dkde.inputs.selectors import Catalog, in_folder, is_source
from dkde.runs.job import Job
from dkde.runs.record import asked_where_it_was, differences
from dkde.runs.run import OtherCallError
from dkde.runs.store import State
from dkde.typing import StrPath

T = TypeVar("T")
# Of the roles of a sweep, by the names of their weights in a record.
_WEIGHTS = {"train": "weights", "valid": "valid_weights", "test": "test_weights"}
_SCHEME = ("folds", "shuffle", "random_state", "refine")
# What the calls of records are of, beside the options.
_ARGUMENTS = {
    "score": {"query", "train", "bandwidth", "weights", "query_weights"},
    "sweep": {*_WEIGHTS, *_WEIGHTS.values(), "bandwidths", "protocol"},
    "cross_validate": {"train", "bandwidths", *_SCHEME, "pca", "weights"},
}


def job_of(call: Mapping[str, Any], catalog: Catalog) -> Job:
    """Prepare the call of a record.

    Raises
    ------
    InputError
        When its data cannot be used.
    DataSetError
        When they cannot be opened, or the call is one that this version does not know.
    """
    function = call["function"]
    given = {name: value for name, value in call["arguments"].items() if name not in RECORDED}
    if function not in _ARGUMENTS or not given.keys() <= _ARGUMENTS[function]:
        raise DataSetError(
            f"the run was begun by a call of {function} with {', '.join(given)}, which this "
            "version of dkde does not know; go on with the version that began it"
        )
    options = Options.of_record(call["arguments"])
    if function == "score":
        return ScoreJob.of(catalog, options, **given)
    if function == "sweep":
        weights = {role: given.pop(name, None) for role, name in _WEIGHTS.items()}
        rows = {role: given.pop(role, None) for role in _WEIGHTS}
        return SweepJob.of(catalog, options, rows=rows, weights=weights, **given)
    scheme = Scheme(**{name: given.pop(name) for name in _SCHEME if name in given})
    return CrossValidationJob.of(catalog, options, scheme=scheme, **given)


class _Attempt:
    """One attempt at a call: its data at their first place or beside the store."""

    def __init__(self, plan: Mapping[str, Any], where: Whereabouts, *, beside_first: bool) -> None:
        self.plan = plan
        self._where, self._beside_first = where, beside_first
        self._found: dict[str, str] = {}
        folder = plan["call"]["folder"]
        # Names begin there, where it is another one and still there.
        is_other = os.path.isdir(folder) and folder != os.getcwd()
        self._folder = folder if is_other else None

    @property
    def moved(self) -> list[str]:
        """The names of data that were found at another place, and that place, each once."""
        names: dict[str, str] = {}
        for name, place in self._found.items():
            if place != self._as_begun(name):
                names.setdefault(place, name)
        return [f"{name} at {place}" for place, name in names.items()]

    def is_like(self, other: _Attempt) -> bool:
        """Return whether this attempt finds all data at the same places as another one."""
        return all(self._place(name) == place for name, place in other._found.items())

    def job(self) -> Job:
        """Prepare the call."""
        call = self.plan["call"]
        choice = {name: call.get(name) for name in ("features", "row_dim", "lat", "lon")}
        catalog = Catalog(call["source"], **choice).located(self._place, self._folder)
        return job_of(call, catalog)

    def _as_begun(self, name: str) -> str:
        """Return the path that a name meant when the run began, or the name if it is no path."""
        path = in_folder(self._folder, name)
        if path == name or is_source(path):
            return path
        # The digits need no file, and of a group's name it is the part before ``::`` that leads on.
        return name if name == "digits" or "::" in name else path

    def _place(self, name: str) -> str:
        if name not in self._found:
            begun = self._as_begun(name)
            # What only the working directory has is no part of the run.
            is_there = is_source(in_folder(self._folder, name)) or name == "digits"
            as_named = not self._beside_first and is_there
            self._found[name] = begun if as_named else next(self._where.elsewhere(name), begun)
        return self._found[name]


def _attempts(state: State, path: StrPath) -> Iterator[_Attempt]:
    """Yield ways to make the call again, each with other places of its data.

    Raises
    ------
    DataSetError
        When the store does not hold the call.
    """
    plan = state.plan
    if plan is None or plan["call"] is None:
        raise DataSetError(
            f"{path}: does not hold how it was begun, as it was with arrays in memory; ",
            Call.MAKE_SAME,
            " again",
        )
    where = Whereabouts.of(plan, path)
    # A store that is known to have moved took along what lay beside it.
    first = _Attempt(plan, where, beside_first=where.has_moved)
    yield first
    second = _Attempt(plan, where, beside_first=not where.has_moved)
    if not second.is_like(first):
        yield second


def take_up(state: State, path: StrPath, do: Callable[[Job], T]) -> T:
    """Prepare the call that began a run, do something with it, and return what comes of it.

    Parameters
    ----------
    do : callable
        Refuses a job that is not the run's: it is then tried with data found elsewhere.

    Raises
    ------
    DataSetError
        When the store does not hold the call, or its data have changed.
    """
    refused: DkdeError | None = None
    for attempt in _attempts(state, path):
        try:
            return do(attempt.job())
        except (OtherCallError, InputError) as error:
            if refused is None:
                refused = error
                if isinstance(error, OtherCallError) and attempt.moved:
                    refused = OtherCallError(error.message, f" (found {some(attempt.moved, 3)})")
    assert refused is not None
    raise refused


@dataclass(frozen=True)
class Again:
    """The pieces of work of a call that is made again.

    Parameters
    ----------
    works : mapping of str to Work
    otherwise : str, optional
        Why the first call was of other work, for messages: it was another version's.
    """

    works: Mapping[str, Work]
    otherwise: str | None = None


def works_of(state: State, path: StrPath) -> Again:
    """Return the pieces of work of the call that made a result, on the same data.

    Raises
    ------
    DataSetError
        When the store does not hold the call, or its data were moved and have changed.
    """
    as_named: Again | None = None
    refused: DkdeError | None = None
    for attempt in _attempts(state, path):
        try:
            job = attempt.job()
        except DkdeError as error:
            refused = refused or error
            continue
        then = attempt.plan["asked"]
        where = Whereabouts.of(attempt.plan, path)
        unlike = next(differences(then, asked_where_it_was(job.works, then, where)), None)
        if unlike is None:
            return Again(job.works)
        if job.former is not None and job.former.was_asked(then, where):
            return Again(job.works, job.former.made)
        if not attempt.moved:
            as_named = Again(job.works)  # computing blocks again will tell
        else:
            refused = refused or DataSetError(
                f"{path}: found {some(attempt.moved, 3)}, which is not what the result was made "
                f"of: {unlike}; put the data back where they were"
            )
    if as_named is not None:
        return as_named
    assert refused is not None
    raise refused
