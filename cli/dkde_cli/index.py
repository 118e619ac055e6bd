"""``dkde index``: where the rows of each chunk of a data set lie."""

import click

from dkde_cli.group import Command
from dkde_cli.progress import progress


@click.command(cls=Command)
@click.argument("store")
@click.option(
    "--split",
    multiple=True,
    metavar="NAME",
    help="A split, and no other; may be given more than once.",
)
def index(store: str, split: tuple[str, ...]) -> None:
    """Write, or write anew, where the rows of each chunk lie.

    STORE is a data set. Chunks that are too far away to matter are then not read. dkde import
    writes this by itself; it is for data sets that have none, or whose rows were changed.
    """
    import dkde

    with progress("rows") as update:
        done = dkde.index_dataset(store, list(split) or None, progress=update)
    for name, described in dkde.describe(store, values=False)["splits"].items():
        if name in done:
            n_chunks = -(-described["rows"] // described["chunk_rows"])
            click.echo(f"{store}::{name}: index of {n_chunks} chunks", err=True)
        elif not split or name in split:
            click.echo(f"{store}::{name}: no index, too few rows in a chunk", err=True)
