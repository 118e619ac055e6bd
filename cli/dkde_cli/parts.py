"""``dkde run-part``, ``finish`` and ``script``: a run in parts, each a process or a job."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

import click

from dkde_cli.compute import compute
from dkde_cli.deliver import print_end, print_result
from dkde_cli.group import Command
from dkde_cli.options import Where, json_option, store_argument, where_options
from dkde_cli.progress import progress, stages
from dkde_cli.runs import anywhere_option, check_apart, check_place, retry_failed_option

# The submission scripts that ``dkde script`` writes.
_SLURM = """\
#!/bin/sh
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --output={name}-%A-%a.out
#SBATCH --error={name}-%A-%a.err
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
# A part that failed may be submitted again by its number: sbatch --array=I FILE
# When all are done, with the number that sbatch prints for JOB:
# sbatch --dependency=afterok:JOB --wrap {finish}
dkde run-part {store} --part "$SLURM_ARRAY_TASK_ID" --parts {parts}
"""

# With Torque, -t and PBS_ARRAYID; PBS takes no array of one job.
_PBS = """\
#!/bin/sh
#PBS -N {name}
{array}#PBS -l select=1:ncpus=1
#PBS -V
# What a job prints goes to its own {name}.o* and {name}.e*.
# When all are done, with what qsub prints for JOB:
# echo {finish} | qsub -V -W depend=afterok:JOB
cd "$PBS_O_WORKDIR" || exit
dkde run-part {store} --part {part} --parts {parts}
"""


_SLURM_ID, _LSF = "SLURM_ARRAY_TASK_ID", "LSB_JOBINDEX"
# The variables that hold a job's number, the array's first and last one, and the step; and what
# arrays of this scheduler usually begin with.
_ARRAYS = (
    (_SLURM_ID, "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP", 0),
    ("PBS_ARRAY_INDEX", "", "", "", 0),
    ("PBS_ARRAYID", "", "", "", 0),
    ("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE", 1),
    (_LSF, "", "LSB_JOBINDEX_END", "LSB_JOBINDEX_STEP", 1),
)


@click.command("run-part", cls=Command)
@store_argument
@click.option(
    "--part",
    type=click.IntRange(min=0),
    metavar="I",
    help="The part to do, from 0 to N - 1; by default the number of this job in its array.",
)
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many parts there are; by default the jobs of the array.",
)
@retry_failed_option
@anywhere_option
@where_options
def run_part(
    store: str,
    part: int | None,
    parts: int | None,
    retry_failed: bool,
    anywhere: bool,
    where: Where,
) -> None:
    """Do one of N parts of a run.

    STORE is one that --init-only has set up, or whose run was interrupted. Parts may run at
    the same time, on all machines that see STORE and the data; done twice, they are the same.

    In a job of an array, --part and --parts follow from it: SLURM, SGE and LSF tell both,
    PBS the part alone. Where blocks of this part fail and are set aside, the exit status is 3.
    """
    import dkde

    index, count = share(part, parts, os.environ)
    # Jobs of a batch system are small: threads of this process, unless options say otherwise.
    with compute(where), progress("pairs") as update:
        report = stages(update, f"part {index} of {count}")
        dkde.run_part(
            store, index, count, retry_failed=retry_failed, anywhere=anywhere, progress=report
        )
    found = dkde.status(store)
    if found["complete"]:
        click.echo(f"{store} is complete", err=True)
        return
    done, blocks = (
        sum(stage[name] for stage in found["stages"].values()) for name in ("done", "blocks")
    )
    line = f"Part {index} of {count} is done; {done} of {blocks} blocks are there"
    if done == blocks:
        line += f": run dkde finish {quote(store)}"
    click.echo(line, err=True)


@click.command(cls=Command)
@store_argument
@retry_failed_option
@anywhere_option
@json_option
@where_options
def finish(store: str, retry_failed: bool, anywhere: bool, as_json: bool, where: Where) -> None:
    """Make the result of a run whose parts are done.

    It is printed as the command prints it that began the run. What follows from the first
    stage, the test rows of a sweep and the passes that refine a cross-validation, is computed
    here. Where blocks are missing or were set aside they are named, and the exit status is 3.
    """
    import dkde

    with compute(where), progress("pairs") as update:
        result = dkde.finish(
            store,
            retry_failed=retry_failed,
            anywhere=anywhere,
            progress=stages(update, "finishing"),
        )
    print_result(result, as_json=as_json)
    print_end(result)


@click.command(cls=Command)
@click.argument("scheduler", type=click.Choice(["slurm", "pbs"]), metavar="slurm|pbs")
@store_argument
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Into how many jobs to cut the run; each does its share of the blocks.",
)
@click.option(
    "-o", "--output", "file", metavar="FILE", help="Write the script here; else it is printed."
)
def script(scheduler: str, store: str, parts: int, file: str | None) -> None:
    """Write the script that submits a run as an array of jobs.

    STORE is one that --init-only has set up. Add to the script what your site asks for, such
    as a time limit and an account; how to finish stands in it.
    """
    import dkde

    check_place(file, "script")
    check_apart(store, {"--output": file})
    found = dkde.status(store)
    if found["complete"]:
        raise dkde.InputError(f"{store}: is complete; there is nothing to submit")
    blocks = max((stage["blocks"] for stage in found["stages"].values()), default=parts)
    if parts > blocks:
        raise dkde.InputError(f"--parts is {parts}; {store} has {blocks} blocks to share out")
    path = store if "://" in store else os.path.abspath(store)
    text = (_SLURM if scheduler == "slurm" else _PBS).format(
        name=_job_name(path),
        store=quote(path),
        finish=quote(f"dkde finish {quote(path)}"),
        parts=parts,
        last=parts - 1,
        array=f"#PBS -J 0-{parts - 1}\n" if parts > 1 else "",
        part='"$PBS_ARRAY_INDEX"' if parts > 1 else "0",
    )
    if file is None:
        click.echo(text, nl=False)
        return
    dkde.write_whole(file, text.encode())
    submit = "sbatch" if scheduler == "slurm" else "qsub"
    click.echo(f"{submit} {quote(file)} submits {parts} jobs", err=True)


def _job_name(path: str) -> str:
    """A name that a scheduler takes, and that is a file's.

    Examples
    --------
    >>> _job_name("/scratch/my runs/r 1.zarr"), _job_name("s3://bucket/r.zarr/")
    ('dkde-r_1', 'dkde-r')
    """
    name = path.rstrip("/").rpartition("/")[2].removesuffix(".zarr")
    return f"dkde-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"


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

    for variable, first, last, step, base in _ARRAYS:
        own, start, end, each = number(variable), number(first), number(last), number(step) or 1
        if own is None or (own == 0 and variable == _LSF):  # LSF: in no array
            continue
        if start is None:
            start = base
        count = None if end is None else (end - start) // each + 1
        if variable == _SLURM_ID:
            n_jobs = number("SLURM_ARRAY_TASK_COUNT")
            if count is not None and n_jobs not in (None, count):
                # Its numbers have gaps: what comes before this one cannot be counted.
                return ArrayJob(variable, own, 0, 1, None, base)
            count = n_jobs
        return ArrayJob(variable, own, start, each, count, base)
    return None


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
