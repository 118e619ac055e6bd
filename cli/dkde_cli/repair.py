"""``dkde repair``, ``unlock`` and ``clean``: what faults and killed processes leave."""

import click

from dkde_cli.group import Command
from dkde_cli.lines import echo
from dkde_cli.logs import say
from dkde_cli.options import json_option, store_argument
from dkde_cli.tables import counted, print_json


@click.command(cls=Command)
@store_argument
@json_option
def repair(store: str, as_json: bool) -> None:
    """Mend a damaged run, and say what is lost.

    STORE is the output of a run that is not complete. Blocks that are whole stay; what is damaged
    is removed, and the command that began the run computes it anew.
    """
    import dkde

    found = dkde.repair(store)
    if as_json:
        print_json(found)
        return
    for line in (*found["repaired"], *found["lost"]):
        echo(line)
    whole = counted(found["kept"], "whole block")
    say(f"{store}: {whole} left; the command that began the run goes on")


@click.command(cls=Command)
@store_argument
def unlock(store: str) -> None:
    """Break the lock of a process that has ended.

    A lock of another machine is passed over a minute after its last heartbeat; this breaks it at
    once. The lock of a process that is at work on this machine stays.
    """
    import dkde

    found = dkde.unlock(store)
    for who in found:
        echo(f"{who}: is taken to have ended")
    if not found:
        say(f"{store} is not locked")


@click.command(cls=Command)
@click.argument("path", metavar="PATH")
@click.option("--remove", is_flag=True, help="Remove them.")
def clean(path: str, remove: bool) -> None:
    """List what killed processes have left.

    PATH is an output, or a folder of outputs. With --remove it is removed. A run that can go on is
    not listed.
    """
    import dkde

    found = dkde.clean(path, remove=remove)
    for name in found:
        echo(name)
    if not found:
        say(f"{path}: nothing is left over")
    else:
        say(f"{len(found)} removed" if remove else f"{len(found)} found; --remove removes them")
