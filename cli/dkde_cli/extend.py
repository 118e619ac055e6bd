"""``dkde extend``: rows added to a finished result."""

from __future__ import annotations

from time import monotonic
from typing import Any

import click

from dkde_cli.compute import compute
from dkde_cli.deliver import print_end, print_result
from dkde_cli.group import Command
from dkde_cli.options import (
    ADDED_HELP,
    Where,
    json_option,
    sources_option,
    store_argument,
    trust_sources_option,
    where_options,
)
from dkde_cli.progress import progress, stages
from dkde_cli.runs import anywhere_option, check_place, retry_failed_option


@click.command(cls=Command, epilog=ADDED_HELP)
@store_argument
@click.option("--train", metavar="SELECTOR", help="Training rows to add.")
@click.option(
    "--query",
    metavar="SELECTOR",
    help="Rows to score, too; of a sweep validation rows. In a cross-validation those of --train "
    "are scored.",
)
@click.option(
    "--derived",
    type=click.Choice(["keep", "refuse"]),
    default="keep",
    help="Bandwidths by rules, covariances and principal components were derived from the first "
    "training rows. Keep them, named in a line and in the result; or refuse the extension.",
)
@click.option(
    "--tol",
    type=float,
    metavar="TOL",
    help="Tolerance of the new sums, and of the extended result; by default that of the result.",
)
@click.option(
    "--output",
    metavar="OTHER",
    help="Keep the extended result there, and leave STORE as it is. By default it replaces STORE, "
    "in one step.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Begin anew in place of an extension that was interrupted.",
)
@retry_failed_option
@anywhere_option
@sources_option
@trust_sources_option
@json_option
@where_options
def extend(
    store: str,
    train: str | None,
    query: str | None,
    derived: str,
    tol: float | None,
    output: str | None,
    restart: bool,
    retry_failed: bool,
    anywhere: bool,
    sources: dict[str, str],
    trust_sources: bool,
    as_json: bool,
    where: Where,
) -> None:
    """Add rows to a finished result, at the cost of these rows.

    STORE is the output of score, of sweep, or of cv with --folds loo or by:COLUMN. The rows that
    it scored are scored under the added training rows alone; added rows under all. The figures of
    all rows are printed, as the command that made STORE prints them. After a stop the same command
    goes on.

    Names of splits are those of the data of STORE. Features, conditions, the kernel and bandwidths
    are those of STORE.
    """
    import dkde

    check_place(output, "store", is_store=True)
    start = monotonic()
    options: dict[str, Any] = {
        "train": train, "query": query, "derived": derived, "tol": tol, "output": output,
        "restart": restart, "retry_failed": retry_failed, "anywhere": anywhere,
        "sources": sources, "trust_sources": trust_sources,
    }  # fmt: skip
    with compute(where), progress("pairs") as update:
        result = dkde.extend(store, **options, progress=stages(update, "added rows"))
    print_result(result, as_json=as_json)
    print_end(result, monotonic() - start)
