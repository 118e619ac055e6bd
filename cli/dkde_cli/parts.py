"""``dkde run-part`` and ``dkde finish``: a run in parts, each in a process of its own."""

import os
from shlex import quote

import click

from dkde_cli.array_jobs import share
from dkde_cli.compute import compute
from dkde_cli.deliver import print_end, print_result
from dkde_cli.group import Command
from dkde_cli.options import Where, json_option, store_argument, where_options
from dkde_cli.progress import progress, stages
from dkde_cli.runs import anywhere_option, retry_failed_option


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
