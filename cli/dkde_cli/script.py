"""``dkde script``: the submission script of an array of jobs."""

import os
import re
from shlex import quote

import click

from dkde_cli.group import Command
from dkde_cli.options import store_argument
from dkde_cli.outputs import check_apart, check_file

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

    check_file(file, "script")
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
