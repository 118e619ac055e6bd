"""``dkde status``: the progress of a run."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from shlex import quote
from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.lines import echo, echo_text
from dkde_cli.options import json_option, sources_option, store_argument, trust_sources_option
from dkde_cli.recalling import config_of
from dkde_cli.tables import duration, print_json, print_pairs, print_table, si
from dkde_cli.watching import watch

# How many running processes, and how many failed blocks, are named; the others are counted.
_NAMED = 3
_ROWS = 20


@click.command(cls=Command)
@store_argument
@sources_option
@trust_sources_option
@json_option
@click.option(
    "--config",
    is_flag=True,
    help="Print the file with which dkde run makes the result again, and nothing else.",
)
@click.option(
    "--watch",
    "watches",
    is_flag=True,
    help="Look at the run again and again until it is complete: a picture on a terminal, else a "
    "line where something is done; with --json a line for each look.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Seconds between two looks of --watch, 5 by default.",
)
@click.pass_context
def status(
    ctx: click.Context,
    store: str,
    sources: dict[str, str],
    trust_sources: bool,
    as_json: bool,
    config: bool,
    watches: bool,
    every: float | None,
) -> None:
    """Show the progress of a run.

    With --watch the command ends when the run is complete. It goes on while nobody is at work on
    the run, which may be resumed; Ctrl-C ends it.

    \b
    The JSON is
      {"complete", "stages": {NAME: {"blocks", "done", "failed": [block, ...]}},
       "running": [who, ...], "blocks_per_second", "seconds_left", "seconds",
       "replaces", "sources": {PATH: where it is now, or null}}
    where a block that was set aside is
      {"block": [query block, panel], "rows": [start, stop], "error"}
    with null for what is not known; "replaces" is true where the result before it is complete.
    The lines of --watch have a "time" before these.
    """
    import dkde

    if every is not None and not watches:
        raise click.UsageError("--every is of use with --watch only")
    if config:
        if as_json or watches:
            other = "--json" if as_json else "--watch"
            raise click.UsageError(f"--config and {other} exclude each other")
        group = ctx.parent.command if ctx.parent is not None else None
        assert isinstance(group, click.Group)
        echo_text(config_of(store, group.commands))
        return
    look = partial(dkde.status, store, sources=sources, trust_sources=trust_sources)
    if watches:
        watch(look, 5.0 if every is None else every, _in_words, as_json=as_json)
        return
    found = look()
    if as_json:
        print_json(found)
        return
    print_pairs(_in_words(found))
    _print_sources(found["sources"])
    stages = found["stages"]
    failed = [(name, block) for name, stage in stages.items() for block in stage["failed"]]
    if failed:
        echo()
        echo("set aside")
        _print_failed(failed)


def _in_words(found: Mapping[str, Any]) -> dict[str, str]:
    """Return a status as names and their texts, without the data and the failed blocks."""
    stages = {name: _stage(stage) for name, stage in found["stages"].items()}
    pairs = {"state": _state(found), **stages}
    rate = found["blocks_per_second"]
    if rate is not None and not found["complete"]:
        pairs["speed"] = _speed(rate) + ("" if found["running"] else ", when it last ran")
    if found["seconds_left"] is not None:
        pairs["time left"] = f"about {duration(found['seconds_left'])}"
    pairs["time spent"] = duration(found["seconds"])
    return pairs


def _state(found: Mapping[str, Any]) -> str:
    if found["complete"]:
        return "complete"
    running = found["running"]
    former = "; the result before it is complete" if found["replaces"] else ""
    if not running:
        return f"stopped{former}"
    more = f", and {len(running) - _NAMED} more" if len(running) > _NAMED else ""
    return f"running: {'; '.join(running[:_NAMED])}{more}{former}"


def _stage(stage: Mapping[str, Any]) -> str:
    done, blocks, n_failed = stage["done"], stage["blocks"], len(stage["failed"])
    # Rounded down, so that 100% means all blocks.
    text = f"{done} of {blocks} blocks, {100 * done // blocks}%"
    return f"{text}; {n_failed} set aside" if n_failed else text


def _print_sources(sources: Mapping[str, str | None]) -> None:
    """Print where the data lie that the run names."""
    if not sources:
        return
    echo()
    echo("data")
    for name, place in sources.items():
        if place is None:
            echo(f"{name}: not there; say where it is with --source {quote(name)}=PATH")
        else:
            echo(name if os.path.abspath(name) == place else f"{name}: at {place}")


def _speed(rate: float) -> str:
    """Return blocks a second, or a minute or an hour where there are fewer.

    Examples
    --------
    >>> _speed(178), _speed(0.05), _speed(0.001)
    ('178 blocks/s', '3 blocks/min', '3.6 blocks/h')
    """
    for seconds, unit in ((1, "s"), (60, "min")):
        if rate * seconds >= 1:
            return f"{si(rate * seconds)} blocks/{unit}"
    return f"{si(rate * 3600)} blocks/h"


def _print_failed(failed: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    rows = [
        [
            name,
            "-".join(map(str, block["block"])),
            "{} to {}".format(*block["rows"]),
            block["error"],
        ]
        for name, block in failed
    ]
    print_table(["stage", "block", "query rows", "error"], rows[:_ROWS], left=4)
    if len(rows) > _ROWS:
        echo(f"and {len(rows) - _ROWS} more, which --json names")
