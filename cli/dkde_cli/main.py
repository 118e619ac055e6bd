"""The command ``dkde``."""

import atexit
import os
import sys
from typing import NoReturn

import click

# These modules import dkde only in the bodies of their commands, so that --help starts at once.
from dkde_cli.classify import classify
from dkde_cli.config import run
from dkde_cli.cv import cv
from dkde_cli.data import import_, index, show
from dkde_cli.extend import extend
from dkde_cli.group import INTERRUPTED, Group, debug_option
from dkde_cli.info import info
from dkde_cli.logs import log_options
from dkde_cli.map import map_
from dkde_cli.parts import finish, run_part, script
from dkde_cli.plan import plan
from dkde_cli.repair import clean, repair, unlock
from dkde_cli.results import compare, export, report
from dkde_cli.sample import sample
from dkde_cli.score import score
from dkde_cli.status import status
from dkde_cli.sweep import sweep
from dkde_cli.verify import verify

FLUSH_FAILED = 120  # as Python ends when it cannot write its last output


@click.group(
    "kde",  # as `dask kde`; `main` gives it its own name
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    params=[*log_options(), debug_option()],
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, value: _print_version(ctx) if value else None,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Exact kernel density estimation for data that does not fit in memory.

    For a first look, on data that needs no file: dkde sweep digits
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for command in (
    import_, info, index, show, plan, sweep, cv, score, classify, map_, sample, extend, compare,
    report, export, run, status, verify, run_part, finish, script, repair, unlock, clean,
):  # fmt: skip
    cli.add_command(command)  # dkde --help lists them in this order


def _print_version(ctx: click.Context) -> None:
    import dkde

    click.echo(f"dkde {dkde.__version__}")
    ctx.exit()


def main() -> None:
    """Run the command and end the process."""
    try:
        cli(prog_name="dkde")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # Threads that compute blocks would keep the process alive until their blocks are done.
            _leave(INTERRUPTED)
        if "obstore" in sys.modules and isinstance(end.code, int | None):
            # Threads of obstore's runtime may still release Python objects. If one does so while
            # the interpreter shuts down, the process aborts: so the exit functions run here, and
            # the shutdown itself is left out.
            atexit._run_exitfuncs()
            _leave(end.code or 0)
        raise


def _leave(code: int) -> NoReturn:
    """End the process at once, with all output written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        code = code or FLUSH_FAILED
    os._exit(code)
