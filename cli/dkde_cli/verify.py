"""``dkde verify``: the check of a finished result."""

from __future__ import annotations

from typing import Any

import click

from dkde_cli.group import Command
from dkde_cli.lines import echo
from dkde_cli.options import sources_option, store_argument, trust_sources_option
from dkde_cli.tables import counted


def _number(ctx: click.Context, param: click.Parameter, value: str) -> Any:
    """Return a number of blocks, or ``all``."""
    if value == "all" or value.isdecimal():
        return value if value == "all" else int(value)
    raise click.BadParameter(f"{value!r} is no number of blocks; give a number, or all")


@click.command(cls=Command)
@store_argument
@click.option(
    "--blocks",
    callback=_number,
    default="4",
    metavar="N|all",
    help="Number of blocks of query rows to compute again, drawn at random from those that were "
    "not verified before; or all of these.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="SEED",
    help="Seed of that draw, which is printed; by default the system chooses one.",
)
@click.option(
    "--anywhere",
    is_flag=True,
    help="Accept blocks that agree within the bounds on their errors, and figures that agree "
    "within rounding, and not to the last bit: for a run with blocks of another processor or "
    "other libraries.",
)
@sources_option
@trust_sources_option
def verify(
    store: str,
    blocks: Any,
    seed: int | None,
    anywhere: bool,
    sources: dict[str, str],
    trust_sources: bool,
) -> None:
    """Check a finished result: chunks, figures, some blocks.

    All chunks are read, and their checksums checked. All figures, such as means and the best
    bandwidth, are derived again from the log-densities. A few blocks are computed again from the
    data. All must be the same to the last bit. With --anywhere, or on another processor or with
    other libraries than those that began the run, blocks must agree within the bounds on their
    errors, and figures within rounding.

    Which blocks were verified is kept in the user's cache, so that the command verifies others
    each time, until all are.
    """
    import dkde

    found = dkde.verify(
        store,
        blocks=blocks,
        seed=seed,
        anywhere=anywhere,
        sources=sources,
        trust_sources=trust_sources,
    )
    read = f"{store}: {counted(found['chunks'], 'chunk')} read"
    if found["reason"] is not None:
        figures = counted(found["figures"], "variable")
        echo(f"{read}, {figures} derived again; no block computed again: {found['reason']}")
        return
    parts = [read, f"{counted(found['figures'], 'variable')} derived again"]
    if found["blocks"]:
        parts.append(f"{counted(found['blocks'], 'block')} computed again")
    same = "the same to the last bit"
    if found["elsewhere"] is not None:
        same = f"within the bounds on errors; {found['elsewhere']}"
    elif not found["exact"]:
        same = "within the bounds on errors"
    echo(f"{', '.join(parts)} and {same}")
    so_far = f"{found['verified']} of {counted(found['of'], 'block')} verified so far"
    echo(f"{so_far}; seed {found['seed']}" if found["blocks"] else so_far)
    if found["unverified"]:
        is_elsewhere = anywhere or found["elsewhere"] is not None
        why = ", until all of their blocks are"
        if is_elsewhere:
            why = "; they can be verified only where they were computed, to the last bit"
        echo(
            f"not verified: {', '.join(found['unverified'])}, which follow from log-densities that "
            f"the result does not keep{why}"
        )
