"""``dkde run-part``, ``finish`` and ``script``: a run in parts, each a process or a job."""

import os
import re
from collections.abc import Mapping
from shlex import quote
from time import monotonic

import click

from dkde.errors import printable
from dkde_cli.compute import compute
from dkde_cli.deliver import print_end, print_result
from dkde_cli.group import Command
from dkde_cli.lines import echo_text
from dkde_cli.logs import say
from dkde_cli.options import (
    Where,
    csv_option,
    json_option,
    sources_option,
    store_argument,
    trust_sources_option,
    where_options,
)
from dkde_cli.progress import progress, stages
from dkde_cli.runs import anywhere_option, check_apart, check_place, retry_failed_option
from dkde_cli.tables import duration

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

# PBS takes no array of one job, so the script of one part has none. For Torque, which has -t and
# PBS_ARRAYID in place of -J and PBS_ARRAY_INDEX, no script is written.
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


# The options that a job of an array adds, by the variable that holds its number. SGE and LSF number
# their jobs from 1, parts are numbered from 0; and PBS does not say how many jobs there are.
_IN_ARRAY = {
    "SLURM_ARRAY_TASK_ID": ("$SLURM_ARRAY_TASK_ID", "$SLURM_ARRAY_TASK_COUNT"),
    "PBS_ARRAY_INDEX": ("$PBS_ARRAY_INDEX", "N"),
    "PBS_ARRAYID": ("$PBS_ARRAYID", "N"),
    "SGE_TASK_ID": ("$((SGE_TASK_ID - 1))", "$SGE_TASK_LAST"),
    "LSB_JOBINDEX": ("$((LSB_JOBINDEX - 1))", "$LSB_JOBINDEX_END"),
}


@click.command("run-part", cls=Command)
@store_argument
@click.option(
    "--part",
    type=click.IntRange(min=0),
    metavar="I",
    help="The part to do, from 0 to N - 1; in a Slurm array, $SLURM_ARRAY_TASK_ID.",
)
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    metavar="N",
    help="The number of parts into which the run is cut; the same for all parts.",
)
@retry_failed_option
@anywhere_option
@sources_option
@trust_sources_option
@where_options
def run_part(
    store: str,
    part: int | None,
    parts: int | None,
    retry_failed: bool,
    anywhere: bool,
    sources: dict[str, str],
    trust_sources: bool,
    where: Where,
) -> None:
    """Do one of N parts of a run.

    STORE holds a run that --init-only has set up, or that was interrupted. Parts may run at the
    same time, on all machines that see STORE and the data. A part may be done again.

    Both --part and --parts are needed; dkde script writes a job script that has them. Where blocks
    of this part fail and are set aside, the exit status is 3.
    """
    import dkde

    if part is None or parts is None:
        raise click.UsageError(_missing(part, parts, os.environ))
    with compute(where), progress("pairs") as update:
        report = stages(update, f"part {part} of {parts}")
        dkde.run_part(
            store,
            part,
            parts,
            retry_failed=retry_failed,
            anywhere=anywhere,
            sources=sources,
            trust_sources=trust_sources,
            progress=report,
        )
    found = dkde.status(store)
    if found["complete"]:
        say(f"{store} is complete")
        return
    done, blocks = (
        sum(stage[name] for stage in found["stages"].values()) for name in ("done", "blocks")
    )
    line = f"Part {part} of {parts} is done; {done} of {blocks} blocks are there"
    if done == blocks:
        line += f": run dkde finish {quote(store)}"
    say(line)


@click.command(cls=Command)
@store_argument
@retry_failed_option
@anywhere_option
@sources_option
@trust_sources_option
@json_option
@csv_option
@where_options
def finish(
    store: str,
    retry_failed: bool,
    anywhere: bool,
    sources: dict[str, str],
    trust_sources: bool,
    as_json: bool,
    where: Where,
) -> None:
    """Make the result of a run whose parts are done.

    It is printed in the form of the command that began the run. The test rows of a sweep and
    the passes that refine a cross-validation need the result of all parts, and are computed
    here. Where blocks are missing or were set aside, they are named and the exit status is 3.
    """
    import dkde

    was_complete, start = (
        dkde.status(store, sources=sources, trust_sources=trust_sources)["complete"],
        monotonic(),
    )
    with compute(where), progress("pairs") as update:
        result = dkde.finish(
            store,
            retry_failed=retry_failed,
            anywhere=anywhere,
            sources=sources,
            trust_sources=trust_sources,
            progress=stages(update, "finishing"),
        )
    print_result(result, as_json=as_json)
    if was_complete:
        say(f"{store} was complete already; it took {duration(float(result.attrs['seconds']))}")
    print_end(result, monotonic() - start, was_complete=was_complete)


@click.command(cls=Command)
@click.argument("scheduler", type=click.Choice(["slurm", "pbs"]), metavar="slurm|pbs")
@store_argument
@click.option(
    "--parts",
    type=click.IntRange(min=1),
    required=True,
    metavar="N",
    help="Number of jobs; each does its share of the blocks.",
)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    help="Write the script to this file; by default it is printed.",
)
@trust_sources_option
def script(scheduler: str, store: str, parts: int, file: str | None, trust_sources: bool) -> None:
    """Write the script that submits a run as an array of jobs.

    STORE holds a run that --init-only has set up. Add to the script what your site asks for,
    such as a time limit and an account. Its comments say how to finish the run.
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
    # Jobs may start in another folder.
    path = store if "://" in store else os.path.abspath(store)
    if printable(path) != path:
        # Quotes keep a line end together in a command, but not in the comment that says how to end.
        raise dkde.InputError(
            f"{path}: has a line end or another character that cannot be seen, and a job script "
            "would name it; rename it"
        )
    named = f"{quote(path)}{' --trust-sources' if trust_sources else ''}"
    text = (_SLURM if scheduler == "slurm" else _PBS).format(
        name=_job_name(path),
        store=named,
        finish=quote(f"dkde finish {named}"),
        parts=parts,
        last=parts - 1,
        array=f"#PBS -J 0-{parts - 1}\n" if parts > 1 else "",
        part='"$PBS_ARRAY_INDEX"' if parts > 1 else "0",
    )
    if file is None:
        echo_text(text)
        return
    dkde.write_whole(file, text.encode())
    submit = "sbatch" if scheduler == "slurm" else "qsub"
    say(f"{submit} {quote(file)} submits {parts} jobs")


def _job_name(path: str) -> str:
    """Return a name of a job that queues take, and that may begin the names of its files.

    Examples
    --------
    >>> _job_name("/scratch/my runs/r 1.zarr"), _job_name("s3://bucket/r.zarr/")
    ('dkde-r_1', 'dkde-r')
    """
    name = path.rstrip("/").rpartition("/")[2].removesuffix(".zarr")
    return f"dkde-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"


def _missing(part: int | None, parts: int | None, environment: Mapping[str, str]) -> str:
    """Return the refusal of a call without its part, with the options to add."""
    given = {"--part": part, "--parts": parts}
    missing = [name for name, value in given.items() if value is None]
    line = f"{' and '.join(missing)} must be given"
    for variable, values in _IN_ARRAY.items():
        # In no array, SGE sets its variable to "undefined" and LSF sets its own to 0.
        number = environment.get(variable, "")
        if number.isdecimal() and (number != "0" or variable != "LSB_JOBINDEX"):
            options = dict(zip(given, values, strict=True))
            added = " ".join(f"{name} {options[name]}" for name in missing)
            return f"{line}; in this array of jobs: {added} (parts are numbered from 0)"
    return f"{line}, such as --part 0 --parts 8 (parts are numbered from 0)"
