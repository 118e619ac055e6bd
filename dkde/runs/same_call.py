"""Whether a run goes on with the call that began it, and where its numbers are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dkde.engine import task
from dkde.errors import Argument, DataSetError, Remedy
from dkde.inputs.moved import Whereabouts, paired_sources
from dkde.runs.job import Job
from dkde.runs.record import asked_where_it_was, differences, elsewhere, engine_of

# At most so many differences are named by a refusal.
_NAMED = 3
# How the names of works of groups end.
_OF_GROUP = re.compile(r"_\d+$")


class OtherCallError(DataSetError):
    """The error for a run that was begun by another call, or with other data."""


def check_same_call(
    name: str,
    found: Mapping[str, Any],
    plan: Mapping[str, Any],
    job: Job,
    sources: Mapping[str, str],
) -> None:
    """Refuse a job that is not the one that the run was begun with.

    Parameters
    ----------
    name : str
        The name of the store, for messages.
    found : mapping
        The plan in the store.
    plan : mapping
        The plan of this job, in the blocks of the other one where another engine made that.
    job : Job
    sources : mapping of str to path
        Present paths of the call's data, by former ones, as the user says.

    Raises
    ------
    OtherCallError
    """
    # The plain comparison first: to look for moved data takes a fingerprint for each place.
    unlike = list(_differences(found["asked"], plan["asked"]))
    if unlike:
        _check_groups(name, found, plan)
        # The call may name the data by the paths that they have now.
        places = paired_sources(found.get("call"), plan.get("call"))
        where = Whereabouts.of(found, name).telling({**places, **sources})
        asked = asked_where_it_was(job.works, found["asked"], where)
        unlike = list(_differences(found["asked"], asked))
        former = job.former
        if unlike and former is not None and former.was_asked(found, where):
            raise OtherCallError(
                f"{name}: was {former.made}; give another name, or begin it anew ",
                Remedy("restart"),
            )
    if unlike and (words := _extension(found)):
        raise OtherCallError(
            f"{name}: {words}, which is not finished; finish it by that call, give another name, "
            "or begin it anew ",
            Remedy("restart"),
        )
    if unlike and (plan.get("call") or {}).get("function") == "extend":
        function = (found.get("call") or {}).get("function")
        of = f" of {function}" if function else ""
        raise OtherCallError(
            f"{name}: a run{of} is not finished there; finish it by its own call, give another "
            "output, or begin the extension in its place ",
            Remedy("restart"),
        )
    if unlike:
        more = f", and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
        arguments = (found.get("call") or {}).get("arguments", {})
        # Folds are groups, and they differ for other reasons than weights.
        only_groups = all(each.partition(" was ")[0].endswith(" groups") for each in unlike)
        if isinstance(arguments.get("weights"), str) and not only_groups:
            more += (
                " (older versions of dkde did not apply weights given by name to the rows that "
                "are scored, and used their variable as a feature, too)"
            )
        raise OtherCallError(
            f"{name}: was begun otherwise: {'; '.join(unlike[:_NAMED])}{more}; give another "
            "name, or begin it anew ",
            Remedy("restart"),
        )


def _extension(found: Mapping[str, Any]) -> str:
    """Return which rows a run adds to a result, in words; "" where it is no extension."""
    call = found.get("call") or {}
    if call.get("function") != "extend":
        return ""
    given = call["arguments"]
    rows = [f"{side} rows {given[side]}" for side in ("train", "query") if given.get(side)]
    return f"rows are being added to {given['result']} ({', '.join(rows)})"


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between the works of a run and those of a call, in words."""
    for work in [*then, *(work for work in now if work not in then)]:
        if then.get(work) is None or now.get(work) is None:
            if then.get(work) != now.get(work):
                yield f"it had {'no' if then.get(work) is None else 'a'} stage {work}"
        else:
            yield from differences(then[work], now[work], work)


def _check_groups(name: str, found: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
    """Refuse a job of other groups than the one that the run was begun with.

    Raises
    ------
    OtherCallError
    """
    by_then, by_now = _by(found), _by(plan)
    n_then, n_now = len(found["asked"]), len(plan["asked"])
    remedy = ("; give another name, or begin it anew ", Remedy("restart"))
    if by_then != by_now:
        begun = ("with ", by_then) if by_then else ("without ", Argument("by"))
        now = ("this call has ", by_now) if by_now else ("this call is without",)
        raise OtherCallError(f"{name}: was begun ", *begun, ", and ", *now, *remedy)
    if by_now and found["asked"].keys() != plan["asked"].keys():
        raise OtherCallError(
            f"{name}: was begun with {n_then} works of groups, ", by_now,
            f", and there are {n_now} now; the values of that column are others", *remedy,
        )  # fmt: skip


def _by(plan: Mapping[str, Any]) -> Argument | None:
    """Return the argument that names the groups of a plan; None if it is of no groups."""
    if not all(_OF_GROUP.search(work) for work in plan["asked"]):
        return None
    by = (plan.get("call") or {}).get("arguments", {}).get("by")
    return Argument("by", by if isinstance(by, str) else None)


def check_same_machine(name: str, found: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
    """Refuse to go on where numbers may differ in the last bits from those of a run's beginning.

    Parameters
    ----------
    name : str
        The name of the store, for messages.
    found : mapping
        The plan in the store.
    machine : mapping
        The circumstances of this process.

    Raises
    ------
    DataSetError
        When the engine, the processor or the libraries are others.
    """
    if (engine := engine_of(found)) != task.REVISION:
        raise DataSetError(
            f"{name}: was begun by {'an earlier' if engine < task.REVISION else 'a later'} "
            "engine of dkde; go on with this one, within the bounds on the errors, by allowing "
            "it ",
            Remedy("anywhere"),
            ", or begin it anew ",
            Remedy("restart"),
        )
    others = elsewhere(found, machine)
    if others:
        raise DataSetError(
            f"{name}: was begun elsewhere: {'; '.join(others[:_NAMED])}; numbers may differ in "
            "the last bits; continue it where it was begun, or allow it ",
            Remedy("anywhere"),
        )
