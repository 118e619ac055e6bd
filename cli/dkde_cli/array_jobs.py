"""Jobs of an array: which part of a run is theirs, as their scheduler's environment says."""

from collections.abc import Mapping
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class ArrayJob:
    """One job of an array.

    Parameters
    ----------
    variable : str
        That holds its number.
    number, first, step : int
        Its own number, that of the array's first job, and from one to the next.
    count : int or None
        Jobs of the array, where the scheduler says it.
    base : int
        What arrays of this scheduler usually begin with.
    """

    variable: str
    number: int
    first: int
    step: int
    count: int | None
    base: int


def array_job(environment: Mapping[str, str]) -> ArrayJob | None:
    """The job of an array that this process is in; None where it is in none."""

    def number(name: str) -> int | None:
        text = environment.get(name, "")
        return int(text) if text.isdecimal() else None  # SGE says "undefined"

    def counted(variable: str, first: str, last: str, step: str, base: int) -> ArrayJob | None:
        own, end = number(variable), number(last)
        start, each = number(first), number(step) or 1
        if start is None:
            start = base
        if own is None:
            return None
        count = None if end is None else (end - start) // each + 1
        return ArrayJob(variable, own, start, each, count, base)

    found = counted(
        "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_STEP", 0,
    )  # fmt: skip
    if found is not None:
        n_jobs = number("SLURM_ARRAY_TASK_COUNT")
        if found.count is not None and n_jobs not in (None, found.count):
            # Its numbers have gaps: what comes before this one cannot be counted.
            return ArrayJob(found.variable, found.number, 0, 1, None, 0)
        return ArrayJob(found.variable, found.number, found.first, found.step, n_jobs, 0)
    for variable in ("PBS_ARRAY_INDEX", "PBS_ARRAYID"):
        own = number(variable)
        if own is not None:
            return ArrayJob(variable, own, 0, 1, None, 0)
    found = counted("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE", 1)
    if found is None:
        found = counted("LSB_JOBINDEX", "", "LSB_JOBINDEX_END", "LSB_JOBINDEX_STEP", 1)
        if found is not None and found.number == 0:  # LSF: in no array
            return None
    return found


def share(part: int | None, parts: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """The part, numbered from 0, and how many there are: as given, else of the array's job.

    Raises
    ------
    UsageError
        When neither is there.
    """
    if part is not None and parts is not None:
        return part, parts
    job = array_job(environment)
    if job is None:
        missing = " and ".join(
            name for name, value in (("--part", part), ("--parts", parts)) if value is None
        )
        raise click.UsageError(
            f"{missing} must be given: this is no job of an array of SLURM, PBS, SGE or LSF"
        )
    if parts is None and job.count is None:
        raise click.UsageError(
            f"--parts must be given: {job.variable} is there, and of how many jobs it is not"
        )
    if part is None:
        # An array of another size is some of the parts once more, by their numbers.
        is_whole = parts is None or parts == job.count
        part = (job.number - job.first) // job.step if is_whole else job.number - job.base
    return part, job.count if parts is None else parts  # type: ignore[return-value]
