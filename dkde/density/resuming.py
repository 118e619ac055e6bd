"""Repeat the call that began a run from its store, even where its data were moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, chdir, nullcontext
from dataclasses import dataclass
from typing import Any

from dkde.density.cross_validation import cross_validate
from dkde.density.scoring import score, sweep
from dkde.engine.work import Work
from dkde.errors import Call, DataSetError, DkdeError, InputError, some
from dkde.inputs.moved import Whereabouts
from dkde.inputs.selectors import Catalog, is_source
from dkde.runs.record import asked_where_it_was, differences, read_plan
from dkde.runs.run import OtherCallError
from dkde.runs.shares import capturing
from dkde.stores.store import Records, is_remote
from dkde.typing import StrPath

_CALLS: dict[str, Callable[..., Any]] = {
    "score": score,
    "sweep": sweep,
    "cross_validate": cross_validate,
}


class _Attempt:
    """One attempt at a call: its data at their first place or beside the store."""

    def __init__(
        self, plan: Mapping[str, Any], path: StrPath, where: Whereabouts, *, beside_first: bool
    ) -> None:
        self.plan = plan
        self._path = path if is_remote(path) else os.path.abspath(path)
        self._where, self._beside_first = where, beside_first
        self._found: dict[str, str] = {}

    @property
    def moved(self) -> list[str]:
        """The names of data that were found at another place, and that place, each once."""
        names: dict[str, str] = {}
        for name, place in self._found.items():
            if place != name:
                names.setdefault(place, name)
        return [f"{name} at {place}" for place, name in names.items()]

    def is_like(self, other: _Attempt) -> bool:
        """Return whether this attempt finds all data at the same places as another one."""
        with self._folder():
            return all(self._place(name) == place for name, place in other._found.items())

    def call(self, **options: Any) -> Any:
        """Make the call."""
        call = self.plan["call"]
        choice = {name: call.get(name) for name in ("features", "row_dim", "lat", "lon")}
        with self._folder():
            return _CALLS[call["function"]](
                **call["arguments"],
                source=Catalog(call["source"], **choice).located(self._place),
                output=self._path,
                **options,
            )

    def _folder(self) -> AbstractContextManager[None]:
        folder = self.plan["call"]["folder"]
        return chdir(folder) if os.path.isdir(folder) else nullcontext()

    def _place(self, name: str) -> str:
        if name not in self._found:
            as_named = not self._beside_first and is_source(name)
            self._found[name] = name if as_named else next(self._where.elsewhere(name), name)
        return self._found[name]


def _attempts(records: Records, path: StrPath) -> Iterator[_Attempt]:
    """Yield ways to make the call again, each with other places of its data.

    Raises
    ------
    DataSetError
        When the store does not hold the call.
    """
    plan: Mapping[str, Any] | None = read_plan(records)
    if plan is None or plan["call"] is None:
        raise DataSetError(
            f"{path}: does not hold how it was begun, as it was with arrays in memory; ",
            Call.MAKE_SAME,
            " again",
        )
    where = Whereabouts.of(plan, path)
    # A store that is known to have moved took along what lay beside it.
    first = _Attempt(plan, path, where, beside_first=where.has_moved)
    yield first
    second = _Attempt(plan, path, where, beside_first=not where.has_moved)
    if not second.is_like(first):
        yield second


def call_again(records: Records, path: StrPath, **options: Any) -> Any:
    """Repeat the call that began a run.

    Raises
    ------
    DataSetError
        When the store does not hold the call, or its data have changed.
    """
    refused: DkdeError | None = None
    for attempt in _attempts(records, path):
        try:
            return attempt.call(**options)
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
    works : dict of str to Work
    otherwise : str, optional
        Why the first call was of other work, for messages: it was another version's.
    """

    works: dict[str, Work]
    otherwise: str | None = None


def works_again(records: Records, path: StrPath) -> Again:
    """Return the pieces of work of the call that made a result, on the same data.

    Raises
    ------
    DataSetError
        When the store does not hold the call, or its data were moved and have changed.
    """
    as_named: Again | None = None
    refused: DkdeError | None = None
    for attempt in _attempts(records, path):
        try:
            with capturing() as captured:
                attempt.call()
        except DkdeError as error:
            refused = refused or error
            continue
        then = attempt.plan["asked"]
        where, former = Whereabouts.of(attempt.plan, path), captured.former
        unlike = next(differences(then, asked_where_it_was(captured.works, then, where)), None)
        if unlike is None:
            return Again(captured.works)
        if former is not None and former.was_asked(then, where):
            return Again(captured.works, former.made)
        if not attempt.moved:
            as_named = Again(captured.works)  # computing blocks again will tell
        else:
            refused = refused or DataSetError(
                f"{path}: found {some(attempt.moved, 3)}, which is not what the result was made "
                f"of: {unlike}; put the data back where they were"
            )
    if as_named is not None:
        return as_named
    assert refused is not None
    raise refused
